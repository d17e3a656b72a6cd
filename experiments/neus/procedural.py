"""NeuS on pictures of a procedural chair whose exact surface is known: how true is the surface that comes back?

Fifty views of 100 x 100 pixels, made by the exact renderer of data/rendered.py, from all around; an SDF by a network of 3 x 96 on
five octaves that come in one after another, marched in an occupancy grid. The evaluator measures the recovered surface
against the shape, as it does for fields that were fitted to distances.

Colours leave flat parts of one shade free to be dented, so the weights of what remains decide. The squared colour error
ends near 5e-5: the eikonal term must be far below its usual 0.05, or the kink of the distance inside thin parts pulls their
faces in; and the normals' turning holds faces flat while the shape forms, and is then almost let go. Two stages: the
second goes on from the first with less of the one and a little more of the other.

Source: NeuS (Wang et al. 2021); curvature: PermutoSDF (Rosu & Behnke 2023).
Expect: see the table of recovered surfaces in experiments/README.md.

  fields3d train --config experiments/neus/procedural.py:first --workdir runs/neus_first
  fields3d train --config experiments/neus/procedural.py --workdir runs/neus      (goes on from runs/neus_first)
  fields3d train --config experiments/neus/procedural.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.data.family=mug  --config.data.index=3  --config.data.width=200
"""

from ml_collections import ConfigDict

STEPS = {None: 1500, "first": 4000, "runlocal": 20}
VARIANTS = ("runlocal", "first")


def get_config(arg=None):
  local, second, steps = arg == "runlocal", arg is None, STEPS[arg]
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  config.data = dict(name="rendered", family="chair", index=0, views=4 if local else 50, test_views=1 if local else 8,
                     width=16 if local else 100, supersample=2 if local else 4,
                     draws=dict(pixels=64 if local else 1536, seed=0))
  config.task = dict(
      name="fit_radiance", background="random", curriculum=dict(
          color=1.0, mask=0.3, eikonal=3e-4 if second else 2e-3,
          curvature=2e-3 if second else dict(name="exponential", start=0.05, end=5e-4, steps=max(steps // 2, 1)),
          level=5.0 if second else dict(name="linear", start=2.0, end=5.0, steps=min(steps, 1250))),
      eikonal_points=64 if local else 512,
      field=dict(
          name="neus", width=96, depth=3, directions=dict(name="spherical_harmonics", degree=3), sharpness=20.0,
          encoding=dict(name="fourier", levels=5)),
      renderer=dict(name="packed", budget=1024 if local else 8192, step=1 / 32 if local else 1 / 64,
                    resolution=16 if local else 64, threshold=0.1, refresh_cells=1024 if local else 2**16))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="cosine", start=5e-4 if second else 2e-3, end=5e-5 if second else 1e-4,
                                      steps=steps, warmup=200 if arg == "first" else 0),
      learning_rates=dict(sharpness=1e-3), b2=0.99, eps=1e-15))
  config.evals = dict(surface=dict(name="geometry", split="train", resolution=32 if local else 192,
                                   points=1000 if local else 30_000, iou_points=1000 if local else 100_000))
  config.train = dict(log_every=5 if local else 50, checkpoint_every=10 if local else 1000)
  if second:
    config.init_from = "runs/neus_first"
  config.extract_resolution = 32 if local else 192
  return config
