"""NeuS on the microphone of NeRF-synthetic: a closed mesh from a hundred photographs, at 200 x 200 pixels on two cores.

The scene has no true surface to be measured against; extraction and the renderings of the test views are the result.
Photographs have transparent backgrounds, so that coverage is used; random backgrounds keep the field from learning white.

Source: NeuS (Wang et al. 2021), section 4, with masks; on a hash grid, as Instant-NSR and NeuS2. Scene: NeRF (Mildenhall et
  al. 2020).
Expect: not run to its end yet.

  fields3d train --config experiments/neus/mic.py --workdir runs/neus_mic
  fields3d train --config experiments/neus/mic.py:runlocal --workdir runs/local      (seconds)
  fields3d extract runs/neus_mic

The scene's root is $FIELDS3D_DATA, ../shared/data by default; with :runlocal an embedded procedural lamp stands in.
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 20 if local else 20_000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  draws = dict(pixels=64 if local else 2048, seed=0)
  config.data = (dict(name="rendered", family="lamp", views=4, test_views=1, width=16, supersample=2, draws=draws) if local else
                 dict(name="blender", path=f"{ROOT}/nerf/synthetic_mic", width=200, draws=draws))
  config.task = dict(
      name="fit_radiance", background="random", curriculum=dict(
          color=1.0, mask=0.3, eikonal=0.05,
          level=dict(name="linear", start=4.0, end=8.0, steps=max(steps // 3, 1))),
      eikonal_points=64 if local else 512,
      field=dict(
          name="neus", width=64, depth=1, directions=dict(name="identity"), sharpness=20.0,
          encoding=dict(name="hashgrid", levels=8, features=2, log2_rows=10 if local else 16, coarsest=8, finest=256,
                        unroll=8)),
      renderer=dict(name="packed", budget=1024 if local else 2**15, step=1 / 32 if local else 1 / 100,
                    resolution=16 if local else 64, threshold=0.1, refresh_cells=1024 if local else 2**16))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="cosine", start=3e-3, end=1e-4, steps=steps, warmup=0 if local else 200),
      learning_rates=dict(sharpness=1e-3), b2=0.99, eps=1e-15))
  config.train = dict(log_every=5 if local else 100, checkpoint_every=10 if local else 1000)
  config.extract_resolution = 32 if local else 256
  return config
