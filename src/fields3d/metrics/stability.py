"""Does a shape stand? Its centre of mass over the convex hull of what touches the ground."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.spatial import ConvexHull

from fields3d.core.errors import BadData
from fields3d.core.numerics import distinct
from fields3d.core.types import Mesh
from fields3d.geometry.meshes import face_areas, signed_volume

TOLERANCE = 0.01  # of the height: how far above the lowest vertex still touches the ground


@dataclasses.dataclass(frozen=True)
class Stability:
  """How a rigid shape rests on level ground in the pose that it has.

  margin: signed distance, in the unit, from the centre of mass, dropped to the ground, to the support polygon's border;
    positive inside. 0 at best where the polygon is a point or a segment. stands: the margin is above 1e-9 of the size
    (rounding).
  angle: the least tilt about the polygon's border that tips it over, degrees; negative where it falls by itself.
  centre (3,): the centre of mass. mass: "solid": uniform density inside a closed surface (parts that overlap count
    twice); "shell": uniform density by area, for surfaces that do not close or that hold no volume but rounding's.
  polygon (k, 2): the support, counter-clockwise; coordinates are along the two axes of `ground_axes`.
  """
  margin: float
  angle: float
  stands: bool
  centre: tuple[float, ...]
  mass: Literal["solid", "shell"]
  polygon: np.ndarray


def stability(mesh: Mesh, closed: bool, up: int = 1, tolerance: float = TOLERANCE) -> Stability:
  """How the mesh stands on its lowest vertices. It does not settle first: it is judged in its own pose.

  Args:
    closed: whether it is watertight and consistently oriented (`quality.census`).
    up: the axis that points up: 0, 1 or 2.
    tolerance: vertices at most so far above the lowest, as a share of the height, touch the ground.

  Raises:
    BadData: no faces, or no area.

  >>> x = np.array([[0., 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
  >>> found = stability(Mesh(x, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])), True)
  >>> found.stands, round(found.margin, 3)
  (True, 0.25)
  """
  if not len(mesh.faces):
    raise BadData("mesh", "has no faces", "give a mesh with faces")
  used = mesh.vertices[distinct(mesh.faces)]
  rounding = 64 * np.finfo(np.float64).eps * np.abs(used).max() * face_areas(mesh).sum()  # of the volume of a folded sheet
  solid = closed and abs(signed_volume(mesh)) > rounding
  centre = solid_centre(mesh) if solid else shell_centre(mesh)
  low, height = used[:, up].min(), np.ptp(used[:, up])
  ground = ground_axes(up)
  polygon = support_polygon(used[used[:, up] <= low + tolerance * height][:, ground])
  margin = signed_margin(polygon, centre[ground])
  angle = math.degrees(math.atan2(margin, max(centre[up] - low, 0.0)))
  stands = margin > 1e-9 * float(np.ptp(used, axis=0).max())
  return Stability(margin, angle, stands, tuple(centre.tolist()), "solid" if solid else "shell", polygon)


def ground_axes(up: int) -> list[int]:
  """The axes across `up`, in the order that makes (first, second, up) right-handed.

  >>> ground_axes(1), ground_axes(2)
  ([2, 0], [0, 1])
  """
  return [(up + 1) % 3, (up + 2) % 3]


def solid_centre(mesh: Mesh) -> np.ndarray:
  """(3,) the centre of mass of the solid of uniform density inside a closed mesh; exact (divergence theorem).

  Cavities with inward faces count as empty.
  """
  middle = mesh.vertices[mesh.faces].mean((0, 1))
  corners = mesh.vertices[mesh.faces] - middle
  a, b, c = np.moveaxis(corners, 1, 0)
  volume = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
  return middle + (volume[:, None] * (a + b + c) / 4).sum(0) / volume.sum()


def shell_centre(mesh: Mesh) -> np.ndarray:
  """(3,) the centre of mass of a sheet of uniform density by area.

  Raises:
    BadData: the mesh has no area.
  """
  area = face_areas(mesh)
  if not 0 < area.sum() < np.inf:
    raise BadData("mesh", "has no finite, non-zero area", "give a mesh with an area")
  return (area[:, None] * mesh.vertices[mesh.faces].mean(1)).sum(0) / area.sum()


def support_polygon(points: np.ndarray) -> np.ndarray:
  """The convex hull (k, 2) of points (n, 2), counter-clockwise; of points on a line its two ends, of one place one.

  >>> support_polygon(np.array([[0., 0], [1, 0], [3, 0]])).tolist()
  [[0.0, 0.0], [3.0, 0.0]]
  """
  points = np.unique(points, axis=0)
  centred = points - points.mean(0)
  spread = np.linalg.svd(centred, full_matrices=False)[1] if len(points) > 1 else np.zeros(2)
  rounding = 64 * np.finfo(np.float64).eps * np.abs(points).max(initial=0.0) * np.sqrt(len(points))  # of a line far from the origin
  if len(points) < 3 or spread[1] <= 1e-12 * spread[0] + rounding:
    direction = np.ptp(points, axis=0)
    along = points[:, int(np.argmax(direction))]
    ends = [int(np.argmin(along)), int(np.argmax(along))]
    return points[ends if along[ends[0]] < along[ends[1]] else ends[:1]]
  return points[ConvexHull(centred).vertices]


def signed_margin(polygon: np.ndarray, point: Sequence[float]) -> float:
  """The distance from a point (2,) to the border of a convex, counter-clockwise polygon (k, 2), positive inside.

  >>> square = np.array([[0., 0], [2, 0], [2, 2], [0, 2]])
  >>> signed_margin(square, (1.0, 0.5)), signed_margin(square, (3.0, 3.0)) == -2**0.5
  (0.5, True)
  """
  point = np.asarray(point, np.float64)
  start, end = polygon, np.roll(polygon, -1, axis=0)
  side = end - start
  length = np.maximum((side * side).sum(1), np.finfo(np.float64).tiny)
  along = np.clip(((point - start) * side).sum(1) / length, 0, 1)
  distance = float(np.linalg.norm(start + along[:, None] * side - point, axis=1).min())
  turn = side[:, 0] * (point - start)[:, 1] - side[:, 1] * (point - start)[:, 0]
  return distance if len(polygon) > 2 and (turn >= 0).all() else -distance
