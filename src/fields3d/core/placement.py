"""The mesh that a step is traced for, for the few operations that the compiler would cut badly by itself."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import jax


@dataclasses.dataclass(frozen=True)
class Placement:
  """mesh: its axes are "data", along which rows and points are cut, and "model".

  table: the axis of a hash table (levels, features, rows) that is cut over model; None where it is whole on each device.
  """
  mesh: jax.sharding.Mesh
  table: int | None = None

  def cut_axis(self, shape: tuple[int, ...]) -> int | None:
    """The axis along which a hash table of this shape is cut over model; None where model does not divide it."""
    model, axis = self.mesh.shape["model"], self.table
    return axis if model > 1 and axis is not None and 0 <= axis < len(shape) and shape[axis] % model == 0 else None


_CURRENT: contextvars.ContextVar[Placement | None] = contextvars.ContextVar("placement", default=None)


@contextlib.contextmanager
def placed(placement: Placement) -> Iterator[None]:
  """What is traced within is for this mesh. Whoever jits apart must take `placement()` as a static argument.

  >>> with placed(Placement(jax.make_mesh((1, 1), ("data", "model")))):
  ...   placement().mesh.shape["data"]
  1
  """
  token = _CURRENT.set(placement)
  try:
    yield
  finally:
    _CURRENT.reset(token)


def placement() -> Placement | None:
  """The placement in force, None outside of `placed`.

  >>> placement() is None
  True
  """
  return _CURRENT.get()
