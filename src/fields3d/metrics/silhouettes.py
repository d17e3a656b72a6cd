"""A distance of shapes by their silhouettes, made like the light-field descriptor (LFD), and what it is made of.

A light field is the silhouettes of a shape seen along the 10 axes of a dodecahedron's 20 vertices (opposite ones see
mirror images, and no feature tells them apart). A silhouette's features are the magnitudes of its Zernike moments up to
order 10 but the first (35), the first 10 Fourier descriptors of its outer contour, its circularity and its
eccentricity. A shape has 10 light fields, turned against each other. The distance is the least, over all pairs of light
fields and the 60 turns of a dodecahedron, of the sum over the 10 axes of the features' absolute differences.

It is LFD-like and not LFD: figures must not stand beside published ones. What is as in Chen et al. 2003 and its
released code (v1.8): 10 x 10 silhouettes of 256 x 256 pixels, orthographic; one radius for a light field's ten; which
features, how many, their weights (moments 1, Fourier 2, circularity 2, eccentricity 1) and their quantisation to 8 bits
(256 times the value, Fourier 512 times, at most 255). What differs: the centre of a silhouette (here its centroid; the
code's is its box's centre, which moves when the picture turns), the ten dodecahedra (theirs are files that we do not
have), the moments (the code takes MPEG-7's ART in place of the paper's Zernike moments), the shape's frame (here its
box's centre, and its farthest vertex at the picture's rim), the contour of a silhouette in several parts (here of its
largest part; theirs thickens it until it hangs together), the count of edge pixels in circularity, and the sampling of
pixels by OpenGL.

Source: Chen, Tian, Shen & Ouhyoung 2003, "On visual similarity based 3D model retrieval", sections 3 and 4;
Zhang & Lu 2002 (Fourier descriptors of the centroid distance); Khotanzad & Hong 1990 (Zernike moments).
"""

import dataclasses
import functools
import itertools
import math

import numpy as np
import scipy.ndimage

from fields3d.core.errors import BadData
from fields3d.core.numerics import distinct
from fields3d.core.types import Mesh

SIZE, FIELDS, ORDER, DESCRIPTORS = 256, 10, 10, 10
WEIGHTS = np.concatenate([np.ones(35), np.full(DESCRIPTORS, 2.0), [2.0, 1.0]])
PROTOCOL = (f"LFD-like, not the published LFD: {FIELDS} light fields of 10 silhouettes of {SIZE}^2 pixels, Zernike "
            f"moments to order {ORDER}, {DESCRIPTORS} Fourier descriptors, circularity, eccentricity, 8 bits; least of "
            "all pairs of light fields and 60 turns; every shape in its own frame: turns and scale do not count")
_CHUNK = 2**20  # spans of triangles held at a time


@dataclasses.dataclass(frozen=True)
class LightField:
  """The features (fields, 10, 47) uint8 of a shape's silhouettes: light fields, axes, features."""
  features: np.ndarray


def light_field(mesh: Mesh, size: int = SIZE, fields: int = FIELDS) -> LightField:
  """The features of a shape's silhouettes.

  Args:
    size: pixels of a silhouette's side. fields: how many light fields, at most 10.

  Raises:
    BadData: the mesh has no extent.
  """
  vertices = mesh.vertices[distinct(mesh.faces)]
  centre = (vertices.min(0) + vertices.max(0)) / 2
  radius = float(np.linalg.norm(vertices - centre, axis=1).max())
  if not 0 < radius < np.inf:
    raise BadData("mesh", f"has radius {radius:g}", "give a mesh of finite, non-zero size")
  triangles = ((mesh.vertices - centre) / radius)[mesh.faces]
  out = np.zeros((fields, 10, len(WEIGHTS)), np.uint8)
  for k, turn in enumerate(_turns()[:fields]):
    pictures = [silhouette(triangles @ view_axes(axis).T, size) for axis in dodecahedron_axes() @ turn.T]
    out[k] = features(np.stack(pictures))
  return LightField(out)


def light_field_distance(a: LightField, b: LightField) -> float:
  """The least sum of weighted feature differences over pairs of light fields and turns; 0 for equal shapes."""
  x, y = a.features.astype(np.float64) * WEIGHTS, b.features.astype(np.float64) * WEIGHTS
  cost = np.stack([np.abs(x[:, :, None] - other[None]).sum(-1)  # (fields of a, axes of a, axes of b)
                   for other in y])
  turned = sum(cost[:, :, axis, dodecahedron_turns()[:, axis]] for axis in range(10))
  return float(turned.min())


def silhouette(triangles: np.ndarray, size: int) -> np.ndarray:
  """Which pixels' centres lie in a triangle's orthographic image: the x, y of triangles (f, 3, 3), over [-1, 1]^2.

  Exact in float64, whatever way the triangles face; a centre on an edge counts by the half-open rule, so that triangles
  which share an edge leave no gap. Rows go from y = -1.

  Returns:
    (size, size) bool.
  """
  x, y = ((triangles[..., k] + 1) * size / 2 - 0.5 for k in range(2))  # in pixels, centres at whole numbers
  first = np.maximum(np.ceil(y.min(1)), 0).astype(np.int64)
  last = np.minimum(np.ceil(y.max(1)) - 1, size - 1).astype(np.int64)
  rows = np.maximum(last - first + 1, 0)
  difference = np.zeros(size * (size + 1), np.int64)
  starts = np.cumsum(rows)
  for low in range(0, int(starts[-1]) if len(starts) else 0, _CHUNK):
    index = np.arange(low, min(low + _CHUNK, int(starts[-1])))
    face = np.searchsorted(starts, index, side="right")
    row = first[face] + index - (starts[face] - rows[face])
    left, right = _span(x[face], y[face], row)
    begin = np.clip(np.ceil(left), 0, size).astype(np.int64)
    end = np.clip(np.ceil(right), 0, size).astype(np.int64)
    offset = row * (size + 1)
    difference += np.bincount(offset + begin, minlength=len(difference))
    difference -= np.bincount(offset + end, minlength=len(difference))
  return np.cumsum(difference.reshape(size, size + 1), axis=1)[:, :size] > 0


def _span(x: np.ndarray, y: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where the lines y = row (n,) enter and leave triangles with corners x, y (n, 3)."""
  left, right = np.full(len(row), np.inf), np.full(len(row), -np.inf)
  for i, j in ((0, 1), (1, 2), (2, 0)):
    swap = y[:, i] > y[:, j]  # the lower corner first, so that both triangles of an edge find the same crossing
    x0, y0 = np.where(swap, x[:, j], x[:, i]), np.where(swap, y[:, j], y[:, i])
    x1, y1 = np.where(swap, x[:, i], x[:, j]), np.where(swap, y[:, i], y[:, j])
    crosses = (y0 <= row) & (row < y1)
    at = x0 + (x1 - x0) * (row - y0) / np.where(crosses, y1 - y0, 1.0)
    left, right = np.where(crosses, np.minimum(left, at), left), np.where(crosses, np.maximum(right, at), right)
  return left, np.maximum(right, left)


def features(pictures: np.ndarray) -> np.ndarray:
  """The features (n, 47) uint8 of one light field's silhouettes (n, size, size) bool; 0 for an empty one."""
  places = [np.argwhere(picture).astype(np.float64) for picture in pictures]
  centres = [p.mean(0) if len(p) else np.zeros(2) for p in places]
  radius = max((float(np.linalg.norm(p - c, axis=1).max()) + 0.5 for p, c in zip(places, centres, strict=True)
                if len(p)), default=1.0)
  out = np.zeros((len(pictures), len(WEIGHTS)))
  for row, picture, place, centre in zip(out, pictures, places, centres, strict=True):
    if len(place):
      contour = outer_contour(picture)
      row[:35] = 256 * zernike_moments(picture, centre, radius)
      row[35:35 + DESCRIPTORS] = 512 * fourier_descriptors(contour, centre)
      row[-2:] = 256 * circularity(len(place), contour), 256 * eccentricity(place - centre)
  return np.minimum(out, 255).astype(np.uint8)


def zernike_moments(picture: np.ndarray, centre: np.ndarray, radius: float, order: int = ORDER) -> np.ndarray:
  """|A_nm| of a picture for n = 1 .. order and m = n, n - 2 .. >= 0, over |A_00|; the pixels are points.

  Args:
    picture: (h, w) bool, true somewhere. centre: (row, column) and radius, pixels: of the disc that holds the figure.

  Returns:
    (k,): 35 of order 10. Turning or mirroring the figure changes them by its pixels' rounding only.

  Source: Khotanzad & Hong 1990, equations 2 to 5.
  """
  rows, columns = (np.vander((np.arange(n) - c) / radius, order + 1, increasing=True)
                   for n, c in zip(picture.shape, centre, strict=True))
  moments = rows.T @ picture.astype(np.float64) @ columns
  found = np.abs(np.tensordot(_zernike(order), moments, 2))
  return found / moments[0, 0]


@functools.cache
def _zernike(order: int) -> np.ndarray:
  """The conjugate polynomials (n + 1) R_nm e^(-im theta) as coefficients (k, order + 1, order + 1) of y^p x^q."""
  f = math.factorial
  out = []
  for n in range(1, order + 1):
    for m in range(n % 2, n + 1, 2):
      table = np.zeros((order + 1, order + 1), complex)
      for s in range((n - m) // 2 + 1):
        radial = (-1)**s * f(n - s) // (f(s) * f((n + m) // 2 - s) * f((n - m) // 2 - s))
        half = (n - m) // 2 - s  # rho^(n - 2s) e^(-im theta) = (x^2 + y^2)^half (x - iy)^m
        for a, b in itertools.product(range(half + 1), range(m + 1)):
          table[2 * a + b, 2 * (half - a) + m - b] += (n + 1) * radial * math.comb(half, a) * math.comb(m, b) * (-1j)**b
      out.append(table)
  return np.array(out)


def outer_contour(picture: np.ndarray) -> np.ndarray:
  """The outer boundary pixels (k, 2) of the largest 8-connected part of a picture, in order, by Moore's tracing."""
  label, count = scipy.ndimage.label(picture, structure=np.ones((3, 3)))
  if count > 1:
    picture = label == 1 + np.argmax(np.bincount(label.ravel())[1:])
  inside = np.pad(picture, 1).tolist()
  row = next(i for i, line in enumerate(inside) if any(line))
  start = at = (row, inside[row].index(True))
  heading, found = 6, []  # of the ring: the pixel that was looked at last before this one, to its left
  first = None
  while True:
    found.append(at)
    for k in range(1, 9):
      step = _RING[(heading + k) % 8]
      if inside[at[0] + step[0]][at[1] + step[1]]:
        break
    else:
      return np.array(found) - 1.0
    turned = (heading + k) % 8
    if at == start:
      if first is None:
        first = turned
      elif turned == first:
        return np.array(found[:-1]) - 1.0
    at = (at[0] + step[0], at[1] + step[1])
    heading = (turned + 5) % 8 if turned % 2 else (turned + 6) % 8


_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise from above


def fourier_descriptors(contour: np.ndarray, centre: np.ndarray, count: int = DESCRIPTORS) -> np.ndarray:
  """|F_1| .. |F_count| over |F_0| of the distances from the centre along a contour (k, 2); 0 of fewer than 8 points."""
  if len(contour) < 8:
    return np.zeros(count)
  spectrum = np.abs(np.fft.rfft(np.linalg.norm(contour - centre, axis=1)))
  kept = spectrum[1:count + 1] / spectrum[0]
  return np.pad(kept, (0, count - len(kept)))


def circularity(area: int, contour: np.ndarray) -> float:
  """4 pi area / length^2 of the contour's polygon, at most 1: a disc has 1."""
  length = float(np.linalg.norm(contour - np.roll(contour, 1, axis=0), axis=1).sum())
  return min(4 * np.pi * area / length**2, 1.0) if length else 1.0


def eccentricity(offsets: np.ndarray) -> float:
  """((m20 - m02)^2 + 4 m11^2) / (m20 + m02)^2 of pixels (p, 2) about the centre: 0 for a disc, 1 for a line."""
  (m20, m11), (_, m02) = offsets.T @ offsets
  return float(((m20 - m02)**2 + 4 * m11**2) / (m20 + m02)**2) if m20 + m02 > 0 else 0.0


@functools.cache
def dodecahedron_axes() -> np.ndarray:
  """Unit vectors (10, 3), one of each pair of opposite vertices of a dodecahedron."""
  golden = (1 + 5**0.5) / 2
  corners = [(1.0, y, z) for y, z in itertools.product((1, -1), repeat=2)]
  for a in (1, -1):
    flat = (0.0, 1 / golden, a * golden)
    corners += [tuple(np.roll(flat, k)) for k in range(3)]
  return np.array(corners) / 3**0.5


@functools.cache
def dodecahedron_turns() -> np.ndarray:
  """What the dodecahedron's 60 turns do to its axes (60, 10): the axis that each comes to lie on."""
  axes = dodecahedron_axes()
  corners = np.concatenate([axes, -axes])
  side = np.sort(np.linalg.norm(corners[1:] - corners[0], axis=1))[0]
  near = [(i, j) for i, j in itertools.permutations(range(20), 2)
          if abs(np.linalg.norm(corners[i] - corners[j]) - side) < 1e-9]
  frame = _edge_frame(corners, *near[0])
  turns = [_edge_frame(corners, i, j) @ frame.T for i, j in near]  # a turn is where it takes one directed edge
  return np.array([np.argmax(np.abs(axes @ (turn @ axes.T)), axis=0) for turn in turns])


def _edge_frame(corners: np.ndarray, i: int, j: int) -> np.ndarray:
  """An orthonormal frame, as columns, fixed by the directed edge from corner i to corner j."""
  along = corners[j] - corners[i] * (corners[i] @ corners[j])
  along /= np.linalg.norm(along)
  return np.stack([corners[i], along, np.cross(corners[i], along)], axis=1)


def view_axes(axis: np.ndarray) -> np.ndarray:
  """Rows (3, 3): right, up and towards the viewer, of a view along a unit axis (3,); upright where that is defined."""
  up = np.array([0.0, 1, 0]) if abs(axis[1]) < 0.99 else np.array([1.0, 0, 0])
  right = np.cross(up, axis)
  right /= np.linalg.norm(right)
  return np.stack([right, np.cross(axis, right), axis])


@functools.cache
def _turns() -> np.ndarray:
  """Ten fixed rotations (10, 3, 3), the first the identity, the others spread over all by a lattice."""
  k = np.arange(1, FIELDS)
  u, v, w = (np.modf(k * alpha)[0] for alpha in (0.8191725134, 0.6710436067, 0.5497004779))  # R3: roots of x^4 = x + 1
  a, b = np.sqrt(1 - u), np.sqrt(u)
  q = np.stack([a * np.sin(2 * np.pi * v), a * np.cos(2 * np.pi * v),
                b * np.sin(2 * np.pi * w), b * np.cos(2 * np.pi * w)], axis=1)
  x, y, z, s = q.T
  rotations = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - s * z), 2 * (x * z + s * y)],
                        [2 * (x * y + s * z), 1 - 2 * (x * x + z * z), 2 * (y * z - s * x)],
                        [2 * (x * z - s * y), 2 * (y * z + s * x), 1 - 2 * (x * x + y * y)]]).transpose(2, 0, 1)
  return np.concatenate([np.eye(3)[None], rotations])
