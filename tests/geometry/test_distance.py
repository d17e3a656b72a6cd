"""Distances against closed forms and a slow float64 loop; signs where meshes are closed, holed, nested, turned."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import trimesh

from fields3d.core.errors import UsageFault
from fields3d.core.types import Mesh
from fields3d.geometry import distance


def mesh_of(source) -> Mesh:
  return Mesh(np.asarray(source.vertices, np.float64), np.asarray(source.faces, np.int64))


def box(size=(1.2, 0.8, 0.6), shift=(0, 0, 0), subdivide=1) -> Mesh:
  made = trimesh.creation.box(size)
  for _ in range(subdivide):
    made = made.subdivide()
  made.apply_translation(shift)
  return mesh_of(made)


def box_sdf(points, size=(1.2, 0.8, 0.6), shift=(0, 0, 0)):
  q = np.abs(points - np.asarray(shift)) - np.asarray(size) / 2
  return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


def join(*meshes: Mesh) -> Mesh:
  starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
  return Mesh(np.concatenate([m.vertices for m in meshes]),
              np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]))


def turned(mesh: Mesh) -> Mesh:
  return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def uniform(n=2000, size=1.0, seed=0):
  return np.random.default_rng(seed).uniform(-size, size, (n, 3))


def distance_to_triangle(p, a, b, c):
  """Slow: the nearest of the face's inside, its edges and its corners."""
  normal = np.cross(b - a, c - a)
  best = min(np.linalg.norm(p - q) for q in (a, b, c))
  for u, v in ((a, b), (b, c), (c, a)):
    t = np.clip((p - u) @ (v - u) / ((v - u) @ (v - u)), 0, 1)
    best = min(best, np.linalg.norm(p - u - t * (v - u)))
  sides = [np.cross(v - u, p - u) @ normal for u, v in ((a, b), (b, c), (c, a))]
  if min(sides) >= 0 or max(sides) <= 0:
    best = min(best, abs((p - a) @ normal) / np.linalg.norm(normal))
  return best


@pytest.mark.parametrize("sign", ["winding", "pseudonormal"])
def test_the_distance_to_a_box_is_the_closed_form(sign):
  points = uniform()
  np.testing.assert_allclose(distance.signed_distance(box(), points, sign), box_sdf(points), rtol=1e-12, atol=1e-14)


def test_the_nearest_point_is_that_of_a_slow_loop():
  rng = np.random.default_rng(1)
  mesh, points = Mesh(rng.normal(size=(12, 3)), rng.permutation(12).reshape(4, 3)), uniform(50)
  found, face, point = distance.closest(mesh, points)
  for i, p in enumerate(points):
    each = [distance_to_triangle(p, *mesh.vertices[f]) for f in mesh.faces]
    np.testing.assert_allclose(found[i], min(each), rtol=1e-12)
    np.testing.assert_allclose(each[face[i]], found[i], rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(p - point[i]), found[i], rtol=1e-12)


def test_only_the_chosen_faces_are_looked_at_and_their_indices_are_the_meshs_own():
  mesh, points = box(), uniform(200)
  kept = mesh.vertices[mesh.faces].mean(1)[:, 1] < -0.39
  found, face, point = distance.closest(mesh, points, kept)
  assert kept[face].all()
  np.testing.assert_allclose(point[:, 1], -0.4, rtol=1e-12)
  assert (found >= distance.closest(mesh, points)[0] - 1e-15).all()


def test_an_inward_mesh_has_the_same_signed_distance():
  points = uniform()
  np.testing.assert_array_equal(distance.signed_distance(turned(box()), points),
                                distance.signed_distance(box(), points))


def test_a_nested_shell_is_filled_and_a_turned_one_is_a_cavity():
  inner, points = (0.6, 0.4, 0.3), uniform()
  outer_sdf, inner_sdf = box_sdf(points), box_sdf(points, inner)
  filled = distance.inside(join(box(), box(inner)), points)
  np.testing.assert_array_equal(filled, outer_sdf < 0)
  hollow = distance.inside(join(box(), turned(box(inner))), points)
  np.testing.assert_array_equal(hollow, (outer_sdf < 0) & (inner_sdf > 0))


def test_overlapping_solids_are_their_union_where_the_pseudonormal_fails():
  shift, points = (0.5, 0.1, 0.05), uniform()
  mesh, truth = join(box(), box(shift=shift)), np.minimum(box_sdf(points), box_sdf(points, shift=shift)) < 0
  np.testing.assert_array_equal(distance.inside(mesh, points), truth)
  assert (distance.inside(mesh, points, "pseudonormal") != truth).mean() > 0.01


@pytest.mark.parametrize("share, bound", [(0.01, 0.002), (0.1, 0.03)])
def test_a_hole_costs_signs_only_near_it(share, bound):
  sphere = trimesh.creation.icosphere(4, 0.7)
  mesh = mesh_of(sphere)
  order = np.argsort(-mesh.vertices[mesh.faces].mean(1)[:, 2])
  holed = Mesh(mesh.vertices, np.delete(mesh.faces, order[:int(share * len(order))], axis=0))
  points = uniform(5000)
  radius = np.linalg.norm(points, axis=-1)
  wrong = (distance.inside(holed, points) != (radius < 0.7)) & (np.abs(radius - 0.7) > 0.005)
  assert wrong.mean() < bound
  assert not wrong[points[:, 2] < 0].any()


def test_unsigned_distances_are_not_negative_and_an_unknown_sign_is_named():
  assert (distance.signed_distance(box(), uniform(), "unsigned") >= 0).all()
  with pytest.raises(UsageFault, match="did you mean 'winding'"):
    distance.signed_distance(box(), uniform(), "windng")


def test_no_points_give_no_distances():
  none = np.zeros((0, 3))
  assert distance.signed_distance(box(), none).shape == (0,)
  assert [a.shape for a in distance.closest(box(), none)] == [(0,), (0,), (0, 3)]


def test_the_fast_winding_number_is_near_the_exact_one():
  mesh, points = mesh_of(trimesh.creation.torus(0.6, 0.2, 48, 24)), uniform(1000)
  mesh = Mesh(mesh.vertices, mesh.faces[:-100])
  fast, exact = distance.winding_number(mesh, points), distance.winding_number(mesh, points, exact=True)
  np.testing.assert_allclose(fast, exact, atol=0.015)  # winding numbers are of size one


@hypothesis.given(st.integers(0, 1000), st.floats(-4, 4), st.floats(-6, 6))
@hypothesis.settings(max_examples=20, deadline=None)
def test_distances_move_turn_and_scale_with_the_mesh(seed, exponent, shift):
  rng = np.random.default_rng(seed)
  rotation = trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3]
  scale, offset = 10.0**exponent, 10.0**shift
  points = uniform(200, seed=seed)
  points = points[np.abs(box_sdf(points)) > 1e-6]
  move = lambda p: scale * (p @ rotation.T + offset)
  mesh = Mesh(move(box().vertices), box().faces)
  # Points themselves are rounded to float64 at |offset|: that is the size of the error allowed.
  np.testing.assert_allclose(distance.signed_distance(mesh, move(points)) / scale, box_sdf(points),
                             atol=1e-14 * (10 + offset), rtol=1e-12)


def test_inner_faces_are_found_and_the_distance_ignores_them():
  shift = (0.5, 0.1, 0.05)
  inner = (0.6, 0.4, 0.3)
  mesh = join(box(), box(inner))
  exposure = distance.expose(mesh, np.random.default_rng(0), probes=2000)
  own = len(box().faces)
  assert exposure.exposed[:own].all() and not exposure.exposed[own:].any()
  assert exposure.clean and not exposure.sheet.any()
  points = uniform()
  np.testing.assert_allclose(distance.signed_distance(mesh, points, faces=exposure.exposed), box_sdf(points),
                             rtol=1e-12, atol=1e-14)
  crossing = distance.expose(join(box(), box(shift=shift)), np.random.default_rng(0), probes=2000)
  assert not crossing.clean  # faces that are half outside are kept whole


def test_a_cavity_is_exposed_and_a_loose_face_is_a_sheet():
  cavity = distance.expose(join(box(), turned(box((0.6, 0.4, 0.3)))), np.random.default_rng(0), probes=500)
  assert cavity.exposed.all() and not cavity.sheet.any()
  loose = Mesh(np.array([[2.0, 0, 0], [3, 0, 0], [2, 1, 0]]), np.array([[0, 1, 2]]))
  sheet = distance.expose(join(box(), loose), np.random.default_rng(0), probes=500).sheet
  assert sheet[-1] and not sheet[:-1].any()


def test_colours_are_interpolated_over_the_face():
  mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]), np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8))
  at = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
  found = distance.surface_colors(mesh, np.zeros(3, np.int64), at)
  assert found.tolist() == [[255, 0, 0], [128, 128, 0], [85, 85, 85]]
  flat = distance.barycentric(np.ones((1, 3, 3)), np.ones((1, 3)))
  np.testing.assert_allclose(flat, 1 / 3)


def test_the_armadillo_has_the_same_sign_by_both_methods(real_data):
  source = trimesh.load(real_data / "meshes/classic/armadillo/armadillo.obj", process=False)
  mesh = mesh_of(source)
  low, high = mesh.vertices.min(0), mesh.vertices.max(0)
  points = np.random.default_rng(0).uniform(low, high, (20_000, 3))
  np.testing.assert_array_equal(distance.inside(mesh, points), distance.inside(mesh, points, "pseudonormal"))


def test_a_missing_face_is_closed_by_its_own_plane_where_that_is_exact():
  """At the middle of a hole in a plane the hole fills half the sphere: the winding number is 1/2 there."""
  mesh = box(subdivide=3)
  top = mesh.vertices[mesh.faces].mean(1)[:, 2] > 0.29
  holed = Mesh(mesh.vertices, mesh.faces[~top])
  at = np.array([[0, 0, 0.3 - 1e-6], [0, 0, 0.3 + 1e-6]])
  np.testing.assert_allclose(distance.winding_number(holed, at, exact=True), 0.5, atol=1e-5)  # slope near 1
  assert distance.inside(holed, at).tolist() == [True, False]
