"""3D-GAN: a generator of voxel grids against a critic, chairs and tables of 32^3 voxels, on two cores.

The critic rests while it is right on 80 % of a batch or more. `:voxelgan` is the improved line: WGAN-GP with norms of layers, two
steps of the critic (3D-IWGAN has five) to one of the generator; `:spectral` has spectral norm and a hinge in the penalty's place;
`:r1` has 3D-GAN's own loss under R1 and no norm in the critic. In `:voxelgan` and `:r1` the critic is told of its batch's
deviations, so that it sees a collapse, and layers are half as wide. `:furniture` is `:r1` on the pack (point_diffusion.py says
where it is); `:paper` is 64^3 with the paper's widths and rates, on procedural chairs. Surfaces are where the linear field of the
cells is 1/2.

Source: Wu et al. 2016, "Learning a probabilistic latent space of object shapes via 3D generative-adversarial modeling": z uniform
  in [0, 1]^200, 100 grids a step, Adam (0.5), rates 0.0025 and 1e-5, sigmoid; Smith & Meger 2017, "Improved adversarial systems
  for 3D object generation and reconstruction" (3D-IWGAN), for WGAN-GP.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/voxel_gan.py --workdir runs/voxel_gan
  fields3d evaluate runs/voxel_gan --step 0 && fields3d evaluate runs/voxel_gan
  fields3d train --config experiments/classic/voxel_gan.py:voxelgan --workdir runs/voxelgan
  fields3d train --config experiments/classic/voxel_gan.py:runlocal --workdir runs/voxel_gan_local      (seconds)

Often overridden: --config.data.kind=surface  --config.task.gate=1  --config.task.generator.width=32
"""

from ml_collections import ConfigDict
from point_diffusion import evaluators, shapes

VARIANTS = ("runlocal", "voxelgan", "spectral", "r1", "furniture", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  size, width = (8, 4) if local else (64, 64) if paper else (32, 16)
  config = ConfigDict()
  config.seed = 0
  config.num_steps = 10 if local else 100_000 if paper else 2000
  source = shapes(arg, rows=4 if local else 100 if paper else 16)
  source.update(surface=0, **({} if arg == "furniture" else {"near_fraction": 0.0}))
  config.data = dict(name="voxels", resolution=size, source=source)
  config.task = dict(
      name="latent_gan", base=dict(name="voxel_grid"), code_dim=8 if local else 200, noise="uniform", game="non_saturating",
      penalty="none", gate=0.8, generator=dict(name="voxel_generator", size=size, width=width),
      critic=dict(name="voxel_critic", width=width))
  rates = (1e-5, 2.5e-3) if paper else (2e-4, 2e-4)  # at 2.5e-3 the generator is empty in 150 steps, and stays so
  if arg == "voxelgan":
    config.task.update(game="wgan", penalty="wgan_gp", gate=1.0, critic_steps=2)
    config.task.critic.norm = "layer"
  if arg == "spectral":
    config.task.update(game="hinge", gate=1.0)
    config.task.critic.norm = "spectral"
  if arg in ("r1", "furniture"):
    config.task.update(penalty="r1", penalty_weight=0.2, gate=1.0)
    config.task.critic.norm = "none"
  if arg in ("voxelgan", "r1", "furniture"):
    config.task.critic.group = 16
    config.task.generator.width = config.task.critic.width = 8
    rates = (5e-4, 2e-3)
  adam = lambda rate, **more: dict(name="adam", learning_rate=rate, b1=0.5, **more)
  config.optim = dict(critic=adam(rates[0]), generator=adam(rates[1], ema=None if paper else 0.9 if local else 0.99))
  config.evals = evaluators(arg, "sdf")
  config.train = dict(log_every=5 if local else 50, checkpoint_every=5 if local else 500, keep_every=config.num_steps)
  config.extract_resolution = 2 * size
  return config
