"""Diffusion of voxel grids: chairs and tables of 32^3 voxels, a transformer of patches of 8^3 of them, on two cores.

The latents that the prior learns are the grids themselves; few of their cells are full, so noise levels are higher than those of
pictures. `:unet` has a small U-net of convolutions in the transformer's place;
`:furniture` is on the pack (point_diffusion.py says where it is); `:paper` has patches of 4^3 and DiT-3D's size S, on procedural chairs.
Surfaces are where the linear field of the cells is 1/2.

Source: Mo et al. 2023, "DiT-3D", for the transformer; EDM (Karras et al. 2022) for preconditioning, weighting and the sampler.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/voxel_diffusion.py --workdir runs/voxel_diffusion
  fields3d evaluate runs/voxel_diffusion --step 0 && fields3d evaluate runs/voxel_diffusion
  fields3d train --config experiments/classic/voxel_diffusion.py:runlocal --workdir runs/voxel_diffusion_local      (seconds)

Often overridden: --config.task.prior.guidance=2  --config.data.kind=surface  --config.task.prior.sampler.steps=100
"""

from ml_collections import ConfigDict
from point_diffusion import evaluators, shapes

VARIANTS = ("runlocal", "unet", "furniture", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 10 if local else 300_000 if paper else 2000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  source = shapes(arg, rows=4 if local else 128 if paper else 16)
  source.update(surface=0, **({} if arg == "furniture" else {"near_fraction": 0.0}))
  config.data = dict(name="voxels", resolution=8 if local else 32, source=source)
  network = dict(name="voxel_transformer", width=16, depth=1, heads=2, patch=4) if local else dict(
      name="voxel_transformer", width=384, depth=12, heads=6, patch=4) if paper else dict(
      name="voxel_transformer", width=192, depth=4, heads=4, patch=8)
  if arg == "unet":
    network = dict(name="voxel_unet", width=8)
  config.task = dict(
      name="latent_prior", by_class=not paper, base=dict(name="voxel_grid"), calibrate=4 if local else 100,
      prior=dict(name="diffusion", sampler=dict(name="heun", steps=4 if local else 18),
                 diffusion=dict(noise=dict(name="edm", mean=0.4, spread=1.4), target="edm", sigma_data=1.0), network=network))
  rate = 1e-4 if paper else dict(name="cosine", start=1e-3, end=1e-5, steps=steps - steps // 20, warmup=steps // 20)
  config.optim = dict(prior=dict(name="adam", learning_rate=rate, clip_norm=1.0, ema=0.9 if local else 0.9999 if paper else 0.995))
  config.evals = evaluators(arg, "sdf")
  config.train = dict(log_every=5 if local else 50, checkpoint_every=5 if local else 500, keep_every=config.num_steps)
  config.extract_resolution = 16 if local else 64
  return config
