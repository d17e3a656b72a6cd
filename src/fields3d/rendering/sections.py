"""Sections of rays, as many on each: laid out, asked of a radiance, and composited into what the rays see."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import norm
from fields3d.core.types import Rays
from fields3d.rendering.quadrature import absorption, composite, mean_depth
from fields3d.rendering.renderer import Radiance, Rendered, Section


def absorb(radiance: Radiance, rays: Rays, t: Float[Array, "n k"]) -> tuple[Section, Float[Array, "n s"]]:
  """What a radiance says of the sections between the ends t, (n, s + 1), and the light that each absorbs, (n, s)."""
  middle = (t[:, 1:] + t[:, :-1]) / 2
  x = rays.origins[:, None] + middle[..., None] * rays.directions[:, None]
  d = jnp.broadcast_to(rays.viewdirs[:, None], x.shape)
  section = radiance.section(x, d, jnp.diff(t) * norm(rays.directions)[:, None], rays.radii[:, None] * middle)
  return section, absorption(section.tau)[0]


def colors(radiance: Radiance, rays: Rays, section: Section, weights: Float[Array, "n s"]) -> Float[Array, "n 3"]:
  """The colours that rays see, premultiplied by their opacity."""
  d = jnp.broadcast_to(rays.viewdirs[:, None], (*weights.shape, 3))
  view = jnp.broadcast_to(rays.view[:, None], weights.shape)
  return composite(weights, radiance.shade(section, d, view))


def rendered(radiance: Radiance, rays: Rays, t: Float[Array, "n k"], section: Section, weights: Float[Array, "n s"],
             levels: tuple, coarse: tuple = ()) -> Rendered:
  """What rays see, by the sections and weights of the last level of sampling."""
  normal = None if section.normal is None else composite(weights, section.normal)
  return Rendered(colors(radiance, rays, section, weights), jnp.sum(weights, axis=1), mean_depth(t, weights), normal,
                  section, weights, levels, coarse)


def split(key: jax.Array | None, num: int) -> list[jax.Array | None]:
  """`num` keys, or as many times None."""
  return [None] * num if key is None else list(jax.random.split(key, num))
