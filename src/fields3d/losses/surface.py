"""Losses that tie a field to samples of a surface: distances, directions, colours.

Each is a plain mean over all points, with no normalisation that depends on the batch, so that means over equal parts
of a batch average to the mean over the whole: microbatches and blocks are exact.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import norm


def clamped_l1(predicted: Float[Array, "*n"], sdf: Float[Array, "*n"], clamp: float) -> Float[Array, ""]:
  """Mean |clamp(predicted) - clamp(sdf)|, both clamped to +-clamp: only the neighbourhood of the surface counts.

  A prediction outside the clamp has no gradient.

  Source: Park et al. 2019, equation 4.

  >>> float(clamped_l1(jnp.array([0.5, 0.0]), jnp.array([0.3, 0.0]), clamp=0.1))
  0.0
  """
  return jnp.mean(jnp.abs(jnp.clip(predicted, -clamp, clamp) - jnp.clip(sdf, -clamp, clamp)))


def relative_l1(predicted: Float[Array, "*n"], sdf: Float[Array, "*n"], floor: float) -> Float[Array, ""]:
  """Mean |predicted - sdf| / (|sdf| + floor): the same relative accuracy at every distance.

  floor: the distance below which errors count as absolute ones.

  Source: Müller et al. 2022, "Instant-NGP", section 5.2 (mean absolute percentage error).

  >>> round(float(relative_l1(jnp.array([1.1]), jnp.array([1.0]), floor=0.0)), 6)
  0.1
  """
  return jnp.mean(jnp.abs(predicted - sdf) / (jnp.abs(sdf) + floor))


def color_l1(logits: Float[Array, "*n 3"], colors: Float[Array, "*n 3"], sdf: Float[Array, "*n"],
             within: float) -> Float[Array, ""]:
  """Mean over all points and channels of |sigmoid(logits) - colors|, counted where |sdf| <= within, else 0.

  colors: sRGB in [0, 1] of the nearest surface point, which means little far from the surface.
  """
  near = (jnp.abs(sdf) <= within).astype(logits.dtype)
  return jnp.mean(near[..., None] * jnp.abs(jax.nn.sigmoid(logits) - colors))


def normal_alignment(gradient: Float[Array, "*n 3"], normals: Float[Array, "*n 3"]) -> Float[Array, ""]:
  """Mean of 1 - cos of the angle between a field's gradient and the true one, 0 to 2. A zero gradient counts 1.

  normals: unit gradients of the true distance.

  >>> float(normal_alignment(jnp.array([[0.0, 2.0, 0.0]]), jnp.array([[0.0, -1.0, 0.0]])))
  2.0
  """
  length = norm(gradient)
  cosine = jnp.sum(gradient * normals, axis=-1) / jnp.where(length > 0, length, 1.0)
  return jnp.mean(1 - cosine)


def value_and_gradient(field: Callable, x: Float[Array, "*n 3"]) -> tuple[Float[Array, "*n"], Float[Array, "*n 3"]]:
  """A field's values at x and their gradients there, by one reverse pass over all points.

  field: (*n, 3) -> (*n,), each value of its own point alone (no normalisation over points): the pass sums over
    points, and only so is the sum's gradient each point's own.

  >>> value_and_gradient(lambda x: jnp.sum(x * x, -1), jnp.ones((1, 3)))[1].tolist()
  [[2.0, 2.0, 2.0]]
  """
  values, pullback = jax.vjp(field, x)
  gradient, = pullback(jnp.ones_like(values))
  return values, gradient
