"""Signed distances to triangle meshes: the distance of the nearest face, the sign of the winding number.

Distances are exact (libigl's box tree, float64). Inside is |w| > 1/2, where w is the exact winding number by signed
crossings (`geometry/crossings.py`); a surface with too many holes for that takes libigl's fast one (float32 inside, so
wrong now and then at 1e-5 of the model's size from a face), summed exactly over the faces where it is within 0.02 of
1/2. Why it is the default: the share of wrong signs, in %, over sphere, torus, box and capsule, 20,000 points each, half of them within
about 0.02 of the surface, and the time of all (`python benchmarks/sdf_sign.py`, two busy cores):

                                        winding   fast w   exact w   pseudonormal   11 nearest normals (DeepSDF)
  closed                                   0.00     0.00      0.00           0.00                           0.01
  inward-facing                            0.00     0.00      0.00         100.00                          99.99
  a hole of 2 % of the area                0.05     0.05      0.05           0.02                           0.04
  a hole of 10 % of the area               0.71     0.71      0.71           0.23                           0.25
  1 % of the faces missing, scattered      0.00     0.00      0.00           0.01                           0.02
  1 % of the faces turned                  0.09     0.09      0.09           1.02                           0.68
  inner shell, same orientation            0.00     0.00      0.00          10.60                          10.56
  inner shell, turned: a cavity            0.00     0.00      0.00           0.00                           0.04
  a sheet beside it                        0.00     0.08      0.00          17.00                          17.02
  two solids that overlap                  0.00     0.00      0.00          10.92                          10.82
  disjoint, one of them inward             0.00     0.00      0.00          46.56                          46.57
  overlapping, one of them inward         13.21    13.21     13.21          42.49                          42.56
  seconds                                  11.1     10.8      46.9           10.8                           42.9

The table is of libigl's fast w with that sum. The fast w is within 0.012 of the exact one there. Only beside open
sheets, where w is 1/2 on both sides, does that matter. Where solids overlap or nest, inside is their union.
`geometry.repair` first brings the last row, and that of the turned faces, to 0.00.
"""

import dataclasses
from typing import Literal

import igl
import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.core.types import Mesh
from fields3d.geometry import crossings
from fields3d.geometry.meshes import face_areas, face_normals

Sign = Literal["winding", "pseudonormal", "unsigned"]
_DOUBT = 0.02  # above the largest error of the fast winding number
SIGNS = ("winding", "pseudonormal", "unsigned")


def signed_distance(mesh: Mesh, points: np.ndarray, sign: Sign = "winding",
                    faces: np.ndarray | None = None) -> np.ndarray:
  """Distance from points to the surface, negative inside.

  Exact to float64 rounding in size; the sign by `sign`.

  Args:
    points: (n, 3), in the mesh's units, finite.
    sign: "winding" (any mesh; see the table above), "pseudonormal" (closed, outward, without inner faces; exact in
      float64), or "unsigned".
    faces: (f,) bool, the faces that distances go to (see `expose`); the sign always takes them all.

  Returns:
    (n,) float64.

  Raises:
    UsageFault: an unknown `sign`.

  >>> import numpy as np
  >>> v = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3.0]])
  >>> tetrahedron = Mesh(v, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
  >>> signed_distance(tetrahedron, np.array([[0.5, 0.5, 0.5], [0.5, 0.5, -2]])).tolist()
  [-0.5, 2.0]
  """
  distance = closest(mesh, points, faces)[0]
  return np.where(inside(mesh, points, sign), -distance, distance)


def inside(mesh: Mesh, points: np.ndarray, sign: Sign = "winding") -> np.ndarray:
  """Whether points lie inside, (n,) bool; `sign` as in `signed_distance`."""
  if sign not in SIGNS:
    raise UsageFault("sign", f"unknown value {sign!r}", nearest(sign, SIGNS))
  if sign == "unsigned" or len(points) == 0:
    return np.zeros(len(points), bool)
  vertices, queries = _centred(mesh, points)
  if sign == "winding":
    if found := crossings.inside(vertices, _faces(mesh.faces), queries):
      within, doubtful = found
    else:
      turns = np.abs(winding_number(mesh, points))
      within, doubtful = turns > 0.5, np.flatnonzero(np.abs(turns - 0.5) < _DOUBT)
    within[doubtful] = np.abs(winding_number(mesh, points[doubtful], exact=True)) > 0.5
    return within
  kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
  return igl.signed_distance(queries, vertices, _faces(mesh.faces), kind)[0] < 0


def winding_number(mesh: Mesh, points: np.ndarray, exact: bool = False) -> np.ndarray:
  """How often the surface winds around each point: 1 inside, 0 outside, between where the mesh is open.

  Args:
    points: (n, 3).
    exact: the sum over all faces in float64, O(n f); else the fast approximation, within 0.012 of it.

  Returns:
    (n,) float64.

  Source: Jacobson et al. 2013; Barill et al. 2018, "Fast winding numbers for soups and clouds".
  """
  if len(points) == 0:
    return np.zeros(0)
  vertices, queries = _centred(mesh, points)
  fn = igl.winding_number if exact else igl.fast_winding_number
  return fn(vertices, _faces(mesh.faces), queries)


def closest(mesh: Mesh, points: np.ndarray,
            faces: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The nearest point of the surface.

  Args:
    points: (n, 3).
    faces: (f,) bool, the faces to look at; all by default.

  Returns:
    Unsigned distance (n,), index of the face (n,) int64, nearest point (n, 3).

  >>> import numpy as np
  >>> triangle = Mesh(np.eye(3), np.array([[0, 1, 2]]))
  >>> d, face, point = closest(triangle, np.array([[2.0, 0, 0]]))
  >>> d.tolist(), face.tolist(), point.tolist()
  ([1.0], [0], [[1.0, 0.0, 0.0]])
  """
  if len(points) == 0:
    return np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 3))
  index = np.arange(len(mesh.faces)) if faces is None else np.flatnonzero(faces)
  vertices, queries = _centred(mesh, points)
  squared, face, point = igl.point_mesh_squared_distance(queries, vertices, _faces(mesh.faces[index]))
  centre = _centre(mesh)
  return np.sqrt(squared), index[face], point + centre


def surface_colors(mesh: Mesh, face: np.ndarray, point: np.ndarray) -> np.ndarray:
  """Colours (n, 3) uint8 sRGB at points (n, 3) of the faces `face` (n,), interpolated over each triangle."""
  corners = mesh.vertices[mesh.faces[face]]
  weights = barycentric(corners, point)
  mixed = np.einsum("nc,ncd->nd", weights, mesh.colors[mesh.faces[face]].astype(np.float64))
  return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def barycentric(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
  """Barycentric coordinates (n, 3), each in [0, 1], of points (n, 3) on triangles (n, 3, 3); 1/3 if degenerate."""
  a, b, p = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], point - corners[:, 0]
  aa, ab, bb = (a * a).sum(-1), (a * b).sum(-1), (b * b).sum(-1)
  pa, pb = (p * a).sum(-1), (p * b).sum(-1)
  area = aa * bb - ab * ab
  flat = area <= 0
  area = np.where(flat, 1.0, area)
  v, w = (bb * pa - ab * pb) / area, (aa * pb - ab * pa) / area
  weights = np.clip(np.stack([1 - v - w, v, w], axis=-1), 0, 1)
  weights[flat] = 1 / 3
  return weights / weights.sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Exposure:
  """Where a mesh's faces lie: in empty space, on the solid's boundary, or inside it.

  exposed (f,) bool: has the outside on a side, somewhere. sheet (f,) bool: has it on both sides, everywhere.
  clean: no exposed face was seen to run on inside the solid, so that distances to the exposed ones are exact.
  """
  exposed: np.ndarray
  sheet: np.ndarray
  clean: bool


def expose(mesh: Mesh, rng: np.random.Generator, probes: int = 20_000) -> Exposure:
  """Finds the faces that bound the solid: where solids overlap or nest, distances must not go to the inner ones.

  A face counts as inner if, at 4 points of it and at its share of `probes` random points of the surface, both
  sides are inside. So a large face of which a small part shows may be missed, with a chance that falls with that
  part's area; a face is never dropped that a probe has seen outside. Sides are 1e-5 of the model's size away.
  """
  corners, area, normal = mesh.vertices[mesh.faces], face_areas(mesh), face_normals(mesh)
  fixed = np.array([[1, 1, 1], [8, 1, 1], [1, 8, 1], [1, 1, 8]]) / np.array([[3.0], [10], [10], [10]])
  num = len(mesh.faces)
  face = np.concatenate([np.repeat(np.arange(num), len(fixed)), rng.choice(num, size=probes, p=area / area.sum())])
  weights = np.concatenate([np.tile(fixed, (num, 1)), rng.dirichlet(np.ones(3), size=probes)])
  point = np.einsum("nc,ncd->nd", weights, corners[face])
  step = 1e-5 * np.ptp(mesh.vertices, axis=0).max() * normal[face]
  front, back = np.split(inside(mesh, np.concatenate([point + step, point - step])), 2)
  buried = front & back
  exposed = np.bincount(face, weights=~buried, minlength=num) > 0
  sheet = np.bincount(face, weights=front | back, minlength=num) == 0
  return Exposure(exposed, sheet, not buried[exposed[face]].any())


def _centre(mesh: Mesh) -> np.ndarray:
  return (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2


def _centred(mesh: Mesh, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Vertices and points as libigl wants them, about the origin: its winding number has float32 inside."""
  centre = _centre(mesh)
  return (np.ascontiguousarray(mesh.vertices - centre, dtype=np.float64),
          np.ascontiguousarray(points - centre, dtype=np.float64))


def _faces(faces: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(faces, dtype=np.int64)
