"""Simplified meshes: within the budget, closed where sheets lie apart, near the surface; flat parts lose nothing."""

import sys

import numpy as np
import pytest

from fields3d.core.errors import Unavailable
from fields3d.core.types import Field, Mesh
from fields3d.extraction.simplify import decimate
from fields3d.extraction.sparse import extract
from fields3d.geometry.meshes import inspect_mesh, keep_largest, sample_surface

BOX = np.array([[-1.0] * 3, [1.0] * 3])


def torus(x):
  return np.hypot(np.hypot(x[:, 0], x[:, 1]) - 0.6, x[:, 2]) - 0.2


def cube(x):
  return np.max(np.abs(x), axis=-1) - 0.5


@pytest.mark.parametrize("budget", [4000, 1000, 200])
def test_a_ring_stays_a_closed_ring_near_its_surface(budget):
  pytest.importorskip("fast_simplification")
  mesh, _ = extract(Field(torus, BOX), 64)
  small = decimate(mesh, budget)
  report = inspect_mesh(small)
  assert budget / 2 <= len(small.faces) <= budget and small.colors is None
  assert report.watertight and report.manifold and report.consistently_oriented and report.genus == 1
  assert small.vertices.dtype == np.float64 and small.faces.dtype == np.int64
  x = sample_surface(small, 2000, np.random.default_rng(0)).points
  # Triangles of size h about a curvature of 1 / 0.2 are off by h^2 / (8 x 0.2); h^2 is 2 area / faces, twice for slivers.
  assert np.abs(torus(x)).max() < 2 * 4 * np.pi**2 * 0.6 * 0.2 * 4 / budget / 1.6


@pytest.mark.parametrize("scale, shift", [(1e-6, 0), (1e-3, 0), (1e3, 0), (1e6, 0), (1.0, 1000)])
def test_size_and_place_change_nothing(scale, shift):
  pytest.importorskip("fast_simplification")
  mesh, _ = extract(Field(torus, BOX), 48)
  want, got = decimate(mesh, 500), decimate(Mesh(scale * mesh.vertices + shift, mesh.faces), 500)
  assert len(got.faces) == len(want.faces) <= 500
  for small in (want, Mesh((got.vertices - shift) / scale, got.faces)):
    points = sample_surface(small, 5000, np.random.default_rng(0)).points
    assert np.sqrt(np.mean(torus(points) ** 2)) < 4.5e-3  # 7e-3 where the library is given a model of size 1


def test_flat_faces_cost_nothing():
  pytest.importorskip("fast_simplification")
  mesh, _ = extract(Field(cube, BOX), 41)  # no node on the cube's faces
  small = decimate(mesh, 300)
  x = sample_surface(small, 2000, np.random.default_rng(0)).points
  flat = np.sort(np.abs(x), axis=1)[:, 1] < 0.4  # away from the cube's edges
  np.testing.assert_allclose(np.abs(cube(x[flat])), np.abs(cube(x[flat])).mean(), atol=1e-6)  # of lengths near 1


def test_a_mesh_within_the_budget_is_itself():
  mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]), np.zeros((3, 3), np.uint8))
  assert decimate(mesh, 1) is mesh


def test_missing_library_is_named(monkeypatch):
  mesh, _ = extract(Field(cube, BOX), 8)
  monkeypatch.setitem(sys.modules, "fast_simplification", None)
  with pytest.raises(Unavailable, match=r"fields3d\[mesh\]"):
    decimate(mesh, 10)


@pytest.mark.parametrize("num, kept", [(1, [0.5]), (2, [0.3, 0.5]), (3, [0.2, 0.3, 0.5]), (9, [0.2, 0.3, 0.5])])
def test_the_components_of_the_largest_areas_are_kept(num, kept):
  balls = [(0.3, (0.6, 0.6, 0.6)), (0.5, (-0.4, -0.4, -0.4)), (0.2, (0.7, -0.7, 0.7))]
  field = lambda x: np.min([np.linalg.norm(x - c, axis=-1) - r for r, c in balls], axis=0)
  mesh = keep_largest(extract(Field(field, BOX), 48)[0], num)
  assert inspect_mesh(mesh).components == len(kept)
  area = 4 * np.pi * sum(r**2 for r in kept)
  np.testing.assert_allclose(inspect_mesh(mesh).area, area, rtol=0.02)  # chords
