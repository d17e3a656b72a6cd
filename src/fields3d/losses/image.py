"""Losses between colours seen and colours photographed. Only rays that count are seen: the mean is over those alone."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fields3d.core.numerics import mean_where

PhotometricLoss = Literal["l2", "charbonnier", "huber"]
# Each as a function of a channel's difference.
_LOSSES = {
    "l2": lambda e: e * e,
    "charbonnier": lambda e: jnp.sqrt(e * e + 1e-3**2),
    "huber": lambda e: jnp.where(jnp.abs(e) < 0.1, 0.5 * e * e, 0.1 * (jnp.abs(e) - 0.05)),
}


def photometric(rgb: Float[Array, "*n 3"], target: Float[Array, "*n 3"], loss: PhotometricLoss = "l2",
                counted: Bool[Array, "*n"] | None = None) -> Float[Array, ""]:
  """Mean over counted rays and channels of the loss of rgb - target; 0 where no ray counts.

  Args:
    loss: "l2", the square; "charbonnier", sqrt(e^2 + 0.001^2); "huber", e^2 / 2 below 0.1 and straight beyond.
    counted: True where a ray counts; None where all do. Means over parts of a batch average to the
      whole's only if the parts count equally many.

  Source: charbonnier: mip-NeRF 360 (Barron et al. 2022), section 5; huber: Instant-NGP's code.

  >>> round(float(photometric(jnp.ones((2, 3)), jnp.zeros((2, 3)), "huber")), 6)
  0.095
  """
  each = jnp.mean(_LOSSES[loss](rgb - target), axis=-1)
  return jnp.mean(each) if counted is None else mean_where(counted, each)
