"""Losses that ask something of the field or the codes themselves, whatever the data."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fields3d.core.numerics import mean_where, norm


def eikonal(gradient: Float[Array, "*n 3"]) -> Float[Array, ""]:
  """Mean (|gradient| - 1)^2: a distance changes by one per unit of length. A zero gradient counts 1, and pulls nowhere.

  Source: Gropp et al. 2020, "Implicit Geometric Regularization", equation 2.

  >>> float(eikonal(jnp.array([[0.0, 3.0, 0.0]])))
  4.0
  """
  return jnp.mean((norm(gradient) - 1) ** 2)


def normal_variation(a: Float[Array, "n 3"], b: Float[Array, "n 3"], counted: Bool[Array, " n"]) -> Float[Array, ""]:
  """Mean distance of two unit gradients a short way apart, over the pairs that count; 0 where none does.

  The distance and not its square, as total variation has it: a crease costs no more than the same bend spread out, so that
  flat faces may meet at edges. The square is PermutoSDF's (1 - cosine is half of it).

  Args:
    a, b: gradients, of any length.

  Source: Rosu & Behnke 2023, "PermutoSDF", equation 7, for the pairs.

  >>> up, side, all_ = jnp.array([[0.0, 0.0, 2.0]]), jnp.array([[0.0, 1.0, 0.0]]), jnp.array([True])
  >>> float(normal_variation(up, up, all_)), round(float(normal_variation(up, side, all_)), 3)
  (0.0, 1.414)
  """
  unit = lambda v: v / jnp.maximum(norm(v), 1e-6)[:, None]
  return mean_where(counted, norm(unit(a) - unit(b)))


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
