"""Texture coordinates: how much overlaps, leaves the unit square, is stretched, turned over or collapsed.

Overlap is by a grid of points (its step is stated); everything else is exact.
"""

import dataclasses

import numpy as np

from fields3d.core.types import Mesh
from fields3d.geometry.meshes import face_areas

GRID = 1024
_CANDIDATES = 2**20  # grid points judged at once
_SHIFT = (0.5 + 1e-4 * np.sqrt(2), 0.5 + 1e-4 * np.sqrt(3))  # of a cell: keeps the points off edges on round numbers


@dataclasses.dataclass(frozen=True)
class UvReport:
  """What texture coordinates are. Shares are of the surface's area, except where it says otherwise.

  overlap: the share of the covered part of the plane that two faces or more cover (not modulo the unit square).
  outside: faces with a corner outside [0, 1]^2. flipped: faces that the texture shows mirrored. collapsed: faces with
    an area in space and none in the plane.
  stretch: the L2 stretch, scaled by the areas so that an isometry up to scale has 1, its least; None where a face
    collapses or nothing has an area.
  used: area of the faces in the plane (repeated where they overlap), 1 being the unit square.
  """
  overlap: float
  outside: float
  flipped: float
  collapsed: float
  stretch: float | None
  used: float


def uv_report(mesh: Mesh, uv: np.ndarray, v_down: bool, grid: int = GRID) -> UvReport:
  """Measures the texture coordinates of a mesh.

  Args:
    uv: (f, 3, 2) of each face's corners, or (v, 2) of the vertices.
    v_down: whether v grows downward in the image, as in glTF; upward in OBJ. It decides what is mirrored.
    grid: points along the longer side of the coordinates' box, for the overlap.

  Source: Sander et al. 2001, "Texture mapping progressive meshes", section 3 (L2 stretch).
  """
  corners = uv[mesh.faces] if uv.ndim == 2 else uv
  area, flat = face_areas(mesh), signed_areas(corners)
  total = area.sum()
  share = (lambda chosen: float(area[chosen].sum() / total)) if total > 0 else (lambda chosen: 0.0)
  turned = flat > 0 if v_down else flat < 0
  outside = ((corners < 0) | (corners > 1)).any((1, 2))
  collapsed = (np.abs(flat) <= 1e-14) & (area > 0)
  return UvReport(overlap_share(corners, grid), share(outside), share(turned), share(collapsed),
                  None if collapsed.any() or not total > 0 else stretch(mesh, corners), float(np.abs(flat).sum()))


def signed_areas(corners: np.ndarray) -> np.ndarray:
  """(f,) areas of triangles (f, 3, 2), positive where they turn from the first axis to the second.

  >>> signed_areas(np.array([[[0., 0], [1, 0], [0, 1]]])).tolist()
  [0.5]
  """
  a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
  return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2


def stretch(mesh: Mesh, corners: np.ndarray) -> float:
  """The L2 stretch of the map from the plane, corners (f, 3, 2), to the surface; 1 for an isometry up to scale.

  Faces without area in space and plane are left out; the map must not collapse any other.
  """
  area, flat = face_areas(mesh), np.abs(signed_areas(corners))
  kept = flat > 1e-14
  x, uv = mesh.vertices[mesh.faces[kept]], corners[kept]
  edges = np.stack([x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]], -1)
  plane = np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], -1)
  jacobian = edges @ np.linalg.inv(plane)  # (f, 3, 2): d position / d uv
  squared = (jacobian**2).sum((1, 2)) / 2  # the mean of the squared singular values
  weight = area[kept]
  if not weight.sum() > 0:
    return 1.0
  return float(np.sqrt((squared * weight).sum() / weight.sum() * flat[kept].sum() / weight.sum()))


def overlap_share(corners: np.ndarray, grid: int = GRID) -> float:
  """Of a grid's points in triangles (f, 3, 2), the share in two or more. Memory: 4 bytes a point of the grid.

  >>> one = np.array([[0., 0], [1, 0], [0, 1]])
  >>> overlap_share(np.stack([one, one + 2])), overlap_share(np.stack([one, one]))
  (0.0, 1.0)
  """
  if not len(corners):
    return 0.0
  low = corners.min((0, 1))
  step = max(float(np.ptp(corners, axis=(0, 1)).max()) / grid, np.finfo(np.float64).tiny)
  cells = (corners - low) / step - _SHIFT  # grid points at whole numbers
  size = np.ceil(cells.max((0, 1))).astype(np.int64).clip(0) + 1
  covered = np.zeros(size[0] * size[1], np.int32)
  first = np.maximum(np.ceil(cells.min(1)), 0).astype(np.int64)
  span = np.maximum(np.floor(cells.max(1)).astype(np.int64) - first + 1, 0)
  span[signed_areas(cells) == 0] = 0
  count = span.prod(1)
  ends = np.cumsum(count)
  pieces = np.searchsorted(ends, np.arange(_CANDIDATES, max(ends[-1], 1), _CANDIDATES))
  for chosen in np.split(np.arange(len(corners)), pieces):
    face = np.repeat(chosen, count[chosen])
    place = np.arange(len(face)) - np.repeat(np.cumsum(count[chosen]) - count[chosen], count[chosen])
    point = first[face] + np.stack([place % span[face, 0], place // span[face, 0]], 1)
    inside = _within(cells[face], point)
    np.add.at(covered, point[inside] @ np.array([1, size[0]]), 1)
  return float((covered > 1).sum() / max((covered > 0).sum(), 1))


def _within(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
  """(n,) whether points (n, 2) lie inside triangles (n, 3, 2), whichever way they turn."""
  signs = []
  for k in range(3):
    a, b = corners[:, k], corners[:, (k + 1) % 3]
    side, to = b - a, point - a
    signs.append(side[:, 0] * to[:, 1] - side[:, 1] * to[:, 0] > 0)
  return (signs[0] == signs[1]) & (signs[1] == signs[2])
