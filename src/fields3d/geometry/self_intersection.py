"""Faces that cross one another: boxes of boxes first (Morton order, level by level), then edges against triangles."""

from collections.abc import Iterator

import numpy as np

from fields3d.core.types import Mesh
from fields3d.geometry.faces import face_normals
from fields3d.geometry.topology import weld

_CHUNK = 2**19  # pairs of boxes or faces looked at together: bounds the memory
MOST_PAIRS = 50_000_000  # of faces whose boxes meet: bounds the time
_EPS, _SHORT = 1e-12, 1e-9  # of the size of the two faces: heights taken as 0, and lines as points


def crossing_faces(mesh: Mesh) -> np.ndarray:
  """(f,) whether the face and another go through one another, along a line of some length.

  Faces that share an edge are not compared; touching, and overlap within one plane, do not count. Float64: crossings
  shallower than 1e-12 of the face's size, or shorter than 1e-9, are missed. After MOST_PAIRS pairs the search stops: what it
  found so far.

  Source: Moeller 1997, "A fast triangle-triangle intersection test".

  >>> x = np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [.2, .2, -1], [.2, .2, 1], [.2, 5, 0]])
  >>> crossing_faces(Mesh(x, np.array([[0, 1, 2], [3, 4, 5]]))).tolist()
  [True, True]
  """
  crossing = np.zeros(len(mesh.faces), bool)
  _, group = weld(mesh.vertices)
  welded, x, normals = group[mesh.faces], mesh.vertices[mesh.faces], face_normals(mesh)
  seen = 0
  for a, b in _meeting_boxes(x.min(1), x.max(1)):
    seen += len(a)
    shared = (welded[a][:, :, None] == welded[b][:, None, :]).sum((1, 2))
    a, b = a[shared < 2], b[shared < 2]
    hit = _cross(x[a], x[b], normals[a], normals[b])
    crossing[a[hit]] = crossing[b[hit]] = True
    if seen > MOST_PAIRS:
      break
  return crossing


def _meeting_boxes(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pairs (i, j) of boxes (n, 3) that overlap, each once, in chunks: a binary tree of boxes joined with itself."""
  n = len(low)
  if n < 2:
    return
  order = np.argsort(_morton((low + high) / 2), kind="stable")
  depth = int(np.ceil(np.log2(n)))
  pad = ((0, 2**depth - n), (0, 0))
  levels = [(np.pad(low[order], pad, constant_values=np.inf), np.pad(high[order], pad, constant_values=-np.inf))]
  for _ in range(depth):
    bottom, top = levels[-1]
    levels.append((np.minimum(bottom[0::2], bottom[1::2]), np.maximum(top[0::2], top[1::2])))
  stack = [(depth, np.zeros(1, np.int64), np.zeros(1, np.int64))]
  while stack:
    level, i, j = stack.pop()
    if level == 0:
      apart = i != j
      yield order[i[apart]], order[j[apart]]
      continue
    same = i == j
    left = np.concatenate([2 * i, 2 * i, 2 * i + 1, (2 * i + 1)[~same]])
    right = np.concatenate([2 * j, 2 * j + 1, 2 * j + 1, (2 * j)[~same]])
    bottom, top = levels[level - 1]
    meet = ((bottom[left] <= top[right]) & (bottom[right] <= top[left])).all(1)
    left, right = left[meet], right[meet]
    stack += [(level - 1, left[k:k + _CHUNK], right[k:k + _CHUNK]) for k in range(0, len(left), _CHUNK)]


def _morton(x: np.ndarray) -> np.ndarray:
  """The place of points (n, 3) on a Z-shaped curve through their box, 20 bits an axis."""
  low, size = x.min(0), np.ptp(x, axis=0).max()
  cell = ((x - low) / (size if size > 0 else 1.0) * (2**20 - 1)).astype(np.int64)
  code = np.zeros(len(x), np.int64)
  for bit in range(20):
    for axis in range(3):
      code |= (cell[:, axis] >> bit & 1) << (3 * bit + axis)
  return code


def _cross(a: np.ndarray, b: np.ndarray, normal_a: np.ndarray, normal_b: np.ndarray) -> np.ndarray:
  """(n,) whether triangles a[i] and b[i] (n, 3, 3) each have corners on both sides of the other's plane, and meet there.

  Args:
    normal_a, normal_b: (n, 3) unit normals, 0 of triangles without area.
  """
  origin = a[:, :1]
  a, b = a - origin, b - origin
  size = np.maximum(np.abs(a).max((1, 2)), np.abs(b).max((1, 2)))
  above_a, above_b = _heights(a, b, normal_b, size), _heights(b, a, normal_a, size)
  both = [(above.min(1) < 0) & (above.max(1) > 0) for above in (above_a, above_b)]
  maybe = np.flatnonzero(both[0] & both[1])
  line = np.cross(normal_a[maybe], normal_b[maybe])
  line /= np.maximum(np.linalg.norm(line, axis=1, keepdims=True), np.finfo(float).tiny)
  (low, high), (bottom, top) = (_cut(x[maybe], above[maybe], line) for x, above in ((a, above_a), (b, above_b)))
  hit = np.zeros(len(a), bool)
  hit[maybe] = np.minimum(high, top) - np.maximum(low, bottom) > _SHORT * size[maybe]
  return hit


def _heights(x: np.ndarray, other: np.ndarray, normal: np.ndarray, size: np.ndarray) -> np.ndarray:
  """Heights (n, 3) of the corners x over the planes of other triangles with these normals; 0 where they are in them."""
  height = np.einsum("nij,nj->ni", x - other[:, :1], normal)
  return np.where(np.abs(height) > _EPS * size[:, None], height, 0)


def _cut(x: np.ndarray, above: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """From where to where, along the unit vector `line`, triangles x lie in the plane that their corners are `above`."""
  along, after = np.einsum("nij,nj->ni", x, line), [1, 2, 0]
  step = above - above[:, after]
  crossed = above * above[:, after] < 0
  at = along + np.divide(above, step, out=np.zeros_like(step), where=crossed) * (along[:, after] - along)
  places, known = np.concatenate([at, along], axis=1), np.concatenate([crossed, above == 0], axis=1)
  return np.where(known, places, np.inf).min(1), np.where(known, places, -np.inf).max(1)
