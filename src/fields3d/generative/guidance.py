"""Classifier-free guidance: a conditional estimate pushed away from the unconditional one."""

from collections.abc import Callable

import jax

Denoise = Callable[[jax.Array, jax.Array], jax.Array]


def guided(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
  """x_0 = unconditional + scale (conditional - unconditional), at any noise level.

  Scale 1 is the conditional and 0 the unconditional alone, at the cost of one; else both are asked. Above 1 it is no
  density's denoiser: samples keep to the condition at the cost of their variety. Guiding eps, v or x_0 is the same
  thing, as each is affine in the others at one x and t.

  Source: Ho & Salimans 2022, equation 6, with scale = 1 + w.

  >>> guided(lambda x, t: x + 1, lambda x, t: x, 3.0)(0.0, None)
  3.0
  """
  if scale == 1:
    return conditional
  if scale == 0:
    return unconditional

  def denoise(x, t):
    free = unconditional(x, t)
    return free + scale * (conditional(x, t) - free)
  return denoise
