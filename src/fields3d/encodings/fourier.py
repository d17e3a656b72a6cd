"""Fixed sinusoidal encodings: axis-aligned octaves (NeRF, BARF) and random directions (Tancik)."""

import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Index, Positive
from fields3d.encodings.encoding import Encoding, fade


def fourier(levels: Count = 6) -> Encoding:
  """sin(2^k pi x) and cos(2^k pi x) of each coordinate, k below `levels`: one octave a level, coarse first.

  With `level`, octaves fade in one after another.

  Source: NeRF (Mildenhall et al. 2020), equation 4; BARF (Lin et al. 2021), equation 14.

  >>> encoding = fourier(levels=4)
  >>> encoding.apply({}, jnp.zeros((5, 3))).shape
  (5, 24)
  """
  frequencies = np.pi * 2.0 ** np.arange(levels)

  def apply(params, x, level=None):
    del params
    x = _at_least_float32(x)
    phase = x[..., None, :] * jnp.asarray(frequencies, x.dtype).reshape((1,) * (x.ndim - 1) + (levels, 1))
    waves = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
    if level is not None:
      waves = waves * fade(level, levels).astype(x.dtype).reshape((1,) * (x.ndim - 1) + (levels, 1))
    return waves.reshape(*x.shape[:-1], levels * 6)

  return Encoding(_nothing, apply, levels * 6, levels)


def gaussian_fourier(features: Count = 256, frequency: Positive = 2.0, seed: Index = 0) -> Encoding:
  """sin and cos of pi B x with B (features / 2, 3) drawn once from N(0, frequency^2) by `seed`, and never trained.

  Args:
    features: the encoding's width, rounded down to an even number.
    frequency: standard deviation of B, in periods per box width: the one setting that matters, for it sets the
      detail that the field can hold before it starts to ring.

  Source: Tancik et al. 2020, section 6 (with coordinates in [0, 1], where the factor is 2 pi).

  >>> gaussian_fourier(features=8).dim
  8
  """
  half = max(features // 2, 1)
  directions = np.pi * frequency * np.random.default_rng(seed).standard_normal((3, half))

  def apply(params, x, level=None):
    del params, level
    x = _at_least_float32(x)
    phase = jnp.matmul(x, jnp.asarray(directions, x.dtype), precision="highest")
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)

  return Encoding(_nothing, apply, 2 * half)


def identity() -> Encoding:
  """The coordinates themselves.

  >>> identity().dim
  3
  """
  return Encoding(_nothing, lambda params, x, level=None: x, 3)


def _nothing(key) -> dict:
  del key
  return {}


def _at_least_float32(x):
  """bfloat16 coordinates would put the phase of a high octave off by a whole turn."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
