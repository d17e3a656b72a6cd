"""Solids of coloured parts: normalisation, support, gradients, meshes, colours."""

import numpy as np
import pytest
import trimesh

from fields3d.core.types import Mesh
from fields3d.data import solids
from fields3d.data.pipeline import generator
from fields3d.geometry.primitives import box, capsule, slab, sphere, translate

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def dumbbell() -> solids.Solid:
  """Two balls on a rod along x, of a long and askew frame."""
  return solids.normalise([
      solids.Part("left", translate(sphere(1.0), (2, 5, 0)), RED, [(translate(slab(0.2), (0, 5, 0)), WHITE)]),
      solids.Part("right", translate(sphere(1.0), (6, 5, 0)), BLUE),
      solids.Part("rod", capsule((2, 5, 0), (6, 5, 0), 0.4), WHITE)])


def test_a_solid_is_centred_and_its_farthest_point_is_at_the_margin():
  solid = dumbbell()
  np.testing.assert_allclose(solid.center, (4, 5, 0), atol=1e-5)
  np.testing.assert_allclose(solid.scale, 3 * 1.03, rtol=1e-3)  # 4,096 directions miss the tip by up to 0.1%


def test_the_support_function_is_read_off_a_far_distance():
  directions = np.random.default_rng(0).standard_normal((200, 3))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  half = np.array([0.3, 0.2, 0.5])
  solid = solids.Solid((solids.Part("box", box(half), RED),))
  np.testing.assert_allclose(solid.support(directions), np.abs(directions) @ half, atol=1e-6)


def test_blocks_of_points_change_nothing():
  solid, x = dumbbell(), np.random.default_rng(0).uniform(-1, 1, (20_000, 3))
  pieces = [solid.sdf(part) for part in np.split(x, [1, 8191, 8192, 19_999])]
  np.testing.assert_array_equal(solid.sdf(x), np.concatenate(pieces))
  np.testing.assert_array_equal(solid.sdf(x), solid.distances(x).min(axis=0))


def test_no_points_give_no_distances():
  assert dumbbell().sdf(np.zeros((0, 3))).shape == (0,)


def test_normals_are_the_gradient_of_the_distance():
  solid = solids.Solid((solids.Part("ball", sphere(0.5), RED),))
  x = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
  np.testing.assert_allclose(solid.normal(x), x / np.linalg.norm(x, axis=1, keepdims=True), atol=2e-6)


def test_colour_is_that_of_the_nearest_part_and_its_paint():
  solid, third = dumbbell(), 1 / 3.09
  x = np.array([[-2, 0.9, 0], [-2.9, 0, 0], [2.9, 0, 0], [0, 0.5, 0]]) * third
  np.testing.assert_array_equal(solid.color(x), [RED, WHITE, BLUE, WHITE])
  np.testing.assert_array_equal(solid.part(x), [0, 0, 1, 2])


@pytest.fixture(scope="module")
def mesh():
  return solids.surface(dumbbell(), 1 / 48)


def test_the_surface_is_closed_outward_and_in_one_piece(mesh):
  made = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
  assert made.is_watertight and made.is_winding_consistent
  assert len(trimesh.graph.connected_components(made.face_adjacency)) == 1
  # two balls, and the rod between them without the caps that it shares with each
  cap = 1 - np.sqrt(1 - 0.4**2)
  truth = 2 * 4 / 3 * np.pi + np.pi * 0.4**2 * (2 + 2 * cap) - 2 * np.pi * cap**2 * (3 - cap) / 3
  np.testing.assert_allclose(made.volume, truth / dumbbell().scale**3, rtol=3e-3)  # chords at a spacing of 1/48


def test_vertices_lie_on_the_surface(mesh):
  assert np.abs(dumbbell().sdf(mesh.vertices)).max() < 1e-6


def test_vertex_colours_are_those_of_the_parts(mesh):
  right = mesh.vertices[:, 0] > 0.4
  assert mesh.colors.dtype == np.uint8 and np.all(mesh.colors[right] == BLUE)


def test_skipping_blocks_far_from_the_surface_changes_no_vertex(mesh):
  solid, low = dumbbell(), dumbbell().bounds()[0] - 1.5 / 48
  shape = [4 * int(np.ceil((b + 1.5 / 48 - a) * 12)) for a, b in zip(low, solid.bounds()[1], strict=True)]
  grid = solid.sdf(low + np.stack(np.indices(shape), axis=-1).reshape(-1, 3) / 48).reshape(shape)
  vertices, faces = solids._march(grid)
  np.testing.assert_array_equal(faces, mesh.faces)
  projected = solid.project(low + vertices / 48, limit=0.5 / 48)
  np.testing.assert_allclose(projected, mesh.vertices, rtol=0, atol=1e-10)  # of lengths 1


def test_surface_points_lie_on_the_surface_and_are_uniform_by_area(mesh):
  solid = dumbbell()
  x = solids.surface_points(mesh, solid, 40_000, generator(0))
  assert np.abs(solid.sdf(x)).max() < 1e-6
  # on a ball, area is proportional to height: the outer half of each ball holds half of a ball's area
  cap = 1 - np.sqrt(1 - 0.4**2)
  total = 2 * (4 * np.pi - 2 * np.pi * cap) + 2 * np.pi * 0.4 * (2 + 2 * cap)
  share, expected = np.mean(np.abs(x[:, 0]) * solid.scale > 2), 4 * np.pi / total
  assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 40_000)


def test_a_triangle_nine_times_as_large_gets_nine_times_the_points():
  solid = solids.Solid((solids.Part("board", box((1, 0.1, 1)), RED),))
  vertices = np.array([[-0.6, 0.1, 0], [0, 0.1, 0.6], [0, 0.1, 0], [0.2, 0.1, 0], [0, 0.1, -0.2]])
  x = solids.surface_points(Mesh(vertices, np.array([[0, 1, 2], [2, 3, 4]])), solid, 10_000, generator(0))
  assert abs(np.mean(x[:, 0] < 0) - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 10_000)
