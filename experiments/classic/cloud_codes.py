"""An autoencoder of clouds: the codes that latent_point_gan.py learns over. 512 points of chairs and tables, on two cores.

`:emd` is fitted under the exact earth mover's distance, which takes the host a second or more a step; `:furniture` is on the
pack (point_diffusion.py says where it is); `:paper` has 2,048 points, on procedural chairs, and chamfer.

Source: Achlioptas et al. 2018, "Learning representations and generative models for 3D point clouds", section 4.1: layers of
  64-128-128-256-128, maximum, 256-256; code 128; Adam 5e-4, 50 clouds a step (batch norm is left out).
Expect: see "Classic families" in experiments/README.md.

  fields3d train --config experiments/classic/cloud_codes.py --workdir runs/cloud_codes
  fields3d train --config experiments/classic/cloud_codes.py:runlocal --workdir runs/cloud_codes_local      (seconds)

Often overridden: --config.task.code_dim=64  --config.task.kl=1e-3
"""

from ml_collections import ConfigDict
from point_diffusion import evaluators, shapes

VARIANTS = ("runlocal", "emd", "furniture", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 10 if local else 100_000 if paper else 6000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = shapes(arg, rows=4 if local else 50 if paper else 32)
  points = config.data.surface
  config.task = dict(
      name="point_autoencoder", code_dim=8 if local else 128, widths=(16,) if local else (64, 128, 128, 256),
      decoder=dict(name="dense", points=points, widths=(16,) if local else (256, 256), loss="emd" if arg == "emd" else "chamfer"))
  rate = 5e-4 if paper else dict(name="cosine", start=1e-3, end=1e-5, steps=steps - steps // 20, warmup=steps // 20)
  config.optim = dict(model=dict(name="adam", learning_rate=rate))
  config.evals = evaluators(arg, "points")
  config.train = dict(log_every=5 if local else 100, checkpoint_every=5 if local else 2000, keep_every=config.num_steps)
  return config
