"""NeuS on pictures of a procedural chair whose exact surface is known: how true is the surface that comes back?

Fifty views of 100 x 100 pixels, made by the exact renderer of data/rendered.py, from all around; an SDF on a small hash
grid, marched in an occupancy grid. The evaluator measures the recovered surface against the shape, as it does for fields
that were fitted to distances.

Source: NeuS (Wang et al. 2021); on a hash grid, as Instant-NSR and NeuS2.
Expect: not run to its end yet. After 749 of the 6,000 steps: 30.5 dB on its batches, chamfer_mean_unsquared 0.0218 (floor
  0.0065), and falling.

  fields3d train --config experiments/neus/procedural.py --workdir runs/neus
  fields3d train --config experiments/neus/procedural.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.data.family=mug  --config.data.index=3  --config.task.field.name=volsdf
"""

from ml_collections import ConfigDict


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 20 if local else 3000
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(name="rendered", family="chair", index=0, views=4 if local else 60, test_views=1 if local else 8,
                     width=16 if local else 160, supersample=2 if local else 4,
                     draws=dict(pixels=64 if local else 2560, seed=0))
  config.task = dict(
      name="fit_radiance", background="random", curriculum=dict(
          color=1.0, mask=0.5, eikonal=0.3,
          level=dict(name="linear", start=2.0, end=5.0, steps=max(steps // 3, 1))),
      eikonal_points=64 if local else 512,
      field=dict(
          name="neus", width=64, depth=1, directions=dict(name="spherical_harmonics", degree=3), sharpness=20.0,
          encoding=dict(name="hashgrid", levels=5, features=2, log2_rows=10 if local else 16, coarsest=8, finest=64,
                        interpolation="smoothstep", unroll=5)),
      renderer=dict(name="packed", budget=1024 if local else 16_384, step=1 / 32 if local else 1 / 64,
                    resolution=16 if local else 64, threshold=0.1, refresh_cells=1024 if local else 2**16))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="cosine", start=3e-3, end=1e-4, steps=steps, warmup=0 if local else 200),
      learning_rates=dict(sharpness=1e-3), b2=0.99, eps=1e-15))
  config.evals = dict(surface=dict(name="geometry", split="train", resolution=32 if local else 192,
                                   points=1000 if local else 30_000, iou_points=1000 if local else 100_000))
  config.train = dict(log_every=5 if local else 50, checkpoint_every=10 if local else 1000)
  config.extract_resolution = 32 if local else 192
  return config
