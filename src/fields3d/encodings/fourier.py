"""Fixed sinusoidal encodings: octaves (NeRF, BARF), of cones too (mip-NeRF), and random directions (Tancik)."""

from typing import Annotated

import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Index, Positive, Range
from fields3d.encodings.encoding import Encoding, at_least_float32, fade, nothing

Octaves = Annotated[int, Range(ge=1, le=20)]  # the next ones are noise: float32 of a coordinate has 24 bits


def fourier(levels: Octaves = 6, include_input: bool = False) -> Encoding:
  """sin(2^k pi x) and cos(2^k pi x) of each coordinate, k below `levels`: one octave a level, coarse first.

  With `level`, octaves fade in one after another. `include_input` puts the coordinates before the octaves, which the
  equation does not and the authors' code does.

  Source: NeRF (Mildenhall et al. 2020), equation 4; BARF (Lin et al. 2021), equation 14.

  >>> encoding = fourier(levels=4)
  >>> encoding.apply({}, jnp.zeros((5, 3))).shape
  (5, 24)
  """
  def apply(params, x, level=None, radius=None):
    del params, radius
    waves = _octaves(x, levels, level, None)
    return jnp.concatenate([at_least_float32(x), waves], axis=-1) if include_input else waves

  return Encoding(nothing, apply, levels * 6 + 3 * include_input, levels)


def integrated_fourier(levels: Octaves = 16) -> Encoding:
  """The expectation of `fourier` over a Gaussian around each point, as wide as the cone: octaves finer than it vanish.

  The Gaussian is isotropic with the second moment of a disc of the given radius, (radius / 2)^2 along each axis.
  Without a radius the encoding is `fourier`.

  Source: mip-NeRF (Barron et al. 2021), equations 9 to 14, with the cone's perpendicular variance along its axis too.

  >>> encoding = integrated_fourier(levels=4)
  >>> bool(jnp.all(jnp.abs(encoding.apply({}, jnp.full((1, 3), 0.3), radius=jnp.ones(1))[0, 6:]) < 0.01))
  True
  """
  def apply(params, x, level=None, radius=None):
    del params
    return _octaves(x, levels, level, radius)

  return Encoding(nothing, apply, levels * 6, levels)


def _octaves(x, levels: int, level, radius):
  """(*b, levels * 6): each octave's three sines, then its three cosines, damped by a cone's width and by `level`."""
  x = at_least_float32(x)
  ones = (1,) * (x.ndim - 1)
  frequencies = jnp.asarray(np.pi * 2.0 ** np.arange(levels), x.dtype)
  phase = x[..., None, :] * frequencies.reshape(*ones, levels, 1)
  waves = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
  if radius is not None:
    deviation = radius.astype(x.dtype)[..., None] / 2 * frequencies.reshape(*ones, levels)
    waves = waves * jnp.exp(-deviation**2 / 2)[..., None]
  if level is not None:
    waves = waves * fade(level, levels).astype(x.dtype).reshape(*ones, levels, 1)
  return waves.reshape(*x.shape[:-1], levels * 6)


def gaussian_fourier(features: Count = 256, frequency: Positive = 2.0, seed: Index = 0) -> Encoding:
  """sin and cos of pi B x with B (features / 2, 3) drawn once from N(0, frequency^2) by `seed`, and never trained.

  Args:
    features: the encoding's width, rounded down to an even number, at least 2.
    frequency: standard deviation of B, in periods per box width: the one setting that matters, for it sets the
      detail that the field can hold before it starts to ring.

  Source: Tancik et al. 2020, section 6 (with coordinates in [0, 1], where the factor is 2 pi).

  >>> gaussian_fourier(features=8).dim
  8
  """
  half = max(features // 2, 1)
  directions = np.pi * frequency * np.random.default_rng(seed).standard_normal((3, half))

  def apply(params, x, level=None, radius=None):
    del params, level, radius
    x = at_least_float32(x)
    phase = jnp.matmul(x, jnp.asarray(directions, x.dtype), precision="highest")
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)

  return Encoding(nothing, apply, 2 * half)


def identity() -> Encoding:
  """The coordinates themselves.

  >>> identity().dim
  3
  """
  return Encoding(nothing, lambda params, x, level=None, radius=None: x, 3)
