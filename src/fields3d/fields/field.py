"""What a field is to a task: two pure functions and a few facts."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class NeuralField:
  """A neural field as pure functions of its parameters.

  init: (key) -> params, a plain nested dict.
  apply: (params, x (*b, n, 3), z (*b, d), key=None, level=None) -> (*b, n, channels). Channel 0 is the signed
    distance; channels 1 to 3, where channels = 4, are colour logits (sigmoid gives sRGB). `key` turns dropout on.
    `level` is the (real) number of active encoding levels, None for all. What depends on z alone is computed once
    per row of z, not once per point.
  code_dim: d; 0 for a field of a single shape.
  channels: 1 or 4.
  """
  init: Callable
  apply: Callable
  code_dim: int = 0
  channels: int = 1
