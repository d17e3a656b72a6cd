"""Signed-distance primitives: against meshes made by another library, closed forms, and under jax."""

import functools
import math

import hypothesis
import igl
import jax
import jax.numpy as jnp
import matplotlib.path
import numpy as np
import pytest
import scipy.spatial
import trimesh
from hypothesis import strategies as st

from fields3d.geometry import primitives as P

ARROW = ((-0.5, -0.3), (0.1, -0.3), (0.1, -0.7), (0.8, 0.0), (0.1, 0.7), (0.1, 0.3), (-0.5, 0.3))
ARROW_FACES = ((0, 1, 5), (0, 5, 6), (2, 3, 4), (1, 2, 4), (1, 4, 5))
WEDGE = ((0.0, 0.0), (0.9, 0.0), (0.0, 0.5))


def points(num: int = 4000) -> np.ndarray:
  """Half of them in a cube of half side 1.6, half in one of 0.7."""
  return np.random.default_rng(0).uniform(-1, 1, (num, 3)) * np.where(np.arange(num) % 2, 0.7, 1.6)[:, None]


def turned(profile) -> trimesh.Trimesh:
  return trimesh.creation.revolve(np.asarray(profile, float), sections=1024).apply_transform(Z_TO_Y)


def hull(*balls) -> trimesh.Trimesh:
  ball = trimesh.creation.icosphere(subdivisions=5)
  return trimesh.convex.convex_hull(np.concatenate([ball.vertices * r + np.asarray(c) for c, r in balls]))


def extruded(outline, faces, half) -> trimesh.Trimesh:
  mesh = trimesh.creation.extrude_triangulation(np.asarray(outline, float), np.asarray(faces), 2 * half)
  return mesh.apply_translation((0, 0, -half))


Z_TO_Y = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
ANGLES = np.linspace(0, math.pi / 2, 65)
ROUND_RIM = [(0, -0.6)] + [(0.3 + 0.1 * math.sin(a), -0.5 - 0.1 * math.cos(a)) for a in ANGLES] + [
    (0.3 + 0.1 * math.cos(a), 0.5 + 0.1 * math.sin(a)) for a in ANGLES] + [(0, 0.6)]
CORNERS = [((x, y, z), 0.2) for x in (-0.4, 0.4) for y in (-0.1, 0.1) for z in (-0.5, 0.5)]

# name: (distance, a mesh of the same solid, how far that mesh may be from it: tessellation)
EXACT = {
    "box": (P.box((0.3, 0.5, 0.7)), lambda: trimesh.creation.box((0.6, 1.0, 1.4)), 1e-9),
    "rounded box": (P.rounded_box((0.6, 0.3, 0.7), 0.2), lambda: hull(*CORNERS), 2e-4),
    "cylinder": (P.cylinder(0.4, 0.6), lambda: turned([(0, -0.6), (0.4, -0.6), (0.4, 0.6), (0, 0.6)]), 1e-5),
    "rounded cylinder": (P.cylinder(0.4, 0.6, rounding=0.1), lambda: turned(ROUND_RIM), 2e-5),
    "capped cone": (P.capped_cone(0.7, 0.2, 0.5), lambda: turned([(0, -0.5), (0.7, -0.5), (0.2, 0.5), (0, 0.5)]), 1e-5),
    "cone": (P.capped_cone(0.7, 0.0, 0.5), lambda: turned([(0, -0.5), (0.7, -0.5), (0, 0.5)]), 1e-5),
    "cup": (P.cup(0.5, 0.7, 0.6, 0.1, 0.2),
            lambda: turned([(0, -0.6), (0.5, -0.6), (0.7, 0.6), (0.6, 0.6), (0.4 + 1 / 30, -0.4), (0, -0.4)]), 1e-5),
    "capsule": (P.capsule((-0.3, -0.5, 0.1), (0.4, 0.5, 0.2), 0.25),
                lambda: hull(((-0.3, -0.5, 0.1), 0.25), ((0.4, 0.5, 0.2), 0.25)), 2e-4),
    "round cone": (P.round_cone((-0.3, -0.5, 0.1), (0.4, 0.5, 0.2), 0.4, 0.15),
                   lambda: hull(((-0.3, -0.5, 0.1), 0.4), ((0.4, 0.5, 0.2), 0.15)), 3e-4),
    "torus": (P.torus(0.7, 0.2), lambda: trimesh.creation.torus(0.7, 0.2, 512, 256).apply_transform(Z_TO_Y), 1e-4),
    "ellipsoid": (P.ellipsoid((0.9, 0.3, 0.5)),
                  lambda: trimesh.creation.icosphere(subdivisions=6).apply_scale((0.9, 0.3, 0.5)), 3e-4),
    "prism": (P.prism(ARROW, 0.4), lambda: extruded(ARROW, ARROW_FACES, 0.4), 1e-9),
    "clockwise wedge": (P.prism(WEDGE[::-1], 0.3), lambda: extruded(WEDGE, ((0, 1, 2),), 0.3), 1e-9),
}
OTHERS = {
    "plane": P.plane((0.6, 0.0, 0.8), 0.2),
    "slab": P.slab(0.3),
    "sphere": P.sphere(0.8),
    "arc": P.arc(0.7, 0.15, 1.9),
    "union": P.union(P.sphere(0.5), P.translate(P.box((0.3, 0.3, 0.3)), (0.6, 0.1, 0))),
    "intersection": P.intersection(P.sphere(0.7), P.slab(0.2)),
    "difference": P.difference(P.box((0.6, 0.6, 0.6)), P.sphere(0.7)),
    "shell": P.shell(P.sphere(0.7), 0.2),
    "elongate": P.elongate(P.torus(0.4, 0.2), (0.3, 0, 0)),
    "mirror": P.mirror(P.translate(P.sphere(0.3), (0.5, 0.4, 0)), "xy"),
    "moved": P.translate(P.rotate(P.scale(P.permute(P.prism(ARROW, 0.4), "zxy"), 0.7), "x", 0.8), (0.1, 0.2, 0.3)),
}
ALL = {name: sdf for name, (sdf, _, _) in EXACT.items()} | OTHERS


def true_distance(mesh: trimesh.Trimesh, x: np.ndarray) -> np.ndarray:
  v, f = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
  away = np.sqrt(igl.point_mesh_squared_distance(x, v, f)[0])
  return np.where(np.abs(igl.winding_number(v, f, x)) > 0.5, -away, away)


@pytest.mark.parametrize("name", EXACT)
def test_a_primitive_is_the_distance_to_a_mesh_of_it(name):
  sdf, mesh, tolerance = EXACT[name]
  x = points(1500)
  truth = true_distance(mesh(), x)
  assert (truth < 0).sum() > 15
  np.testing.assert_allclose(P.at(sdf, x), truth, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ALL)
def test_the_lipschitz_constant_is_at_most_one(name):
  x = points()
  for step in (1e-5, 0.1, 1.0):
    y = x + step * np.random.default_rng(1).standard_normal(x.shape)
    change = np.abs(P.at(ALL[name], x) - P.at(ALL[name], y))
    assert np.all(change <= np.linalg.norm(x - y, axis=1) * (1 + 1e-9) + 1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_has_norm_one_almost_everywhere(name):
  sdf, x, h = EXACT[name][0], points(), 1e-6
  slope = np.stack([(P.at(sdf, x + e) - P.at(sdf, x - e)) / (2 * h) for e in np.eye(3) * h], axis=1)
  norm = np.linalg.norm(slope, axis=1)
  assert np.mean(np.abs(norm - 1) < 1e-6) > 0.999  # all but points astride the medial axis


@pytest.mark.parametrize("name", ALL)
def test_numpy_and_jitted_jax_agree(name):
  x = points()
  ours = jax.jit(functools.partial(P.at, ALL[name]))(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(ours, P.at(ALL[name], x), rtol=1e-5, atol=3e-6)  # lengths of about 1 in float32


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_even_where_there_is_none(name):
  where = jnp.asarray(np.concatenate([np.zeros((1, 3)), np.eye(3), 0.5 * np.eye(3), [[0.3, 0.5, 0.7], [0, 0.4, 0]]]))
  slope = jax.vmap(jax.grad(functools.partial(P.at, ALL[name])))(where.astype(jnp.float32))
  assert np.all(np.isfinite(slope))


def test_an_ellipsoid_is_exact_along_its_normals():
  rng, radii = np.random.default_rng(0), np.array([0.9, 0.3, 0.5])
  on = rng.standard_normal((5000, 3))
  on = radii * on / np.linalg.norm(on, axis=1, keepdims=True)
  normal = on / radii**2
  normal /= np.linalg.norm(normal, axis=1, keepdims=True)
  away = rng.uniform(-0.99 * 0.3**2 / 0.9, 2.0, (5000, 1))  # inwards to the least radius of curvature
  np.testing.assert_allclose(P.at(P.ellipsoid(radii), on + away * normal), away[:, 0], rtol=0, atol=1e-11)


def test_an_ellipsoid_of_equal_axes_is_a_sphere():
  np.testing.assert_allclose(P.at(P.ellipsoid((0.5, 0.5, 0.5)), points()), P.at(P.sphere(0.5), points()), atol=1e-12)


def test_an_ellipsoid_is_right_on_its_planes_of_symmetry_and_at_its_centre():
  x = np.array([[0, 0, 0], [0.7, 0, 0], [0, 0.2, 0], [1.9, 0, 0], [0, 0, 0.5]])
  on = trimesh.creation.icosphere(subdivisions=7).vertices * (0.9, 0.3, 0.5)
  truth = scipy.spatial.cKDTree(on).query(x)[0] * np.sign([-1, -1, -1, 1, 0])
  np.testing.assert_allclose(P.at(P.ellipsoid((0.9, 0.3, 0.5)), x), truth, atol=2e-4)  # the sampling's spacing is 0.009


def test_an_arc_is_the_distance_to_its_curve_less_the_tube():
  t = np.linspace(-1.9, 1.9, 20001)
  curve = 0.7 * np.stack([np.cos(t), np.sin(t), 0 * t], axis=1)
  truth = scipy.spatial.cKDTree(curve).query(points())[0] - 0.15
  np.testing.assert_allclose(P.at(P.arc(0.7, 0.15, 1.9), points()), truth, rtol=0, atol=7e-5)  # half the spacing


def test_a_union_is_exact_outside_and_a_lower_bound_inside():
  centers, radii = np.array([[0.0, 0, 0], [0.5, 0.2, 0]]), np.array([0.5, 0.4])
  sdf = P.union(*[P.translate(P.sphere(r), c) for c, r in zip(centers, radii, strict=True)])
  ball = trimesh.creation.icosphere(subdivisions=6).vertices
  shells = np.concatenate([c + r * ball for c, r in zip(centers, radii, strict=True)])
  lengths = np.linalg.norm(shells[:, None] - centers, axis=-1) - radii
  truth = scipy.spatial.cKDTree(shells[lengths.min(axis=1) > -1e-9]).query(points())[0]
  ours = P.at(sdf, points())
  outside = ours > 0
  assert np.all(ours[outside] <= truth[outside] + 1e-9)
  assert np.all(truth[outside] - ours[outside] < 0.01)  # the sampling's spacing
  assert np.all(-ours[~outside] <= truth[~outside] + 1e-9)
  assert np.max(truth[~outside] + ours[~outside]) > 0.03  # it is one, indeed


@pytest.mark.parametrize("axis, turn", [("x", (0, 0, 1.0)), ("y", (0, 1.0, 0)), ("z", (-1.0, 0, 0))])
def test_rotation_is_counter_clockwise_seen_from_the_tip(axis, turn):
  away = P.rotate(P.translate(P.sphere(0.1), (0, 1, 0)), axis, math.pi / 2)
  np.testing.assert_allclose(P.at(away, np.array([turn])), -0.1, atol=1e-12)


def test_permuted_axes_lie_along_the_named_ones():
  apart = P.permute(P.translate(P.sphere(0.1), (1, 2, 3)), "zxy")
  np.testing.assert_allclose(P.at(apart, np.array([[2.0, 3.0, 1.0]])), -0.1)


def test_scaling_scales_the_distance():
  np.testing.assert_allclose(P.at(P.scale(P.sphere(1.0), 0.5), points()), P.at(P.sphere(0.5), points()), atol=1e-12)


def test_complement_swaps_the_sides():
  np.testing.assert_array_equal(P.at(P.complement(P.sphere(1.0)), points()), -P.at(P.sphere(1.0), points()))


def test_a_drawn_ring_is_two_half_rings_and_two_rods():
  sdf = P.elongate(P.torus(0.4, 0.1), (0.3, 0, 0))
  np.testing.assert_allclose(P.at(sdf, np.array([[0.7, 0, 0], [0.0, 0, 0.4], [0.25, 0, -0.4]])), -0.1, atol=1e-12)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(st.lists(st.floats(0.2, 1.5), min_size=3, max_size=9), st.booleans())
def test_any_star_polygon_has_the_right_sides_and_edges(radii, clockwise):
  angles = np.arange(len(radii)) * 2 * math.pi / len(radii)
  ring = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
  x = points(300)
  ours = P.at(P.prism(ring[::-1] if clockwise else ring, 10.0), x)
  inside = matplotlib.path.Path(np.concatenate([ring, ring[:1]]), closed=True).contains_points(x[:, :2])
  np.testing.assert_array_equal(ours < 0, inside)
  ends = np.stack([ring, np.roll(ring, -1, axis=0)])
  along = np.linspace(0, 1, 2001)[:, None, None]
  edge = (ends[0] * (1 - along) + ends[1] * along).reshape(-1, 2)
  truth = scipy.spatial.cKDTree(edge).query(x[:, :2])[0]
  np.testing.assert_allclose(np.abs(ours), truth, rtol=0, atol=2e-3)  # the edge is sampled every 0.0015 at most


def test_a_polygon_of_two_vertices_is_refused():
  with pytest.raises(ValueError, match="three or more"):
    P.prism(((0, 0), (1, 1)), 1.0)


def test_an_unknown_axis_is_refused():
  with pytest.raises(ValueError, match="'x', 'y' or 'z'"):
    P.rotate(P.sphere(1.0), "w", 1.0)
