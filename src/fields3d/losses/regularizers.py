"""Losses that ask something of the field or the codes themselves, whatever the data."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import norm


def eikonal(gradient: Float[Array, "*n 3"]) -> Float[Array, ""]:
  """Mean (|gradient| - 1)^2: a distance changes by one per unit of length. A zero gradient counts 1, and pulls nowhere.

  Source: Gropp et al. 2020, "Implicit Geometric Regularization", equation 2.

  >>> float(eikonal(jnp.array([[0.0, 3.0, 0.0]])))
  4.0
  """
  return jnp.mean((norm(gradient) - 1) ** 2)


def code_norm(z: Float[Array, "*b d"]) -> Float[Array, ""]:
  """Mean length of the codes: the length itself, not its square, as the authors' DeepSDF code has it.

  Source: train_deep_sdf.py of the authors' code; the paper's equation 9 has the square.

  >>> float(code_norm(jnp.array([[3.0, 4.0]])))
  5.0
  """
  return jnp.mean(norm(z))


def overshoot(codes: Float[Array, "*b d"], bound: float) -> Float[Array, ""]:
  """Mean of half the squared length by which codes lie outside the ball of radius `bound`; 0 inside it.

  >>> float(overshoot(jnp.array([[3.0, 4.0]]), bound=3.0))
  2.0
  """
  return 0.5 * jnp.mean(jnp.maximum(norm(codes) - bound, 0.0) ** 2)
