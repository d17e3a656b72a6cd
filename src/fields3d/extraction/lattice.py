"""The nodes of a regular grid: their positions, their keys, their edges, and the edges' crossing points.

Dense and sparse extraction number nodes and edges the same way and place vertices by the same arithmetic, which is
why their vertices are equal to the last bit. The grid is wrapped in one layer of nodes that count as outside, so
that a surface leaving the box is closed there.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from fields3d.core.errors import UsageFault, require_memory

# Vertices keep this part of an edge's length from the edge's ends. So no two vertices ever coincide, also not as
# float32, and no triangle degenerates, whatever the values; the surface moves by at most this part of a cell.
MARGIN = 1e-3

# The value of a node of the outer layer: so large that the surface closes MARGIN of a cell outside the box.
OUTSIDE = 1e300


@dataclasses.dataclass(frozen=True)
class Lattice:
  """A grid of `shape` (rx, ry, rz) nodes that spans `bounds` (2, 3), ends included.

  A node's key is its flat index in the grid with the outer layer; an edge's key is 3 * (key of its lower node) +
  axis. Keys are int64, so that every grid that fits a disk has them.
  """
  bounds: np.ndarray
  shape: tuple[int, int, int]

  @property
  def padded(self) -> tuple[int, int, int]:
    """The shape with the outer layer."""
    return tuple(n + 2 for n in self.shape)

  @property
  def strides(self) -> np.ndarray:
    """What one step along each axis adds to a node's key."""
    _, ny, nz = self.padded
    return np.array([ny * nz, nz, 1], np.int64)

  @property
  def cell(self) -> np.ndarray:
    """A cell's edge lengths (3,)."""
    return (self.bounds[1] - self.bounds[0]) / (np.array(self.shape) - 1)

  def keys(self, nodes: np.ndarray) -> np.ndarray:
    """Keys (...) of nodes (..., 3), which count from 0 at the box's lower corner (-1 is the outer layer)."""
    return sum((nodes[..., axis] + 1) * stride for axis, stride in enumerate(self.strides))

  def nodes(self, keys: np.ndarray) -> np.ndarray:
    """Nodes (n, 3) of keys (n,): the inverse of `keys`."""
    return np.stack(np.unravel_index(keys, self.padded), axis=-1) - 1

  def contains(self, nodes: np.ndarray) -> np.ndarray:
    """Which of the nodes (..., 3) lie in the box, that is, not in the outer layer or beyond."""
    return np.all((nodes >= 0) & (nodes < np.array(self.shape)), axis=-1)

  def positions(self, nodes: np.ndarray) -> np.ndarray:
    """Positions (..., 3) float64 of nodes, which may be fractional. The box's corners are met exactly."""
    part = nodes / (np.array(self.shape) - 1)
    return self.bounds[0] * (1 - part) + self.bounds[1] * part


def lattice(bounds: np.ndarray, resolution: int) -> Lattice:
  """The grid of `resolution` nodes along the longest side of a box, the other sides as nearly cubic as they divide.

  Raises:
    UsageFault: fewer than two nodes, more than have int64 keys, or a box that is not two finite, ordered corners.

  >>> lattice(np.array([[-1, -1, -1], [1, 1, 0]]), 5).shape
  (5, 5, 3)
  """
  bounds = checked_bounds(bounds)
  if resolution < 2:
    raise UsageFault("--resolution", f"{resolution} nodes make no cell", "give at least 2")
  sides = bounds[1] - bounds[0]
  grid = Lattice(bounds, tuple(max(1, round(part * (resolution - 1))) + 1 for part in (sides / sides.max()).tolist()))
  num = math.prod(grid.padded)
  if 3 * num >= 2**63:
    require_memory(8 * num, "--resolution", f"lower it ({num} nodes)")
  return grid


def checked_bounds(bounds: np.ndarray) -> np.ndarray:
  """Bounds as a float64 array (2, 3), lower corner first, or a fault."""
  bounds = np.asarray(bounds, np.float64)
  if bounds.shape != (2, 3) or not np.all(np.abs(bounds) < 1e300) or np.any(bounds[0] >= bounds[1]):
    raise UsageFault("bounds", f"{bounds.tolist()} is not a box", "give two finite corners, the lower one first")
  return bounds


def crossings(grid: Lattice, edges: np.ndarray, value_at: Callable, level: float) -> np.ndarray:
  """Where the level crosses edges: linear interpolation, exact for linear fields, error O(cell^2) else.

  Args:
    edges: (n,) edge keys whose ends lie on either side of the level.
    value_at: node keys (n,) -> values (n,) float64.

  Returns:
    (n, 3) float64, at least MARGIN of an edge away from both ends.
  """
  lower, axis = np.divmod(edges, 3)
  below, above = value_at(lower), value_at(lower + grid.strides[axis])
  part = np.clip((level - below) / (above - below), MARGIN, 1 - MARGIN)
  nodes = grid.nodes(lower).astype(np.float64)
  nodes[np.arange(len(axis)), axis] += part
  return grid.positions(nodes)
