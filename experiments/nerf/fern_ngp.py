"""A hash grid on LLFF's fern in normalised device coordinates, for two cores at 1/8 of the photographs' size.

Twenty photographs, every 8th held out. Forward-facing: rays are warped so that the frustum becomes a cube, and a proposal
model samples them.

Source: NDC and the split: Mildenhall et al. 2020 (NeRF), appendix C and section 6 (fern at 1/4: 25.17 dB); grid: Müller et al.
  2022; proposals: Barron et al. 2022.
Expect: see the table of scenes in experiments/README.md.

  fields3d train --config experiments/nerf/fern_ngp.py --workdir runs/fern
  fields3d train --config experiments/nerf/fern_ngp.py:runlocal --workdir runs/local      (seconds)

The scene is found under $FIELDS3D_DATA (../shared/data by default); with :runlocal a procedural mug stands in.
Often overridden: --config.data.factor=4  --config.task.field.appearance_dim=8
"""

import os

from ml_collections import ConfigDict

ROOT = os.environ.get("FIELDS3D_DATA", "../shared/data")
VARIANTS = ("runlocal",)


def get_config(arg=None):
  local = arg == "runlocal"
  steps = 10 if local else 6000
  grid = lambda levels, rows, finest: dict(name="hashgrid", levels=2 if local else levels, features=2, coarsest=16,
                                           log2_rows=8 if local else rows, finest=32 if local else finest,
                                           unroll=2 if local else levels)
  config = ConfigDict()
  config.seed = 0
  config.num_steps = steps
  if local:
    config.data = dict(name="rendered", family="mug", views=3, test_views=1, width=12, supersample=1, draws=dict(pixels=32))
  else:
    config.data = dict(name="llff", path=f"{ROOT}/nerf/llff_fern", factor=8, draws=dict(pixels=1024, seed=0))
  config.task = dict(
      name="fit_radiance", background="random", loss="charbonnier",
      curriculum=dict(color=1.0, interlevel=1.0, distortion=0.01),
      renderer=dict(name="proposal", samples=(16, 8) if local else (64, 32), anneal=1000),
      proposals=dict(first=dict(name="proposal", density_bias=-1.0, encoding=grid(4, 15, 128))),
      field=dict(name="ngp", density_bias=-1.0, directions=dict(name="spherical_harmonics", degree=3),
                 encoding=grid(8, 17, 512)))
  config.optim = dict(field=dict(
      name="adam", learning_rate=dict(name="exponential", start=1e-2, end=3e-4, steps=steps, warmup=0 if local else 100),
      b2=0.99, eps=1e-15, weight_decay=1e-2, decay=("table",)))
  config.evals = dict(test=dict(name="views"))
  config.train = dict(log_every=5 if local else 50, checkpoint_every=10 if local else 1000)
  return config
