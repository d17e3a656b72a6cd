"""Solids as signed distances: primitives, and the operations that move, mirror, bend and join them.

An `Sdf` is a function of three coordinate arrays of one shape, (x, y, z) -> signed distance of that shape, negative
inside. It is written in the array API alone, so one definition serves numpy (float64) and jax.numpy under jit and
grad. `at(sdf, points)` evaluates it on points (*b, 3). Bodies of revolution stand along y.

How true a distance is:

  exact everywhere         plane, slab, sphere, box, rounded_box, cylinder, capped_cone, capsule, round_cone, torus,
                           arc, ellipsoid (a root found to rounding), prism, revolve, cup
  as exact as the operand  translate, rotate, permute, scale, complement
  exact outside;           union (inside, the depth below the surface of the deepest part), offset of an exact solid;
  inside a lower bound     mirror of a solid that lies on one side of the plane, elongate of a convex symmetric solid
  a lower bound            intersection, difference, shell, elongate of anything else

Every one has the right sign, and a Lipschitz constant of 1 for a valid operand; a bound is in magnitude.
Gradients by jax.grad are finite everywhere; on an edge, where none exists, they are zero or one side's.

Source: the folklore of distance functions (Hart, "Sphere tracing", 1996, appendix A, gives the simplest). The
ellipsoid follows More and Sorensen, "Computing a trust region step", 1983: Newton on 1/norm.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or jax.Array
Sdf = Callable[[Array, Array, Array], Array]
Vector = Sequence[float]

_TINY = 1e-30  # below it a squared length counts as zero, so that its root has a finite gradient


def at(sdf: Sdf, points: Array) -> Array:
  """The signed distance at points (*b, 3), shape (*b,).

  >>> at(sphere(1.0), np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
  array([ 1., -1.])
  """
  return sdf(points[..., 0], points[..., 1], points[..., 2])


def plane(normal: Vector, height: float = 0.0) -> Sdf:
  """The half-space below the plane: points p with p . normal <= height; `normal` of unit length."""
  a, b, c = normal
  return lambda x, y, z: a * x + b * y + c * z - height


def slab(half: float) -> Sdf:
  """The points with |y| <= half."""
  return lambda x, y, z: abs(y) - half


def sphere(radius: float) -> Sdf:
  """The ball of that radius about the origin."""
  return lambda x, y, z: _length(x, y, z) - radius


def box(half: Vector) -> Sdf:
  """The box |x| <= half[0], |y| <= half[1], |z| <= half[2].

  >>> at(box((1, 2, 3)), np.array([[4.0, 6.0, 0.0], [0.0, 0.0, 0.0]]))
  array([ 5., -1.])
  """
  a, b, c = half
  return lambda x, y, z: _corner(abs(x) - a, abs(y) - b, abs(z) - c)


def rounded_box(half: Vector, radius: float) -> Sdf:
  """A box of those half sizes whose edges are rounded to `radius`, at most the least half size."""
  return offset(box([h - radius for h in half]), radius)


def cylinder(radius: float, half: float, rounding: float = 0.0) -> Sdf:
  """The cylinder of that radius about y, |y| <= half, its rims rounded to `rounding`."""
  def sdf(x, y, z):
    return _corner(_length(x, z) - (radius - rounding), abs(y) - (half - rounding)) - rounding
  return sdf


def capped_cone(bottom: float, top: float, half: float) -> Sdf:
  """The frustum with radius `bottom` at y = -half and `top` at y = half; either may be 0, which is the cone."""
  return revolve(((0.0, -half), (bottom, -half), (top, half), (0.0, half)))


def capsule(a: Vector, b: Vector, radius: float) -> Sdf:
  """All points within `radius` of the segment from a to b."""
  ax, ay, az = a
  ex, ey, ez = (q - p for p, q in zip(a, b, strict=True))
  squared = ex * ex + ey * ey + ez * ez

  def sdf(x, y, z):
    x, y, z = x - ax, y - ay, z - az
    t = _clip((x * ex + y * ey + z * ez) / squared, 0.0, 1.0)
    return _length(x - t * ex, y - t * ey, z - t * ez) - radius
  return sdf


def round_cone(a: Vector, b: Vector, radius_a: float, radius_b: float) -> Sdf:
  """The convex hull of two balls, neither of which holds the other.

  >>> at(round_cone((0, 0, 0), (0, 2, 0), 1.0, 0.5), np.array([[0.0, 3.0, 0.0]]))
  array([0.5])
  """
  axis = np.subtract(b, a).astype(float)
  length = float(np.linalg.norm(axis))
  ux, uy, uz = (float(c) for c in axis / length)
  ax, ay, az = a
  sine = (radius_a - radius_b) / length
  cosine = math.sqrt(1.0 - sine * sine)

  def sdf(x, y, z):
    xp = x.__array_namespace__()
    x, y, z = x - ax, y - ay, z - az
    along = x * ux + y * uy + z * uz
    across = _length(x - along * ux, y - along * uy, z - along * uz)
    place = cosine * along - sine * across
    side = cosine * across + sine * along - radius_a
    side = xp.where(place < 0.0, _length(across, along) - radius_a, side)
    return xp.where(place > cosine * length, _length(across, along - length) - radius_b, side)
  return sdf


def torus(ring: float, tube: float) -> Sdf:
  """All points within `tube` (at most `ring`) of the circle of radius `ring` about y."""
  return lambda x, y, z: _length(_length(x, z) - ring, y) - tube


def arc(ring: float, tube: float, angle: float) -> Sdf:
  """All points within `tube` of an arc of that circle in the xy-plane: polar angles from -angle to angle (at most pi).

  >>> at(arc(1.0, 0.25, math.pi / 2), np.array([[1.0, 0.0, 0.0], [-3.0, 1.0, 0.0]]))
  array([-0.25,  2.75])
  """
  cosine, sine = math.cos(angle), math.sin(angle)

  def sdf(x, y, z):
    xp, y = x.__array_namespace__(), abs(y)
    on_arc = _length(_length(x, y) - ring, z)
    at_end = _length(x - ring * cosine, y - ring * sine, z)
    return xp.where(cosine * y <= sine * x, on_arc, at_end) - tube
  return sdf


def ellipsoid(radii: Vector, iterations: int = 10) -> Sdf:
  """The ellipsoid with those semi-axes.

  The nearest surface point is p_i r_i^2 / (r_i^2 + t), with t the largest root of sum (r_i p_i / (r_i^2 + t))^2 = 1.
  Newton climbs to it on the reciprocal of that norm, which is nearly linear; ten steps reach rounding error for
  axes within a factor 10 of each other. Then the distance is t |p_i / (r_i^2 + t)|, smooth through the surface.
  """
  least = min(radii)
  squares = [r * r for r in radii]
  gaps = [(r - least) * (r + least) for r in radii]

  def sdf(x, y, z):
    xp = x.__array_namespace__()
    # a point on a plane of symmetry is moved off it by a part in 10^7: its root is then simple
    p = [xp.maximum(abs(c), 1e-7 * r) for c, r in zip((x, y, z), radii, strict=True)]
    scaled = [(r * c) ** 2 for r, c in zip(radii, p, strict=True)]
    shift = functools.reduce(xp.maximum, [r * c - gap for r, c, gap in zip(radii, p, gaps, strict=True)])
    for _ in range(iterations):
      inverse = [1.0 / (gap + shift) for gap in gaps]
      terms = [s * i * i for s, i in zip(scaled, inverse, strict=True)]
      norm = sum(terms)
      slope = sum(t * i for t, i in zip(terms, inverse, strict=True))
      shift = shift + (xp.sqrt(norm) - 1.0) * norm / slope
    t = shift - least * least
    return t * _length(*[c / (square + t) for c, square in zip(p, squares, strict=True)])
  return sdf


def prism(vertices: Sequence[Vector], half: float) -> Sdf:
  """A simple polygon of the xy-plane, convex or not, in either order, extruded over |z| <= half.

  >>> at(prism(((0, 0), (4, 0), (0, 3)), 1.0), np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 3.0]]))
  array([-1.,  2.])
  """
  flat = _polygon(vertices)
  return lambda x, y, z: _corner(flat(x, y), abs(z) - half)


def revolve(vertices: Sequence[Vector]) -> Sdf:
  """A simple polygon of (radius, height) points, radius >= 0, turned about y. Edges on the axis are no surface."""
  flat = _polygon(vertices, axis=True)
  return lambda x, y, z: flat(_length(x, z), y)


def cup(bottom: float, top: float, half: float, wall: float, floor: float) -> Sdf:
  """A vessel: the frustum of those outer radii at y = -half and half, hollow to a wall and a floor of that thickness.

  Args:
    wall: horizontal thickness, below the lesser radius. floor: below 2 half.
  """
  inner = bottom + (top - bottom) * floor / (2 * half) - wall
  return revolve(((0.0, -half), (bottom, -half), (top, half), (top - wall, half), (inner, floor - half),
                  (0.0, floor - half)))


def union(*sdfs: Sdf) -> Sdf:
  """What lies in any. Exact outside where the parts are; inside, a lower bound of the depth."""
  return lambda x, y, z: functools.reduce(x.__array_namespace__().minimum, [f(x, y, z) for f in sdfs])


def intersection(*sdfs: Sdf) -> Sdf:
  """What lies in all. A lower bound; exact inside where the parts are."""
  return lambda x, y, z: functools.reduce(x.__array_namespace__().maximum, [f(x, y, z) for f in sdfs])


def complement(sdf: Sdf) -> Sdf:
  """All that does not lie in the solid."""
  return lambda x, y, z: -sdf(x, y, z)


def difference(kept: Sdf, *cut: Sdf) -> Sdf:
  """What lies in the first and in none of the others. A lower bound."""
  return intersection(kept, *[complement(f) for f in cut])


def translate(sdf: Sdf, by: Vector) -> Sdf:
  """The solid moved by that vector."""
  a, b, c = by
  return lambda x, y, z: sdf(x - a, y - b, z - c)


def rotate(sdf: Sdf, axis: str, angle: float) -> Sdf:
  """The solid turned about "x", "y" or "z" through the origin, counter-clockwise seen from its tip, in radians.

  >>> turned = rotate(capsule((0, 0, 0), (2, 0, 0), 0.5), "z", math.pi / 2)
  >>> at(turned, np.array([[0.0, 2.0, 0.0]]))
  array([-0.5])
  """
  c, s = math.cos(angle), math.sin(angle)
  if axis == "x":
    return lambda x, y, z: sdf(x, c * y + s * z, c * z - s * y)
  if axis == "y":
    return lambda x, y, z: sdf(c * x - s * z, y, c * z + s * x)
  if axis == "z":
    return lambda x, y, z: sdf(c * x + s * y, c * y - s * x, z)
  raise ValueError(f"axis must be 'x', 'y' or 'z', got {axis!r}")


def permute(sdf: Sdf, axes: str) -> Sdf:
  """The solid with its axes renamed: its own x, y, z lie along the named ones; an odd order is its mirror image.

  >>> at(permute(box((1, 2, 3)), "zyx"), np.array([[4.0, 0.0, 0.0]]))
  array([1.])
  """
  order = ["xyz".index(axis) for axis in axes]

  def permuted(*p):
    return sdf(p[order[0]], p[order[1]], p[order[2]])
  return permuted


def mirror(sdf: Sdf, axes: str) -> Sdf:
  """The solid and its mirror images in the planes where each coordinate named in `axes` is zero.

  Exact outside where the solid lies on the positive side of those planes; what sticks out beyond is cut off.
  """
  folds = [axis in axes for axis in "xyz"]

  def mirrored(*p):
    return sdf(*[abs(c) if fold else c for c, fold in zip(p, folds, strict=True)])
  return mirrored


def scale(sdf: Sdf, factor: float) -> Sdf:
  """The solid `factor` > 0 times as large about the origin."""
  return lambda x, y, z: factor * sdf(x / factor, y / factor, z / factor)


def offset(sdf: Sdf, by: float) -> Sdf:
  """All points within `by` of the solid: larger, its convex edges rounded. Exact for a convex solid."""
  return lambda x, y, z: sdf(x, y, z) - by


def shell(sdf: Sdf, thickness: float) -> Sdf:
  """All points within half that thickness of the solid's surface. A lower bound; exact within the wall's outer half."""
  return lambda x, y, z: abs(sdf(x, y, z)) - thickness / 2


def elongate(sdf: Sdf, half: Vector) -> Sdf:
  """The solid cut at its planes of symmetry and drawn apart by `half` to either side, its section filling between."""
  def drawn(*p):
    return sdf(*[c - _clip(c, -h, h) if h else c for c, h in zip(p, half, strict=True)])
  return drawn


def _length(*components: Array) -> Array:
  xp = components[0].__array_namespace__()
  return xp.sqrt(xp.maximum(sum(c * c for c in components), _TINY))


def _clip(value: Array, low: float, high: float) -> Array:
  xp = value.__array_namespace__()
  return xp.minimum(xp.maximum(value, low), high)


def _corner(*excess: Array) -> Array:
  """The distance to a product of solids from the distances to its factors."""
  xp = excess[0].__array_namespace__()
  deepest = functools.reduce(xp.maximum, excess)
  return xp.where(deepest > 0.0, _length(*[xp.maximum(e, 0.0) for e in excess]), deepest)


def _polygon(vertices: Sequence[Vector], axis: bool = False) -> Callable[[Array, Array], Array]:
  """The signed distance to a simple polygon of the plane; `axis`: edges with u = 0 bound nothing."""
  ring = [(float(u), float(v)) for u, v in vertices]
  edges = [(a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True) if a != b]
  if len(edges) < 3:
    raise ValueError(f"a polygon has three or more distinct vertices, got {vertices!r}")

  def flat(u, v):
    xp = u.__array_namespace__()
    squared, inside = None, None
    for (au, av), (bu, bv) in edges:
      if axis and au == bu == 0.0:
        continue
      eu, ev = bu - au, bv - av
      pu, pv = u - au, v - av
      t = _clip((pu * eu + pv * ev) * (1.0 / (eu * eu + ev * ev)), 0.0, 1.0)
      du, dv = pu - t * eu, pv - t * ev
      here = du * du + dv * dv
      squared = here if squared is None else xp.minimum(squared, here)
      if ev:
        side = pu * ev - pv * eu
        crossed = ((v >= av) ^ (v >= bv)) & ((side < 0.0) if ev > 0 else (side > 0.0))
        inside = crossed if inside is None else inside ^ crossed
    distance = xp.sqrt(xp.maximum(squared, _TINY))
    return xp.where(inside, -distance, distance)
  return flat
