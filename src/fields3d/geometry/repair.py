"""Mending meshes without inventing surface: degenerate and repeated faces, inner walls, orientation."""

import numpy as np
from scipy.spatial import cKDTree

from fields3d.core.types import Mesh
from fields3d.geometry import topology
from fields3d.geometry.distance import winding_number
from fields3d.geometry.meshes import compact, degenerate_faces, repeated_faces

_NEEDLE_PASSES = 8


def repair(mesh: Mesh) -> tuple[Mesh, list[str]]:
  """Mends what has one right answer.

  Vertices equal in position and colour are merged and unused ones dropped (not reported: some formats must repeat
  them). Degenerate faces are dropped; where one is a needle between three corners on a line, the face across its long
  side is split at the middle one, so that no crack opens. Of duplicate faces the first is kept. Faces that lie on
  their reverse are an inner wall (dropped, where the rest closes without it), the skin of a body given in both
  orientations (one kept), or a two-sided sheet (kept as it is: it bounds nothing). Then the fewest faces are flipped
  that make each patch consistent, and closed components turned outward, save cavities (inside out and within an odd
  number of others).

  Returns:
    the mesh, and a note with its count for each defect.

  >>> box = np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
  >>> repair(Mesh(box, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3], [2, 3, 1], [0, 0, 1]])))[1]
  ['1 degenerate faces dropped', '1 duplicate faces dropped']
  """
  notes = []
  _, group = topology.weld(mesh.vertices)
  faces, dropped = _drop_degenerate(mesh, group)
  if dropped:
    notes.append(f"{dropped} degenerate faces dropped")
  same, _ = repeated_faces(group[faces])
  faces = faces[~same]
  if same.any():
    notes.append(f"{int(same.sum())} duplicate faces dropped")
  faces, walls, skins, sheets = _settle_opposites(faces, group)
  notes += [f"{count} {what}" for count, what in ((walls, "faces of inner walls dropped"),
                                                  (skins, "faces lay on their reverse: one kept"),
                                                  (sheets, "faces of two-sided sheets kept")) if count]
  faces, oriented = _orient(mesh, faces, group)
  return compact(mesh, faces), notes + oriented


def _drop_degenerate(mesh: Mesh, group: np.ndarray) -> tuple[np.ndarray, int]:
  """The faces left, needles absorbed by their neighbours, and how many were degenerate."""
  degenerate = degenerate_faces(mesh)
  welded = group[mesh.faces]
  needle = degenerate & (welded != np.roll(welded, 1, axis=1)).all(1)
  if not needle.any():
    return mesh.faces[~degenerate], int(degenerate.sum())
  faces = mesh.faces[~degenerate | needle]
  for _ in range(_NEEDLE_PASSES):
    faces, absorbed = _absorb_needles(mesh, faces, group)
    if not absorbed:
      break
  return faces[~degenerate_faces(Mesh(mesh.vertices, faces))], int(degenerate.sum())


def _absorb_needles(mesh: Mesh, faces: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, int]:
  """One pass: each needle a, b, c (b between) and the sound face c, a, d across become a, b, d and b, c, d."""
  needle = np.flatnonzero(degenerate_faces(Mesh(mesh.vertices, faces)))
  shared = topology.edges(group[faces])
  x = mesh.vertices[faces[needle]]
  side = np.argmax(np.sum((np.roll(x, -1, axis=1) - x) ** 2, axis=2), axis=1)  # from corner `side` to the next
  p, q = shared.pairs()
  across = np.full(3 * len(faces), -1)
  across[p], across[q] = q, p
  other = across[3 * needle + side]
  sound = (other >= 0) & ~np.isin(other // 3, needle)
  _, once = np.unique(other[sound] // 3, return_index=True)
  chosen = np.flatnonzero(sound)[once]
  middle = faces[needle[chosen], (side[chosen] + 2) % 3]
  face, corner = other[chosen] // 3, other[chosen] % 3
  start, end, apex = (faces[face, (corner + i) % 3] for i in range(3))
  faces = faces.copy()
  faces[face] = np.stack([start, middle, apex], 1)
  faces[needle[chosen]] = np.stack([middle, end, apex], 1)
  return faces, len(chosen)


def _settle_opposites(faces: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, int, int, int]:
  """Faces that lie on their reverse, by regions joined along edges; the numbers of walls, skins and sheets."""
  welded = group[faces]
  _, later = repeated_faces(welded)
  if not later.any():
    return faces, 0, 0, 0
  _, kind = topology.weld(np.sort(welded, 1))
  paired = np.isin(kind, kind[later])
  shared = topology.edges(welded)
  single = paired & ~later
  inner = np.bincount(shared.of_face[single].reshape(-1), minlength=len(shared.count))
  others = shared.count - 2 * inner
  num, region = topology.face_components(topology.edges(welded[single]))
  edge = shared.of_face[single]
  rim = np.bincount(region, ((others == 0) & (inner == 1))[edge].any(1), num) > 0
  odd = np.bincount(region, (others % 2 == 1)[edge].any(1), num) > 0
  attached = np.bincount(region, (others > 0)[edge].any(1), num) > 0
  wall, sheet = attached & ~rim & ~odd, rim & ~odd
  of_kind = np.full(kind.max() + 1, -1)
  of_kind[kind[single]] = region
  own = of_kind[kind]
  is_wall, is_sheet = paired & wall[own], paired & sheet[own]
  skin = later & ~is_wall & ~is_sheet
  return faces[~is_wall & ~skin], int(is_wall.sum()), int(skin.sum()), int(is_sheet.sum())


def _orient(mesh: Mesh, faces: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, list[str]]:
  notes = []
  shared = topology.edges(group[faces])
  flip, stuck = topology.consistent_flips(len(faces), shared)
  if flip.any():
    notes.append(f"{int(flip.sum())} faces of mixed orientation flipped")
    faces = np.where(flip[:, None], faces[:, ::-1], faces)
    shared = topology.edges(group[faces])
  if stuck:
    notes.append(f"{stuck} faces lie on one-sided surfaces: orientation left")
  inward, count = _inward(Mesh(mesh.vertices, faces), shared)
  if count:
    notes.append(f"{count} closed components were inside out: {int(inward.sum())} faces flipped")
    faces = np.where(inward[:, None], faces[:, ::-1], faces)
  return faces, notes


def inside_out(mesh: Mesh) -> tuple[np.ndarray, int]:
  """(f,) faces of closed components that face inward and are no cavities, and the number of those components.

  Components whose faces do not run consistently are neither one nor the other. Degenerate faces are passed over.
  """
  _, group = topology.weld(mesh.vertices)
  sound = ~degenerate_faces(mesh)
  faces, out = mesh.faces[sound], np.zeros(len(mesh.faces), bool)
  out[sound], count = _inward(Mesh(mesh.vertices, faces), topology.edges(group[faces]))
  return out, count


def _inward(mesh: Mesh, shared: topology.Edges) -> tuple[np.ndarray, int]:
  """(f,) faces of closed components that are inside out and no cavities, and the number of those components."""
  num, label = topology.face_components(shared)
  is_open = np.zeros(num, bool)
  is_open[label[(shared.balance[shared.of_face] != 0).any(1)]] = True
  volume, area = _volumes(mesh, label, num)
  wrong = np.flatnonzero((volume < -1e-12 * area ** 1.5) & ~is_open)
  depth = _depths(mesh, label, num, wrong, ~is_open)
  turn = np.zeros(num, bool)
  turn[wrong[depth % 2 == 0]] = True
  return turn[label], int(turn.sum())


def _volumes(mesh: Mesh, label: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
  """Signed volume and area of each component, about its own mean so that a distant small one keeps its digits."""
  corners = mesh.vertices[mesh.faces]
  size = np.bincount(label, minlength=num)
  middle = np.stack([np.bincount(label, corners[:, :, i].mean(1), num) for i in range(3)], 1) / size[:, None]
  a, b, c = np.moveaxis(corners - middle[label][:, None], 1, 0)
  volume = np.bincount(label, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6, num)
  return volume, np.bincount(label, np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2, num)


def _depths(mesh: Mesh, label: np.ndarray, num: int, inner: np.ndarray, closed: np.ndarray) -> np.ndarray:
  """How many closed components hold each of the components `inner`: boxes first, then the winding number."""
  depth = np.zeros(len(inner), np.int64)
  if len(inner) == 0 or num == 1:
    return depth
  x = mesh.vertices[mesh.faces]
  low, high = np.full((num, 3), np.inf), np.full((num, 3), -np.inf)
  np.minimum.at(low, label, x.min(1))
  np.maximum.at(high, label, x.max(1))
  order = np.argsort(label, kind="stable")
  start = np.searchsorted(label[order], np.arange(num + 1))
  probe = x[order[start[inner]]].mean(1)
  outer = np.flatnonzero(closed)
  middle, reach = low / 2 + high / 2, (high - low).max(1) / 2
  near = cKDTree(middle[inner]).query_ball_point(middle[outer], reach[outer], p=np.inf)
  for candidate, found in zip(outer, near, strict=True):
    found = np.asarray(found, np.int64)
    box = inner[found]
    found = found[((low[candidate] < low[box]) & (high[box] < high[candidate])).all(1)]
    if len(found):
      own = x[order[start[candidate]:start[candidate + 1]]]
      alone = Mesh(own.reshape(-1, 3), np.arange(3 * len(own)).reshape(-1, 3))
      depth[found[np.abs(winding_number(alone, probe[found])) > 0.5]] += 1
  return depth
