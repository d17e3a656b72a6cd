"""Monotone rational-quadratic splines: a bijection of the line with an inverse in closed form."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST = 1e-3  # of a bin's width and height, as a share of the box, and of a slope


def knots(raw: Float[Array, "*b k"], bound: float) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Free numbers as a spline's knots: x and y from -bound to bound, slopes with 1 at both ends. All 0 is the identity.

  Args:
    raw: k = 3 bins - 1 numbers.

  Returns:
    x, y, slopes, each (*b, bins + 1).

  Source: neural spline flows (Durkan et al. 2019), section 3.1.
  """
  bins = (raw.shape[-1] + 1) // 3
  ends = [_ends(part, bound) for part in (raw[..., :bins], raw[..., bins:2 * bins])]
  inner = LEAST + (1 - LEAST) * jax.nn.softplus(raw[..., 2 * bins:] + math.log(math.e - 1))  # softplus(log(e - 1)) = 1
  one = jnp.ones((*raw.shape[:-1], 1), raw.dtype)
  return ends[0], ends[1], jnp.concatenate([one, inner, one], axis=-1)


def _ends(raw, bound):
  """Where bins end: cumulative sums of a softmax of at least LEAST each."""
  bins = raw.shape[-1]
  share = LEAST + (1 - LEAST * bins) * jax.nn.softmax(raw, axis=-1)
  inner = bound * (2 * jnp.cumsum(share, axis=-1)[..., :-1] - 1)
  end = jnp.full((*raw.shape[:-1], 1), bound, raw.dtype)
  return jnp.concatenate([-end, inner, end], axis=-1)


def spline(x: Float[Array, "*b"], raw: Float[Array, "*b k"], bound: float, inverse: bool = False):
  """The spline of `knots` at x, the identity outside of [-bound, bound], or its inverse.

  Returns:
    y and the logarithm of the derivative of what was done, both (*b,).

  Source: Durkan et al. 2019, equations 4 and 5; the inverse: equations 6 to 8, in the form without cancellation.

  >>> y, log_slope = spline(jnp.asarray([0.5, 9.0]), jnp.zeros((2, 8)), 3.0)
  >>> y.tolist()
  [0.5, 9.0]
  """
  xs, ys, slopes = knots(raw, bound)
  inside = jnp.abs(x) < bound
  at = jnp.where(inside, x, 0.0)
  place = ys if inverse else xs
  i = jnp.sum(place[..., 1:-1] <= at[..., None], axis=-1, keepdims=True)

  def pick(values, i):
    return jnp.take_along_axis(values, i, axis=-1)[..., 0]

  x0, y0, slope0, slope1 = pick(xs, i), pick(ys, i), pick(slopes, i), pick(slopes, i + 1)
  width, height = pick(xs, i + 1) - x0, pick(ys, i + 1) - y0
  mean = height / width
  bend = slope0 + slope1 - 2 * mean
  if inverse:
    rise = at - y0
    a, b, c = height * (mean - slope0) + rise * bend, height * slope0 - rise * bend, -mean * rise
    share = 2 * c / (-b - jnp.sqrt(jnp.maximum(b * b - 4 * a * c, 0.0)))
  else:
    share = (at - x0) / width
  both = share * (1 - share)
  below = mean + bend * both
  moved = x0 + share * width if inverse else y0 + height * (mean * share * share + slope0 * both) / below
  log_slope = (2 * jnp.log(mean) - 2 * jnp.log(below)
               + jnp.log(slope1 * share * share + 2 * mean * both + slope0 * (1 - share) ** 2))
  log_slope = -log_slope if inverse else log_slope
  return jnp.where(inside, moved, x), jnp.where(inside, log_slope, 0.0)
