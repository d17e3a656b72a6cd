"""PointGAN: a generator of clouds against a critic of clouds (r-GAN), chairs and tables of 512 points, on two cores.

WGAN-GP, the generator after each five steps of its critic; 16 clouds a step, smaller layers and a rate of 5e-4, so that two cores
take some thousand steps of the generator. `:furniture` is on the pack (point_diffusion.py says where it is); `:paper` has 2,048
points, procedural chairs and the paper's sizes and rates.

Source: Achlioptas et al. 2018, "Learning representations and generative models for 3D point clouds", and the authors' code:
  noise 128 of deviation 0.2, Adam 1e-4 (0.5), 50 clouds a step, lambda 10.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/point_gan.py --workdir runs/point_gan
  fields3d evaluate runs/point_gan --step 0 && fields3d evaluate runs/point_gan
  fields3d train --config experiments/classic/point_gan.py:runlocal --workdir runs/point_gan_local      (seconds)

Often overridden: --config.task.game=non_saturating --config.task.penalty=r1  --config.task.consistency_weight=1
"""

from ml_collections import ConfigDict
from point_diffusion import evaluators, shapes

VARIANTS = ("runlocal", "furniture", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  config = ConfigDict()
  config.seed = 0
  config.num_steps = 10 if local else 500_000 if paper else 10_000
  config.data = shapes(arg, rows=4 if local else 50 if paper else 16)
  points = config.data.surface
  sizes = dict(widths=(16,)) if local else dict() if paper else dict(widths=(64, 128, 512))
  critic = dict(widths=(8, 16), dense=(8,)) if local else dict() if paper else dict(widths=(32, 64, 128))
  config.task = dict(
      name="latent_gan", base=dict(name="point_cloud", points=points), code_dim=8 if local else 128, critic_steps=5,
      generator=dict(name="point_generator", points=points, **sizes),
      critic=dict(name="point_critic", **critic))
  adam = lambda **more: dict(name="adam", learning_rate=1e-4 if paper else 5e-4, b1=0.5, **more)
  config.optim = dict(critic=adam(), generator=adam(ema=None if paper else 0.9 if local else 0.999))
  config.evals = evaluators(arg, "points")
  config.train = dict(log_every=5 if local else 100, checkpoint_every=5 if local else 5000, keep_every=config.num_steps)
  return config
