"""DeepSDF codes of two thousand procedural chairs and tables: what the priors of code_prior.py are learned over.

Codes are disturbed by a little noise in training, so that near codes make like shapes. A third of the near samples lie as
far off as 0.17 to 0.35: with the paper's two variances alone, the field puts stray pieces where other shapes have parts and
this one has never been sampled. `:paper` has the paper's network and batches on 50,000 shapes, for a pod.

Source: Park et al. 2019, "DeepSDF", section 4, with a smaller network on Fourier features; noise on codes: Zadeh et al.
  2019, "Variational auto-decoder", with one fixed variance.
Expect: see "Priors over codes" in experiments/README.md.

  fields3d train --config experiments/generative/deepsdf_codes.py --workdir runs/codes
  fields3d train --config experiments/generative/deepsdf_codes.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.data.families=chair  --config.data.num_shapes=500  --config.task.code_noise=0
"""

from ml_collections import ConfigDict

VARIANTS = ("runlocal", "paper")


def get_config(arg=None):
  local, paper = arg == "runlocal", arg == "paper"
  steps = 30 if local else 12_000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(
      name="procedural", families=("chair", "table"), num_shapes=8 if local else 2000, num_val=0,
      num_test=4 if local else 400, samples_per_shape=2000 if local else 40_000, near_variances=(0.03, 0.005, 0.0005),
      near_fraction=0.85, rows=8 if local else 32, points=64 if local else 512, cached=not local, seed=0)
  config.task = dict(
      name="fit_sdf", clamp=0.1, block=64 if local else 64, code_noise=0.015,
      field=dict(name="deepsdf", width=32 if local else 128, depth=6, skip=3, code_dim=16 if local else 64, dropout=0.0,
                 weight_norm=True, encoding=dict(name="fourier", levels=4)),
      curriculum=dict(distance=1.0, code=dict(name="linear", start=0.0, end=1e-4, steps=steps // 10)),
      reconstruct=dict(steps=20 if local else 400, samples=256 if local else 4096))
  decayed = lambda rate: dict(name="cosine", start=rate, end=rate / 100, steps=steps)
  config.optim = dict(field=dict(name="adam", learning_rate=decayed(1e-3), learning_rates=dict(codes=decayed(4e-3)),
                                 ema=0.99 if local else 0.999))
  config.evals = evaluators(local)
  config.train = dict(log_every=10 if local else 100, checkpoint_every=10 if local else 2000)
  config.extract_resolution = 24 if local else 96
  return scaled(config) if paper else config


def scaled(config):
  """The paper's sizes: 8 layers of 512, codes of 256 numbers, 64 shapes of 16,384 points a step; 640 epochs."""
  config.num_steps = 500_000
  config.data.update(num_shapes=50_000, num_test=1000, samples_per_shape=100_000, rows=64, points=16_384)
  config.task.update(block=None, code_noise=0.0075)  # of 256 numbers, as long a step as of 64
  config.task.field.update(width=512, depth=8, skip=4, code_dim=256)
  halved = lambda rate: dict(name="staircase", value=rate, factor=0.5, every=125_000)
  config.optim.field = dict(name="adam", learning_rate=halved(5e-4), learning_rates=dict(codes=halved(1e-3)), ema=0.9999)
  config.evals.draws.update(resolution=256, points=2048)
  config.evals.soundness.update(resolution=256, num=1000)
  config.train.update(checkpoint_every=5000)
  config.extract_resolution = 256
  return config


def evaluators(local):
  """As many draws as there are held-out shapes, judged as a set and one by one; shared with the priors."""
  return dict(
      draws=dict(name="distribution", split="test", protocol="pointflow", points=64 if local else 1024,
                 resolution=24 if local else 96, k=3, pictures=2 if local else 24, picture=32 if local else 128,
                 max_train=4 if local else 400),
      soundness=dict(name="quality", num=4 if local else 400, resolution=24 if local else 96,
                     references=4 if local else 64, crossings=False))
