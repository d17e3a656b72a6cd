"""Surfaces of clouds: a regression from 512 points, which may be off by 0.02, to the signed distance of their shape, on two cores.

The tri-planes of generative/tri_plane_vae.py with wider latent planes and next to no divergence, so that hardly anything of a
cloud is lost. With it every run that draws clouds has surfaces, and metrics of meshes: `--surfaces` of evaluate and sample.
`:furniture` is on the pack (point_diffusion.py says where it is); `:paper` has 2,048 points and planes of 128.

Source: Nichol et al. 2022, "Point-E", section 3.4 (a transformer there); Peng et al. 2020, "Convolutional Occupancy Networks",
  for planes, and noise on the points.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/point_surfaces.py --workdir runs/point_surfaces
  fields3d evaluate runs/point_surfaces
  fields3d evaluate runs/point_diffusion --surfaces runs/point_surfaces --only quality --config.evals.quality.resolution=64
  fields3d sample runs/point_diffusion --surfaces runs/point_surfaces --num 8
  fields3d train --config experiments/classic/point_surfaces.py:runlocal --workdir runs/point_surfaces_local      (seconds)

Often overridden: --config.task.noise=0.01
"""

from ml_collections import ConfigDict
from point_diffusion import shapes

VARIANTS = ("runlocal", "furniture", "paper")


def data(arg):
  """The shapes of the families here, fewer, with distances near their surfaces and points to ask at."""
  local, paper = arg == "runlocal", arg == "paper"
  made = shapes(arg, rows=4 if local else 64 if paper else 8)
  made.update(samples_per_shape=1000 if local else 20_000, near_variances=(0.005, 0.0005), points=64 if local else 2048 if paper else 768)
  if arg != "furniture":
    made.update(num_test=2 if local else 48, **({} if local or paper else {"num_shapes": 1200}))
  return made


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 4 if local else 100_000 if paper else 3000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = data(arg)
  sizes = dict(cells=8, width=8, features=4, layers=1, hidden=8, depth=1, levels=2, dim=4) if local else dict(
      cells=128, width=128, features=32, layers=4, hidden=128, depth=4, levels=8, dim=32) if paper else dict(
      cells=64, width=32, features=16, layers=2, hidden=64, depth=2, levels=4, dim=16)
  config.task = dict(name="shape_vae", autoencoder=dict(name="tri_plane", halvings=1, doublings=1, **sizes), target="sdf", clamp=0.1,
                     kl=1e-6, latents="mean", noise=0.02, surface_points=config.data.surface)
  config.optim = dict(model=dict(
      name="adam", learning_rate=dict(name="cosine", start=1e-3, end=1e-5, steps=steps - steps // 20, warmup=steps // 20),
      b2=0.99, clip_norm=1.0, ema=0.99))
  config.evals = dict(unseen=dict(
      name="geometry", split="test", codes="encode", observations=config.data.surface, resolution=16 if local else 96,
      points=1000 if local else 30_000, iou_points=1000 if local else 100_000, max_shapes=2 if local else 48, picture=16 if local else 128))
  config.train = dict(log_every=2 if local else 50, checkpoint_every=steps if local else 500)
  config.extract_resolution = 16 if local else 96
  return config
