"""Chairs learned from pictures alone: a tri-plane generator against a discriminator, 64 x 64, on two cores.

Procedural chairs are pictured from the upper half of a sphere. The field is rendered at 32 x 32, colours and features, and a
small network makes 64 x 64 pictures of them; the discriminator sees both side by side (EG3D's dual discrimination). Depth
and meshes are the field's alone. Which pictures show the same chair is never used; poses are.

Source: EG3D (Chan et al. 2022) for the generator, the network behind the rendering, density regularisation and a
  discriminator that knows the pose. `:paper` has the scale of its settings for cars, with procedural chairs. `:patches` has
  no network behind the rendering: 32 x 32 patches of a pure field, at first whole pictures at half their size, later down to
  quarters at full size (GRAF, Schwarz et al. 2020). `:projected` adds a discriminator on AlexNet's features (Sauer et al.
  2021; Kumari et al. 2022), from a file of its weights under $FIELDS3D_DATA: networks/alexnet.py says which.
Expect: see "Adversarial radiance" in experiments/README.md.

  fields3d train --config experiments/generative/adversarial.py --workdir runs/adversarial
  fields3d evaluate runs/adversarial --step 0 && fields3d evaluate runs/adversarial
  fields3d sample runs/adversarial --num 8
  fields3d train --config experiments/generative/adversarial.py:paper --workdir runs/paper      (a pod)
  fields3d train --config experiments/generative/adversarial.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.task.penalty=wgan_gp --config.task.game=wgan --config.task.penalty_weight=10
  --config.task.discriminator.spectral_norm=True (not of `:projected`)  --config.data.source.families=car
"""

from ml_collections import ConfigDict

STEPS = {None: 8000, "projected": 8000, "patches": 4000, "paper": 780_000, "runlocal": 4}
VARIANTS = ("runlocal", "projected", "patches", "paper")


def get_config(arg=None):
  local, paper, steps = arg == "runlocal", arg == "paper", STEPS[arg]
  choose = lambda small, usual, large: small if local else large if paper else usual
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  size = choose(16, 64, 128)
  config.data = dict(
      name="shape_views", source=dict(name="families", families=("chair",), num_shapes=choose(4, 300, 4000), num_val=0,
                                      num_test=choose(4, 64, 800)),
      views=choose(2, 16, 24), width=size, elevation=(0.0, 60.0),
      draws=dict(name="images", rows=choose(4, 8, 32), size=size), seed=0)
  config.task = dict(
      name="adversarial_radiance", code_dim=choose(8, 64, 512), mapping_depth=2, size=size,
      upsample=dict(name="styled", width=choose(8, 32, 256), fine=choose(4, 16, 128)),
      extent=(0.65, 0.9, 0.65), rays=0.625, samples=choose(4, 12, 96), mirror=True,
      game="non_saturating", penalty="r1", penalty_weight=choose(0.2, 0.2, 0.3), penalty_every=choose(1, 1, 16),
      density_weight=choose(0.1, 0.1, 0.25), density_step=choose(0.01, 0.01, 0.004), density_every=1, density_points=128,
      blur=dict(name="linear", start=10.0, end=0.0, steps=6250) if paper else 0.0,
      field=dict(name="style_planes", features=choose(4, 8, 32), size=choose(8, 32, 256), width=choose(8, 32, 128),
                 convolutions=choose(1, 1, 2), hidden=choose(8, 16, 64), channels=choose(2, 8, 29)),
      discriminator=dict(name="convolutional", width=choose(8, 32, 64), widest=choose(16, 128, 512)))
  if not paper:
    config.task.penalty_rows = 2
  if arg == "projected":
    config.task.discriminator.name = "projected"
  if arg == "patches":
    del config.task["upsample"]
    config.task.update(patch=32, patch_scale=dict(name="linear", start=1.0, end=0.5, begin=2000, steps=1000), rays=1.0)
  adam = lambda rate, **more: dict(name="adam", learning_rate=rate, b1=0.0, b2=0.99, **more)
  config.optim = dict(discriminator=adam(2e-3), generator=adam(2.5e-3, ema=choose(0.9, 0.998, 0.9978)))
  config.evals = dict(pictures=dict(
      name="generated_views", split="test", num=choose(8, 512, 10_000), pictures=choose(2, 16, 32), pairs=choose(2, 64, 64)))
  config.train = dict(log_every=choose(2, 50, 100), checkpoint_every=choose(4, 500, 10_000), keep_every=choose(None, 1000, 50_000))
  config.extract_resolution = choose(16, 96, 256)
  return config
