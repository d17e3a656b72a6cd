"""DeepSDF on twelve embedded procedural shapes, in about two minutes on two cores.

Source: Park et al. 2019, "DeepSDF", the auto-decoder of section 4, with a smaller network on Fourier features and a
  colour head, so that two cores suffice; the paper's own settings are in shapenet_chairs.py.
Expect: see the first table of experiments/README.md.

  fields3d train --config experiments/deepsdf/quickstart.py --workdir runs/quickstart
  fields3d train --config experiments/deepsdf/quickstart.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.data.families=chair,mug  --config.data.num_shapes=24  --config.num_steps=5000
"""

from ml_collections import ConfigDict

VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 150 if local else 2000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(
      name="procedural", families=("chair", "table", "lamp", "plane", "car", "mug"), num_shapes=6 if local else 12,
      num_val=0 if local else 6, num_test=0 if local else 6, samples_per_shape=4000 if local else 100_000,
      near_variances=(0.005, 0.0005), near_fraction=0.85, rows=12, points=64 if local else 1024, seed=0)
  config.task = dict(
      name="fit_sdf", clamp=0.5 if local else 0.1,  # so few steps do not come back from where all is beyond the clamp
      block=64 if local else 128,
      field=dict(name="deepsdf", width=32 if local else 128, depth=6, skip=3, code_dim=16 if local else 32, channels=4,
                 dropout=0.0, weight_norm=True, encoding=dict(name="fourier", levels=4)),
      curriculum=dict(distance=1.0, color=0.1, code=dict(name="linear", start=0.0, end=1e-4, steps=steps // 10)),
      reconstruct=dict(steps=20 if local else 400, samples=256 if local else 4096))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="cosine", start=2e-3, end=2e-5, steps=steps),
      learning_rates=dict(codes=dict(name="cosine", start=4e-3, end=4e-5, steps=steps)), ema=0.99))
  config.evals = dict(train=dict(name="geometry", split="train", resolution=32 if local else 96,
                                 points=2000 if local else 30_000, iou_points=5000 if local else 100_000))
  config.train = dict(log_every=25 if local else 50, checkpoint_every=50 if local else 500)
  config.extract_resolution = 32 if local else 96
  return config
