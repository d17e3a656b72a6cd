"""PointGAN in the codes of an autoencoder of clouds (l-GAN): its codes come from cloud_codes.py, which is trained first.

WGAN-GP on codes of 128 numbers, the generator after each five steps of its critic. `:furniture` and `:paper`
go over those of cloud_codes.py, in runs/cloud_codes_furniture and runs/cloud_codes_paper.

Source: Achlioptas et al. 2018, "Learning representations and generative models for 3D point clouds", and the authors' code:
  noise 128 of deviation 0.2, generator 128-128, critic 256-512-1, Adam 1e-4 (0.5), 50 codes a step, 500 epochs.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/cloud_codes.py --workdir runs/cloud_codes
  fields3d train --config experiments/classic/latent_point_gan.py --workdir runs/latent_point_gan
  fields3d evaluate runs/latent_point_gan --step 0 && fields3d evaluate runs/latent_point_gan
  fields3d train --config experiments/classic/cloud_codes.py:runlocal --workdir runs/cloud_codes_local
  fields3d train --config experiments/classic/latent_point_gan.py:runlocal --workdir runs/latent_point_gan_local

Often overridden: --config.init_from=runs/other_codes  --config.task.critic_steps=1
"""

import cloud_codes
from ml_collections import ConfigDict
from point_diffusion import evaluators

VARIANTS = ("runlocal", "furniture", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  base = cloud_codes.get_config(arg)
  dim = base.task.code_dim
  config = ConfigDict()
  config.seed = 0
  config.num_steps = 10 if local else 250_000 if paper else 30_000
  config.init_from = f"runs/cloud_codes{'_local' if local else f'_{arg}' if arg else ''}"
  config.data = base.data
  config.data.rows = 4 if local else 50
  config.task = dict(
      name="latent_gan", base=base.task, code_dim=8 if local else 128, critic_steps=5,
      generator=dict(name="code_generator", dim=dim, widths=(8,) if local else (128,)),
      critic=dict(name="code_critic", widths=(8,) if local else (256, 512)))
  adam = lambda **more: dict(name="adam", learning_rate=1e-4, b1=0.5, **more)
  config.optim = dict(critic=adam(), generator=adam(ema=None if paper else 0.9 if local else 0.999))
  config.evals = evaluators(arg, "points")
  config.train = dict(log_every=5 if local else 500, checkpoint_every=5 if local else 10_000, keep_every=config.num_steps)
  return config
