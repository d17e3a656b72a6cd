"""Coloured solids made of parts: signed distance, part, colour, normal, surface mesh and surface points.

A `Solid` is a union of `Part`s, each a signed distance that is exact outside. So the solid's distance is exact outside;
inside it is the depth below the surface of the deepest part, which is a lower bound of the true depth and equals it
wherever parts do not overlap. Its sign is exact and its Lipschitz constant is 1.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from fields3d.core.types import Mesh
from fields3d.geometry.primitives import Sdf

Color = tuple[int, int, int]

_BLOCK = 1 << 13  # points evaluated at once: their temporaries stay in the processor's cache
_CELL = 4  # grid nodes along the side of a block that is skipped or evaluated as a whole
_STEP = 1e-7  # of the forward difference in a gradient


@dataclasses.dataclass(frozen=True)
class Part:
  """A named piece of a solid: its distance, its colour, and regions (distance below 0) painted otherwise, in order."""
  label: str
  sdf: Sdf
  color: Color
  paint: Sequence[tuple[Sdf, Color]] = ()


@dataclasses.dataclass(frozen=True)
class Solid:
  """The union of parts, moved and shrunk: point p of the model frame is `p * scale + center` of the parts' frame."""
  parts: tuple[Part, ...]
  center: tuple[float, float, float] = (0.0, 0.0, 0.0)
  scale: float = 1.0

  def distances(self, points: np.ndarray) -> np.ndarray:
    """The signed distance of points (n, 3) to every part, (parts, n) float64."""
    out = np.empty((len(self.parts), len(points)))
    for where, p in self._blocks(points):
      for row, part in zip(out, self.parts, strict=True):
        row[where] = part.sdf(*p)
    return out / self.scale

  def sdf(self, points: np.ndarray) -> np.ndarray:
    """The signed distance (n,) float64 of points (n, 3): exact outside, inside a lower bound of the depth."""
    out = np.empty(len(points))
    for where, p in self._blocks(points):
      out[where] = functools.reduce(np.minimum, [part.sdf(*p) for part in self.parts])
    return out / self.scale

  def part(self, points: np.ndarray) -> np.ndarray:
    """The index (n,) of the part nearest to each point; inside, of the one it lies deepest in."""
    return np.argmin(self.distances(points), axis=0)

  def color(self, points: np.ndarray) -> np.ndarray:
    """The colour (n, 3) uint8 sRGB of the part nearest to each point, with that part's paint at the point."""
    nearest, out = self.part(points), np.empty((len(points), 3), np.uint8)
    placed = np.asarray(points, np.float64) * self.scale + np.asarray(self.center)
    for i, part in enumerate(self.parts):
      own = nearest == i
      colors, p = np.tile(np.uint8(part.color), (int(own.sum()), 1)), placed[own].T.copy()
      for region, paint in part.paint:
        colors[region(*p) < 0.0] = paint
      out[own] = colors
    return out

  def normal(self, points: np.ndarray, sdf: np.ndarray | None = None) -> np.ndarray:
    """The distance's unit gradient (n, 3), by forward differences: right to 1e-6 but on edges, where none exists.

    Args:
      sdf: the distance at the points, where it is known already.
    """
    points = np.asarray(points, np.float64)
    here = self.sdf(points) if sdf is None else sdf
    slope = np.stack([self.sdf(points + step) - here for step in np.eye(3) * _STEP], axis=1)
    return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)

  def project(self, points: np.ndarray, limit: float, steps: int = 2) -> np.ndarray:
    """Points moved to the surface along the gradient, by at most `limit` a step: to 1e-9 where it is smooth."""
    for _ in range(steps):
      away = self.sdf(points)
      points = points - np.clip(away, -limit, limit)[:, None] * self.normal(points, away)
    return points

  def bounds(self) -> np.ndarray:
    """The axis-aligned bounding box (2, 3), to 1e-6."""
    axes = np.eye(3)
    return np.stack([-self.support(-axes), self.support(axes)])

  def support(self, directions: np.ndarray) -> np.ndarray:
    """The support function max p . n over the solid, for unit directions n (m, 3), to 1e-6.

    It is read off the distance at a point L n far away, which is L - support + O(1 / L) for a distance exact outside.
    """
    far = 1e6
    return far - self.sdf(far * directions)

  def _blocks(self, points: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    shift = np.asarray(self.center)[:, None]
    for start in range(0, len(points), _BLOCK):
      where = slice(start, start + _BLOCK)
      yield where, np.asarray(points[where], np.float64).T * self.scale + shift


def normalise(parts: Sequence[Part], margin: float = 1.03) -> Solid:
  """The solid with the centre of its bounding box at the origin and its farthest point at radius 1 / margin.

  The radius is the largest of 4,096 values of the support function: at most 0.1% below the truth.

  >>> from fields3d.geometry.primitives import sphere, translate
  >>> solid = normalise([Part("ball", translate(sphere(2.0), (5, 0, 0)), (255, 0, 0))])
  >>> solid.sdf(np.zeros((1, 3))).round(4)
  array([-0.9709])
  """
  raw = Solid(tuple(parts))
  middle = tuple(float(c) for c in raw.bounds().mean(axis=0))
  radius = float(Solid(raw.parts, middle).support(sphere_lattice(4096)).max())
  return Solid(raw.parts, middle, radius * margin)


def surface(solid: Solid, spacing: float) -> Mesh:
  """The solid's surface as a closed mesh with vertex colours: marching cubes, then every vertex moved onto the surface.

  Vertices lie on the surface to 1e-6; a triangle leaves it by O(spacing^2) where it is smooth and cuts sharp edges off
  by less than `spacing`. Only blocks of the grid that the surface may cross are evaluated.
  """
  low, high = solid.bounds()
  low = low - 1.5 * spacing
  shape = tuple(math.ceil((b + 1.5 * spacing - a) / spacing / _CELL) for a, b in zip(low, high, strict=True))
  centers = np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), axis=1) * _CELL
  coarse = solid.sdf(low + spacing * (centers + (_CELL - 1) / 2))
  reach = ((_CELL - 1) / 2 * math.sqrt(3) + 1.01) * spacing
  values = np.repeat(coarse[:, None], _CELL**3, axis=1)
  near = np.abs(coarse) < reach
  corner = np.stack(np.unravel_index(np.arange(_CELL**3), (_CELL,) * 3), axis=1)
  nodes = (centers[near][:, None] + corner).reshape(-1, 3)
  values[near] = solid.sdf(low + spacing * nodes).reshape(-1, _CELL**3)
  grid = values.reshape(*shape, _CELL, _CELL, _CELL).transpose(0, 3, 1, 4, 2, 5).reshape([_CELL * n for n in shape])
  vertices, faces = _march(grid)
  vertices = solid.project(low + spacing * vertices, limit=spacing / 2)
  return Mesh(vertices, faces, solid.color(vertices))


def surface_points(mesh: Mesh, solid: Solid, num: int, rng: np.random.Generator) -> np.ndarray:
  """Points (num, 3) on the solid's surface, uniform by area: drawn from its mesh, then projected."""
  a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
  areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
  pick = rng.choice(len(areas), size=num, p=areas / areas.sum())
  root, t = np.sqrt(rng.random((num, 1))), rng.random((num, 1))
  points = (1 - root) * a[pick] + root * (1 - t) * b[pick] + root * t * c[pick]
  return solid.project(points, limit=float(np.sqrt(areas.max())))


def _march(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Vertices in grid units and outward faces of the zero set: by PyMCubes, or scikit-image where that has no wheel.

  scikit-image's default table, `lewiner`, leaves some meshes open; `lorensen` closes all.
  """
  try:
    import mcubes
  except ImportError:
    from skimage import measure
    vertices, faces, _, _ = measure.marching_cubes(-grid, 0.0, method="lorensen")
    return vertices.astype(np.float64), faces.astype(np.int64)[:, ::-1]
  vertices, faces = mcubes.marching_cubes(-grid, 0.0)
  return vertices, faces.astype(np.int64)


def sphere_lattice(num: int) -> np.ndarray:
  """Unit vectors (num, 3), evenly spread: a Fibonacci lattice."""
  height = 1 - (2 * np.arange(num) + 1) / num
  angle = np.arange(num) * math.pi * (3 - math.sqrt(5))
  radius = np.sqrt(1 - height**2)
  return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], axis=1)
