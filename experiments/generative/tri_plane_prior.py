"""Latent diffusion in the shape VAE of tri_plane_vae.py: new chairs and tables by class, on two cores.

A transformer denoises the three latent planes, 16 x 16 cells of 4 numbers each, as 48 patches of 4 x 4 cells. The latents of the
training shapes are encoded once (`fields3d encode`, four of each). `:completion` tells it half of the points of a surface,
so that partial scans are completed. `:paper` is of the size of 3DGen's and DiT's, for a pod.

Source: Shue et al. 2023, "3D neural field generation using triplane diffusion", and Gupta et al. 2023, "3DGen", for diffusion of
  planes; DiT (Peebles & Xie 2023) for the transformer; EDM (Karras et al. 2022), 18 steps of Heun's method.
Expect: see "Shape VAE" in experiments/README.md.

  fields3d train --config experiments/generative/tri_plane_vae.py --workdir runs/tri_plane
  fields3d encode runs/tri_plane
  fields3d train --config experiments/generative/tri_plane_prior.py --workdir runs/tri_plane_prior
  fields3d evaluate runs/tri_plane_prior
  fields3d sample runs/tri_plane_prior --num 4 --label chair
  fields3d train --config experiments/generative/tri_plane_vae.py:runlocal --workdir runs/tri_plane_local
  fields3d encode runs/tri_plane_local
  fields3d train --config experiments/generative/tri_plane_prior.py:runlocal --workdir runs/local      (seconds, after the two above)

Often overridden: --config.task.prior.guidance=2  --config.task.prior.sampler.steps=50  --config.task.prior.network.patch=2
"""

import deepsdf_codes
import tri_plane_vae
from ml_collections import ConfigDict

VARIANTS = ("runlocal", "completion", "paper")


def get_config(arg=None):
  local, paper, completion = arg == "runlocal", arg == "paper", arg == "completion"
  base = tri_plane_vae.get_config(None if completion else arg)
  steps = 20 if local else 100_000 if paper else 8000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.init_from = f"runs/tri_plane{'_local' if local else '_paper' if paper else ''}"
  config.data = dict(name="encoded", path=f"{config.init_from}/latents.npz", source=base.data)
  config.data.source.update(rows=4 if local else 256 if paper else 16, points=0, surface=256 if completion else 0,
                            num_test=2 if local else 400)
  width, depth, patch = (16, 2, 2) if local else (768, 24, 2) if paper else (192, 6, 4)
  config.task = dict(
      name="latent_prior", by_class=True, base=base.task, calibrate=10 if local else 100, scan_points=64 if completion else 0,
      prior=dict(name="diffusion", sampler=dict(name="heun", steps=4 if local else 18),
                 diffusion=dict(noise=dict(name="edm"), target="edm", sigma_data=1.0),
                 network=dict(name="plane_transformer", width=width, depth=depth, heads=2 if local else 12 if paper else 6, patch=patch,
                              remat=paper, compute="bfloat16" if paper else "float32")))
  config.optim = dict(prior=dict(
      name="adam", clip_norm=1.0, ema=0.9 if local else 0.9999 if paper else 0.999,
      learning_rate=dict(name="cosine", start=1e-4 if paper else 6e-4, end=1e-6, steps=steps - steps // 20, warmup=steps // 20)))
  config.evals = deepsdf_codes.evaluators(local)
  if completion:
    config.evals.completions = dict(name="completion", draws=4, points=2048, scan_points=256, resolution=64, max_train=400, pictures=12)
  config.train = dict(log_every=10 if local else 100, checkpoint_every=10 if local else 1000)
  config.extract_resolution = base.extract_resolution
  return config
