"""Is a mesh sound? A census of one mesh, its yes-or-no questions, and the interval of a share.

Everything is exact for one mesh, but for self-intersections (see `geometry.self_intersection`). Nothing is mended first.
"""

import dataclasses
from collections.abc import Callable, Mapping

from fields3d.core.types import Mesh
from fields3d.geometry import topology
from fields3d.geometry.meshes import inspect_mesh
from fields3d.geometry.repair import inside_out


@dataclasses.dataclass(frozen=True)
class Census:
  """What a mesh is, vertices of equal position welded; degenerate faces are counted and then left out.

  watertight: every edge has exactly two faces. closed: watertight, and these run the edge in opposite directions, so
    that there is a volume. edge_manifold: no edge of three faces or more. vertex_manifold: one fan around each vertex.
  components: sets of faces joined by edges. inverted: closed components that face inward and are no cavities.
  self_intersecting: faces that pass through others; None where they were not looked for.
  watertight_with_degenerate: watertight where faces without area count as faces, as other libraries and the packs'
    tables count; a needle between three corners on a line may close what is a crack without it, or the reverse.
  degenerate, duplicate: faces without area, faces on an earlier one's corners (in either orientation).
  volume: signed, in the unit cubed; None unless closed.
  """
  faces: int
  vertices: int
  components: int
  watertight: bool
  watertight_with_degenerate: bool
  closed: bool
  edge_manifold: bool
  vertex_manifold: bool
  consistently_oriented: bool
  inverted: int
  self_intersecting: int | None
  degenerate: int
  duplicate: int
  boundary_edges: int
  volume: float | None
  area: float


def census(mesh: Mesh, crossings: bool = True) -> Census:
  """The census of one mesh.

  Args:
    crossings: also look for self-intersections, which takes most of the time.

  >>> import numpy as np
  >>> box = Mesh(np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
  ...            np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
  >>> found = census(box)
  >>> found.closed, found.inverted, found.self_intersecting
  (True, 0, 0)
  """
  report = inspect_mesh(mesh, crossings)
  _, group = topology.weld(mesh.vertices)
  counts = topology.edges(group[mesh.faces]).count
  return Census(
      faces=report.faces, vertices=report.vertices, components=report.components, watertight=report.watertight,
      watertight_with_degenerate=bool((counts == 2).all()),
      closed=report.watertight and report.consistently_oriented, edge_manifold=report.nonmanifold_edges == 0,
      vertex_manifold=report.nonmanifold_vertices == 0, consistently_oriented=report.consistently_oriented,
      inverted=inside_out(mesh)[1], self_intersecting=report.crossing_faces, degenerate=report.degenerate_faces,
      duplicate=report.duplicate_faces + report.opposite_faces, boundary_edges=report.boundary_edges,
      volume=report.volume, area=report.area)


@dataclasses.dataclass(frozen=True)
class Check:
  """A yes-or-no question of a census. of: Census -> whether it is so, None where it was not asked."""
  of: Callable[[Census], bool | None]
  good: bool
  meaning: str


CHECKS: Mapping[str, Check] = {
    "watertight": Check(lambda c: c.watertight, True, "every edge has exactly two faces"),
    "closed": Check(lambda c: c.closed, True, "watertight and consistently oriented"),
    "edge_manifold": Check(lambda c: c.edge_manifold, True, "no edge has three faces or more"),
    "vertex_manifold": Check(lambda c: c.vertex_manifold, True, "one fan of faces around each vertex"),
    "oriented": Check(lambda c: c.consistently_oriented, True, "two faces run their edge in opposite directions"),
    "one_component": Check(lambda c: c.components == 1, True, "all faces are joined by edges"),
    "self_intersecting": Check(lambda c: None if c.self_intersecting is None else c.self_intersecting > 0, False,
                               "an edge of a face passes through another face"),
    "inverted": Check(lambda c: c.inverted > 0, False, "a closed component faces inward and is no cavity"),
    "degenerate": Check(lambda c: c.degenerate > 0, False, "a face has no area"),
    "duplicate": Check(lambda c: c.duplicate > 0, False, "two faces have the same corners"),
}
