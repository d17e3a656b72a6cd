"""DeepSDF on real chairs, unseen ones reconstructed from samples, under an hour on two cores.

The 47 chairs of a furniture pack (CC0 and CC-BY models, most of them open somewhere, so the sign is the winding
number's); about a quarter of them, chosen by a hash of their names, is never trained on. Each training chair is joined by
`variants` copies of itself stretched along the axes, since so few shapes do not fill a latent space.

Source: Park et al. 2019, "DeepSDF", sections 4 and 5 (shape completion by test-time optimisation of the code), with a
  smaller network on Fourier features.
Expect: see the table of unseen chairs in experiments/README.md, beside the nearest training shape.

  fields3d train --config experiments/deepsdf/furniture_chairs.py --workdir runs/chairs
  fields3d train --config experiments/deepsdf/furniture_chairs.py:runlocal --workdir runs/local      (seconds)

The pack's root is $FIELDS3D_DATA, ../shared/data by default; with :runlocal embedded procedural chairs stand in. Often
overridden: --config.data.classes=table  --config.evals.unseen.observe=left  (completion)
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 20 if local else 4000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = (
      dict(name="procedural", families=("chair",), num_shapes=4, num_val=0, num_test=2, samples_per_shape=4000, rows=4,
           points=64)
      if local else
      dict(name="pack", path=f"{ROOT}/shapes/furniture", classes=("chair",), splits=(0.75, 0.0, 0.25), variants=3,
           samples_per_shape=100_000, rows=16, points=1024))
  config.task = dict(
      name="fit_sdf", clamp=0.1, code_bound=None, block=64 if local else 128,
      field=dict(name="deepsdf", width=32 if local else 192, depth=8, skip=4, code_dim=16 if local else 128, dropout=0.0,
                 encoding=dict(name="fourier", levels=4)),
      curriculum=dict(distance=1.0, code=dict(name="linear", start=0.0, end=1e-4, steps=steps // 10)),
      reconstruct=dict(steps=20 if local else 500, samples=64 if local else 2048))
  decayed = lambda rate: dict(name="cosine", start=rate, end=rate / 100, steps=steps)
  config.optim = dict(field=dict(name="adam", learning_rate=decayed(1e-3), learning_rates=dict(codes=decayed(2e-3)),
                                 ema=0.99))
  config.evals = dict(unseen=dict(
      name="geometry", split="test", codes="reconstruct", resolution=32 if local else 128,
      points=1000 if local else 30_000, iou_points=1000 if local else 100_000, baseline="nearest_training_shape"))
  config.train = dict(log_every=5 if local else 50, checkpoint_every=10 if local else 500)
  config.extract_resolution = 32 if local else 128
  return config
