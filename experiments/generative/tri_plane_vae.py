"""Shapes as three latent planes: a variational autoencoder of chairs and tables, judged on ones it has never seen.

Points on a surface are gathered on three planes of 64 x 64 cells, squeezed to 16 x 16 cells of 4 numbers, unfolded to 64 x 64
cells of features, and a small network gives any point's signed distance from the three features that it is seen against.
Data, loss and evaluation are those of latent_set.py: the two differ in their autoencoders alone.

Source: Peng et al. 2020, "Convolutional Occupancy Networks" (points to planes); Gupta et al. 2023, "3DGen" (a VAE of
  tri-planes); Wang et al. 2023, "Rodin" (planes that see each other). :paper is of 3DGen's order of size: planes of 128, latent
  planes of 32 x 32 x 4.
Expect: see "Shape VAE" in experiments/README.md: IoU on unseen shapes, seconds, commit.

  fields3d train --config experiments/generative/tri_plane_vae.py --workdir runs/tri_plane
  fields3d evaluate runs/tri_plane
  fields3d train --config experiments/generative/tri_plane_vae.py:furniture --workdir runs/tri_plane_furniture
  fields3d train --config experiments/generative/tri_plane_vae.py:runlocal --workdir runs/local      (seconds)

Often overridden: --config.data.families=chair  --config.task.autoencoder.doublings=3  --config.evals.unseen.observe=left
"""

from latent_set import paper, settings

VARIANTS = ("runlocal", "furniture", "paper")


def get_config(arg=None):
  small = arg == "runlocal"
  autoencoder = (
      dict(name="tri_plane", cells=8, halvings=1, doublings=1, dim=2, width=8, features=4, layers=1, hidden=8, depth=1, levels=2)
      if small else
      dict(name="tri_plane", cells=64, halvings=2, doublings=2, dim=4, width=32, features=16, layers=2, hidden=64, depth=2,
           levels=4))
  config = settings(arg, points=32 if small else 2048, steps=4 if small else 3000, autoencoder=autoencoder)
  if arg == "paper":
    config = paper(config)
    config.task.autoencoder = dict(name="tri_plane", cells=128, halvings=2, doublings=2, dim=4, width=128, features=32, layers=4,
                                   hidden=128, depth=4, levels=8, remat=True, compute="bfloat16")
    config.task.target = "sdf"
  return config
