"""Radiance fields of chairs and tables from posed pictures, unseen ones from a single picture, within an hour on two cores.

An auto-decoder: a code of 64 numbers for each of 320 procedural shapes, seen in 24 pictures of 64 x 64 each; a small
convolutional network makes three planes of features from the code, a smaller one values from the planes. Unseen shapes are
reconstructed by fitting a code to one, two or three pictures.

Source: Park et al. 2019, "DeepSDF", for the auto-decoder; Sitzmann et al. 2019, "Scene Representation Networks", for codes
  from pictures alone and for the protocol (one and two pictures of unseen shapes); Chan et al. 2022, "EG3D", for planes;
  Yariv et al. 2021, "VolSDF", for the density.
Expect: see "Conditional radiance" in experiments/README.md, beside the mean code and the nearest training shape.

  fields3d train --config experiments/generative/radiance_codes.py --workdir runs/radiance_codes
  fields3d train --config experiments/generative/radiance_codes.py:runlocal --workdir runs/local      (seconds)
  fields3d train --config experiments/generative/radiance_codes.py:film --workdir runs/film           (codes scale and shift
                                                                                                       the layers instead)
  fields3d train --config experiments/generative/radiance_codes.py:paper --workdir runs/paper         (a pod or large GPU)

Often overridden: --config.data.source.families=chair  --config.evals.unseen.max_shapes=8
"""

from ml_collections import ConfigDict

PLANES = dict(name="generated_planes", code_dim=64, features=16, coarsest=8, doublings=2, generator_width=32, width=48,
              depth=1, channels=4)
FILM = dict(name="modulated", code_dim=64, width=64, depth=3, channels=4, encoding=dict(name="fourier", levels=5))
SMALL = dict(name="generated_planes", code_dim=8, features=4, coarsest=4, doublings=1, generator_width=8, width=8, depth=1,
             channels=4)
LARGE = dict(name="generated_planes", code_dim=256, features=32, coarsest=8, doublings=4, generator_width=256, width=128,
             depth=2, channels=4, compute="bfloat16")
VARIANTS = ("runlocal", "film", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 20 if local else 200_000 if paper else 4000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(
      name="shape_views", views=4 if local else 50 if paper else 24, width=16 if local else 128 if paper else 64,
      supersample=1 if local else 3, elevation=(-10.0, 60.0),
      source=dict(name="families", families=("chair", "table"), num_shapes=6 if local else 4612 if paper else 320, num_val=0,
                  num_test=2 if local else 1317 if paper else 32),
      draws=dict(name="pixels", rows=4 if local else 256 if paper else 16, pixels=16 if local else 256 if paper else 64))
  config.task = dict(
      name="radiance_codes", samples=8 if local else 64 if paper else 24,
      field=SMALL if local else LARGE if paper else FILM if arg == "film" else PLANES,
      curriculum=dict(color=1.0, mask=0.2, code=1e-3),
      reconstruct=dict(candidates=4, starts=2, explore=3, steps=3, rays=16) if local else
      dict(candidates=64, starts=4, explore=40, steps=120, rays=256))
  decayed = lambda rate: dict(name="cosine", start=rate, end=rate / 100, steps=steps)
  config.optim = dict(field=dict(name="adam", learning_rate=decayed(1e-3 if paper else 3e-3),
                                 learning_rates=dict(codes=decayed(1e-2)), ema=0.999 if paper else 0.99))
  config.evals = dict(unseen=dict(
      name="novel_views", split="test", pictures=(1, 2) if local else (1, 2, 3), targets=2 if local else 8,
      probes=32 if local else 256, sheets=1 if local else 8, resolution=16 if local else None,
      metrics=("psnr",) if local else ("psnr", "ssim", "lpips")))
  config.train = dict(log_every=5 if local else 50, checkpoint_every=10 if local else 500)
  config.extract_resolution = 16 if local else 96
  return config
