"""Classifier-free guidance: a conditional answer pushed away from the unconditional one."""

from collections.abc import Callable


def guided(conditional: Callable, unconditional: Callable, scale: float) -> Callable:
  """(x, c, ...) -> unconditional + scale (conditional - unconditional), at any noise level.

  Scale 1 is the conditional and 0 the unconditional alone, at the cost of one; else both are asked. Above 1 it is no
  density's denoiser: samples keep to the condition at the cost of their variety. Answers that mean eps, v or x_0 are
  guided alike, as each is affine in the others at one x and t; what bounds x_0 comes after.

  Source: Ho & Salimans 2022, equation 6, with scale = 1 + w.

  >>> guided(lambda x, c: x + 1, lambda x, c: x, 3.0)(0.0, None)
  3.0
  """
  if scale == 1:
    return conditional
  if scale == 0:
    return unconditional

  def answer(x, c, *previous):
    free = unconditional(x, c, *previous)
    return free + scale * (conditional(x, c, *previous) - free)
  return answer
