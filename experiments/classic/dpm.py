"""Clouds as draws of a distribution on the surface: DPM, a variational autoencoder whose decoder is a diffusion of single points.

A code of a cloud, a normalising flow as its prior, learned jointly, and a network that moves each point on its own, told the
code. `:furniture` is on the pack (point_diffusion.py says where it is); `:paper` has the authors' denoiser, flow and code, on
procedural chairs.

Source: Luo & Hu 2021, "Diffusion probabilistic models for 3D point cloud generation", and the authors' code: code 256, T 100,
  betas 1e-4 to 0.02 (here T 200 to 0.05, as their autoencoder has: 100 leave a third of the signal), ConcatSquash
  128-256-512-256-128, flow of 14 affine layers (here splines), KL 1e-3 of the codes' sum (here 1e-4: codes collapse in so few
  steps), Adam 2e-3, 128 clouds a step, gradients clipped at 10. Other than theirs in `:paper` too: clouds are divided by one
  deviation and not each by its own; the encoder has one layer behind its maximum (theirs four); the rate falls from the start.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/dpm.py --workdir runs/dpm
  fields3d evaluate runs/dpm
  fields3d train --config experiments/classic/dpm.py:runlocal --workdir runs/dpm_local      (seconds)

Often overridden: --config.task.kl=0.1  --config.task.decoder.sampler.name=ddim  --config.task.decoder.sampler.steps=50
"""

from ml_collections import ConfigDict
from point_diffusion import evaluators, shapes

VARIANTS = ("runlocal", "furniture", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 10 if local else 400_000 if paper else 8000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = shapes(arg, rows=4 if local else 128 if paper else 32)
  dim = 8 if local else 256 if paper else 64
  widths = (8, 8) if local else (128, 256, 512, 256, 128) if paper else (64, 128, 128, 64)
  config.task = dict(
      name="point_autoencoder", code_dim=dim, widths=(8,) if local else (128, 128, 256, 512) if paper else (64, 128, 256),
      kl=(1e-3 if paper else 1e-4) * dim, latents="sample",
      flow=dict(name="realnvp", layers=14, width=256) if paper else dict(name="spline"),
      decoder=dict(name="diffusion", points=config.data.surface, deviation=0.35, network=dict(name="pointwise", widths=widths),
                   diffusion=dict(noise=dict(name="linear", last=0.05, steps=200), target="eps"),
                   sampler=dict(name="ddpm", steps=4 if local else 200)))
  rate = dict(name="cosine", start=2e-3, end=1e-4 if paper else 2e-5, steps=steps - steps // 20, warmup=steps // 20)
  config.optim = dict(model=dict(name="adam", learning_rate=rate, clip_norm=10.0, ema=None if paper else 0.9 if local else 0.999))
  config.evals = evaluators(arg, "points")
  config.train = dict(log_every=5 if local else 50, checkpoint_every=5 if local else 1000, keep_every=config.num_steps)
  return config
