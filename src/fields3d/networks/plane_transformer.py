"""A denoiser of latent planes: a transformer among patches of the three planes of a tri-plane autoencoder."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute
from fields3d.networks.denoiser import DenoiserNetwork
from fields3d.networks.mlp import DropRate
from fields3d.networks.set_transformer import adaptive_transformer
from fields3d.networks.voxel_transformer import waves_of_places

WHERE = "--config.task.prior.network"


def plane_transformer(width: Count = 512, depth: Count = 12, heads: Count = 8, expansion: Count = 4, patch: Count = 2,
                      dropout: DropRate = 0.0, remat: bool = False, compute: Compute = "float32") -> DenoiserNetwork:
  """Three planes of n x n cells, a datum (3 n n, d) in the order of `fields.tri_plane`, as patches that attend to each other.

  A patch is told where it stands by waves of its three places, of which the one that its plane does not have is n / patch,
  beyond every place there is. The answer is 0 at the start.

  Args:
    patch: cells along a patch's side.
    dropout: rate inside each MLP, in training only.
    remat: blocks are computed again in the backward pass instead of remembered; the same values.

  Raises:
    UsageFault: `heads` does not divide `width`; at init, a datum that is no three planes, or a patch that does not divide them.

  Source: Shue et al. 2023, "3D neural field generation using triplane diffusion", for diffusion of planes; DiT (Peebles & Xie
    2023) for the transformer.

  >>> import jax
  >>> network = plane_transformer(width=12, depth=1, heads=2, patch=2)
  >>> params = jax.eval_shape(lambda key: network.init(key, (48, 2), num_classes=0), jax.random.key(0))
  >>> jax.eval_shape(lambda p: network.apply(p, jnp.ones((5, 48, 2)), jnp.ones(5), None, None), params).shape
  (5, 48, 2)
  """
  positions = lambda num: jnp.asarray(waves_of_places(places_of_patches(_side(num)), width))
  net = adaptive_transformer(width, depth, heads, expansion, dropout, remat, compute, positions)

  def init(key, shape, num_classes, token_dim=0, self_condition=False):
    if len(shape) != 2 or 3 * _side(shape[0]) ** 2 != shape[0]:
      raise UsageFault(WHERE, f"plane_transformer takes three planes of n x n cells, not {shape}", "use another network")
    if _side(shape[0]) % patch:
      raise UsageFault(f"{WHERE}.patch", f"{patch} cells do not divide a side of {_side(shape[0])}", "give a divisor of it")
    return net.init(key, (shape[0] // patch**2, patch**2 * shape[1]), num_classes, token_dim, self_condition)

  def apply(params, x, c, label, tokens, key=None, previous=None):
    previous = None if previous is None else plane_patches(previous, patch)
    return from_plane_patches(net.apply(params, plane_patches(x, patch), c, label, tokens, key, previous), patch)

  return DenoiserNetwork(init, apply)


def _side(cells: int) -> int:
  """Of three planes that have so many cells."""
  return math.isqrt(cells // 3)


def plane_patches(x: Float[Array, "b m d"], p: int) -> Float[Array, "b k e"]:
  """The cells of three planes as patches of p x p cells, plane by plane, row by row.

  >>> plane_patches(jnp.arange(12.0).reshape(1, 12, 1), 2)[0].tolist()
  [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0]]
  """
  b, m, d = x.shape
  g = _side(m) // p
  return x.reshape(b, 3, g, p, g, p, d).transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, 3 * g * g, p * p * d)


def from_plane_patches(x: Float[Array, "b k e"], p: int) -> Float[Array, "b m d"]:
  """The cells of `plane_patches`.

  >>> x = jnp.arange(96.0).reshape(1, 48, 2)
  >>> bool((from_plane_patches(plane_patches(x, 2), 2) == x).all())
  True
  """
  b, k, e = x.shape
  g, d = _side(k), e // p**2
  return x.reshape(b, 3, g, g, p, p, d).transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, k * p * p, d)


def places_of_patches(g: int) -> np.ndarray:
  """Where patches stand along x, y and z, (3 g g, 3): on the planes (x, y), (x, z), (y, z); g along the axis that one has not.

  >>> places_of_patches(2)[:3].tolist()
  [[0, 0, 2], [1, 0, 2], [0, 1, 2]]
  """
  second, first = (a.ravel() for a in np.meshgrid(np.arange(g), np.arange(g), indexing="ij"))  # rows count the second
  none = np.full(g * g, g)
  return np.concatenate([np.stack(place, axis=1) for place in ((first, second, none), (first, none, second), (none, first, second))])
