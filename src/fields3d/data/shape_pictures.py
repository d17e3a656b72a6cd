"""Pictures of a solid or of a mesh from many cameras at once, on the host and without compiling: 10 ms each rather than 1 s.

The light, the shading and the cameras are those of `data.rendered`, which traces every ray; here cones of 8 x 8 pixels,
then of 2 x 2, then of one find the pixels that the solid may show in, and of these only those that a ray through the
middle and its neighbours do not show to be plain (one surface, one colour, nearly flat) get k x k rays. Rays are traced
in float32; the last step, normals and colours are float64 and the solid's own.
"""

import dataclasses
import math
from collections.abc import Iterator

import igl.embree
import numpy as np

from fields3d.core.types import Mesh
from fields3d.data.rendered import DISTANCE, FAR, HALF_VIEW, NEAR, shade
from fields3d.data.solids import Part, Solid
from fields3d.geometry.meshes import face_cross

CLAY = (200, 196, 190)  # sRGB of a mesh without colours
_CONES = (8, 2, 1)  # pixels along the side of a cone, each dividing the one before
_TOLERANCE = 5e-3  # of a pixel: nearer than that is a hit
_CONE_TOLERANCE = 1e-3
_MAX_STEPS = 512
_BLOCK = 1 << 14  # points evaluated at once
AT_ONCE = 1 << 22  # rays of the views that are traced together, all pixels counted
_STEP = 1e-7  # of the forward difference in a normal
_BEND = math.cos(math.radians(20.0))  # neighbours whose normals agree better lie on one smooth surface,
_LEVEL = 0.25  # if neither is farther from the other's tangent plane than this share of a pixel


@dataclasses.dataclass(frozen=True)
class Grid:
  """Square pinhole pictures as `data.rendered` takes them. poses (v, 3, 4), width in pixels."""
  poses: np.ndarray
  width: int

  @property
  def focal(self) -> float:
    """In pixels."""
    return self.width / 2 / math.tan(HALF_VIEW)

  def directions(self, view: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Unit directions (n, 3) float64 through places (n, 2) (column, row; a pixel's middle is at +0.5) of views (n,)."""
    x, y = ((place - self.width / 2) / self.focal).T
    rotation = self.poses[:, :, :3]
    d = np.empty((len(view), 3))
    for axis in range(3):
      right, up, back = rotation[:, axis, :].T
      d[:, axis] = right[view] * x - up[view] * y - back[view]
    return d / np.sqrt(1 + x * x + y * y)[:, None]

  def pixels(self, size: int, view: np.ndarray, corner: np.ndarray, step: int) -> tuple[np.ndarray, ...]:
    """The squares of `step` pixels within squares of `size`: which square, view and corner of each, within the picture."""
    sub = np.stack(np.meshgrid(np.arange(0, size, step), np.arange(0, size, step)), -1).reshape(-1, 2)
    inner = (corner[:, None] + sub[None]).reshape(-1, 2)
    parent = np.repeat(np.arange(len(view)), len(sub))
    kept = np.flatnonzero((inner < self.width).all(1))
    return parent[kept], view[parent[kept]], inner[kept]


def solid_pictures(made: Solid, poses: np.ndarray, width: int, supersample: int = 4) -> np.ndarray:
  """Pictures (v, width, width, 4) uint8 of a solid: sRGB premultiplied by the coverage in the fourth channel.

  Against `rendered_scene` the mean difference over a picture is below 0.2 of 255; single pixels on an outline or an edge
  of colour can be off by the part of one ray, and shading within a plain pixel is that of its middle.

  Args:
    poses: (v, 3, 4), at radius 3, looking at the origin. supersample: rays along the side of a pixel that is not plain.
  """
  poses, most = np.asarray(poses, np.float64), max(1, AT_ONCE // (width * supersample)**2)
  return np.concatenate([_some_pictures(made, poses[i:i + most], width, supersample) for i in range(0, len(poses), most)])


def _some_pictures(made: Solid, poses: np.ndarray, width: int, k: int) -> np.ndarray:
  """As `solid_pictures`; memory grows with the number of poses."""
  grid = Grid(poses, width)
  traced = _Traced(made, grid)
  part, view, corner, start = _touched(grid, traced)
  pixel, first = np.unique((view * width + corner[:, 1]) * width + corner[:, 0], return_inverse=True)
  view, corner = pixel // width**2, np.stack([pixel % width, pixel // width % width], axis=1)
  middle = traced.look(view, corner + 0.5, part, first, start)
  busy = ~_plain(grid, view, corner, middle)
  number = np.cumsum(busy) - 1
  own = np.flatnonzero(busy[first])
  sub = (np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2) + 0.5) / k
  rays = number[first[own]][:, None] * k * k + np.arange(k * k)
  fine = traced.look(np.repeat(view[busy], k * k), (corner[busy][:, None] + sub[None]).reshape(-1, 2),
                     np.repeat(part[own], k * k), rays.ravel(), np.repeat(start[own], k * k))
  rgba = middle.rgba
  rgba[busy] = fine.rgba.reshape(-1, k * k, 4).mean(axis=1)
  out = np.zeros((len(poses), width, width, 4), np.uint8)
  out[view, corner[:, 1], corner[:, 0]] = np.round(255 * rgba)
  return out


@dataclasses.dataclass(frozen=True)
class _Seen:
  """What n rays see: rgba (n, 4); hit (n,); the surface's place and normal (n, 3) and its own colour (n, 3) uint8."""
  rgba: np.ndarray
  hit: np.ndarray
  point: np.ndarray
  normal: np.ndarray
  color: np.ndarray


class _Traced:
  """A solid before cameras. Each part is traced alone, by the rays that come near it: the first part that is met is seen."""

  def __init__(self, made: Solid, grid: Grid):
    self.parts, self.scale, self.grid = made.parts, made.scale, grid
    self.eyes = grid.poses[:, :, 3]
    self.placed = (self.eyes * made.scale + np.asarray(made.center)).astype(np.float32)
    self.center = np.asarray(made.center)

  def cones(self, part: np.ndarray, view: np.ndarray, place: np.ndarray, start: np.ndarray,
            radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Where cones of that radius at distance 1 first come near their part, t (n,), and whether they do (n,)."""
    t, near = np.array(start, np.float32), np.zeros(len(start), bool)
    d, end = self.grid.directions(view, place), np.full(len(start), FAR, np.float32)
    for i in range(len(self.parts)):
      own = np.flatnonzero(part == i)
      t[own], near[own] = self._march(i, view[own], d[own], start[own], end[own], radius, _CONE_TOLERANCE)
    return t, near

  def look(self, view: np.ndarray, place: np.ndarray, part: np.ndarray, ray: np.ndarray, start: np.ndarray) -> _Seen:
    """Rays (n,) through places of pictures. Pairs (m,) say which part may be met by which ray, from t = start on."""
    v, num = self.grid.directions(view, place), len(view)
    t, which = np.full(num, FAR, np.float32), np.full(num, -1)
    for i in range(len(self.parts)):
      own = np.flatnonzero(part == i)
      r = ray[own]
      found, hit = self._march(i, view[r], v[r], start[own], t[r], 0.0, _TOLERANCE * DISTANCE / self.grid.focal)
      t[r[hit]], which[r[hit]] = found[hit], i
    out = _Seen(np.zeros((num, 4)), which >= 0, np.zeros((num, 3)), np.zeros((num, 3)), np.zeros((num, 3), np.uint8))
    for i, one in enumerate(self.parts):
      own = np.flatnonzero(which == i)
      for at in _blocks(len(own)):
        r = own[at]
        out.point[r], out.normal[r], out.color[r] = self._arrive(one, self.eyes[view[r]], v[r], t[r])
        out.rgba[r, :3] = shade(out.color[r], out.normal[r], v[r])
    out.rgba[out.hit, 3] = 1.0
    return out

  def _march(self, part: int, view: np.ndarray, d: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float,
             tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Sphere tracing of one part, the rays that are over left out of every next step: t (n,), whether it was met (n,)."""
    sdf, scale, radius = self.parts[part].sdf, np.float32(self.scale), np.float32(radius)
    t, hit, live = np.array(start, np.float32), np.zeros(len(start), bool), np.flatnonzero(start < end)
    o, a = np.ascontiguousarray(self.placed[view[live]].T), np.ascontiguousarray(d[live].astype(np.float32).T * scale)
    s, last = t[live], end[live]
    for _ in range(_MAX_STEPS):
      if not len(live):
        break
      away = np.empty(len(live), np.float32)
      for at in _blocks(len(live)):
        away[at] = sdf(*(o[:, at] + s[at] * a[:, at]))
      away = away / scale - radius * s
      near = away < tolerance
      s = np.where(near, s, s + away / (1 + radius))
      over = near | (s > last)
      if over.any():
        t[live[over]], hit[live[over]] = s[over], near[over]
        going = np.flatnonzero(~over)
        live, s, last, o, a = live[going], s[going], last[going], o[:, going], a[:, going]
    return t, hit

  def _arrive(self, part: Part, eyes: np.ndarray, v: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Place, normal and colour where rays meet a part, after one more step in float64."""
    t, q = t[:, None].astype(np.float64), ((eyes + t[:, None] * v) * self.scale + self.center).T
    away = part.sdf(*q)
    normal = _normal(part, q, away, _STEP * self.scale)
    t = t - away[:, None] / self.scale / np.minimum(np.sum(normal * v, axis=1, keepdims=True), -0.1)
    point = eyes + t * v
    return point, normal, _paint(part, (point * self.scale + self.center).T)


def _normal(part: Part, q: np.ndarray, here: np.ndarray, step: float) -> np.ndarray:
  slope = np.stack([part.sdf(*(q + shift[:, None])) - here for shift in np.eye(3) * step], axis=1)
  return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)


def _paint(part: Part, q: np.ndarray) -> np.ndarray:
  colors = np.tile(np.uint8(part.color), (q.shape[1], 1))
  for region, paint in part.paint:
    colors[region(*q) < 0.0] = paint
  return colors


def _touched(grid: Grid, traced: _Traced) -> tuple[np.ndarray, ...]:
  """The pairs of part and pixel that may meet: part, view (n,), corner (n, 2), and the t (n,) before which they do not."""
  num, size = len(grid.poses), grid.width
  parts = len(traced.parts)
  part, view = np.repeat(np.arange(parts), num), np.tile(np.arange(num), parts)
  corner, start = np.zeros((num * parts, 2), np.int64), np.full(num * parts, NEAR, np.float32)
  for step in _CONES:
    parent, view, corner = grid.pixels(size, view, corner, step)
    # a square's corner is at most step / sqrt(2) pixels from its middle
    t, near = traced.cones(part[parent], view, corner + step / 2, start[parent], step / math.sqrt(2) / grid.focal)
    part, view, corner, start, size = part[parent][near], view[near], corner[near], t[near], step
  return part, view, corner, start


def _plain(grid: Grid, view: np.ndarray, corner: np.ndarray, middle: _Seen) -> np.ndarray:
  """Which pixels (n,) show one smooth piece of surface of one colour, as far as their eight neighbours tell."""
  width = grid.width + 2
  index = np.full((len(grid.poses), width, width), -1)
  index[view, corner[:, 1] + 1, corner[:, 0] + 1] = np.arange(len(view))
  plain = middle.hit.copy()
  reach = _LEVEL * DISTANCE / grid.focal
  for row, column in ((r, c) for r in range(3) for c in range(3) if (r, c) != (1, 1)):
    mine = np.flatnonzero(plain)
    other = index[view[mine], corner[mine, 1] + row, corner[mine, 0] + column]
    gap = middle.point[other] - middle.point[mine]
    same = ((other >= 0) & middle.hit[other] & (middle.color[other] == middle.color[mine]).all(1)
            & (np.sum(middle.normal[other] * middle.normal[mine], axis=1) > _BEND)
            & (np.abs(np.sum(gap * middle.normal[mine], axis=1)) < reach))
    plain[mine[~same]] = False
  return plain


def mesh_pictures(mesh: Mesh, poses: np.ndarray, width: int, supersample: int = 4) -> np.ndarray:
  """Pictures as `solid_pictures` of triangles within the unit ball, lit from both sides: supersample^2 rays a pixel (Embree).

  Colours are those of the corners, blended; normals are the faces' own. Exact up to float32 in the place of a hit.
  """
  poses, most = np.asarray(poses, np.float64), max(1, AT_ONCE // (width * supersample)**2)
  return np.concatenate([_some_of_mesh(mesh, poses[i:i + most], width, supersample) for i in range(0, len(poses), most)])


def _some_of_mesh(mesh: Mesh, poses: np.ndarray, width: int, k: int) -> np.ndarray:
  """As `mesh_pictures`; memory grows with the number of poses."""
  vertices, faces = np.ascontiguousarray(mesh.vertices, np.float64), np.ascontiguousarray(mesh.faces, np.int64)
  grid, cross = Grid(poses, width), face_cross(mesh)
  normals = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-30)
  colors = np.broadcast_to(np.asarray(CLAY, np.uint8), (len(vertices), 3)) if mesh.colors is None else mesh.colors
  side = (np.arange(width * k) + 0.5) / k
  places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
  view, place = np.nonzero([_in_outline(places, grid, pose, vertices) for pose in poses])
  v = grid.directions(view, places[place])
  found = igl.embree.line_mesh_intersection(np.ascontiguousarray(poses[view, :, 3]), v, vertices, faces)
  hit = np.flatnonzero(found[:, 0] >= 0)
  face, second, seen = found[hit, 0].astype(np.int64), found[hit, 1:], v[hit]
  albedo = np.einsum("nkc,nk->nc", colors[faces[face]], np.column_stack([1 - second.sum(1), second]))
  normal = normals[face]
  normal *= -np.sign(np.sum(normal * seen, axis=1, keepdims=True))
  rgba = np.zeros((len(poses), len(places), 4), np.float32)
  rgba[view[hit], place[hit], :3] = shade(albedo, normal, seen)
  rgba[view[hit], place[hit], 3] = 1.0
  return np.round(255 * rgba.reshape(len(poses), width, k, width, k, 4).mean((2, 4))).astype(np.uint8)


def _in_outline(places: np.ndarray, grid: Grid, pose: np.ndarray, vertices: np.ndarray) -> np.ndarray:
  """Which places (n,) lie in the rectangle that the vertices of a mesh fill in the picture."""
  x, y, z = ((vertices - pose[:, 3]) @ pose[:, :3]).T
  seen = grid.width / 2 + grid.focal * np.stack([x / -z, y / z], axis=1)
  return ((places >= seen.min(0) - 1e-6) & (places <= seen.max(0) + 1e-6)).all(1)


def _blocks(num: int) -> Iterator[slice]:
  return (slice(start, start + _BLOCK) for start in range(0, num, _BLOCK))
