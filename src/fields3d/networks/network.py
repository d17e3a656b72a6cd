"""What a network is to a field: two pure functions."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Network:
  """A network on points, which may be conditioned on one code per row of points.

  init: (key, fan_in, fan_out, code_dim=0) -> params, a plain nested dict.
  apply: (params, x (*b, n, fan_in), z=None (*b, code_dim), key=None) -> (*b, n, fan_out). `key` turns dropout on.
  """
  init: Callable
  apply: Callable
