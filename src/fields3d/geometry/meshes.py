"""Triangle meshes: what they are (`inspect_mesh`), components, normalising, sampling.

All in float64 and vectorised. Topology is judged with equal vertices welded; see `topology`.
"""

import dataclasses
from typing import Any, Literal

import numpy as np

from fields3d.core.errors import BadData
from fields3d.core.numerics import distinct
from fields3d.core.types import Frame, Mesh, PointCloud
from fields3d.geometry import topology
from fields3d.geometry.faces import face_areas, face_cross, face_normals
from fields3d.geometry.self_intersection import crossing_faces

MANY_COMPONENTS = 100
_EPS = np.finfo(np.float64).eps


@dataclasses.dataclass(frozen=True)
class MeshReport:
  """What a mesh is. Counts of edges, vertices and components are of the surface without degenerate faces.

  duplicate_faces, opposite_faces: faces with an earlier one's corners, in its orientation or the opposite.
  duplicate_vertices: vertices at the position of an earlier one. components: sets of faces joined by edges.
  watertight: every edge has exactly two faces. manifold: no edge of three faces or more, one fan around each vertex.
  consistently_oriented: the two faces of every such edge run it in opposite directions. volume: signed, None unless
  watertight and consistent. bounds: lowest and highest corner of the faces' vertices. genus: handles of all
  components together, None unless watertight, manifold and consistent. crossing_faces: those that pass through others,
  None where they were not looked for.
  """
  vertices: int
  faces: int
  degenerate_faces: int
  duplicate_faces: int
  opposite_faces: int
  duplicate_vertices: int
  unused_vertices: int
  components: int
  boundary_edges: int
  nonmanifold_edges: int
  nonmanifold_vertices: int
  watertight: bool
  manifold: bool
  consistently_oriented: bool
  volume: float | None
  area: float
  bounds: tuple[tuple[float, ...], tuple[float, ...]]
  euler: int
  genus: int | None
  crossing_faces: int | None

  def to_json(self) -> dict[str, Any]:
    """As plain values."""
    return dataclasses.asdict(self)

  def warnings(self) -> list[str]:
    """What a careful user wants to hear of, each with its count."""
    found = [(self.boundary_edges, "boundary edges: the surface is open"),
             (self.nonmanifold_edges, "edges with more than two faces"),
             (self.nonmanifold_vertices, "vertices with more than one fan of faces"),
             (self.components if self.components > MANY_COMPONENTS else 0, "components"),
             (self.crossing_faces or 0, "faces that cross others: take the sign by winding number")]
    if not self.consistently_oriented:
      found.append((1, "mesh of mixed orientation"))
    return [f"{count} {what}" for count, what in found if count]


def signed_volume(mesh: Mesh) -> float:
  """The volume inside a closed mesh, negative where it is inside out (divergence theorem about the mean vertex)."""
  if len(mesh.faces) == 0:
    return 0.0
  x = mesh.vertices - mesh.vertices[mesh.faces].mean((0, 1))
  a, b, c = (x[mesh.faces[:, i]] for i in range(3))
  return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def degenerate_faces(mesh: Mesh) -> np.ndarray:
  """(f,) whether a face repeats a position or has no area: none above the rounding of its edges."""
  x = mesh.vertices[mesh.faces]
  longest = np.max(np.sum((x - np.roll(x, 1, axis=1)) ** 2, axis=2), axis=1)
  repeats = (x == np.roll(x, 1, axis=1)).all(2).any(1)
  return repeats | (np.linalg.norm(face_cross(mesh), axis=1) <= 8 * _EPS * longest)


def repeated_faces(welded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Which faces (f, 3) of welded vertices repeat an earlier one's corners: in its orientation, and in the opposite.

  >>> same, opposite = repeated_faces(np.array([[0, 1, 2], [1, 2, 0], [2, 1, 0]]))
  >>> same.tolist(), opposite.tolist()
  ([False, True, False], [False, False, True])
  """
  turned = np.take_along_axis(welded, (np.argmin(welded, 1)[:, None] + np.arange(3)) % 3, 1)
  first, first_any = topology.weld(turned)[0], topology.weld(np.sort(welded, 1))[0]
  same, again = np.ones(len(welded), bool), np.ones(len(welded), bool)
  same[first], again[first_any] = False, False
  return same, again & ~same


def inspect_mesh(mesh: Mesh, crossings: bool = False) -> MeshReport:
  """Measures a mesh as it stands: exact counts, and sums in float64.

  Args:
    crossings: also look for self-intersections, which takes some four times as long as all the rest.

  >>> box = Mesh(np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
  ...            np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
  >>> report = inspect_mesh(box)
  >>> report.watertight, report.components, round(report.volume, 6)
  (True, 1, 0.166667)
  """
  first, group = topology.weld(mesh.vertices)
  used = np.zeros(len(mesh.vertices), bool)
  used[mesh.faces] = True
  degenerate = degenerate_faces(mesh)
  welded = group[mesh.faces]
  faces = welded[~degenerate]
  same, opposite = repeated_faces(faces)
  shared = topology.edges(faces)
  boundary, crowded = int((shared.count == 1).sum()), int((shared.count > 2).sum())
  pinched = len(topology.nonmanifold_vertices(faces, shared))
  watertight = bool(len(faces)) and bool((shared.count == 2).all())
  oriented = bool((shared.balance[shared.count == 2] == 0).all())
  num_components, _ = topology.face_components(shared)
  euler = len(distinct(faces)) - len(shared.count) + len(faces)
  closed = watertight and oriented
  corners = mesh.vertices[used] if used.any() else np.zeros((1, 3))
  return MeshReport(
      vertices=len(mesh.vertices), faces=len(mesh.faces), degenerate_faces=int(degenerate.sum()),
      duplicate_faces=int(same.sum()), opposite_faces=int(opposite.sum()),
      duplicate_vertices=len(mesh.vertices) - len(first), unused_vertices=int((~used).sum()),
      components=num_components, boundary_edges=boundary, nonmanifold_edges=crowded, nonmanifold_vertices=pinched,
      watertight=watertight, manifold=crowded == 0 and pinched == 0, consistently_oriented=oriented,
      volume=signed_volume(mesh) if closed else None, area=float(face_areas(mesh).sum()),
      bounds=(tuple(corners.min(0).tolist()), tuple(corners.max(0).tolist())), euler=euler,
      genus=num_components - euler // 2 if closed and pinched == 0 else None,
      crossing_faces=int(crossing_faces(mesh).sum()) if crossings else None)


def compact(mesh: Mesh, faces: np.ndarray | None = None) -> Mesh:
  """Some faces (k, 3) of a mesh (all by default), vertices of equal position and colour merged, unused ones gone."""
  faces = mesh.faces if faces is None else faces
  rows = mesh.vertices if mesh.colors is None else np.concatenate([mesh.vertices, mesh.colors], 1)
  first, group = topology.weld(rows)
  kept, inverse = np.unique(group[faces], return_inverse=True)
  chosen = first[kept]
  colors = None if mesh.colors is None else mesh.colors[chosen]
  return Mesh(mesh.vertices[chosen], inverse.reshape(-1, 3).astype(np.int64), colors)


def components(mesh: Mesh) -> tuple[int, np.ndarray]:
  """Faces joined by edges, equal vertices welded: the number of sets, and the set of each face (f,)."""
  _, group = topology.weld(mesh.vertices)
  return topology.face_components(topology.edges(group[mesh.faces]))


def keep_largest(mesh: Mesh, num: int = 1) -> Mesh:
  """The `num` components of the largest areas."""
  total, label = components(mesh)
  if total <= num:
    return mesh
  area = np.bincount(label, face_areas(mesh), total)
  return compact(mesh, mesh.faces[np.isin(label, np.argsort(-area, kind="stable")[:num])])


def without_specks(mesh: Mesh, share: float) -> Mesh:
  """Without the components whose area is below `share` of the largest one's.

  >>> pair = Mesh(np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]]), np.array([[0, 1, 2], [3, 4, 5]]))
  >>> len(without_specks(pair, 0.01).faces), len(without_specks(pair, 0.1).faces)
  (2, 1)
  """
  total, label = components(mesh)
  area = np.bincount(label, face_areas(mesh), total)
  kept = area >= share * area.max(initial=0.0)
  return mesh if kept.all() else compact(mesh, mesh.faces[kept[label]])


def normalise(mesh: Mesh, to: Literal["unit_sphere", "unit_box"] = "unit_sphere",
              margin: float = 1.03) -> tuple[Mesh, Frame]:
  """Moves a mesh into the model frame: the centre of its bounding box to 0, then all lengths over one scale.

  Args:
    to: "unit_sphere": the farthest vertex comes to 1 / margin from 0 (DeepSDF's preprocessing, margin 1.03);
      "unit_box": the longest half side of the box becomes 1 / margin.
    margin: at least 1.

  Returns:
    the mesh and its frame: normalised = (world - offset) / scale.

  Raises:
    BadData: the extent of the faces' vertices is zero or not finite.
  """
  used = mesh.vertices[distinct(mesh.faces)]
  if len(used) == 0:
    raise BadData("mesh", "has no faces", "give a mesh with faces")
  with np.errstate(over="ignore", invalid="ignore"):
    offset = used.min(0) / 2 + used.max(0) / 2
    extent = np.abs(used - offset)
    half = float(extent.max())
    radius = half * float(np.linalg.norm(extent / half, axis=1).max()) if 0 < half < np.inf else half
    scale = margin * (radius if to == "unit_sphere" else half)
  if not (0 < half and np.isfinite(scale)):
    raise BadData("mesh", f"extent is {2 * half:g}", "give a mesh of finite, non-zero size")
  frame = Frame(tuple(offset.tolist()), scale)
  return dataclasses.replace(mesh, vertices=(mesh.vertices - offset) / scale), frame


def sample_surface(mesh: Mesh, n: int, rng: np.random.Generator) -> PointCloud:
  """n points, uniform by area, with their faces' exact normals and colours interpolated from the corners.

  Raises:
    BadData: the mesh has no area.

  Source: Osada et al. 2002, Shape distributions, section 4.1 (uniform points in a triangle).
  """
  area = face_areas(mesh)
  total = np.cumsum(area)
  if not (len(area) and 0 < total[-1] < np.inf):
    raise BadData("mesh", "has no finite, non-zero area", "give a mesh with an area")
  face = np.minimum(np.searchsorted(total, rng.random(n) * total[-1], side="right"), len(area) - 1)
  root, along = np.sqrt(rng.random(n)), rng.random(n)
  weights = np.stack([1 - root, root * (1 - along), root * along], 1)
  corners = mesh.faces[face]
  points = np.einsum("ni,nij->nj", weights, mesh.vertices[corners])
  colors = None
  if mesh.colors is not None:
    colors = np.rint(np.einsum("ni,nij->nj", weights, mesh.colors[corners].astype(np.float64))).astype(np.uint8)
  return PointCloud(points, face_normals(mesh)[face], colors)
