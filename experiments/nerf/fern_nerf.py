"""The original NeRF on LLFF's fern at 1/4 of the photographs' size, in normalised device coordinates.

Source: Mildenhall et al. 2020, "NeRF", sections 5 and 6, appendix C (fern: 25.17 dB; jaxnerf 24.83): 64 coarse and 64 more fine
  samples, batch and learning rates as jaxnerf's llff.yaml. The authors' noise on densities is left out.
Expect: not run to its end: it is days on two cores, hours on a GPU.

  fields3d train --config experiments/nerf/fern_nerf.py --workdir runs/fern_nerf
  fields3d train --config experiments/nerf/fern_nerf.py:runlocal --workdir runs/local      (seconds)

The scene is found under $FIELDS3D_DATA (../shared/data by default); with :runlocal a procedural mug stands in.
Often overridden: --config.data.factor=8  --config.num_steps=200000
"""

import mic_nerf

VARIANTS = ("runlocal",)


def get_config(arg=None):
  config = mic_nerf.get_config(arg)
  if arg != "runlocal":
    config.data = dict(name="llff", path=f"{mic_nerf.ROOT}/nerf/llff_fern", factor=4, draws=dict(pixels=4096, seed=0))
    config.task.renderer = dict(name="hierarchical", coarse=64, fine=64)
  config.task.background = "black"
  return config
