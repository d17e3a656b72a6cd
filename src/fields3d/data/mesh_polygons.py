"""Polygons to triangles: fans where they are right, a better diagonal or ear clipping where they would fold over."""

from collections.abc import Sequence

import numpy as np

_MOST_CORNERS, _MOST_CLIPPED = 256, 10_000  # ear clipping is cubic in the corners: its time is bounded


def triangulate(vertices: np.ndarray, corners: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
  """Splits polygons into triangles of the same orientation.

  Convex polygons become fans; a quad that is not convex takes its other diagonal; larger ones are clipped ear by ear
  in the plane of their area vector. What still folds over (a polygon
  that crosses itself, a twisted one, one of over 256 corners) stays a fan, and is counted.

  Args:
    vertices: (v, 3), finite; every corner is in range.
    corners: (c,) vertex indices, polygon after polygon.
    sizes: (p,) corners per polygon, each at least 3, summing to c.
  Returns:
    faces (f, 3) int64 in the polygons' order, the polygon of each face (f,), and how many polygons fold over.

  >>> dart = np.array([[0., 0, 0], [2, -1, 0], [1, 0, 0], [2, 1, 0]])
  >>> triangulate(dart, np.array([1, 2, 3, 0]), np.array([4]))[0].tolist()
  [[2, 3, 0], [2, 0, 1]]
  """
  starts = np.cumsum(sizes) - sizes
  owner = np.repeat(np.arange(len(sizes)), sizes - 2)
  first = np.cumsum(sizes - 2) - (sizes - 2)
  k = np.arange(len(owner)) - first[owner]
  base = starts[owner]
  faces = np.stack([corners[base], corners[base + k + 1], corners[base + k + 2]], 1).astype(np.int64)
  folded = _folded(vertices, faces, owner, sizes)
  if len(folded) == 0:
    return faces, owner, 0
  quads = folded[sizes[folded] == 4]
  a, b, c, d = (corners[starts[quads] + i] for i in range(4))
  halves = np.stack([np.stack([b, c, d], 1), np.stack([b, d, a], 1)], 1)
  better = np.setdiff1d(np.arange(len(quads)), _folded(vertices, halves.reshape(-1, 3),
                                                       np.repeat(np.arange(len(quads)), 2), sizes[quads]))
  faces[first[quads[better]]], faces[first[quads[better]] + 1] = halves[better, 0], halves[better, 1]
  for p in folded[(sizes[folded] > 4) & (sizes[folded] <= _MOST_CORNERS)][:_MOST_CLIPPED]:
    ears = _clip_ears(vertices, corners[starts[p]:starts[p] + sizes[p]])
    if ears is not None:
      faces[first[p]:first[p] + sizes[p] - 2] = ears
  return faces, owner, len(_folded(vertices, faces, owner, sizes))


def _folded(vertices: np.ndarray, faces: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Polygons of four corners and more with a fan triangle that faces against the polygon's area vector."""
  big = np.flatnonzero(sizes[owner] > 3)
  if len(big) == 0:
    return big
  a, b, c = (vertices[faces[big, i]] for i in range(3))
  with np.errstate(over="ignore", invalid="ignore"):
    area = np.cross(b - a, c - a)
    total = np.zeros((len(sizes), 3))
    np.add.at(total, owner[big], area)
    against = np.einsum("ij,ij->i", area, total[owner[big]]) < 0
  return np.unique(owner[big][against])


def _clip_ears(vertices: np.ndarray, polygon: Sequence[int]) -> list[tuple[int, int, int]] | None:
  """The triangles of a simple polygon, in the plane of its area vector; None where it crosses itself."""
  x = vertices[polygon] - vertices[polygon[0]]
  normal = np.cross(x[1:-1], x[2:]).sum(0)
  axis = int(np.argmax(np.abs(normal)))
  flat = x[:, [(axis + 1) % 3, (axis + 2) % 3]][:, ::1 if normal[axis] > 0 else -1]
  left, out = list(range(len(polygon))), []
  while len(left) > 3:
    ear = next((i for i in range(len(left)) if _is_ear(flat, left, i)), None)
    if ear is None:
      return None
    out.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
    del left[ear]
  return [tuple(polygon[i] for i in triangle) for triangle in (*out, left)]


def _is_ear(x: np.ndarray, left: list[int], i: int) -> bool:
  """Whether corner i turns left and its triangle holds no other corner that is left."""
  before, here, after = left[i - 1], left[i], left[(i + 1) % len(left)]
  a, b, c = x[before], x[here], x[after]

  def side(p, q, r):
    return (q[0] - p[0]) * (r[..., 1] - p[1]) - (q[1] - p[1]) * (r[..., 0] - p[0])

  if side(a, b, c) <= 0:
    return False
  others = x[[j for j in left if j not in (before, here, after)]]
  others = others[(others != a).any(1) & (others != b).any(1) & (others != c).any(1)]
  return not ((side(a, b, others) >= 0) & (side(b, c, others) >= 0) & (side(c, a, others) >= 0)).any()
