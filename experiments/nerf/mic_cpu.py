"""NeRF-synthetic mic on two cores, judged at 200 x 200: five minutes, then twenty-five more.

A CPU wants other settings than a GPU: many small steps (16,384 samples, 20 a second) in a 64^3 grid, few levels side by side,
a learning rate that falls late, the average of the last parameters. Photographs train at 400 x 400, one ray a pixel, and are
judged at 200 x 200, where each pixel is the mean of 2 x 2, of prediction and photograph alike: a pixel is an area, and a ray
through its middle is not. Trained at 200 x 200 (--config.data.width=200 --config.evals.at200.shrink=1
--config.evals.at200.supersample=2) the middles are learned by heart, and new views end 1.5 dB and more below training rays.
Training's steps are coarse, two or three samples a ray, and start at random; pictures take steps a quarter as long (+0.5 dB after
five minutes, +0.7 in the end).
White background throughout: the metric's own.

Source: Müller et al. 2022, "Instant-NGP"; at 800 x 800 on a GPU it reaches 36.22 dB (not comparable: another resolution).
Expect: see the table of scenes in experiments/README.md.

  fields3d train --config experiments/nerf/mic_cpu.py:five_minutes --workdir runs/mic5
  fields3d train --config experiments/nerf/mic_cpu.py --workdir runs/mic      (goes on from runs/mic5)
  fields3d train --config experiments/nerf/mic_cpu.py:runlocal --workdir runs/local      (seconds)

The scene is found under $FIELDS3D_DATA (../shared/data by default); with :runlocal a procedural mug stands in.
Often overridden: --config.data.path=SCENE  --config.data.width=200  --config.init_from=None
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
STEPS = {None: 26_000, "five_minutes": 5300, "runlocal": 10}
VARIANTS = ("runlocal", "five_minutes")


def get_config(arg=None):
  local, second, steps = arg == "runlocal", arg is None, STEPS[arg]
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="rendered", family="mug", views=3, test_views=1, width=12, supersample=1, draws=dict(pixels=64))
  else:
    config.data = dict(name="blender", path=f"{ROOT}/nerf/synthetic_mic", width=400, draws=dict(pixels=10_240, seed=0))
  config.task = dict(
      name="fit_radiance", background="white",
      renderer=dict(name="packed", budget=1024 if local else 2**14, step=0.1 if local else 1 / 80,
                    resolution=8 if local else 64, refresh_cells=256 if local else 2**16, refine=4),
      field=dict(name="ngp", density_bias=-3.0, directions=dict(name="spherical_harmonics", degree=4),
                 encoding=dict(name="hashgrid", levels=2 if local else 8, features=2, log2_rows=8 if local else 17,
                               coarsest=16, finest=32 if local else 512, unroll=2 if local else 8)))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="cosine", start=5e-3 if second else 1e-2, end=5e-5, steps=steps),
      b2=0.99, eps=1e-15, ema=0.99))
  config.evals = dict(at200=dict(name="views", shrink=2), at400=dict(name="views"))
  config.train = dict(log_every=5 if local else 100, checkpoint_every=10 if local else 1000,
                      keep_every=None if local else 2000 if second else 1000)
  if second:
    config.init_from = "runs/mic5"
  return config
