"""What an encoding is to a field: two pure functions and a width."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fields3d.core.errors import UsageFault


@dataclasses.dataclass(frozen=True)
class Encoding:
  """A map from points to features, learned or fixed.

  init: (key) -> params, a plain nested dict (empty where nothing is learned).
  apply: (params, x (*b, 3), level=None, radius=None) -> (*b, dim), x in the box [-1, 1]^3. `level` is the real number
    of active levels, coarse ones first, None for all: a feature of an inactive level is 0, and fades in smoothly.
    `radius` (*b,) is that of the cone's section at x, in the box's units, None for points; encodings that know
    nothing of cones ignore it.
  dim: features per point.
  levels: how many levels there are; 1 where the notion means nothing, and then `level` is ignored.
  """
  init: Callable
  apply: Callable
  dim: int
  levels: int = 1


def fade(level: jax.Array | float | None, levels: int) -> jax.Array | None:
  """How active each level is, (levels,) in [0, 1]: level i rises from 0 to 1 by half a cosine over [i, i + 1].

  Source: BARF (Lin et al. 2021), equation 14.

  >>> [round(float(w), 6) for w in fade(1.5, 3)]
  [1.0, 0.5, 0.0]
  """
  if level is None:
    return None
  progress = jnp.clip(jnp.asarray(level, jnp.float32) - jnp.arange(levels, dtype=jnp.float32), 0.0, 1.0)
  return 0.5 * (1 - jnp.cos(jnp.pi * progress))


def nothing(key: jax.Array) -> dict:
  """The parameters of an encoding that learns nothing."""
  del key
  return {}


def check_fixed(encoding: Encoding, where: str) -> None:
  """An encoding whose parameters nobody keeps must have none.

  Raises:
    UsageFault: it has some.
  """
  if jax.tree.leaves(jax.eval_shape(encoding.init, jax.random.key(0))):
    raise UsageFault(where, "this encoding is learned", "use spherical_harmonics, fourier or identity")


def at_least_float32(x: jax.Array) -> jax.Array:
  """bfloat16 coordinates would put the phase of a high octave off by a whole turn."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
