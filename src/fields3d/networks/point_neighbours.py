"""What points hear of the points around them: groups within a radius, and features spread from few points to many."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import Policy
from fields3d.networks.point_voxels import shared


def rows_at(h: Float[Array, "b n c"], index: jax.Array) -> jax.Array:
  """h[i, index[i]] of every row i: (b, *s) -> (b, *s, c)."""
  rows = jnp.arange(len(h)).reshape(-1, *(1,) * (index.ndim - 1))
  return h[rows, index]


def squares(a: Float[Array, "b m 3"], b: Float[Array, "b n 3"]) -> Float[Array, "b m n"]:
  """Squared distances, axis by axis, so that near points are told apart. Without gradient.

  >>> squares(jnp.asarray([[[0.0, 0, 0]]]), jnp.asarray([[[1.0, 2, 2]]])).tolist()
  [[[9.0]]]
  """
  a, b = jax.lax.stop_gradient(a), jax.lax.stop_gradient(b)
  return sum((a[:, :, None, i] - b[:, None, :, i]) ** 2 for i in range(3))


def ball(centres: Float[Array, "b m 3"], x: Float[Array, "b n 3"], radius: float, num: int) -> jax.Array:
  """The `num` nearest points of x to each centre, those beyond the radius replaced by the nearest.

  Returns:
    indices into x, (b, m, num); num is at most n.

  Source: ball query (Qi et al. 2017, "PointNet++", section 3.2), whose code takes the first points found in the ball;
    the nearest do not depend on the points' order.

  >>> ball(jnp.zeros((1, 1, 3)), jnp.asarray([[[3.0, 0, 0], [1, 0, 0], [2, 0, 0]]]), 2.5, 3).tolist()
  [[[1, 2, 1]]]
  """
  # Behind a barrier: XLA merges the slice below into top_k, which then sorts all n on a CPU, at 30 times the cost.
  nearness, index = jax.lax.optimization_barrier(jax.lax.top_k(-squares(centres, x), num))
  return jnp.where(-nearness <= radius**2, index, index[..., :1])


def abstracted(params: dict, centres: Float[Array, "b m 3"], x: Float[Array, "b n 3"], h: Float[Array, "b n c"],
               e: Float[Array, "b w"], radius: float, num: int, policy: Policy) -> Float[Array, "b m k"]:
  """Set abstraction: of each centre's ball, the largest answers of a shared layer to place, from the centre, and h.

  Source: Qi et al. 2017, "PointNet++", section 3.2.
  """
  index = ball(centres, x, radius, num)
  near = jnp.concatenate([rows_at(x, index) - centres[:, :, None], rows_at(h, index)], axis=-1)
  return jnp.max(shared(params, near, e, policy), axis=2)


def spread(x: Float[Array, "b n 3"], centres: Float[Array, "b m 3"], h: Float[Array, "b m c"]) -> Float[Array, "b n c"]:
  """Features of the three nearest centres (or all, of fewer), weighted by 1 / squared distance.

  Source: Qi et al. 2017, "PointNet++", equation 2.

  >>> centres = jnp.asarray([[[0.0, 0, 0], [3, 0, 0]]])
  >>> round(float(spread(jnp.asarray([[[1.0, 0, 0]]]), centres, jnp.asarray([[[0.0], [1.0]]]))[0, 0, 0]), 4)
  0.2
  """
  nearness, index = jax.lax.top_k(-squares(x, centres), min(3, centres.shape[1]))
  weights = 1 / (1e-8 - nearness)
  weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
  return jnp.sum(weights[..., None] * rows_at(h, index), axis=2)
