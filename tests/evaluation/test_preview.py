"""Previews are smaller and still look like the mesh."""

import numpy as np
import pytest
import trimesh

from fields3d.core.types import Mesh
from fields3d.evaluation.preview import simplify
from fields3d.geometry.distance import closest


def sphere():
  found = trimesh.creation.icosphere(subdivisions=5, radius=0.8)
  colors = (127.5 + 150 * np.asarray(found.vertices)).clip(0, 255).astype(np.uint8)
  return Mesh(np.asarray(found.vertices, np.float64), np.asarray(found.faces, np.int64), colors)


def fin(mesh):
  """The mesh with a face that makes it no manifold."""
  extra = np.array([[mesh.faces[0, 0], mesh.faces[0, 1], mesh.faces[5000, 0]]])
  return Mesh(mesh.vertices, np.concatenate([mesh.faces, extra]), mesh.colors)


@pytest.mark.parametrize("made", [sphere, lambda: fin(sphere())])
def test_a_simpler_mesh_is_near_the_surface_and_keeps_its_colours(made):
  mesh = made()
  small = simplify(mesh, 2000)
  assert 200 < len(small.faces) <= 2000
  assert closest(sphere(), small.vertices)[0].max() < 0.02
  assert np.abs(small.colors.astype(float) - (127.5 + 150 * small.vertices).clip(0, 255)).max() < 25
  assert len(np.unique(np.sort(small.faces, axis=1), axis=0)) == len(small.faces)


def test_a_small_mesh_is_left_alone():
  mesh = sphere()
  assert simplify(mesh, len(mesh.faces)) is mesh
