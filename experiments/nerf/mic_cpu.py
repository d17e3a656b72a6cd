"""NeRF-synthetic mic at 200 x 200 on two cores: five minutes, then twenty more.

The first stage shoots one ray through each pixel's middle. A CPU wants other settings than a GPU: many small steps (16,384
samples, 20 a second) in a 64^3 grid, few levels side by side, a learning rate that falls late, the average of the last
parameters. It learns fast, and then learns the middles by heart: its training rays end 1.5 dB better than new views, and 3 dB
if it goes on. A pixel is an area: the second stage goes on from the first with 2 x 2 rays a pixel, which closes that gap. Test
views are rendered with 2 x 2 rays a pixel. White background throughout: the metric's own.

Source: Müller et al. 2022, "Instant-NGP"; at 800 x 800 on a GPU it reaches 36.22 dB (not comparable: another resolution).
Expect: see the table of scenes in experiments/README.md.

  fields3d train --config experiments/nerf/mic_cpu.py:five_minutes --workdir runs/mic5
  fields3d train --config experiments/nerf/mic_cpu.py --workdir runs/mic      (goes on from runs/mic5)
  fields3d train --config experiments/nerf/mic_cpu.py:runlocal --workdir runs/local      (seconds)

The scene is found under $FIELDS3D_DATA (../shared/data by default); with :runlocal a procedural mug stands in.
Often overridden: --config.data.path=SCENE  --config.data.width=400  --config.init_from=None --config.num_steps=20000
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
STEPS = {None: 7000, "five_minutes": 5000, "runlocal": 10}


def get_config(arg=None):
  local, second, steps = arg == "runlocal", arg is None, STEPS[arg]
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="rendered", family="mug", views=3, test_views=1, width=12, supersample=1, draws=dict(pixels=64))
  else:
    config.data = dict(name="blender", path=f"{ROOT}/nerf/synthetic_mic", width=200,
                       draws=dict(pixels=4096 if second else 10_240, supersample=2 if second else 1, seed=0))
  config.task = dict(
      name="fit_radiance", background="white",
      renderer=dict(name="packed", budget=1024 if local else 2**15 if second else 2**14, step=0.1 if local else 1 / 80,
                    resolution=8 if local else 64, refresh_cells=256 if local else 2**16),
      field=dict(name="ngp", density_bias=-3.0, directions=dict(name="spherical_harmonics", degree=4),
                 encoding=dict(name="hashgrid", levels=2 if local else 8, features=2, log2_rows=8 if local else 17,
                               coarsest=16, finest=32 if local else 512, unroll=2 if local else 8)))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="cosine", start=5e-3 if second else 1e-2, end=5e-5, steps=steps),
      b2=0.99, eps=1e-15, ema=0.99))
  config.evals = dict(test=dict(name="views", supersample=1 if local else 2))
  config.train = dict(log_every=5 if local else 100, checkpoint_every=10 if local else 1000,
                      keep_every=None if local else 1000)
  if second:
    config.init_from = "runs/mic5"
  return config
