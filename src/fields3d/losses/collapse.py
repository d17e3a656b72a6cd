"""Has a generator collapsed? How far apart its data are, and how many real ones they are nearest to, beside real data's own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_ELEMENTS = 128  # of a set, evenly spaced in its order, that distances look at


def apart(a: Float[Array, "k ..."], b: Float[Array, "l ..."]) -> Float[Array, "k l"]:
  """Distances of all pairs: of sets (m, d) the mean distance to the nearest element, both ways; else root mean squares.

  Sets are thinned to at most 128 elements, so that equal ones of another order are near 0 only as far as those cover them.

  >>> apart(jnp.zeros((1, 4)), jnp.array([[2.0, 2, 2, 2], [0, 0, 0, 0]])).tolist()
  [[2.0, 0.0]]
  """
  if a.ndim != 3:
    return jnp.sqrt(jnp.mean((a.reshape(len(a), 1, -1) - b.reshape(1, len(b), -1)) ** 2, axis=-1))
  a, b = (x[:, ::-(-x.shape[1] // _ELEMENTS)] for x in (a, b))

  def one(x):
    distances = jnp.sqrt(jnp.sum((x[None, :, None] - b[:, None]) ** 2, axis=-1))  # (l, m, m)
    return 0.5 * (jnp.mean(jnp.min(distances, axis=1), axis=1) + jnp.mean(jnp.min(distances, axis=2), axis=1))

  return jax.lax.map(one, a)


def collapse(fake: Float[Array, "k ..."], real: Float[Array, "b ..."]) -> dict[str, jax.Array]:
  """How varied data are beside real ones.

  Args:
    fake: generated; the first b / 2 are looked at. real: the second half is held against the first, and plays `fake`.

  Returns:
    "spread": the mean distance of pairs over that of real pairs; 1 is as varied, 0 is one datum.
    "coverage": of the real data of the first half, the share that is some datum's nearest; "coverage_real": of real data.
    NaN below 4 rows, which have no pairs.

  >>> same = jnp.ones((4, 2))
  >>> found = collapse(same, jnp.arange(16.0).reshape(8, 2))
  >>> float(found["spread"]), float(found["coverage"])
  (0.0, 0.25)
  """
  half = len(real) // 2
  if half < 2:
    return dict.fromkeys(("spread", "coverage", "coverage_real"), jnp.float32(jnp.nan))
  first, second, fake = real[:half], real[half:2 * half], fake[:half]
  pairs = half * (half - 1)
  spread = lambda x: jnp.sum(apart(x, x)) / pairs
  share = lambda x: jnp.mean(jnp.bincount(jnp.argmin(apart(x, first), axis=1), length=half) > 0)
  return {"spread": spread(fake) / jnp.maximum(spread(second), 1e-12), "coverage": share(fake), "coverage_real": share(second)}
