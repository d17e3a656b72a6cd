"""Where along rays samples are placed: stratified, or where a histogram says that something is.

Samplers work in the normalised distance s, 0 at a ray's near end and 1 at its far one; a spacing says how s becomes t.
Ends of sections increase along the last axis. Nothing here has a gradient: samples are places, not quantities.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.errors import UsageFault
from fields3d.core.types import Rays

Spacing = Literal["linear", "disparity", "piecewise"]
# Each spacing as a monotone g with its inverse; s is g scaled to 0 at near and 1 at far.
_SPACINGS = {
    "linear": (lambda t: t, lambda g: g),
    "disparity": (lambda t: 1 / t, lambda g: 1 / g),
    "piecewise": (lambda t: jnp.where(t < 1, t / 2, 1 - 0.5 / jnp.maximum(t, 1.0)),
                  lambda g: jnp.where(g < 0.5, 2 * g, 0.5 / jnp.maximum(1 - g, 1e-7))),
}


def box_interval(origins: Float[Array, "*b 3"], directions: Float[Array, "*b 3"], near: Float[Array, "*b"],
                 far: Float[Array, "*b"], half: float | np.ndarray = 1.0) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
  """The part of [near, far] in which a ray is inside the cube [-half, half]^3; both ends are equal where it misses.

  half: or three of them, one for each axis.

  >>> o, d = jnp.array([[0.0, 0.0, 4.0]]), jnp.array([[0.0, 0.0, -1.0]])
  >>> [float(end[0]) for end in box_interval(o, d, jnp.zeros(1), jnp.full(1, 9.0))]
  [3.0, 5.0]
  """
  along = jnp.where(jnp.abs(directions) < 1e-12, 1e-12, directions)  # Parallel to a face: in or out for all t.
  half = np.reshape(np.float32(half), (1,) * (origins.ndim - 1) + (-1,))
  a, b = (-half - origins) / along, (half - origins) / along
  enter = jnp.clip(jnp.max(jnp.minimum(a, b), axis=-1), near, far)
  leave = jnp.clip(jnp.min(jnp.maximum(a, b), axis=-1), enter, far)
  return jax.lax.stop_gradient((enter, leave))


def sphere_interval(origins: Float[Array, "*b 3"], directions: Float[Array, "*b 3"], near: Float[Array, "*b"],
                    far: Float[Array, "*b"], radius: float = 1.0) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
  """The part of [near, far] in which a ray (of unit direction) is inside the ball around 0; both ends are equal where it misses.

  >>> o, d = jnp.array([[0.0, 0.0, 4.0]]), jnp.array([[0.0, 0.0, -1.0]])
  >>> [float(end[0]) for end in sphere_interval(o, d, jnp.zeros(1), jnp.full(1, 9.0))]
  [3.0, 5.0]
  """
  middle = -jnp.sum(origins * directions, axis=-1)
  passing = jnp.sum((origins + middle[..., None] * directions) ** 2, axis=-1)  # not |o|^2 - middle^2: cancellation
  half = jnp.sqrt(jnp.maximum(radius**2 - passing, 0.0))
  enter = jnp.clip(middle - half, near, far)
  return jax.lax.stop_gradient((enter, jnp.clip(middle + half, enter, far)))


def ray_extent(rays: Rays, info: Mapping[str, Any]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
  """Where along rays anything may be: between near and far, and inside the box [-1, 1]^3 where the facts bound space.

  Normalised device coordinates are not cut: other cameras than the middle one see past the cube's sides.
  """
  if info.get("unbounded") or info.get("ndc"):
    return rays.near, rays.far
  return box_interval(rays.origins, rays.directions, rays.near, rays.far)


def check_spacing(spacing: Spacing, info: Mapping[str, Any]) -> None:
  """Equal steps of 1 / t need a near end above 0.

  Raises:
    UsageFault: there is none.
  """
  if spacing == "disparity" and (info.get("ndc") or not info.get("near", 1.0) > 0):
    raise UsageFault("--config.task.renderer.spacing", "disparity needs rays that start beyond 0", "use linear")


def distances(s: Float[Array, "*b k"], near: Float[Array, "*b"], far: Float[Array, "*b"],
              spacing: Spacing = "linear") -> Float[Array, "*b k"]:
  """Normalised distances as distances t.

  spacing: "linear"; "disparity", equal steps in 1 / t (near must be above 0); "piecewise", equal steps up to t = 1, and
    in 1 / t beyond: nerfacto's for unbounded scenes whose cameras are inside the unit sphere.

  Source: mip-NeRF 360 (Barron et al. 2022), equation 11; piecewise: Tancik et al. 2023 (nerfstudio), section 4.

  >>> distances(jnp.array([0.0, 0.5, 1.0]), jnp.array(1.0), jnp.array(4.0), "disparity").round(3).tolist()
  [1.0, 1.600000023841858, 4.0]
  """
  g, inverse = _SPACINGS[spacing]
  low, high = g(near)[..., None], g(far)[..., None]
  return jnp.clip(inverse(low + s * (high - low)), near[..., None], far[..., None])


def stratified(shape: tuple[int, ...], count: int, key: jax.Array | None) -> Float[Array, "*shape k"]:
  """Ends of `count` sections of [0, 1] for each ray, (*shape, count + 1): equal ones, all moved by up to half of one.

  The outer ends stay, so that sections cover the ray; the inner sections' middles visit every place alike, which they
  would not if each end moved on its own.

  key: None leaves the sections equal.

  Source: NeRF (Mildenhall et al. 2020), equation 2, with one random number per ray as in nerfacto.

  >>> stratified((1,), 4, None).tolist()
  [[0.0, 0.25, 0.5, 0.75, 1.0]]
  """
  ends = jnp.linspace(0.0, 1.0, count + 1).reshape((1,) * len(shape) + (-1,))
  if key is None:
    return jnp.broadcast_to(ends, (*shape, count + 1))
  inner = (jnp.arange(count + 1) % count > 0).reshape(ends.shape)
  return ends + inner * (jax.random.uniform(key, (*shape, 1)) - 0.5) / count


def anneal_exponent(step: jax.Array | int, steps: int, slope: float = 10.0) -> Float[Array, ""]:
  """The power to which weights are raised while proposals learn: 0 (uniform) at first, rising quickly to 1 at `steps`.

  Source: mip-NeRF 360 (Barron et al. 2022), equation 18.

  >>> [round(float(anneal_exponent(k, 100)), 3) for k in (0, 10, 100)]
  [0.0, 0.526, 1.0]
  """
  done = jnp.clip(jnp.asarray(step, jnp.float32) / max(steps, 1), 0.0, 1.0) if steps else jnp.ones(())
  return slope * done / ((slope - 1) * done + 1)


def importance(s: Float[Array, "*b k"], weights: Float[Array, "*b m"], count: int, key: jax.Array | None,
               padding: float = 1e-5) -> Float[Array, "*b count"]:
  """Increasing samples of a density that is constant on each section: one in each of `count` equal shares of its mass.

  Args:
    s: ends of sections, one more than weights. weights: mass of each, at least 0.
    key: None takes the middle of each share; else a random place in it, the same in all shares of a ray.
    padding: mass that every section has in any case, so that none is out of reach and an empty ray is sampled evenly.

  Source: NeRF (Mildenhall et al. 2020), section 5.2.

  >>> importance(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 1.0]), 2, None, padding=0.0).tolist()
  [1.25, 1.75]
  """
  mass = jax.lax.stop_gradient(weights) + padding
  cdf = jnp.cumsum(mass, axis=-1)
  cdf = jnp.pad(cdf / cdf[..., -1:], [(0, 0)] * (cdf.ndim - 1) + [(1, 0)])
  place = jnp.arange(count, dtype=jnp.float32).reshape((1,) * (cdf.ndim - 1) + (-1,))
  shift = 0.5 if key is None else jax.random.uniform(key, (*cdf.shape[:-1], 1))
  return _inverse_cdf((place + shift) / count, cdf, jax.lax.stop_gradient(s))


def resample(s: Float[Array, "*b k"], weights: Float[Array, "*b m"], count: int, key: jax.Array | None,
             padding: float = 1e-5) -> Float[Array, "*b n"]:
  """Ends of `count` sections, (*b, count + 1), around `importance` samples: half way between neighbours.

  The outer sections reach as far beyond their samples as inwards, but not beyond s.

  Source: mip-NeRF 360 (Barron et al. 2022), its authors' code (multinerf, `sample_intervals`).

  >>> resample(jnp.array([0.0, 1.0]), jnp.ones(1), 4, None).tolist()
  [0.0, 0.25, 0.5, 0.75, 1.0]
  """
  s = jax.lax.stop_gradient(s)
  if count == 1:
    return s[..., np.array([0, -1])]
  centers = importance(s, weights, count, key, padding)
  middles = (centers[..., 1:] + centers[..., :-1]) / 2
  first = jnp.maximum(2 * centers[..., :1] - middles[..., :1], s[..., :1])
  last = jnp.minimum(2 * centers[..., -1:] - middles[..., -1:], s[..., -1:])
  return jnp.concatenate([first, middles, last], axis=-1)


def _inverse_cdf(u: Float[Array, "*b n"], cdf: Float[Array, "*b k"], s: Float[Array, "*b k"]) -> Float[Array, "*b n"]:
  """Where the piecewise linear cdf (0 to 1, at s) takes the values u.

  Comparing all pairs beats a binary search's chain of gathers for the few hundred sections that rays have.
  """
  index = jnp.sum(cdf[..., None, 1:-1] <= u[..., None], axis=-1)
  at = lambda values, i: jnp.take_along_axis(values, i, axis=-1, mode="promise_in_bounds")
  low, high = at(cdf, index), at(cdf, index + 1)
  share = jnp.clip((u - low) / jnp.where(high > low, high - low, 1.0), 0.0, 1.0)
  start = at(s, index)
  return start + share * (at(s, index + 1) - start)
