"""A field's values at the nodes of a grid, each asked for once, in chunks of one size so that jit compiles once."""

from collections.abc import Callable

import numpy as np

from fields3d.core.errors import BadData, Diverged, require_memory
from fields3d.core.numerics import distinct
from fields3d.extraction.lattice import OUTSIDE, Lattice

CHUNK = 4096  # points a call: enough to feed two cores with an 8x512 net, little to waste in a call's last points
_NODE_BYTES = 160  # a node's key and value while merging, and its share of the mesh while assembling


def evaluate(fn: Callable, x: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
  """fn at x (n, 3) float32, called with exactly `chunk` points each time; the last call repeats points.

  Returns:
    (n,) or (n, channels) float32.

  Raises:
    BadData: fn returns another number of rows than points. Diverged: values that are not finite.

  >>> evaluate(lambda x: x[:, 0], np.ones((5, 3), np.float32), chunk=4)
  array([1., 1., 1., 1., 1.], dtype=float32)
  """
  parts = []
  for start in range(0, max(len(x), 1), chunk):
    part = x[start:start + chunk]
    padded = np.resize(part, (chunk, x.shape[1]))  # zeros, where there are none
    out = np.asarray(fn(padded), np.float32)
    if out.ndim not in (1, 2) or len(out) != chunk:
      raise BadData("field", f"maps points {padded.shape} to {out.shape}", "it must return one row a point")
    parts.append(out[:len(part)])
  values = np.concatenate(parts)
  if not np.all(np.isfinite(values)):
    count = int(np.sum(~np.isfinite(values)))
    raise Diverged("field", f"{count} of {values.size} values are not finite", "use an earlier checkpoint")
  return values


def vertex_colors(fn: Callable, vertices: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
  """Colours (v, 3) uint8 of vertices (v, 3), from fn: points -> sRGB in [0, 1] (values outside are clipped)."""
  colors = evaluate(fn, vertices.astype(np.float32), chunk)
  return np.rint(255 * np.clip(colors, 0, 1)).astype(np.uint8)


def surface_colors(fn: Callable, points: np.ndarray, normals: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
  """Colours (n, 3) uint8 on a surface, from fn: (points (n, 3), outward normals (n, 3), made unit) -> sRGB in [0, 1]."""
  unit = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
  both = np.concatenate([points, unit], axis=1)
  return vertex_colors(lambda rows: fn(rows[:, :3], rows[:, 3:]), both, chunk)


class Samples:
  """The values of a field at some nodes of a grid, sorted by the nodes' keys; a node is evaluated once.

  keys (n,) int64, values (n,) float32, rounds of asking. The nodes of the outer layer are OUTSIDE and not stored.
  """

  def __init__(self, fn: Callable, grid: Lattice, chunk: int = CHUNK):
    self.fn, self.grid, self.chunk = fn, grid, chunk
    self.keys = np.zeros(0, np.int64)
    self.values = np.zeros(0, np.float32)
    self.rounds = 0

  def add(self, keys: np.ndarray) -> np.ndarray:
    """Evaluates the nodes of these keys (...) that are in the box and not known yet; returns their keys, sorted.

    Raises:
      UsageFault: they do not fit into memory.
    """
    keys = distinct(keys)
    keys = keys[~self.known(keys)[0]]
    nodes = self.grid.nodes(keys)
    kept = self.grid.contains(nodes)
    keys, nodes = keys[kept], nodes[kept]
    if not len(keys):
      return keys
    require_memory(_NODE_BYTES * len(keys), "--resolution", "lower it")
    values = evaluate(self.fn, self.grid.positions(nodes).astype(np.float32), self.chunk).reshape(len(keys))
    where = np.searchsorted(self.keys, keys)
    self.keys = np.insert(self.keys, where, keys)
    self.values = np.insert(self.values, where, values)
    self.rounds += 1
    return keys

  def known(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which keys (...) are evaluated (bool), and the values (...) float32 there, 0 elsewhere."""
    if not len(self.keys):
      return np.zeros(keys.shape, bool), np.zeros(keys.shape, np.float32)
    place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
    found = self.keys[place] == keys
    return found, np.where(found, self.values[place], np.float32(0))

  def at(self, keys: np.ndarray) -> np.ndarray:
    """Values (n,) float64 of evaluated nodes, and OUTSIDE for the others: those of the outer layer."""
    found, values = self.known(keys)
    return np.where(found, values.astype(np.float64), OUTSIDE)
