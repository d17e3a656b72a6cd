"""The original NeRF on NeRF-synthetic mic at 800 x 800: two networks of 8 x 256, 64 coarse and 128 more fine samples.

Source: Mildenhall et al. 2020, "NeRF", section 5 (mic: 32.91 dB; jaxnerf after 1M steps 34.53); batch and learning rates as
  jaxnerf's blender.yaml (4,096 rays, 5e-4 to 5e-6).
Expect: not run to its end: it is days on two cores, hours on a GPU.

  fields3d train --config experiments/nerf/mic_nerf.py --workdir runs/mic_nerf
  fields3d train --config experiments/nerf/mic_nerf.py:runlocal --workdir runs/local      (seconds)

The scene is found under $FIELDS3D_DATA (../shared/data by default); with :runlocal a procedural mug stands in.
Often overridden: --config.data.width=400  --config.num_steps=200000  --config.task.field.compute=bfloat16
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 10 if local else 1_000_000
  width = dict(width=16, depth=2, skip=None, color_width=8) if local else {}
  field = dict(name="nerf", encoding=dict(name="fourier", levels=4 if local else 10),
               directions=dict(name="fourier", levels=4), **width)
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="rendered", family="mug", views=3, test_views=1, width=12, supersample=1, draws=dict(pixels=32))
  else:
    config.data = dict(name="blender", path=f"{ROOT}/nerf/synthetic_mic", width=800, draws=dict(pixels=4096, seed=0))
  config.task = dict(name="fit_radiance", background="white", field=field, proposals=dict(coarse=field),
                     curriculum=dict(color=1.0, coarse=1.0),
                     renderer=dict(name="hierarchical", coarse=8 if local else 64, fine=8 if local else 128))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="exponential", start=5e-4, end=5e-6, steps=steps, warmup=0 if local else 2500)))
  config.evals = dict(test=dict(name="views", tile=1024))
  config.train = dict(log_every=5 if local else 100, checkpoint_every=10 if local else 5000)
  return config
