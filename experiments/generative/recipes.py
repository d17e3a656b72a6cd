"""What single recipes of training are worth, on DeepSDF codes of 64 procedural chairs: one row for each, in a minute or two.

`plain` is what the rows are held against, and what is judged are shapes that were never seen: a code fitted to their samples.
  levels      octaves of the Fourier features switched on one after another (a curriculum of levels)
  code_noise  noise on the codes in training
  bfloat16    matmuls in bfloat16, sums in float32
  tables      64 tables in the chairs' place, from nothing
  transfer    those tables, started from the `plain` run of chairs: codes keep their rows, the decoder its weights
Recipes of adversarial tasks (R1, WGAN-GP, spectral norm, consistency, sizes of patches) are switches of adversarial.py, and
gradient checkpointing one of latent_set.py: its values are the same, what it saves is `fields3d plan`'s to say.

Source: Lin et al. 2021, "BARF" (levels); Micikevicius et al. 2018, "Mixed precision training"; Zadeh et al. 2019, "Variational
  auto-decoder" (noise on codes); DeepSDF for the rest.
Expect: see "Recipes" in experiments/README.md.

  fields3d train --config experiments/generative/recipes.py:plain --workdir runs/recipes_plain
  fields3d train --config experiments/generative/recipes.py:levels --workdir runs/recipes_levels
  fields3d train --config experiments/generative/recipes.py:transfer --workdir runs/recipes_transfer      (after plain)
  fields3d train --config experiments/generative/recipes.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.seed=1  --config.num_steps=600  --config.init_from=runs/other
"""

from ml_collections import ConfigDict

VARIANTS = ("runlocal", "plain", "levels", "code_noise", "bfloat16", "tables", "transfer")


def get_config(arg="plain"):
  local = arg == "runlocal"
  steps = 20 if local else 1500
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(
      name="procedural", families=("table" if arg in ("tables", "transfer") else "chair",), num_shapes=4 if local else 64,
      num_val=0, num_test=2 if local else 16, samples_per_shape=2000 if local else 40_000,
      near_variances=(0.03, 0.005, 0.0005), near_fraction=0.85, rows=4 if local else 16, points=64 if local else 512)
  config.task = dict(
      name="fit_sdf", clamp=0.1, block=64 if local else 128,
      field=dict(name="deepsdf", width=32 if local else 96, depth=5, skip=2, code_dim=16 if local else 48, dropout=0.0,
                 weight_norm=True, encoding=dict(name="fourier", levels=5)),
      curriculum=dict(distance=1.0, code=dict(name="linear", start=0.0, end=1e-4, steps=steps // 10)),
      reconstruct=dict(steps=20 if local else 300, samples=256 if local else 4096))
  decayed = lambda rate: dict(name="cosine", start=rate, end=rate / 100, steps=steps)
  config.optim = dict(field=dict(name="adam", learning_rate=decayed(2e-3), learning_rates=dict(codes=decayed(4e-3)), ema=0.99))
  config.evals = dict(unseen=dict(name="geometry", split="test", codes="reconstruct", resolution=24 if local else 64,
                                  points=1000 if local else 30_000, iou_points=1000 if local else 100_000))
  config.train = dict(log_every=10 if local else 50, checkpoint_every=steps)
  config.extract_resolution = 24 if local else 64
  if arg == "levels":
    config.task.curriculum.level = dict(name="linear", start=0.0, end=5.0, steps=steps // 2)
  if arg == "code_noise":
    config.task.code_noise = 0.015
  if arg == "bfloat16":
    config.task.field.compute = "bfloat16"
  if arg == "transfer":
    config.init_from = "runs/recipes_plain"
  return config
