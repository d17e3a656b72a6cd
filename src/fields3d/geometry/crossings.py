"""What is inside, exactly and for many points: signed crossings of parallel rays, counted column by column.

A surface that is closed as a chain (at every edge as many faces run forward as backward; it may overlap or touch itself)
winds around a point an integer number of times: the signed number of faces that a ray from the point passes through.
An open surface M is closed by cones C over its boundary, and winds w(M) = w(M + C) - w(C) times. Since w(C) is at most
C's area over 4 pi d^2 at a distance d, it need only be summed near the holes. Rays are sorted into columns of a grid,
so that each is tried on the faces of its own column only.

Float64 throughout. Where a ray passes within rounding of an edge, or a point lies within it of a face, nothing is
decided: those points are handed back by index, for the sum over all faces.
"""

from collections.abc import Iterator

import igl
import numpy as np

from fields3d.geometry import topology

MOST_CONE = 512  # faces of cones a point, above which the tree of `igl.fast_winding_number` is quicker
MOST_BALLS = 10**9  # holes times points that are looked at one by one: half a minute
_TILT = np.array([0.01234567, 0.00765432])  # of the rays from the z axis: models have faces along the axes
_EPS = 1e-13  # above the rounding of an area in the unit square
_PAIRS = 2**18  # of points and faces looked at together: bounds the memory


def inside(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
  """Whether the surface winds around each point more than half a time, in either direction; exact.

  Args:
    vertices: (v, 3). faces: (f, 3). points: (n, 3), all finite.

  Returns:
    (n,) bool, and the indices of points for which it is not known; or None where too much is open for this to be quick.

  >>> v = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3.0]])
  >>> f = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
  >>> inside(v, f, np.array([[0.5, 0.4, 0.3], [0.5, 0.4, -0.3]]))[0].tolist()
  [True, False]

  Source: Jacobson et al. 2013, "Robust inside-outside segmentation using generalized winding numbers", sections 3 and 4.1.
  """
  cone, loop, apex = _cones(vertices, faces)
  vertices = np.ascontiguousarray(np.concatenate([vertices, apex]))
  few = len(cone) > 4 * len(apex)  # a hole costs about as much as a face
  if few and len(apex) * len(points) > MOST_BALLS:
    return None
  near = _near(vertices, cone, loop, apex, points) if few else np.arange(len(points) if len(cone) else 0)
  if len(near) * len(cone) > MOST_CONE * len(points):
    return None
  count, unsure = _crossings(vertices, np.concatenate([faces, cone]), points)
  if len(near):
    count[near] -= igl.winding_number(vertices, cone, np.ascontiguousarray(points[near]))
  return np.abs(count) > 0.5, np.flatnonzero(unsure)


def _cones(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The faces (b, 3) that close the surface over each of its holes, the hole of each (b,), and the holes' apices (h, 3).

  The index of an apex is len(vertices) + its hole's.
  """
  first, group = topology.weld(vertices)
  welded = group[faces]
  shared = topology.edges(welded[(welded != np.roll(welded, 1, axis=1)).all(1)])
  balance = shared.balance
  odd = np.flatnonzero(balance)
  ends = shared.ends[odd]
  ends = np.where(balance[odd, None] > 0, ends[:, ::-1], ends)  # what runs forward is closed by what runs back
  ends = np.repeat(ends, np.abs(balance[odd]), axis=0)
  corner, place = np.unique(ends, return_inverse=True)
  place = place.reshape(ends.shape)
  num, label = topology.connected(place[:, 0], place[:, 1], len(corner))
  at = vertices[first[corner]]
  apex = np.stack([np.bincount(label, at[:, i], num) for i in range(3)], 1) / np.bincount(label, minlength=num)[:, None]
  loop = label[place[:, 0]]
  return np.concatenate([first[ends], len(vertices) + loop[:, None]], 1).astype(np.int64), loop, apex


def _near(vertices: np.ndarray, cone: np.ndarray, loop: np.ndarray, apex: np.ndarray, points: np.ndarray) -> np.ndarray:
  """The points around which the cones may wind half a time: not those whose distances to all balls bound it below 0.49."""
  bound = np.zeros(len(points))
  corner = vertices[cone]
  area = np.bincount(loop, np.linalg.norm(np.cross(corner[:, 0] - corner[:, 2], corner[:, 1] - corner[:, 2]), axis=1) / 2,
                     len(apex))
  radius = np.zeros(len(apex))
  np.maximum.at(radius, loop, np.linalg.norm(corner[:, :2] - corner[:, 2:], axis=2).max(1))
  for i in range(len(apex)):
    offset = points - apex[i]
    distance = np.sqrt(np.einsum("ni,ni->n", offset, offset)) - radius[i]
    bound += np.where(distance > 0, area[i] / (4 * np.pi * np.maximum(distance, 1e-100) ** 2), np.inf)
  return np.flatnonzero(bound >= 0.49)


def _crossings(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Signed crossings of the ray from each point (n,) float64, and whether any of them is unsure (n,)."""
  count, unsure = np.zeros(len(points)), np.zeros(len(points), bool)
  low = vertices.min(0)
  size = np.ptp(vertices, axis=0).max()
  if not (size > 0 and len(faces)):
    return count, unsure
  x, q = _sheared((vertices - low) / size)[faces], _sheared((points - low) / size)
  flat = x[:, :, :2]
  ahead, behind = np.roll(flat, -1, axis=1), np.roll(flat, -2, axis=1)
  # twice the signed area of (point, ahead, behind) is plane . (px, py, 1): the weight of the corner opposite
  plane = np.stack([ahead[..., 1] - behind[..., 1], behind[..., 0] - ahead[..., 0],
                    ahead[..., 0] * behind[..., 1] - ahead[..., 1] * behind[..., 0]], -1)
  top, height = x[:, :, 2].max(1), x[:, :, 2]
  flat_q = np.concatenate([q[:, :2], np.ones((len(q), 1))], 1)
  for point, face in _columns(flat, plane, q):
    reached = np.flatnonzero(top[face] >= q[point, 2] - _EPS)
    point, face = point[reached], face[reached]
    weight = np.einsum("nij,nj->ni", plane[face], flat_q[point])
    least = np.minimum(np.minimum(weight[:, 0], weight[:, 1]), weight[:, 2])  # thrice as fast as min(1)
    most = np.maximum(np.maximum(weight[:, 0], weight[:, 1]), weight[:, 2])
    hit = np.flatnonzero((least > -_EPS) | (most < _EPS))
    point, face, weight, least, most = point[hit], face[hit], weight[hit], least[hit], most[hit]
    above = np.einsum("ni,ni->n", weight, height[face] - q[point, 2, None])
    on_edge = (np.abs(least) <= _EPS) | (np.abs(most) <= _EPS)
    unsure[point[on_edge | (np.abs(above) <= _EPS)]] = True
    sign = np.sign(least)  # all weights have it, and so has the area
    count += np.bincount(point, np.where(above * sign > 0, sign, 0.0), len(count))
  return count, unsure


def _sheared(x: np.ndarray) -> np.ndarray:
  """Points (..., 3) in coordinates in which the rays run along the third axis."""
  return np.concatenate([x[..., :2] - x[..., 2:] * _TILT, x[..., 2:]], -1)


def _columns(flat: np.ndarray, plane: np.ndarray, q: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pairs of points and faces of one column: all pairs where the ray may meet the face, in chunks."""
  low, high = flat.min((0, 1)), flat.max((0, 1))
  side = 2 ** int(np.clip(np.ceil(np.log2(2 * np.sqrt(len(flat)))), 3, 9))
  while True:
    cell = np.maximum(high - low, 1e-9) / side
    first = np.clip(np.floor((flat.min(1) - low - _EPS) / cell), 0, side - 1).astype(np.int64)
    last = np.clip(np.floor((flat.max(1) - low + _EPS) / cell), 0, side - 1).astype(np.int64)
    span = last - first + 1
    if side == 1 or span.prod(1).sum() <= 4 * (len(flat) + len(q)):  # as much work as the points are
      break
    side //= 2
  start, face = _face_cells(first, span, plane, low, cell, side)
  inside = np.flatnonzero(((q[:, :2] >= low) & (q[:, :2] <= high)).all(1))
  at = np.minimum(((q[inside, :2] - low) / cell).astype(np.int64), side - 1)
  key = at[:, 0] * side + at[:, 1]
  order = np.argsort(key, kind="stable")
  point, key = inside[order], key[order]
  num = start[key + 1] - start[key]
  point, key, num = point[num > 0], key[num > 0], num[num > 0]
  total, begin = np.cumsum(num), 0
  while begin < len(point):
    before = total[begin] - num[begin]
    end = max(int(np.searchsorted(total, before + _PAIRS, side="right")), begin + 1)
    part = num[begin:end]
    within = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
    yield np.repeat(point[begin:end], part), face[np.repeat(start[key[begin:end]], part) + within]
    begin = end


def _face_cells(first: np.ndarray, span: np.ndarray, plane: np.ndarray, low: np.ndarray, cell: np.ndarray,
                side: int) -> tuple[np.ndarray, np.ndarray]:
  """The faces of each cell: where those of a cell start (side^2 + 1,), and all of them in the order of cells."""
  num = span.prod(1)
  face = np.repeat(np.arange(len(first)), num)
  within = np.arange(len(face)) - np.repeat(np.cumsum(num) - num, num)
  i = first[face, 0] + within // span[face, 1]
  j = first[face, 1] + within % span[face, 1]
  middle = np.stack([low[0] + (i + 0.5) * cell[0], low[1] + (j + 0.5) * cell[1], np.ones(len(i))], 1)
  weight = np.einsum("nij,nj->ni", plane[face], middle)
  reach = (np.abs(plane[..., :2]) @ (cell / 2))[face] + 2 * _EPS  # how far the weight moves within a cell
  meets = (weight > -reach).all(1) | (weight < reach).all(1)
  key = (i * side + j)[meets]
  order = np.argsort(key, kind="stable")
  return np.searchsorted(key[order], np.arange(side * side + 1)), face[meets][order]
