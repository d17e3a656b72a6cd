"""How good are shapes drawn from a Gaussian fitted to DeepSDF's codes? A generative baseline, judged as a set.

An auto-decoder is fitted to procedural chairs; codes drawn from the (shrunk) Gaussian of its training codes become
shapes, and as many chairs that it has never seen are what they are held against. Every figure stands beside its real
control, training chairs in the draws' place, and the draws' nearest training chairs are shown.

Source: Park et al. 2019, "DeepSDF", section 4 (codes have a zero-mean Gaussian prior); Yang et al. 2019, "PointFlow",
  section 5 (the protocol), here with fewer shapes and points than its tables have.
Expect: draws told from real chairs (1-NNA well above 50%, its control near 50%), and no copies (Z_U not below 0).

  fields3d train --config experiments/evaluation/gaussian_codes.py --workdir runs/gaussian_codes
  fields3d evaluate runs/gaussian_codes
  fields3d train --config experiments/evaluation/gaussian_codes.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.data.families=chair,mug  --config.evals.draws.emd=exact  --config.evals.draws.protocol=pvd
"""

from ml_collections import ConfigDict

VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 20 if local else 1000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(
      name="procedural", families=("chair",), num_shapes=8 if local else 36, num_val=0, num_test=4 if local else 24,
      samples_per_shape=2000 if local else 20_000, near_variances=(0.005, 0.0005), near_fraction=0.85,
      rows=8 if local else 12, points=64 if local else 1024, seed=0)
  config.task = dict(
      name="fit_sdf", clamp=0.1, block=64 if local else 128, code_bound=None,
      field=dict(name="deepsdf", width=32 if local else 128, depth=6, skip=3, code_dim=16 if local else 32, dropout=0.0,
                 weight_norm=True, encoding=dict(name="fourier", levels=4)),
      curriculum=dict(distance=1.0, code=dict(name="linear", start=0.0, end=1e-4, steps=steps // 10)),
      reconstruct=dict(steps=20 if local else 400, samples=256 if local else 4096))
  decayed = lambda rate: dict(name="cosine", start=rate, end=rate / 100, steps=steps)
  config.optim = dict(field=dict(name="adam", learning_rate=decayed(2e-3), learning_rates=dict(codes=decayed(4e-3)),
                                 ema=0.99))
  config.evals = dict(draws=dict(
      name="distribution", split="test", protocol="pointflow", points=64 if local else 1024,
      resolution=24 if local else 96, k=3, pictures=2 if local else 16, picture=32 if local else 128))
  config.train = dict(log_every=10 if local else 100, checkpoint_every=10 if local else 1000)
  config.extract_resolution = 24 if local else 96
  return config
