"""Latent diffusion in the shape VAE of latent_set.py: new shapes by class, and shapes that complete a partial scan.

The transformer denoises sets of latents; a scan is the half of a surface that lies on one side. Train the VAE first.
`:paper` has the paper's 24 blocks on 512 latents, for a pod.

Source: Zhang et al. 2023, "3DShape2VecSet", sections 6 and 7.3 to 7.5; EDM (Karras et al. 2022), 18 steps of Heun's method.
  In :paper depth 24, width 512, 8 heads, EDM's P_mean -1.2 and P_std 1.2, 1,000 epochs, as in the authors' code.
Expect: see "Shape VAE" in experiments/README.md.

  fields3d train --config experiments/generative/latent_set.py --workdir runs/latent_set
  fields3d train --config experiments/generative/latent_set_prior.py --workdir runs/latent_set_prior
  fields3d sample runs/latent_set_prior --num 4 --label chair
  fields3d sample runs/latent_set_prior --num 4 --scan half_a_chair.ply
  fields3d train --config experiments/generative/latent_set.py:runlocal --workdir runs/latent_set_local
  fields3d train --config experiments/generative/latent_set_prior.py:runlocal --workdir runs/local      (seconds, after the line above)

Often overridden: --config.task.scan_points=0  --config.task.prior.guidance=2  --config.task.prior.sampler.steps=50
"""

import deepsdf_codes
import latent_set
from ml_collections import ConfigDict

VARIANTS = ("runlocal", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  base = latent_set.get_config(arg)
  steps = 20 if local else 100_000 if paper else 3000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.init_from = f"runs/latent_set{'_local' if local else '_paper' if paper else ''}"
  config.data = base.data
  config.data.update(rows=4 if local else 512 if paper else 8, points=0)
  width, depth = (16, 2) if local else (512, 24) if paper else (128, 4)
  config.task = dict(
      name="latent_prior", by_class=True, base=base.task, scan_points=8 if local else 64, calibrate=10 if local else 100,
      prior=dict(name="diffusion", sampler=dict(name="heun", steps=4 if local else 18), token_dropout=0.5,
                 diffusion=dict(noise=dict(name="edm"), target="edm", sigma_data=1.0),
                 network=dict(name="set_transformer", width=width, depth=depth, heads=2 if local else 8 if paper else 4)))
  config.optim = dict(prior=dict(
      name="adam", ema=0.9 if local else 0.999,
      learning_rate=dict(name="cosine", start=1e-4 if paper else 6e-4, end=1e-6, steps=steps)))
  config.evals = deepsdf_codes.evaluators(local)
  config.evals.completions = dict(name="completion", draws=2 if local else 4, points=32 if local else 2048,
                                  scan_points=16 if local else 256, resolution=16 if local else 64,
                                  max_train=4 if local else 400, pictures=1 if local else 12, picture=32 if local else 128)
  config.train = dict(log_every=10 if local else 50, checkpoint_every=10 if local else 1000)
  config.extract_resolution = base.extract_resolution
  return config
