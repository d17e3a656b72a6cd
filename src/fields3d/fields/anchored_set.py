"""Anchored sets: a surface as vectors that stand in the cells it passes, read off three planes and written onto three others."""

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Range
from fields3d.core.numerics import Compute
from fields3d.encodings.fourier import fourier
from fields3d.encodings.plane_scatter import at_planes, cell_centres, scatter_to_planes
from fields3d.fields.autoencoder import LOG_VARIANCE, START, ShapeAutoencoder, init_code, standing
from fields3d.fields.plane_stacks import Doublings, PlaneStacks, halved, plane_stacks
from fields3d.networks.attention import dense
from fields3d.networks.mlp import init_linear


def anchored_set(latents: Count = 256, dim: Annotated[int, Range(gt=3)] = 16, cells: Count = 64, halvings: Doublings = 2,
                 doublings: Doublings = 2, width: Count = 32, features: Count = 16, layers: Count = 2, hidden: Count = 64,
                 depth: Count = 2, levels: Count = 4, remat: bool = False, compute: Compute = "float32") -> ShapeAutoencoder:
  """Points -> features on three planes -> vectors at some of the points -> latent planes -> finer planes -> values.

  A latent is a set (latents, dim). A vector's first three entries are the centre of a cell of the latent planes, in the three
  of them, that a point of the cloud lies in; those points are taken by farthest point sampling. The others are what the
  squeezed planes hold there. The decoder takes the mean of all vectors that it sees against a cell, and goes on as
  `tri_plane` does. Reading and writing are so aligned: no network has to learn how far from a cell a vector stands. The order
  of the vectors does not matter, and entries that are off by less than half a cell are as good as exact.

  Args:
    cells, halvings, doublings, width, features, layers, hidden, depth, levels, remat: as in `tri_plane`; latent planes have
      cells / 2^halvings cells.

  Raises:
    UsageFault: cells that cannot be halved so often; at encoding, fewer points than latents.

  Source: Zhang et al. 2023, "3DShape2VecSet" (a set of vectors that starts from points of the cloud); Peng et al. 2020,
    "Convolutional Occupancy Networks" (points to planes), used for the set's vectors too.

  >>> model = anchored_set(latents=4, dim=4, cells=8, halvings=1, doublings=1, width=4, features=4, layers=1, hidden=8)
  >>> params = model.init(jax.random.key(0))
  >>> model.decode(params, model.encode(params, jnp.ones((1, 6, 3)))[0], jnp.zeros((1, 5, 3))).shape
  (1, 5)
  """
  stacks = plane_stacks(fourier(levels, include_input=True), width, features, halvings, doublings, layers, hidden, depth,
                        remat, compute)
  made = _AnchoredSet(latents, dim, cells, halved(cells, halvings), stacks)
  return ShapeAutoencoder(made.init, made.encode, made.expand, made.query, (latents, dim))


@dataclasses.dataclass(frozen=True)
class _AnchoredSet:
  """The settings of `anchored_set`, and the autoencoder's functions as methods. small: cells of the latent planes."""
  latents: int
  dim: int
  cells: int
  small: int
  stacks: PlaneStacks

  def init(self, key):
    down, out, first, up = jax.random.split(key, 4)
    width, dim = self.stacks.width, self.dim - 3
    return {"encoder": {**self.stacks.init_squeeze(down), "out": _three(out, lambda key: init_code(key, width, dim))},
            "decoder": {**self.stacks.init_unfold(up, self.small), "in": _three(first, lambda key: init_linear(key, dim + 1, width))}}

  def encode(self, params, points):
    own = params["encoder"]
    at = cell_centres(standing(points, self.latents), self.small)
    said = _each_plane(own["out"], self.stacks.squeeze(own, points, self.cells), self.stacks.policy)
    mean, log_variance = jnp.split(jnp.mean(at_planes(said, at), axis=1), 2, axis=-1)
    moves = min(START, 2 * math.log(0.3 / self.small))  # drawn, hardly one of a hundred leaves its cell of 2 / small
    log_variance = jnp.concatenate([jnp.full_like(at, moves), jnp.clip(log_variance, *LOG_VARIANCE)], axis=-1)
    return jnp.concatenate([at, mean], axis=-1), log_variance

  def expand(self, params, z):
    own, at = params["decoder"], z[..., :3]
    held = jnp.concatenate([z[..., 3:], jnp.ones_like(z[..., :1])], axis=-1)
    planes = scatter_to_planes(held, at, self.small)
    return self.stacks.unfold(own, _each_plane(own["in"], planes, self.stacks.policy))

  def query(self, params, expanded, x):
    return self.stacks.ask(params["decoder"], expanded, x)


def _three(key: jax.Array, init) -> dict:
  """A linear layer for each of the three planes."""
  return jax.vmap(init)(jax.random.split(key, 3))


def _each_plane(params: dict, planes: jax.Array, policy) -> jax.Array:
  """Planes (r, 3, n, n, w), each through its own linear layer."""
  return jax.vmap(lambda layer, plane: dense(layer, plane, policy), (0, 1), 1)(params, planes)
