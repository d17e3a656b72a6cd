"""Subsets of point clouds that cover them evenly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def farthest_points(x: Float[Array, "r n 3"], num: int) -> Int[Array, "r num"]:
  """Farthest point sampling: each pick is the point farthest from all picks before it. Without gradient.

  The first pick is the point farthest from the mean, so that which points are taken does not depend on their order
  (but for ties and rounding of the mean).

  Args:
    num: picks of each row, at most n.

  Source: Eldar et al. 1997; Qi et al. 2017, "PointNet++", section 3.2, with a first pick of their own.

  >>> farthest_points(jnp.asarray([[[0.0, 0, 0], [5, 0, 0], [3, 0, 0], [1, 0, 0]]]), 3).tolist()
  [[1, 0, 2]]
  """
  x = jax.lax.stop_gradient(jnp.asarray(x))
  rows = jnp.arange(len(x))
  square = lambda centre: jnp.sum((x - centre[:, None, :]) ** 2, axis=-1)
  first = jnp.argmax(square(jnp.mean(x, axis=1)), axis=1)

  def pick(carry, _):
    nearest, last = carry
    nearest = jnp.minimum(nearest, square(x[rows, last]))
    return (nearest, jnp.argmax(nearest, axis=1)), last

  start = (jnp.full(x.shape[:2], jnp.inf, x.dtype), first)
  return jax.lax.scan(pick, start, None, length=num)[1].T
