"""Real spherical harmonics of directions: what colour depends on beside the place."""

import math
from typing import Annotated

import jax.numpy as jnp

from fields3d.core.config import Range
from fields3d.encodings.encoding import Encoding, at_least_float32, nothing


def spherical_harmonics(degree: Annotated[int, Range(ge=1, le=5)] = 4) -> Encoding:
  """The bands below `degree` of the orthonormal real basis, without the Condon-Shortley sign: degree^2 polynomials.

  Feature l^2 + l + m is Y_lm, m from -l to l. The points are unit vectors; none is made one.

  Source: z-recurrence of the Legendre functions, NIST DLMF 14.10.3; (x + i y)^m for the azimuth.

  >>> basis = spherical_harmonics(degree=2).apply({}, jnp.asarray([[0.0, 0.0, 1.0]]))
  >>> [round(float(y), 4) for y in basis[0]]
  [0.2821, 0.0, 0.4886, 0.0]
  """
  def apply(params, x, level=None, radius=None):
    del params, level, radius
    x = at_least_float32(x)
    x, y, z = x[..., 0], x[..., 1], x[..., 2]
    features = [None] * degree**2
    cosine, sine, sectoral = jnp.ones_like(x), jnp.zeros_like(x), 1.0  # (x + i y)^m and (2 m - 1)!!
    for m in range(degree):
      before, legendre = jnp.zeros_like(z), jnp.full_like(z, sectoral)
      for band in range(m, degree):
        scale = _normalisation(band, m)
        features[band * (band + 1) + m] = scale * legendre * cosine
        if m:
          features[band * (band + 1) - m] = scale * legendre * sine
        before, legendre = legendre, ((2 * band + 1) * z * legendre - (band + m) * before) / (band + 1 - m)
      cosine, sine, sectoral = x * cosine - y * sine, x * sine + y * cosine, sectoral * (2 * m + 1)
    return jnp.stack(features, axis=-1)

  return Encoding(nothing, apply, degree**2)


def _normalisation(band: int, order: int) -> float:
  square = (2 * band + 1) / (4 * math.pi) * math.factorial(band - order) / math.factorial(band + order)
  return math.sqrt(square * (2 if order else 1))
