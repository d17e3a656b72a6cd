"""What a generator and a critic of shapes are to a task."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Generator:
  """Makes data of one shape from codes.

  init: (key, code_dim) -> params. apply: (params, z (b, code_dim)) -> (b, *shape). shape: of one datum.
  """
  init: Callable
  apply: Callable
  shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Critic:
  """init: (key, shape) -> params, for data of that shape. apply: (params, x (b, *shape)) -> scores (b,), high for real."""
  init: Callable
  apply: Callable
