"""The volume rendering integral over sections of rays: what each absorbs, and sums by it.

Everything follows from optical depths: a section of optical depth tau lets exp(-tau) of the light through. This is
exact where density is constant over a section; with tau = density at the middle times length, it is of second order.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def absorption(tau: Float[Array, "*b s"]) -> tuple[Float[Array, "*b s"], Float[Array, "*b"]]:
  """The share of the light that each section absorbs, and the share that passes them all; together they are 1.

  tau: optical depths, at least 0, in order from the camera; infinity is opaque. Gradients are finite everywhere.

  Source: Max 1995, "Optical models for direct volume rendering", equation 9; NeRF (Mildenhall et al. 2020), equation 3.

  >>> weights, passed = absorption(jnp.log(jnp.array([2.0, 2.0])))
  >>> weights.round(3).tolist(), round(float(passed), 3)
  ([0.5, 0.25], 0.25)
  """
  depth = jnp.cumsum(tau, axis=-1)
  before = jnp.concatenate([jnp.zeros_like(tau[..., :1]), depth[..., :-1]], axis=-1)  # Not depth - tau: infinities.
  return jnp.exp(-before) * -jnp.expm1(-tau), jnp.exp(-depth[..., -1])


def composite(weights: Float[Array, "*b s"], values: Float[Array, "*b s c"]) -> Float[Array, "*b c"]:
  """Sums over sections of values (colours, normals) by weight: premultiplied by the opacity, over nothing.

  >>> composite(jnp.array([0.5, 0.25]), jnp.ones((2, 3))).tolist()
  [0.75, 0.75, 0.75]
  """
  return jnp.sum(weights[..., None] * values, axis=-2)


def mean_depth(t: Float[Array, "*b k"], weights: Float[Array, "*b s"]) -> Float[Array, "*b"]:
  """Sum of weight times middle: divided by the opacity, the expected t of what is seen.

  t: ends of sections, one more than weights.

  >>> float(mean_depth(jnp.array([1.0, 2.0, 4.0]), jnp.array([0.0, 0.5])))
  1.5
  """
  return jnp.sum(weights * (t[..., 1:] + t[..., :-1]) / 2, axis=-1)


def median_depth(t: Float[Array, "*b k"], weights: Float[Array, "*b s"]) -> Float[Array, "*b"]:
  """The t before which half of the opacity lies, each section's weight spread evenly over it; the last t if nothing is.

  Sharper than the mean at edges, where the mean falls between two surfaces.

  >>> float(median_depth(jnp.array([1.0, 2.0, 4.0]), jnp.array([0.0, 0.5])))
  3.0
  """
  reached = jnp.cumsum(weights, axis=-1)
  half = reached[..., -1:] / 2
  index = jnp.minimum(jnp.sum(reached < half, axis=-1, keepdims=True), weights.shape[-1] - 1)
  at = lambda values, i: jnp.take_along_axis(values, i, axis=-1)
  weight, start = at(weights, index), at(t, index)
  share = (half - at(reached, index) + weight) / jnp.where(weight > 0, weight, 1.0)
  found = start + share * (at(t, index + 1) - start)
  return jnp.where(half > 0, found, t[..., -1:])[..., 0]
