"""Connectivity of triangles: equal vertices welded, edges and who shares them, components, orientation.

Everything is combinatorial and exact. Vertices are the same where their coordinates are equal, so that formats that
repeat vertices (STL, texture seams) are judged by the surface they describe.
"""

import dataclasses

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components


def weld(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Groups equal rows of (n, d): the first row of each group, in order, and the group of every row (n,).

  >>> first, group = weld(np.array([[0., 1], [2, 3], [-0., 1]]))
  >>> first.tolist(), group.tolist()
  ([0, 1], [0, 1, 0])
  """
  if len(points) == 0:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  points = points + 0.0  # -0 becomes 0
  order = np.lexsort(points.T)
  ranked = points[order]
  new = np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(1)])
  group = np.empty(len(points), np.int64)
  group[order] = np.cumsum(new) - 1
  first = order[new]  # lexsort is stable: the lowest index of its group
  rank = np.argsort(first)
  place = np.empty_like(rank)
  place[rank] = np.arange(len(rank))
  return first[rank], place[group]


@dataclasses.dataclass(frozen=True)
class Edges:
  """The undirected edges of welded faces (f, 3) without repeated indices.

  ends (e, 2): vertices, the lower first. count (e,): faces at each. of_face (f, 3): edge opposite no corner but from
  corner i to i + 1. forward (f, 3): whether the face runs it from the lower vertex to the higher.
  """
  ends: np.ndarray
  count: np.ndarray
  of_face: np.ndarray
  forward: np.ndarray

  @property
  def balance(self) -> np.ndarray:
    """(e,) forward minus backward faces: 0 where the faces around an edge are oriented so as to close."""
    return np.bincount(self.of_face.reshape(-1), np.where(self.forward, 1, -1).reshape(-1), len(self.count)).astype(int)

  def pairs(self) -> tuple[np.ndarray, np.ndarray]:
    """The half-edges (face * 3 + corner) that meet at each edge of exactly two faces: two arrays (m,)."""
    flat = self.of_face.reshape(-1)
    half = np.flatnonzero(self.count[flat] == 2)
    half = half[np.argsort(flat[half], kind="stable")]
    return half[0::2], half[1::2]


def edges(faces: np.ndarray) -> Edges:
  """The edges of faces (f, 3); see `Edges`."""
  ahead = np.roll(faces, -1, axis=1)
  low, high = np.minimum(faces, ahead), np.maximum(faces, ahead)
  span = int(faces.max(initial=0)) + 1
  key, of_face, count = np.unique(low * span + high, return_inverse=True, return_counts=True)
  return Edges(np.stack([key // span, key % span], 1), count, of_face.reshape(faces.shape), faces < ahead)


def face_components(shared: Edges) -> tuple[int, np.ndarray]:
  """Faces that share an edge (of any number of faces) belong together: how many sets, and the set of each face."""
  flat = shared.of_face.reshape(-1)
  order = np.argsort(flat, kind="stable")
  face, same = order // 3, flat[order][1:] == flat[order][:-1]
  return connected(face[:-1][same], face[1:][same], len(shared.of_face))


def nonmanifold_vertices(faces: np.ndarray, shared: Edges) -> np.ndarray:
  """Vertices whose faces are not one fan: those of edges with three faces and more, and where fans touch at a point."""
  a, b = shared.pairs()
  start, end = np.arange(3 * len(faces)), np.arange(3 * len(faces)).reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)
  same_way = (shared.forward.reshape(-1)[a] == shared.forward.reshape(-1)[b])
  # corners of the two faces at either end of the shared edge are the same vertex
  left = np.concatenate([start[a], end[a]])
  right = np.concatenate([np.where(same_way, start[b], end[b]), np.where(same_way, end[b], start[b])])
  _, fan = connected(left, right, 3 * len(faces))
  corner = faces.reshape(-1)
  of_fan = np.empty(fan.max(initial=-1) + 1, np.int64)
  of_fan[fan] = corner
  several = np.bincount(of_fan, minlength=corner.max(initial=-1) + 1) > 1
  several[shared.ends[shared.count > 2].reshape(-1)] = True
  return np.flatnonzero(several)


def consistent_flips(num: int, shared: Edges) -> tuple[np.ndarray, int]:
  """The fewest flips that make every patch consistent.

  A patch is a set of faces joined by edges of exactly two faces. Two copies of every face, as it is and flipped, are
  joined across each edge where they agree; each half of that double cover is one orientation of a patch, and a patch
  whose halves are joined (a Moebius band) has none: it is left alone.

  Args:
    num: of faces. shared: their edges.

  Returns:
    flip (f,) bool, and the number of faces in patches that cannot be oriented.
  """
  if (shared.balance[shared.count == 2] == 0).all():
    return np.zeros(num, bool), 0
  a, b = shared.pairs()
  agree = shared.forward.reshape(-1)[a] != shared.forward.reshape(-1)[b]
  p, q = a // 3, b // 3
  shift = np.where(agree, 0, num)
  count, half = connected(np.concatenate([p, p + num]), np.concatenate([q + shift, q + num - shift]), 2 * num)
  kept, flipped = half[:num], half[num:]
  stuck = kept == flipped
  votes = np.bincount(kept, minlength=count)
  prefer = votes[kept] - votes[flipped]
  # equal votes: the half that holds the patch's first face as it is
  first = np.full(count, num, np.int64)
  np.minimum.at(first, kept, np.arange(num))
  flip = (prefer < 0) | ((prefer == 0) & (first[kept] > first[flipped]))
  return flip & ~stuck, int(stuck.sum())


def connected(a: np.ndarray, b: np.ndarray, num: int) -> tuple[int, np.ndarray]:
  """Connected components of the graph with edges a-b: how many, and the label of each of `num` nodes."""
  if num == 0:
    return 0, np.zeros(0, np.int64)
  graph = scipy.sparse.coo_matrix((np.ones(len(a), bool), (a, b)), (num, num))
  count, label = connected_components(graph, directed=False)
  return int(count), label.astype(np.int64)
