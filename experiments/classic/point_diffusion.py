"""Diffusion of clouds of points: PVD's point-voxel network on 512 points of procedural chairs and tables, on two cores.

The latents that the prior learns are the clouds themselves. `:edm` has EDM's preconditioning, weighting and sampler in the
place of DDPM's; so have `:transformer`, a transformer of points as Point-E's (told of noise as DiT is), and `:dit`, DiT-3D's
on patches of voxels, which sees no point of its own, so that eps is not in its reach. `:completion` is `:dit` told halves of
clouds, which it completes; `:furniture` is `:dit` on the pack, `:edm_furniture` is `:edm` there. `:paper` is PVD's network and
training as published (2,048 points), on procedural chairs. Guidance and samplers are those of every prior here;
point_surfaces.py makes surfaces.

Source: Zhou et al. 2021, "3D shape generation and completion through point-voxel diffusion" (PVD), and the authors' code: eps,
  linear betas 1e-4 to 0.02, T 1000, Adam 2e-4 (0.5, 0.999; theirs falls by 0.2 % an epoch), 16 clouds a step, dropout 0.1,
  coordinates of deviation 1 (here each axis its own, theirs all three one); Nichol et al. 2022, "Point-E", and
  Mo et al. 2023, "DiT-3D", for the other networks; DDIM (Song et al. 2021), 50 steps, for the evaluation, and EDM (Karras et
  al. 2022), 18 of Heun's.
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/point_diffusion.py --workdir runs/point_diffusion
  fields3d evaluate runs/point_diffusion
  fields3d evaluate runs/point_diffusion --config.task.prior.sampler.name=ddpm --config.task.prior.sampler.steps=1000
  fields3d train --config experiments/classic/point_diffusion.py:dit --workdir runs/point_dit
  fields3d train --config experiments/classic/point_diffusion.py:completion --workdir runs/point_completion
  fields3d train --config experiments/classic/point_diffusion.py:runlocal --workdir runs/point_diffusion_local      (seconds)

:furniture, of every experiment here, is the pack at $FIELDS3D_DATA/shapes/furniture (../shared/data by default), a fifth held out;
preparing it takes ten minutes to half an hour of a core, once. --config.data.variants=3 joins stretched copies to each training shape.
A folder of meshes of one's own takes its place by --config.data.name=meshes --config.data.path=DIR (of voxels: data.source.name, .path);
folders below it are classes, and --config.data.sign=winding takes open meshes too.
Often overridden: --config.task.prior.guidance=2  --config.data.families=chair (of the pack: --config.data.classes=...)
"""

import os

from ml_collections import ConfigDict

VARIANTS = ("runlocal", "edm", "transformer", "dit", "completion", "furniture", "edm_furniture", "paper")
POINTS = 512
FURNITURE = os.path.join(os.environ.get("FIELDS3D_DATA", "../shared/data"), "shapes", "furniture")


def shapes(arg, rows):
  """Procedural chairs and tables, 2,000 to learn from and 400 held out; of each shape points on its surface."""
  local, paper = arg == "runlocal", arg == "paper"
  if arg in ("furniture", "edm_furniture"):
    return dict(name="pack", path=FURNITURE, splits=(0.8, 0.0, 0.2), samples_per_shape=1000, near_variances=(0.005,),
                near_fraction=0.85, rows=rows, points=0, surface=POINTS)
  points = 32 if local else 2048 if paper else POINTS
  return dict(name="procedural", families=("chair",) if paper else ("chair", "table"), num_shapes=8 if local else 50_000 if paper else 2000,
              num_val=0, num_test=6 if local else 400, samples_per_shape=1000, near_variances=(0.005,), near_fraction=0.85, rows=rows,
              points=0, surface=points, cached=not local, seed=0)


def evaluators(arg, pred):
  """As many draws as there are held-out shapes, as clouds of one number of points whatever the family; a hundred under exact EMD."""
  local, paper = arg == "runlocal", arg == "paper"
  draws = dict(name="distribution", pred=pred, split="test", protocol="pointflow", points=32 if local else 2048 if paper else POINTS, k=3,
               resolution=16 if local else 64, pictures=2 if local else 16, picture=32 if local else 128, max_train=8 if local else 400)
  fewer = dict(draws, emd="exact", num=4 if local else 100, max_train=4 if local else 100, points=16 if local else 256, pictures=0)
  return dict(draws=draws, transport=fewer)


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 10 if local else 500_000 if paper else 6000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = shapes(arg, rows=4 if local else 16)
  network = dict(name="pvcnn") if paper else dict(
      name="pvcnn", width=8, down=(8,), up=(8,), down_blocks=(1,), up_blocks=(1,), resolutions=(4,), centres=(8,), radii=(1.0,),
      neighbours=4, attend=()) if local else dict(
      name="pvcnn", width=32, down=(16, 32, 64), up=(32, 48, 64), down_blocks=(1, 1, 0), up_blocks=(1, 1, 1), resolutions=(8, 4, 4),
      centres=(128, 32, 8), radii=(0.4, 0.8, 1.6), neighbours=16, attend=())
  if arg == "transformer":
    network = dict(name="set_transformer", width=64, depth=3, heads=1)
    config.data.rows = 4  # each point sees each other: 4 clouds take as long as 30 of DiT-3D's patches
  dit = arg in ("dit", "completion", "furniture")
  if dit:
    network = dict(name="voxel_transformer", width=96, depth=4, heads=4, resolution=16, patch=4)
  diffusion, sampler = dict(noise=dict(name="linear"), target="eps"), dict(name="ddim", steps=4 if local else 50)
  if not paper:
    diffusion["clip"] = 3.0
  if dit or arg in ("edm", "edm_furniture", "transformer"):
    diffusion, sampler = dict(noise=dict(name="edm"), target="edm", sigma_data=1.0), dict(name="heun", steps=18)
  config.task = dict(
      name="latent_prior", by_class=not paper, base=dict(name="point_cloud", points=config.data.surface), calibrate=4 if local else 100,
      prior=dict(name="diffusion", sampler=sampler, diffusion=diffusion, network=network))
  config.evals = evaluators(arg, "points")
  if arg == "completion":
    config.task.update(scan_points=POINTS // 2)
    config.evals.completions = dict(name="completion", pred="points", num=64, draws=4, points=POINTS, scan_points=POINTS // 2,
                                    max_train=400, pictures=12)
  rate = 2e-4 if paper else dict(name="cosine", start=1e-3, end=1e-5, steps=steps - steps // 20, warmup=steps // 20)
  config.optim = dict(prior=dict(name="adam", learning_rate=rate, b1=0.5 if paper else 0.9,
                                 clip_norm=None if paper else 1.0, ema=None if paper else 0.9 if local else 0.999))
  config.train = dict(log_every=5 if local else 50, checkpoint_every=5 if local else 1000, keep_every=config.num_steps)
  return config
