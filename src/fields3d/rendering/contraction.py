"""Contractions: all of space in a ball or a cube of half side 2, halved, so that encodings over [-1, 1]^3 see it all.

Within the unit ball (or cube) lengths are halved and nothing else; beyond, distance becomes disparity. Densities stay
per unit of real length: only the place at which a field is asked is contracted, and the size of what it sees there.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import norm

Shape = Literal["ball", "cube"]


def contract(x: Float[Array, "*b 3"], shape: Shape = "ball") -> Float[Array, "*b 3"]:
  """Points of space as points of the unit ball, or of the cube [-1, 1]^3.

  shape: the norm by which distance is measured, Euclidean ("ball": mip-NeRF 360) or the largest coordinate ("cube":
    nerfacto, whose grids then have no empty corners).

  Source: mip-NeRF 360 (Barron et al. 2022), equation 10, divided by 2.

  >>> contract(jnp.array([[0.5, 0.0, 0.0], [4.0, 0.0, 0.0]])).tolist()
  [[0.25, 0.0, 0.0], [0.875, 0.0, 0.0]]
  """
  r = jnp.maximum(_radius(x, shape), 1.0)[..., None]
  return x * ((2 - 1 / r) / (2 * r))


def expand(x: Float[Array, "*b 3"], shape: Shape = "ball") -> Float[Array, "*b 3"]:
  """The point of space that `contract` takes to x; x inside the open unit ball or cube.

  >>> expand(jnp.array([0.875, 0.0, 0.0])).tolist()
  [4.0, 0.0, 0.0]
  """
  r = jnp.maximum(2 * _radius(x, shape), 1.0)[..., None]
  return 2 * x / (r * (2 - r))


def shrink(x: Float[Array, "*b 3"], shape: Shape = "ball") -> Float[Array, "*b"]:
  """By how much lengths shrink at x on average: the cube root of the contraction's Jacobian determinant.

  A cone's radius at x times this is its radius in the contracted space.

  Source: Zip-NeRF (Barron et al. 2023), section 2 ("the geometric mean of the Jacobian's eigenvalues").

  >>> float(shrink(jnp.array([0.2, 0.0, 0.0])))
  0.5
  """
  r = jnp.maximum(_radius(x, shape), 1.0)
  return 0.5 * jnp.cbrt(((2 * r - 1) / (r * r)) ** 2 / (r * r))


def _radius(x: Float[Array, "*b 3"], shape: Shape) -> Float[Array, "*b"]:
  return norm(x) if shape == "ball" else jnp.max(jnp.abs(x), axis=-1)
