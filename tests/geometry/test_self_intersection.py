"""Crossing faces against edges through faces, one edge and one face at a time, and where edges meet edges."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.types import Mesh
from fields3d.data.meshes import read_mesh
from fields3d.geometry import self_intersection
from fields3d.geometry.meshes import inspect_mesh
from fields3d.geometry.self_intersection import crossing_faces


def slow(mesh):
  """An edge passes through a face where the line's parameter and all barycentric coordinates are inside (0, 1)."""
  found = np.zeros(len(mesh.faces), bool)
  for i, f in enumerate(mesh.faces):
    for j, g in enumerate(mesh.faces):
      if i == j or len(set(f.tolist()) & set(g.tolist())) > 1:
        continue
      a, b, c = mesh.vertices[g]
      for p, q in ((0, 1), (1, 2), (2, 0)):
        start, end = mesh.vertices[f[p]], mesh.vertices[f[q]]
        columns = np.stack([b - a, c - a, start - end], 1)
        if abs(np.linalg.det(columns)) > 1e-12:
          u, v, t = np.linalg.solve(columns, start - a)
          if min(u, v, 1 - u - v, t, 1 - t) > 1e-9:
            found[[i, j]] = True
  return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), num=st.integers(1, 14), spread=st.floats(0.1, 3))
def test_random_soups_cross_where_the_definition_says(seed, num, spread):
  rng = np.random.default_rng(seed)
  x = (rng.normal(size=(num, 1, 3)) * spread + rng.normal(size=(num, 3, 3))).reshape(-1, 3)
  faces = np.arange(3 * num).reshape(-1, 3)
  faces[rng.random(num) < 0.3, 0] = 0  # some share a vertex
  mesh = Mesh(x, faces)
  np.testing.assert_array_equal(crossing_faces(mesh), slow(mesh))


@pytest.mark.parametrize("chunk", [1, 7, 2**19])
@pytest.mark.parametrize("n", [1, 2, 3, 64, 200])
def test_every_pair_of_meeting_boxes_is_found_once(n, chunk, monkeypatch):
  monkeypatch.setattr(self_intersection, "_CHUNK", chunk)
  rng = np.random.default_rng(n)
  low = rng.random((n, 3))
  high = low + rng.random((n, 3)) * 0.3
  found = self_intersection._meeting_boxes(low, high)
  pairs = [frozenset(p) for a, b in found for p in np.stack([a, b], 1).tolist()]
  meet = ((low[:, None] <= high) & (low <= high[:, None])).all(2)
  want = {frozenset(p) for p in np.argwhere(np.triu(meet, 1)).tolist()}
  assert len(pairs) == len(set(pairs)) and set(pairs) == want


@pytest.mark.parametrize("scale, offset", [(1e-9, 0.0), (1.0, 100.0), (1e9, 0.0)])
def test_a_grid_of_touching_faces_crosses_nowhere_at_any_scale(scale, offset):
  rng = np.random.default_rng(0)
  x = np.stack(np.meshgrid(np.arange(12.), np.arange(12.), [0.], indexing="ij"), -1).reshape(-1, 3)
  x[:, 2] = rng.random(len(x))
  i = (np.arange(11)[:, None] * 12 + np.arange(11)).reshape(-1)
  faces = np.concatenate([np.stack([i, i + 12, i + 13], 1), np.stack([i, i + 13, i + 1], 1)])
  assert not crossing_faces(Mesh(x * scale + offset, faces)).any()


def test_real_meshes_cross_where_they_are_known_to(real_data):
  for name, crosses in (("classic/spot/spot.obj", False), ("open_boundary/teapot.obj", True)):  # spout and handle
    report = inspect_mesh(read_mesh(real_data / "meshes" / name)[0], crossings=True)
    assert bool(report.crossing_faces) == crosses
    assert any("cross others" in w for w in report.warnings()) == crosses


@pytest.mark.parametrize("offset", [(0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (0.5, 0.5, -0.5), (0.5, 0.4, 0.3), (0.5, 0.0, 0.5)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_cubes_that_overlap_cross_also_where_edges_meet_diagonals(offset, scale):
  box = trimesh.creation.box((1, 1, 1))
  x = scale * np.concatenate([box.vertices, box.vertices + offset])
  assert crossing_faces(Mesh(x, np.concatenate([box.faces, box.faces + 8]))).sum() >= 8


@pytest.mark.parametrize("offset", [(1.0, 0, 0), (1.0, 0.5, 0.25), (1.0, 1.0, 0), (1.0, 1.0, 1.0), (0, 0, 0), (0, 0, 1.5)])
def test_cubes_that_touch_do_not_cross(offset):
  box = trimesh.creation.box((1, 1, 1))
  x = np.concatenate([box.vertices, box.vertices + offset])
  assert not crossing_faces(Mesh(x, np.concatenate([box.faces, box.faces + 8]))).any()
