"""Shapes as sets of latent vectors: a variational autoencoder of chairs and tables, judged on ones it has never seen.

Points on a surface are gathered on three planes, which are squeezed to 16 x 16 cells and read off at 256 places on the surface:
a set of 256 vectors of 16 numbers, the first three of which say where a vector belongs. The decoder writes them onto planes
again. It is the paper's set between tri_plane_vae.py's planes, since the paper's network learns slowly; that one is :paper, 512
vectors of 8 numbers, written and read by attention alone, occupancy. What `evaluate` measures is the autoencoder alone:
points on an unseen surface, its code, the surface of the code.

Source: Zhang et al. 2023, "3DShape2VecSet", sections 5 to 7 and the authors' code: in :paper width 512, 8 heads, 24 blocks in the
  decoder, one head in cross-attention, 2,048 points, 1,024 + 1,024 queries, KL 1e-3, cross-entropy of volume points + 0.1 of
  those near the surface (here the mean over all, and half the KL), AdamW 0.05, warm-up of 5 of 200 epochs.
Expect: see "Shape VAE" in experiments/README.md: IoU on unseen shapes, seconds, commit.

  fields3d train --config experiments/generative/latent_set.py --workdir runs/latent_set
  fields3d evaluate runs/latent_set
  fields3d train --config experiments/generative/latent_set.py:furniture --workdir runs/latent_set_furniture
  fields3d train --config experiments/generative/latent_set.py:runlocal --workdir runs/local      (seconds)

:furniture is the pack at $FIELDS3D_DATA/shapes/furniture (../shared/data by default). Often overridden: --config.data.families=chair
--config.task.autoencoder.latents=128  --config.task.target=occupancy  --config.evals.unseen.observe=left (a partial scan)
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal", "furniture", "paper")


def data(arg, points):
  """Procedural chairs and tables; for "furniture" the pack's, each training shape joined by stretched copies."""
  if arg == "furniture":
    return dict(name="pack", path=f"{ROOT}/shapes/furniture", splits=(0.8, 0.0, 0.2), variants=3,
                samples_per_shape=20_000, near_fraction=0.85, rows=8, points=1024, surface=points)
  small = arg == "runlocal"
  return dict(name="procedural", families=("chair", "table"), num_shapes=4 if small else 1200, num_val=0,
              num_test=2 if small else 48, samples_per_shape=2000 if small else 20_000, near_variances=(0.005, 0.0005),
              near_fraction=0.85, rows=4 if small else 8, points=64 if small else 768, surface=points, cached=not small)


def settings(arg, points, steps, autoencoder):
  """Everything but the autoencoder is the same for every one."""
  small = arg == "runlocal"
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = data(arg, points)
  config.task = dict(name="shape_vae", autoencoder=autoencoder, target="sdf", clamp=0.1, surface_points=points,
                     kl=dict(name="linear", start=0.0, end=1e-4, steps=max(1, steps // 4)))
  config.optim = dict(model=dict(
      name="adam", learning_rate=dict(name="cosine", start=1e-3, end=1e-5, steps=steps - steps // 20, warmup=steps // 20),
      b2=0.99, clip_norm=1.0, ema=0.99))
  config.evals = dict(unseen=dict(
      name="geometry", split="test", codes="encode", observations=points, resolution=16 if small else 96,
      points=1000 if small else 30_000, iou_points=1000 if small else 100_000, max_shapes=2 if small else 48,
      picture=16 if small else 128))
  config.train = dict(log_every=2 if small else 50, checkpoint_every=steps if small else 500)
  config.extract_resolution = 16 if small else 96
  return config


def paper(config):
  """The paper's sizes and loss, for a pod: 512 shapes a step, so that 100 steps are an epoch of some 50,000 shapes."""
  epoch = 100
  config.num_steps = 200 * epoch
  config.data.update(rows=512, points=2048, surface=2048, num_shapes=50_000, near_fraction=0.5)
  config.task.autoencoder = dict(name="latent_set", latents=512, dim=8, width=512, heads=8, cross_heads=1, encoder_layers=0,
                                 decoder_layers=24, remat=True, compute="bfloat16")
  del config.task.kl  # the schedule
  config.task.update(target="occupancy", kl=5e-4, surface_points=2048)
  config.optim.model = dict(name="adam", weight_decay=0.05, clip_norm=1.0, b2=0.95, learning_rate=dict(
      name="cosine", start=2e-4, end=1e-6, steps=195 * epoch, warmup=5 * epoch))
  config.evals.unseen.update(observations=2048, resolution=128)
  config.train.update(checkpoint_every=1000)
  return config


def get_config(arg=None):
  small = arg == "runlocal"
  autoencoder = (
      dict(name="anchored_set", latents=8, dim=4, cells=8, halvings=1, doublings=1, width=8, features=4, layers=1, hidden=8,
           depth=1, levels=2)
      if small else
      dict(name="anchored_set", latents=256, dim=16, cells=64, halvings=2, doublings=2, width=32, features=16, layers=2, hidden=64,
           depth=2, levels=4))
  config = settings(arg, points=32 if small else 2048, steps=4 if small else 4000, autoencoder=autoencoder)
  return paper(config) if arg == "paper" else config
