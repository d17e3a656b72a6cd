"""Marching cubes: a grid of values becomes a closed, oriented, manifold mesh.

The library (PyMCubes, or scikit-image where it is missing) is given signs only and returns which edges of the grid
each triangle joins; where on those edges the vertices lie is our own arithmetic. So both libraries, and tiles of any
size, give the same vertices to the last bit.

Why the mesh is manifold for every input: in each of the 256 sign patterns of a cell, the outline of the triangles
lies on the cell's faces and agrees with that of the neighbour across each face, and no inner diagonal lies on a face
(a test checks all patterns, for both libraries). So every edge has exactly two triangles. scikit-image's `lewiner`
table fails this in 8 patterns; its `lorensen` table passes, with the signs exchanged it cuts ambiguous faces as
PyMCubes does, and only its inner diagonals differ.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.extraction.lattice import OUTSIDE, Lattice, checked_bounds, crossings

try:
  import mcubes
except ImportError:  # no wheel for this Python
  mcubes = None

TILE = 128  # cells; PyMCubes takes 24 bytes a cell and counts them in an int, which overflows at 895^3


def marching_cubes(values: np.ndarray, bounds: np.ndarray, level: float = 0.0, tile: int = TILE) -> Mesh:
  """The surface between values below the level, which are inside, and the others; closed at the box.

  Watertight, manifold, consistently oriented (counter-clockwise from outside), without degenerate faces. Vertices
  interpolate linearly: error O(cell^2) for a smooth field. They stay 1e-3 of an edge away from the nodes, and where
  the surface leaves the box it is closed 1e-3 of a cell outside it. Vertices and faces come in a canonical order.

  Args:
    values: (rx, ry, rz) at nodes that span `bounds` (2, 3), ends included; finite, two or more a side.
    level: the value on the surface.
    tile: cells a side of the pieces handed to the library; changes memory, not the result.

  Raises:
    BadData: values that are not finite (with their number), or all on one side of the level (with their range).

  >>> ball = lambda p: np.linalg.norm(p, axis=-1) - 0.5
  >>> nodes = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij"), axis=-1)
  >>> mesh = marching_cubes(ball(nodes), np.array([[-1, -1, -1], [1, 1, 1]]))
  >>> mesh.vertices.shape, mesh.faces.shape
  ((54, 3), (104, 3))
  """
  values = np.asarray(values)
  if values.ndim != 3 or min(values.shape) < 2 or values.dtype.kind not in "fiub":
    raise BadData("values", f"a {values.dtype} array of shape {values.shape} is no grid", "give (rx, ry, rz) numbers")
  grid = Lattice(checked_bounds(bounds), values.shape)
  check_values(values.reshape(-1), "values", level)
  inside = np.zeros(grid.padded, bool)
  np.less(values, level, out=inside[1:-1, 1:-1, 1:-1])
  triangles = [tile_triangles(inside[box], start, grid) for start, box in _tiles(grid.padded, tile)]

  def value_at(keys):
    nodes = grid.nodes(keys)
    kept = grid.contains(nodes)
    out = np.full(len(keys), OUTSIDE)
    out[kept] = values[tuple(nodes[kept].T)]
    return out

  return assemble(grid, np.concatenate(triangles), value_at, level)


def check_values(values: np.ndarray, where: str, level: float = 0.0) -> None:
  """Faults for values (n,) with no surface among them.

  Raises:
    BadData: some are not finite, or all are on one side of the level.
  """
  low, high = values.min(), values.max()
  if not (np.isfinite(low) and np.isfinite(high)):
    count = int(np.sum(~np.isfinite(values)))
    raise BadData(where, f"{count} of {len(values)} values are not finite", "the field is not defined there")
  if low >= level or high < level:
    raise BadData(where, f"no zero crossing: the values lie in [{low - level:.4g}, {high - level:.4g}], "
                  f"all {'outside' if low >= level else 'inside'}", "there is no surface in the box")


def tile_triangles(inside: np.ndarray, start: np.ndarray, grid: Lattice) -> np.ndarray:
  """Triangles (f, 3), as edge keys, of a piece of the grid.

  Args:
    inside: (a, b, c) bool at the nodes of the piece.
    start: (3,) the piece's first node, counted from the outer layer's corner.

  Returns:
    (f, 3) int64 edge keys of `grid`, counter-clockwise from outside.
  """
  if inside.all() or not inside.any():
    return np.zeros((0, 3), np.int64)
  midpoints, faces = _library_triangles(inside)
  doubled = np.rint(2 * midpoints).astype(np.int64)  # crossings of +-1 lie midway: one coordinate is odd
  axis = np.argmax(doubled & 1, axis=1)
  return (3 * ((doubled // 2 + start) @ grid.strides) + axis)[faces]


def _library_triangles(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Vertices in units of nodes and faces, by the library that is there: the one place that knows their habits.

  PyMCubes, given the signs of a distance, and scikit-image, given the opposite ones, face inward: both are turned.
  """
  if mcubes is not None:
    vertices, faces = mcubes.marching_cubes(np.where(inside, np.float32(-1), np.float32(1)), 0.0)
    return vertices, faces.astype(np.int64)[:, ::-1]
  from skimage import measure
  signs = np.where(inside, np.float32(1), np.float32(-1))
  with warnings.catch_warnings():  # it sets array shapes as numpy 2.5 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    vertices, faces, _, _ = measure.marching_cubes(signs, 0.0, method="lorensen")
  return vertices, faces.astype(np.int64)[:, ::-1]


def assemble(grid: Lattice, triangles: np.ndarray, value_at: Callable, level: float = 0.0) -> Mesh:
  """The mesh of triangles given as edge keys, in an order that depends on the triangles alone.

  Vertices are ordered by their edge's key; each face begins with its first vertex, and faces are sorted.

  Args:
    triangles: (f, 3) int64 edge keys.
    value_at: node keys (n,) -> values (n,) float64, OUTSIDE in the outer layer.
  """
  edges, faces = np.unique(triangles, return_inverse=True)
  faces = faces.reshape(-1, 3)
  first = np.argmin(faces, axis=1)
  faces = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
  faces = faces[np.lexsort(faces.T[::-1])]
  return Mesh(crossings(grid, edges, value_at, level), faces.astype(np.int64))


def _tiles(shape: tuple[int, int, int], cells: int) -> Iterator[tuple[np.ndarray, tuple[slice, ...]]]:
  """Pieces of `cells` a side that share their border nodes: (first node, slices)."""
  for start in itertools.product(*(range(0, n - 1, cells) for n in shape)):
    yield np.array(start), tuple(slice(s, s + cells + 1) for s in start)
