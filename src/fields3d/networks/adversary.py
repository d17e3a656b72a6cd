"""What a generator and a critic of shapes are to a task."""

import dataclasses
from collections.abc import Callable

from fields3d.core.errors import UsageFault


@dataclasses.dataclass(frozen=True)
class Generator:
  """Makes data of one shape from codes.

  init: (key, code_dim) -> params. apply: (params, z (b, code_dim)) -> (b, *shape). shape: of one datum.
  """
  init: Callable
  apply: Callable
  shape: tuple[int, ...]


def check_rank(name: str, shape: tuple[int, ...], rank: int, of: str) -> None:
  """Data of a critic must have its rank.

  Raises:
    UsageFault: they have another.
  """
  if len(shape) != rank:
    raise UsageFault("--config.task.critic", f"{name} takes {of}, not {shape}", "use another critic")


@dataclasses.dataclass(frozen=True)
class Critic:
  """init: (key, shape) -> params, for data of that shape. apply: (params, x (b, *shape)) -> scores (b,), high for real."""
  init: Callable
  apply: Callable
