"""A Zip-NeRF-like model of an unbounded scene from COLMAP's cameras, for a pod: 65,536 rays a step.

Contraction to a ball; two proposal grids (to 512 and 2,048 cells) and a field (to 8,192 cells, 4 features), each scaled down
where cells are finer than the ray's cone; blurred interlevel and distortion losses. Instead of Zip-NeRF's six multisamples a
section, one Gaussian: its antialiasing is the cheaper half of theirs. Tables, moments and the update are cut over all chips; tables
are read and their gradients summed in bfloat16 there (Instant-NGP reads its own in float16), on one chip in float32.

Source: Barron et al. 2023, "Zip-NeRF"; numbers from the authors' 360.gin: 2^21 rows, 64 / 64 / 32 samples, view network 3 x 256,
  blurs 0.03 and 0.003, distortion 0.01, 25,000 steps, learning rate 1e-2 to 1e-3. In the
  place of their loss on the tables' mean squares, of weight 0.1, decoupled weight decay of 0.1.
Expect: not run: planned ahead of time for v5e:16x16 and v4:4x4x4 by fields3d plan (benchmarks/README.md).

  fields3d train --config experiments/nerf/zip360.py --workdir gs://BUCKET/runs/zip360 --config.data.path=SCENE
  fields3d train --config experiments/nerf/zip360.py:runlocal --workdir runs/local      (seconds)

SCENE is a COLMAP folder (images/, sparse/0), $FIELDS3D_DATA/nerf/garden by default; with :runlocal a procedural mug stands in.
Often overridden: --config.data.factor=4  --config.train.model_parallel=4  --config.task.field.appearance_dim=32
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 10 if local else 25_000
  grid = lambda finest, features: dict(
      name="hashgrid", levels=2 if local else 10, features=features, log2_rows=8 if local else 21, coarsest=16,
      finest=32 if local else finest, antialias=True)
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="rendered", family="mug", views=3, test_views=1, width=12, supersample=1, draws=dict(pixels=32))
  else:
    config.data = dict(name="colmap", path=f"{ROOT}/nerf/garden", factor=4, draws=dict(pixels=65_536, seed=0))
  config.task = dict(
      name="fit_radiance", background="random", loss="charbonnier", contraction="ball", interlevel_blur=(0.03, 0.003),
      curriculum=dict(color=1.0, interlevel=0.01, distortion=0.01),
      renderer=dict(name="proposal", samples=(16, 16, 8) if local else (64, 64, 32),
                    spacing="linear" if local else "disparity", anneal=0 if local else 1000),
      proposals=dict(first=dict(name="proposal", width=64, density_bias=-1.0, encoding=grid(512, 1)),
                     second=dict(name="proposal", width=64, density_bias=-1.0, encoding=grid(2048, 1))),
      field=dict(name="ngp", width=64, features=255 if not local else 7, color_width=256 if not local else 8, color_depth=3,
                 density_bias=-1.0, encoding=grid(8192, 4), compute="bfloat16",
                 directions=dict(name="spherical_harmonics", degree=4)))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="exponential", start=1e-2, end=1e-3, steps=steps, warmup=0 if local else 500),
      b2=0.99, eps=1e-15, weight_decay=0.1, decay=("table",)))
  config.evals = dict(test=dict(name="views"))
  config.train = dict(log_every=5 if local else 100, checkpoint_every=10 if local else 2500,
                      sharding=dict(mode="fsdp", sent="bfloat16"))
  return config
