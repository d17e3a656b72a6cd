"""Losses on how weight is spread along rays: proposals that must cover it, and weight that must be compact.

Sections are given by their ends s, (*b, k + 1), increasing, and their weights, (*b, k): shares of a ray's light, at
least 0. Each loss is a mean over rays, so that means over equal parts of a batch average to the mean over the whole.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def interlevel(s: Float[Array, "*b k"], weights: Float[Array, "*b m"], proposal_s: Float[Array, "*b j"],
               proposal_weights: Float[Array, "*b l"]) -> Float[Array, ""]:
  """By how much a field's weights exceed what its proposal allows.

  The mean over rays of the sum over sections of max(0, w - bound)^2 / w; a section's bound is the weight of all the
  proposal's sections that it touches. The field's weights are the target and have no gradient.

  Source: mip-NeRF 360 (Barron et al. 2022), equations 13 and 14.

  >>> ends = jnp.array([0.0, 1.0, 2.0])
  >>> round(float(interlevel(ends, jnp.array([0.0, 1.0]), ends, jnp.array([0.5, 0.5]))), 6)
  0.25
  """
  s, weights, proposal_s = jax.lax.stop_gradient((s, weights, proposal_s))
  sums = jnp.pad(jnp.cumsum(proposal_weights, axis=-1), [(0, 0)] * (weights.ndim - 1) + [(1, 0)])
  # The last proposal end at or before a section's start, the first at or after its end.
  below = jnp.sum(proposal_s[..., None, :] <= s[..., :-1, None], axis=-1) - 1
  above = jnp.sum(proposal_s[..., None, :] < s[..., 1:, None], axis=-1)
  last = proposal_s.shape[-1] - 1
  at = lambda index: jnp.take_along_axis(sums, jnp.clip(index, 0, last), axis=-1)
  excess = jnp.maximum(weights - (at(above) - at(below)), 0.0)
  return jnp.mean(jnp.sum(excess**2 / (weights + 1e-7), axis=-1))


def blurred_interlevel(s: Float[Array, "*b k"], weights: Float[Array, "*b m"], proposal_s: Float[Array, "*b j"],
                       proposal_weights: Float[Array, "*b l"], blur: float) -> Float[Array, ""]:
  """By how much the field's weights, as a density blurred by a box of half width `blur`, exceed the proposal's.

  Smooth as samples move along the ray, where `interlevel` jumps as an end passes another: no aliasing along z.

  Source: Zip-NeRF (Barron et al. 2023), section 4, equations 9 to 12 in the order of its text.
  """
  s, weights, proposal_s = jax.lax.stop_gradient((s, weights, proposal_s))
  mass = _blurred_mass(s, weights, proposal_s, blur)
  return jnp.mean(jnp.sum(jnp.maximum(mass - proposal_weights, 0.0)**2 / (proposal_weights + 1e-5), axis=-1))


def _blurred_mass(s: Float[Array, "*b k"], weights: Float[Array, "*b m"], ends: Float[Array, "*b j"],
                  blur: float) -> Float[Array, "*b l"]:
  """The mass between `ends` of the density weights / length, constant on sections, blurred by a box of width 2 blur.

  It is the mean over the box of the mass before each end: a difference of integrals of the cumulative weight, piecewise quadratic.
  Heights of sections, which may be a millionth long, are never summed.
  """
  length, sums = jnp.diff(s), jnp.cumsum(weights, axis=-1)
  edge = [(0, 0)] * (s.ndim - 1) + [(1, 0)]
  before = jnp.pad(sums, edge)
  area = jnp.pad(jnp.cumsum(length * (before[..., :-1] + before[..., 1:]) / 2, axis=-1), edge)
  at = lambda values, i: jnp.take_along_axis(values, i, axis=-1)

  def integral(t):
    index = jnp.clip(jnp.sum(s[..., None, :] <= t[..., None], axis=-1) - 1, 0, length.shape[-1] - 1)
    along = jnp.clip(t - at(s, index), 0.0, at(length, index))
    share = along / jnp.maximum(at(length, index), 1e-12)
    beyond = jnp.maximum(t - s[..., -1:], 0.0) * sums[..., -1:]
    return at(area, index) + along * (at(before, index) + at(weights, index) * share / 2) + beyond

  return jnp.diff((integral(ends + blur) - integral(ends - blur)) / (2 * blur))


def distortion(s: Float[Array, "*b k"], weights: Float[Array, "*b m"]) -> Float[Array, ""]:
  """Mean over rays of the integral of |u - v| w(u) w(v), w constant on sections: small where weight is in one place.

  Linear in the number of sections: sums of weight, and of weight times middle, before each.

  Source: mip-NeRF 360 (Barron et al. 2022), equation 15; linear form: Sun et al. 2022 (DVGO v2), section 2.

  >>> round(float(distortion(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.5, 0.5]))), 6)
  0.666667
  """
  middle = (s[..., 1:] + s[..., :-1]) / 2
  moment = weights * middle
  before = lambda values: jnp.cumsum(values, axis=-1) - values
  between = 2 * jnp.sum(moment * before(weights) - weights * before(moment), axis=-1)
  within = jnp.sum(weights**2 * jnp.diff(s), axis=-1) / 3
  return jnp.mean(between + within)


def opacity_entropy(opacity: Float[Array, "*b"]) -> Float[Array, ""]:
  """Mean binary entropy of rays' opacities, in nats: pulls each towards seen or not seen. Gradients are bounded.

  >>> round(float(opacity_entropy(jnp.array([0.5]))), 4)
  0.6931
  """
  p = jnp.clip(opacity, 1e-5, 1 - 1e-5)
  return -jnp.mean(p * jnp.log(p) + (1 - p) * jnp.log1p(-p))


def sparsity(density: Float[Array, "*b"], length: float) -> Float[Array, ""]:
  """Mean opacity of a stretch of `length` with these densities: penalises haze at random points of space.

  Source: PlenOctrees (Yu et al. 2021), equation 6.

  >>> round(float(sparsity(jnp.full(3, 7.0), 0.1)), 4)
  0.5034
  """
  return jnp.mean(-jnp.expm1(-length * density))
