"""Latent diffusion of clouds: a diffusion prior over the codes of DPM's autoencoder, whose decoder is a diffusion of points.

The flow that dpm.py learns with its codes stands aside; the rest of that run is frozen. `:dense` goes over the codes of
cloud_codes.py instead, the autoencoder of l-GAN; `:furniture` and `:paper` go over dpm.py's, in runs/dpm_furniture and
runs/dpm_paper. Train the autoencoder first.

Source: LION (Zeng et al. 2022) for a diffusion of a cloud's code before a diffusion of its points, here without latent points;
  EDM (Karras et al. 2022): preconditioning, Heun's sampler. The prior is that of generative/code_prior.py.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/dpm.py --workdir runs/dpm
  fields3d train --config experiments/classic/latent_point_diffusion.py --workdir runs/latent_point_diffusion
  fields3d evaluate runs/latent_point_diffusion --step 0 && fields3d evaluate runs/latent_point_diffusion
  fields3d train --config experiments/classic/dpm.py:runlocal --workdir runs/dpm_local
  fields3d train --config experiments/classic/latent_point_diffusion.py:runlocal --workdir runs/latent_point_diffusion_local

Often overridden: --config.init_from=runs/other_codes  --config.task.prior.guidance=2  --config.task.scan_points=256
"""

import cloud_codes
import dpm
from ml_collections import ConfigDict
from point_diffusion import evaluators

VARIANTS = ("runlocal", "dense", "furniture", "paper")


def get_config(arg=None):
  local, paper, dense = arg == "runlocal", arg == "paper", arg == "dense"
  base = cloud_codes.get_config() if dense else dpm.get_config(arg)
  steps = 10 if local else 200_000 if paper else 6000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.init_from = "runs/cloud_codes" if dense else f"runs/dpm{'_local' if local else f'_{arg}' if arg else ''}"
  config.data = base.data
  config.data.rows = 4 if local else 128
  width, depth = (16, 2) if local else (2048, 12) if paper else (384, 5)
  config.task = dict(
      name="latent_prior", by_class=not paper, base=base.task, calibrate=4 if local else 100,
      prior=dict(name="diffusion", sampler=dict(name="heun", steps=4 if local else 40),
                 diffusion=dict(noise=dict(name="edm"), target="edm", sigma_data=1.0),
                 network=dict(name="residual_mlp", width=width, depth=depth, dropout=0.1)))
  config.optim = dict(prior=dict(
      name="adam", learning_rate=dict(name="cosine", start=5e-4, end=5e-6, steps=steps), ema=0.9 if local else 0.999))
  config.evals = evaluators(arg, "points")
  config.train = dict(log_every=5 if local else 100, checkpoint_every=5 if local else 2000, keep_every=config.num_steps)
  return config
