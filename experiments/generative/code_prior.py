"""A diffusion prior over the DeepSDF codes of deepsdf_codes.py: new chairs and tables, by class too.

`:flow` is a normalising flow instead, of the same codes; the Gaussian that both are held against is the base run's own
`sample`. `:completion` is told halves of clouds of the shapes' surfaces, and completes them. Train the codes first. `:paper` is
of the order of size of published priors, over deepsdf_codes.py:paper, for a pod.

Source: latent diffusion (Rombach et al. 2022) on the codes of DeepSDF (Park et al. 2019), as Diffusion-SDF (Chou et al.
  2023) and HyperDiffusion (Erkoc et al. 2023) do; EDM (Karras et al. 2022): preconditioning, Heun's sampler. 40 steps, as
  18 widen a Gaussian's variance by 12 % and 40 by 2.
Expect: see "Priors over codes" in experiments/README.md.

  fields3d train --config experiments/generative/deepsdf_codes.py --workdir runs/codes
  fields3d train --config experiments/generative/code_prior.py --workdir runs/prior
  fields3d train --config experiments/generative/code_prior.py:flow --workdir runs/flow
  fields3d train --config experiments/generative/code_prior.py:completion --workdir runs/completion
  fields3d sample runs/completion --num 4 --scan half_a_chair.ply
  fields3d train --config experiments/generative/deepsdf_codes.py:runlocal --workdir runs/codes_local
  fields3d train --config experiments/generative/code_prior.py:runlocal --workdir runs/local      (seconds, after the line above)

Often overridden: --config.init_from=runs/other_codes  --config.task.prior.sampler.steps=50  --config.task.prior.guidance=2
"""

import deepsdf_codes
from ml_collections import ConfigDict

VARIANTS = ("runlocal", "flow", "completion", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  base = deepsdf_codes.get_config(None if arg in ("flow", "completion") else arg)
  steps = 20 if local else 500_000 if paper else 6000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps if arg else 4000  # of a schedule of 6,000: the last third brings copies of the training shapes
  config.init_from = f"runs/codes{'_local' if local else '_paper' if paper else ''}"
  config.data = base.data
  config.data.update(rows=8 if local else 1024 if paper else 128, points=0)
  width, depth = (32, 2) if local else (2048, 12) if paper else (384, 5)
  config.task = dict(
      name="latent_prior", by_class=True, base=base.task, calibrate=10 if local else 100,
      prior=dict(name="flow", flow=dict(name="spline")) if arg == "flow" else dict(
          name="diffusion", sampler=dict(name="heun", steps=4 if local else 40),
          diffusion=dict(noise=dict(name="edm"), target="edm", sigma_data=1.0),
          network=dict(name="residual_mlp", width=width, depth=depth, dropout=0.1)))
  config.optim = dict(prior=dict(
      name="adam", learning_rate=dict(name="cosine", start=5e-4, end=5e-6, steps=steps), ema=0.9 if local else 0.999))
  config.evals = base.evals
  if arg is None:
    config.task.prior.guidance = 1.5
    config.evals.draws.specks = config.evals.soundness.specks = 0.05
  if arg == "completion":
    config.data.update(rows=32, samples_per_shape=1000, near_variances=(0.005,), surface=512)  # samples as those of experiments/classic
    config.task.scan_points = 64
    config.evals.completions = dict(name="completion", num=64, draws=4, points=2048, resolution=64, max_train=400, pictures=12)
  config.train = dict(log_every=10 if local else 100, checkpoint_every=10 if local else 1000)
  config.extract_resolution = base.extract_resolution
  return config
