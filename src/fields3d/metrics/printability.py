"""Can a shape be printed? Closed, how thick its walls, how much of it overhangs, its volume and thinnest place.

Wall thickness is the inner distance: from points uniform by area, along the inward normal, to where the solid ends.
It is what Shapira et al.'s shape diameter is with a cone of no width: exact for parallel walls, and never below the
thickness seen along other directions by more than the walls' slant. Embree's rays are float32: right to about 1e-5 of
the model's size.

Source: Shapira et al. 2008, "Consistent mesh partitioning and skeletonisation using the shape diameter function".
"""

import dataclasses

import igl.embree
import numpy as np

from fields3d.core.types import Mesh
from fields3d.geometry.meshes import face_areas, face_normals, sample_surface
from fields3d.metrics.quality import Census

NEAR = 1e-4  # of the model's size: a ray begins so far below its own face, and thinner walls are not seen
PERCENTILE = 5.0
ANGLE = 45.0


@dataclasses.dataclass(frozen=True)
class Printability:
  """What a slicer would ask; lengths in the mesh's unit.

  closed: watertight and consistently oriented. volume: None unless closed.
  wall: the `percentile` of the wall thickness over the points whose ray ends (`seen`, a share of all).
  smallest_feature: the least wall thickness of all these points; a feature of share s of the area is missed with
    chance (1 - s)^points. None where no ray ends.
  overhang: the share of the area that overhangs by more than the angle, off the build plate.
  """
  closed: bool
  volume: float | None
  wall: float | None
  smallest_feature: float | None
  seen: float
  overhang: float


def printability(mesh: Mesh, found: Census, points: int = 2000, seed: int = 0, percentile: float = PERCENTILE,
                 up: int = 1, angle: float = ANGLE) -> Printability:
  """Measures a mesh as it stands, built along the axis `up`; a closed one that is inside out is turned outward first.

  Args:
    found: the mesh's census. points: of the wall thickness. angle: of the overhang, degrees from the vertical.
  """
  if found.volume is not None and found.volume < 0:
    mesh = Mesh(mesh.vertices, mesh.faces[:, ::-1])
  thickness = wall_thickness(mesh, points, np.random.default_rng(seed))
  ended = thickness[np.isfinite(thickness)]
  wall, least = (float(np.percentile(ended, percentile)), float(ended.min())) if len(ended) else (None, None)
  return Printability(found.closed, found.volume, wall, least, len(ended) / points, overhang_share(mesh, up, angle))


def wall_thickness(mesh: Mesh, points: int, rng: np.random.Generator) -> np.ndarray:
  """The inner distance at points uniform by area, (points,) in the unit; infinite where a ray leaves by an opening.

  The faces must be outward. Another face that lies within 1e-4 of the model's size is not seen.

  Raises:
    BadData: the mesh has no area.
  """
  cloud = sample_surface(mesh, points, rng)
  corners, faces = np.unique(mesh.faces, return_inverse=True)  # vertices of no face, however far, have no say
  used = mesh.vertices[corners]
  centre, size = (used.max(0) + used.min(0)) / 2, np.ptp(used, axis=0).max()
  scene = igl.embree.EmbreeIntersector()  # float32: about the origin and of size 1
  scene.init(np.asfortranarray((used - centre) / size, np.float32), np.asfortranarray(faces.reshape(-1, 3), np.int32))
  origin = ((cloud.points - centre) / size).astype(np.float32)
  inward = (-cloud.normals).astype(np.float32)
  hits = [scene.intersectRay_first(x, d, NEAR) for x, d in zip(origin, inward, strict=True)]
  return np.array([size * t if face >= 0 else np.inf for face, t, _, _ in hits])


def overhang_share(mesh: Mesh, up: int = 1, angle: float = ANGLE, plate: float = 1e-3) -> float:
  """The share of the area that a printer must hold up; exact.

  A face overhangs where it looks down and leans from the vertical by more than `angle` (a ceiling leans by 90 degrees).
  Faces on the build plate, all corners within `plate` of the height above the lowest vertex, do not.

  >>> x = np.array([[0., 0, 0], [1, 0, 0], [0, 0, 1]])
  >>> overhang_share(Mesh(np.concatenate([x, x + [0, 1, 0]]), np.array([[0, 1, 2], [3, 4, 5]])))
  0.5
  """
  area, heights = face_areas(mesh), mesh.vertices[mesh.faces][:, :, up]
  if not area.sum() > 0:
    return 0.0
  leans = -face_normals(mesh)[:, up] > np.sin(np.radians(angle)) + 1e-9  # a lean of just `angle` is printable
  low, height = heights.min(), np.ptp(heights)
  rests = (heights <= low + plate * height).all(1)
  return float(area[leans & ~rests].sum() / area.sum())
