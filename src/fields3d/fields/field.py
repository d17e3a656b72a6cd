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


@dataclasses.dataclass(frozen=True)
class RadianceField:
  """A radiance field: absorption and colour at points, over the box [-1, 1]^3 (already contracted where space is).

  init: (key) -> params, a plain nested dict.
  section: (params, x (*b, 3), d (*b, 3), dt (*b,), radius (*b,), level) -> (tau (*b,), features (*b, f), sdf (*b,) or
    None, gradient (*b, 3) or None): the optical depth of the sections with middles x, unit directions d, lengths dt and
    cone radii, and what `color` needs. All of it as it lies in the box, but dt, which is a length of the model frame for
    fields of densities.
  color: (params, features (*b, f), d (*b, 3), appearance (*b, a) or None) -> (*b, 3) in [0, 1].
  density: (params, x (*b, 3), level, radius (*b,) or None) -> (*b,), per unit of dt (fields of distances: seen head-on).
  sdf: (params, x (*b, 3), level, radius (*b,) or None) -> (*b,), of fields that have one, else None.
  appearance_dim: width of the appearance code that `color` takes.
  """
  init: Callable
  section: Callable
  color: Callable
  density: Callable
  sdf: Callable | None = None
  appearance_dim: int = 0
