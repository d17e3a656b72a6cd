"""One real mesh by a hash grid, in under two minutes on two cores.

Five levels that double, 16 to 256 cells, and one hidden layer of 64: on a CPU it is levels that cost. Plain L1
(the clamp lies beyond any distance): clamped, nothing far from the surface holds the collisions of the hash down, and
specks float there. Adam's eps is tiny because a row's gradient is, and b2 is 0.99, as in Instant-NGP.

Source: Müller et al. 2022, "Instant-NGP", section 5.3 (signed distances; there 16 levels, 2^19 rows, MAPE), on the
  samples of Park et al. 2019, "DeepSDF", with variances nearer to the surface.
Expect: see the table of single meshes in experiments/README.md.

  fields3d train --config experiments/deepsdf/armadillo_hash.py --workdir runs/armadillo
  fields3d train --config experiments/deepsdf/armadillo_hash.py:runlocal --workdir runs/local      (seconds)

Other meshes of the same folder: armadillo_hash.py:spot, :fish, :nefertiti, :koala, :bunny. Their root is $FIELDS3D_DATA,
../shared/data by default; with :runlocal an embedded procedural chair stands in. On a GPU or TPU:
--config.task.field.encoding.unroll=1. Often overridden: --config.data.path=MY.obj  --config.task.field.encoding.finest=512
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
MESHES = {
    "armadillo": "armadillo/armadillo.obj",
    "spot": "spot/spot.obj",
    "fish": "fish/fish.obj",
    "nefertiti": "nefertiti/nefertiti-lowres.obj",
    "koala": "koala/koala_low_resolution.obj",
    "bunny": "bunny/bunny_hr.obj",
}
VARIANTS = ("runlocal", "armadillo", "spot", "fish", "nefertiti", "koala", "bunny")


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 30 if local else 6000
  samples = dict(samples_per_shape=4000 if local else 1_500_000, near_variances=(4e-4, 1e-4, 2.5e-5), near_fraction=0.9,
                 rows=8, points=32 if local else 1024, seed=0)
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="procedural", families=("chair",), num_shapes=1, num_val=0, num_test=0, **samples)
  else:
    mesh = MESHES[arg or "armadillo"]
    config.data = dict(name="meshes", path=f"{ROOT}/meshes/classic/{mesh}", **samples)
  config.task = dict(
      name="fit_sdf", distance="clamped_l1", clamp=4.0, curriculum=dict(distance=1.0),
      field=dict(name="encoded", width=64, depth=1, encoding=dict(
          name="hashgrid", levels=5, features=2, log2_rows=10 if local else 17, coarsest=16, finest=256, unroll=5)))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="exponential", start=1e-2, end=1e-4, steps=steps), b2=0.99, eps=1e-15))
  config.evals = dict(train=dict(name="geometry", split="train", resolution=32 if local else 256,
                                 points=1000 if local else 100_000, iou_points=1000 if local else 500_000))
  config.train = dict(log_every=10 if local else 100, checkpoint_every=10 if local else 2000)
  config.extract_resolution = 32 if local else 256
  return config
