"""What photographs differ in beside their place: pose errors, exposure, appearance; and what lies behind the scene."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields3d.core.types import Rays

Background = Literal["white", "black", "random", "learned"]
SHADES = {"white": 1.0, "black": 0.0}


def rotate(v: Float[Array, "n 3"], d: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
  """Vectors d turned by the rotation vectors v: |v| radians about v. Smooth at v = 0.

  Source: Rodrigues' formula.

  >>> rotate(jnp.array([[0.0, 0.0, jnp.pi / 2]]), jnp.array([[1.0, 0.0, 0.0]])).round(6).tolist()
  [[0.0, 1.0, 0.0]]
  """
  square = jnp.sum(v * v, axis=-1, keepdims=True)
  small = square < 1e-8
  angle = jnp.sqrt(jnp.where(small, 1.0, square))
  sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
  versine = jnp.where(small, 0.5 - square / 24, (1 - jnp.cos(angle)) / jnp.where(small, 1.0, square))
  turned = jnp.cross(v, d)
  return d + sine * turned + versine * jnp.cross(v, turned)


def moved(rays: Rays, corrections: Float[Array, "views 6"]) -> Rays:
  """Rays of cameras that are moved by (translation, rotation vector) of each view, about the camera's own place."""
  own = corrections[rays.view]
  turn = lambda d: rotate(own[:, 3:], d)
  return Rays(rays.origins + own[:, :3], turn(rays.directions), turn(rays.viewdirs), rays.radii, rays.near, rays.far,
              rays.view)


def exposed(rgb: Float[Array, "n 3"], exposures: Float[Array, "views 6"], view: Int[Array, " n"]) -> Float[Array, "n 3"]:
  """Colours as each view's camera records them: a gain and an offset per channel, (log gain, offset).

  The mean over all views is taken off first, so that the average view is the identity: what test views get.
  """
  own = (exposures - jnp.mean(exposures, axis=0, keepdims=True))[view]
  return rgb * jnp.exp(own[:, :3]) + own[:, 3:]
