"""Every kind of shape becomes a mesh, or says why it cannot."""

import numpy as np
import pytest

from fields3d.core.errors import BadData
from fields3d.core.types import Field, Mesh, PointCloud, VoxelGrid
from fields3d.extraction.convert import as_mesh
from fields3d.extraction.lattice import lattice

BOX = np.array([[-1.0, -1, -1], [1, 1, 1]])


def ball(x):
  return np.linalg.norm(x, axis=-1) - np.float32(0.5)


def test_a_grid_and_the_field_it_samples_give_the_same_mesh():
  grid = lattice(BOX, 21)
  nodes = np.stack(np.meshgrid(*[np.arange(21)] * 3, indexing="ij"), axis=-1)
  values = ball(grid.positions(nodes).astype(np.float32))
  from_field, from_grid = as_mesh(Field(ball, BOX), 21), as_mesh(VoxelGrid(values, BOX), 99)
  np.testing.assert_array_equal(from_field.vertices, from_grid.vertices)
  np.testing.assert_array_equal(from_field.faces, from_grid.faces)


def test_a_coloured_field_gives_a_coloured_mesh():
  mesh = as_mesh(Field(ball, BOX, color=lambda x: np.where(x[:, :1] > 0, [1.0, 0, 0], [0, 0, 1.5])), 16)
  expected = np.where(mesh.vertices[:, :1] > 0, [255, 0, 0], [0, 0, 255])
  np.testing.assert_array_equal(mesh.colors, expected)


def test_a_mesh_stays_itself_and_points_have_no_surface():
  mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]))
  assert as_mesh(mesh, 16) is mesh
  with pytest.raises(BadData, match="4 points have no surface"):
    as_mesh(PointCloud(np.zeros((4, 3))), 16)
  with pytest.raises(TypeError, match="not a shape: ndarray"):
    as_mesh(np.eye(3), 16)
