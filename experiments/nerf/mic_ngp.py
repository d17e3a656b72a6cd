"""Instant-NGP on NeRF-synthetic mic at 800 x 800, for one GPU.

The paper's grid (16 levels of 2 features, 2^19 rows, 16 to 2,048 cells) and networks; 2^18 samples a step in a 128^3
occupancy grid; random backgrounds, as in the paper.

Source: Müller et al. 2022, "Instant-NGP", section 5.4 (mic: 36.22 dB; nerfacc's re-implementation: 36.85 in 269 s on a TITAN
  RTX).
Expect: not run: no GPU was at hand.

  fields3d train --config experiments/nerf/mic_ngp.py --workdir runs/mic_ngp
  fields3d train --config experiments/nerf/mic_ngp.py:runlocal --workdir runs/local      (seconds)

The scene is found under $FIELDS3D_DATA (../shared/data by default); with :runlocal a procedural mug stands in.
Often overridden: --config.data.path=SCENE  --config.task.renderer.budget=524288  --config.task.field.compute=bfloat16
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 10 if local else 20_000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="rendered", family="mug", views=3, test_views=1, width=12, supersample=1, draws=dict(pixels=64))
  else:
    config.data = dict(name="blender", path=f"{ROOT}/nerf/synthetic_mic", width=800, draws=dict(pixels=65_536, seed=0))
  config.task = dict(
      name="fit_radiance", background="random", loss="huber",
      renderer=dict(name="packed", budget=1024 if local else 2**18, survey=2048 if local else 2**19,
                    step=0.1 if local else 2 / 512, resolution=8 if local else 128, refresh_cells=256 if local else 2**18),
      field=dict(name="ngp", density_bias=-3.0, directions=dict(name="spherical_harmonics", degree=4),
                 encoding=dict(name="hashgrid", levels=2 if local else 16, features=2, log2_rows=8 if local else 19,
                               coarsest=16, finest=32 if local else 2048)))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="exponential", start=1e-2, end=3e-4, steps=steps), b2=0.99, eps=1e-15,
      weight_decay=1e-6, decay=("density", "color")))
  config.evals = dict(test=dict(name="views"))
  config.train = dict(log_every=5 if local else 100, checkpoint_every=10 if local else 1000)
  return config
