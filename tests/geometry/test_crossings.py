"""What is inside, by crossings, against libigl's sum over all faces: closed, open, overlapping and broken surfaces."""

import hypothesis
import hypothesis.strategies as st
import igl
import numpy as np
import pytest
import trimesh

from fields3d.core.types import Mesh
from fields3d.geometry import crossings, distance


def join(*solids):
  made = trimesh.util.concatenate(solids)
  return np.array(made.vertices, np.float64), np.array(made.faces, np.int64)


def ball(radius=1.0, shift=(0, 0, 0)):
  made = trimesh.creation.icosphere(2, radius)
  made.apply_translation(shift)
  return made


def opened(solid, share, seed=0):
  solid.update_faces(np.random.default_rng(seed).random(len(solid.faces)) > share)
  return solid


def disc(height):
  """Of 12 corners and radius 0.1, facing up."""
  angle = np.arange(12) * np.pi / 6
  corner = 0.1 * np.stack([np.cos(angle), np.sin(angle), np.zeros(12)], 1)
  return trimesh.Trimesh(corner + [0, 0, height], [[0, i, i + 1] for i in range(1, 11)])


def half(solid):
  solid.update_faces(solid.triangles_center[:, 2] > 0.1)
  return solid


def check(vertices, faces, points):
  """Holds all sure points to the sum, where that is not within its own rounding of a half; the number of them."""
  found, unsure = crossings.inside(vertices, faces, points)
  total = np.abs(igl.winding_number(vertices, faces, points))
  sure = np.setdiff1d(np.flatnonzero(np.abs(total - 0.5) > 1e-7), unsure)
  np.testing.assert_array_equal(found[sure], (total > 0.5)[sure])
  return len(sure)


SURFACES = {
    "box": join(trimesh.creation.box([1, 0.6, 0.4])), "sphere": join(ball()),
    "overlapping": join(ball(), ball(0.7, (0.6, 0.2, 0)), trimesh.creation.box([1, 1, 1])),
    "a box given twice": join(trimesh.creation.box([1, 1, 1]), trimesh.creation.box([1, 1, 1])),
    "touching boxes": join(*(trimesh.creation.box(bounds=[[i, 0, 0], [i + 1, 1, 1]]) for i in range(3))),
    "holes": join(opened(ball(), 0.1)), "half a sphere": join(half(ball())),
    "a sheet": join(trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])),
    "a face three times and one turned": (np.eye(3), np.array([[0, 1, 2], [0, 1, 2], [1, 2, 0], [2, 1, 0]])),
    "a stack of sheets, whose small shares add up": join(*(disc(i / 200) for i in range(40))),
    "a corner twice in a face": (np.eye(3), np.array([[0, 1, 2], [0, 0, 1]])),
}


def near(vertices, faces, rng, num=500):
  """Points in the box, and 1e-5 off faces on either side, corners of the grid of halves among them."""
  low, high = vertices.min(0) - 0.2, vertices.max(0) + 0.2
  corner = vertices[faces[rng.integers(len(faces), size=num)]]
  normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
  normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
  on = np.einsum("nc,ncd->nd", rng.dirichlet(np.ones(3), size=num), corner)
  return np.concatenate([rng.uniform(low, high, (num, 3)), on + 1e-5 * normal, on - 1e-5 * normal,
                         np.round(2 * rng.uniform(low, high, (num, 3))) / 2])


@pytest.mark.parametrize("name", SURFACES)
def test_what_is_inside_equals_the_sum_over_all_faces(name):
  vertices, faces = SURFACES[name]
  points = near(vertices, faces, np.random.default_rng(0))
  assert check(vertices, faces, points) > 0.6 * len(points)


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(1e-6, 1e6))
@hypothesis.settings(max_examples=40)
def test_random_soups_of_any_size_equal_the_sum(seed, num, size):
  rng = np.random.default_rng(seed)
  vertices, faces = size * (rng.normal(size=(num + 2, 3)) + 3), rng.integers(num + 2, size=(num, 3))
  check(vertices, faces, size * (rng.normal(size=(50, 3)) + 3))


def test_few_points_of_a_generic_surface_are_unsure():
  vertices, faces = SURFACES["overlapping"]
  points = np.random.default_rng(1).uniform(-1, 1, (20_000, 3))
  assert len(crossings.inside(vertices, faces, points)[1]) < 5


def test_points_on_the_surface_are_handed_back():
  vertices, faces = SURFACES["sphere"]
  assert set(crossings.inside(vertices, faces, vertices[faces].mean(1))[1]) == set(range(len(faces)))


def test_chunks_of_any_size_and_grids_of_one_cell_give_the_same(monkeypatch):
  vertices, faces = SURFACES["holes"]
  points = np.random.default_rng(2).uniform(-1, 1, (300, 3))
  whole = crossings.inside(vertices, faces, points)[0]
  monkeypatch.setattr(crossings, "_PAIRS", 7)
  np.testing.assert_array_equal(crossings.inside(vertices, faces, points)[0], whole)
  each = [crossings.inside(vertices, faces, point[None])[0][0] for point in points[:40]]
  assert each == whole[:40].tolist() and whole.any() and not whole.all()


def test_a_soup_of_many_pieces_is_left_to_the_tree():
  vertices = np.random.default_rng(0).normal(size=(1800, 3))
  faces = np.arange(1800).reshape(600, 3)
  points = np.random.default_rng(1).normal(size=(50, 3))
  assert crossings.inside(vertices, faces, points) is None
  expected = np.abs(igl.winding_number(vertices, faces, points)) > 0.5
  np.testing.assert_array_equal(distance.inside(Mesh(vertices, faces), points), expected)


def test_nothing_is_inside_no_faces():
  found, unsure = crossings.inside(np.eye(3), np.zeros((0, 3), np.int64), np.zeros((2, 3)))
  assert not found.any() and len(unsure) == 0
