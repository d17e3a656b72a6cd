"""Anchored sets: a surface as vectors that stand on it, read off three planes of features and written onto three others."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index, Range
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings.fourier import fourier
from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.encodings.plane_scatter import cell_offsets, scatter_to_planes
from fields3d.fields.autoencoder import LOG_VARIANCE, ShapeAutoencoder, init_code
from fields3d.fields.plane_stacks import PlaneStacks, halved, plane_stacks
from fields3d.networks.attention import dense, init_norm, layer_norm
from fields3d.networks.mlp import init_linear, mlp
from fields3d.networks.network import Network
from fields3d.networks.point_sets import farthest_points

_WHERE = "--config.task.autoencoder"


def anchored_set(latents: Count = 128, dim: Annotated[int, Range(ge=3)] = 16, cells: Count = 64, halvings: Index = 2,
                 doublings: Index = 2, width: Count = 32, features: Count = 16, layers: Count = 2, hidden: Count = 64,
                 depth: Count = 2, levels: Count = 4, remat: bool = False, compute: Compute = "float32") -> ShapeAutoencoder:
  """Points -> features on three planes -> vectors at some of the points -> latent planes -> finer planes -> values.

  A latent is a set (latents, dim): places that cover the cloud, taken by farthest point sampling, are the start of each
  vector's first three entries (the encoder may move them), and what the squeezed planes say there is the rest. The decoder writes
  each vector onto the cells of three planes that it is seen against, and goes on as `tri_plane` does. Neither side depends
  on the order of the vectors.

  Args:
    cells, halvings, doublings, width, features, layers, hidden, depth, levels, remat: as in `tri_plane`; the vectors are
      read off and written onto planes of cells / 2^halvings cells.

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
  made = _AnchoredSet(latents, dim, cells, halved(cells, halvings), stacks, mlp(2 * width, 1, activation="gelu", compute=compute))
  return ShapeAutoencoder(made.init, made.encode, made.expand, made.query, (latents, dim))


@dataclasses.dataclass(frozen=True)
class _AnchoredSet:
  """The settings of `anchored_set`, and the autoencoder's functions as methods. small: cells of the latent planes."""
  latents: int
  dim: int
  cells: int
  small: int
  stacks: PlaneStacks
  write: Network

  def init(self, key):
    down, read, place, out, write, own, up = jax.random.split(key, 7)
    width, inner, seen = self.stacks.width, 2 * self.stacks.width, self.stacks.encoding.dim
    encoder = {**self.stacks.init_squeeze(down), "read": _init_planes(read, width, inner), "norm": init_norm(inner),
               "at": init_linear(place, seen, inner), "out": init_code(out, inner, self.dim)}
    decoder = {**self.stacks.init_unfold(up, self.small), "write": self.write.init(write, self.dim + seen + 3, inner),
               "own": _init_planes(own, inner, width)}
    return {"encoder": encoder, "decoder": decoder}

  def encode(self, params, points):
    own, policy = params["encoder"], self.stacks.policy
    if points.shape[1] < self.latents:
      raise UsageFault(f"{_WHERE}.latents", f"{self.latents} latents want as many points, a surface has {points.shape[1]}",
                       "raise --config.data.surface, or lower it")
    at = jnp.take_along_axis(points, farthest_points(points, self.latents)[..., None], axis=1)
    planes = _each_plane(own["read"], self.stacks.squeeze(own, points, self.cells), policy)
    x = layer_norm(own["norm"], lookup_planes(planes.transpose(0, 2, 3, 1, 4), at))
    x = jax.nn.gelu(x + dense(own["at"], self.stacks.encoding.apply({}, at), policy))
    mean, log_variance = jnp.split(dense(own["out"], x, policy), 2, axis=-1)
    return mean + jnp.pad(at, ((0, 0), (0, 0), (0, self.dim - 3))), jnp.clip(log_variance, *LOG_VARIANCE)

  def expand(self, params, z):
    own, at = params["decoder"], z[..., :3]
    seen = jnp.concatenate([z, self.stacks.encoding.apply({}, at), cell_offsets(at, self.small)], axis=-1)
    planes = scatter_to_planes(self.write.apply(own["write"], seen), at, self.small)
    return self.stacks.unfold(own, _each_plane(own["own"], planes, self.stacks.policy))

  def query(self, params, expanded, x):
    return self.stacks.ask(params["decoder"], expanded, x)


def _init_planes(key: jax.Array, fan_in: int, fan_out: int) -> dict:
  """A linear layer for each of the three planes."""
  return jax.vmap(lambda key: init_linear(key, fan_in, fan_out))(jax.random.split(key, 3))


def _each_plane(params: dict, planes: jax.Array, policy: Policy) -> jax.Array:
  """Planes (r, 3, n, n, w), each through its own linear layer."""
  return jax.vmap(lambda layer, plane: dense(layer, plane, policy), (0, 1), 1)(params, planes)
