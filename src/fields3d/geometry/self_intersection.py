"""Faces that cross one another: boxes of boxes first (Morton order, level by level), then edges against triangles."""

from collections.abc import Iterator

import numpy as np

from fields3d.core.types import Mesh
from fields3d.geometry.topology import weld

_CHUNK = 2**19  # pairs of boxes or faces looked at together: bounds the memory
MOST_PAIRS = 50_000_000  # of faces whose boxes meet: bounds the time
_EPS = 1e-12


def crossing_faces(mesh: Mesh) -> np.ndarray:
  """(f,) whether an edge of the face passes through another face, or an edge of another through it.

  Faces that share an edge are not compared; touching, and overlap within one plane, do not count. Float64: crossings
  shallower than 1e-12 of the face's size are missed. After MOST_PAIRS pairs the search stops: what it found so far.

  >>> x = np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [.2, .2, -1], [.2, .2, 1], [.2, 5, 0]])
  >>> crossing_faces(Mesh(x, np.array([[0, 1, 2], [3, 4, 5]]))).tolist()
  [True, True]
  """
  crossing = np.zeros(len(mesh.faces), bool)
  _, group = weld(mesh.vertices)
  welded, x = group[mesh.faces], mesh.vertices[mesh.faces]
  seen = 0
  for a, b in _meeting_boxes(x.min(1), x.max(1)):
    seen += len(a)
    shared = (welded[a][:, :, None] == welded[b][:, None, :]).sum((1, 2))
    a, b = a[shared < 2], b[shared < 2]
    hit = _pierces(x[a], x[b]) | _pierces(x[b], x[a])
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


def _pierces(edges: np.ndarray, faces: np.ndarray) -> np.ndarray:
  """(n,) whether an edge of the triangle edges[i] (n, 3, 3) passes through the inside of the triangle faces[i]."""
  origin = faces[:, 0]
  normal = np.cross(faces[:, 1] - origin, faces[:, 2] - origin)
  height = np.einsum("nij,nj->ni", edges - origin[:, None], normal)
  size = np.maximum(np.abs(edges - origin[:, None]).max((1, 2)), np.abs(faces - origin[:, None]).max((1, 2)))
  area = np.linalg.norm(normal, axis=1)
  floor = _EPS * size * area
  hit = np.zeros(len(edges), bool)
  maybe = np.flatnonzero((height.min(1) < -floor) & (height.max(1) > floor))
  edges, faces, normal, height, floor = edges[maybe], faces[maybe], normal[maybe], height[maybe], floor[maybe]
  for i in range(3):
    h, g = height[:, i], height[:, (i + 1) % 3]
    cuts = np.flatnonzero(np.minimum(h, g) < -floor) if len(h) else np.zeros(0, np.int64)
    cuts = cuts[np.maximum(h, g)[cuts] > floor[cuts]]
    t = h[cuts] / (h[cuts] - g[cuts])
    point = edges[cuts, i] + t[:, None] * (edges[cuts, (i + 1) % 3] - edges[cuts, i])
    inside = np.ones(len(cuts), bool)
    for k in range(3):
      corner, after = faces[cuts, k], faces[cuts, (k + 1) % 3]
      side = np.einsum("ni,ni->n", np.cross(after - corner, point - corner), normal[cuts])
      inside &= side > 1e-9 * np.einsum("ni,ni->n", normal[cuts], normal[cuts])
    hit[maybe[cuts[inside]]] = True
  return hit
