"""Points near sharp edges: against a loop, and where they must lie."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.types import PointCloud
from fields3d.metrics.edges import edge_cloud, near_edges


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 0.6), st.floats(0.05, 0.9))
def test_they_equal_a_loop_over_all_pairs(seed, radius, cosine):
  rng = np.random.default_rng(seed)
  x, normals = rng.uniform(size=(40, 3)), rng.normal(size=(40, 3))
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  expected = [any(np.linalg.norm(x[i] - x[j]) <= radius and abs(float(normals[i] @ normals[j])) < cosine
                  for j in range(40) if j != i) for i in range(40)]
  assert near_edges(x, normals, radius, cosine).tolist() == expected


def test_on_a_right_angle_they_are_a_strip_along_the_edge():
  """Two faces sampled on grids of spacing h: the strip is as wide as the radius, less at most a diagonal step."""
  h, radius = 0.02, 0.1
  u, v = (grid.ravel() for grid in np.meshgrid(np.arange(0, 1, h) + h / 2, np.arange(0, 1, h) + h / 2))
  zero, one = np.zeros_like(u), np.ones_like(u)
  x = np.concatenate([np.stack([u, v, zero], 1), np.stack([zero, v, u], 1)])
  normals = np.concatenate([np.stack([zero, zero, one], 1), np.stack([one, zero, zero], 1)])
  near = edge_cloud(PointCloud(x, normals), radius).points
  away = near[:, 0] + near[:, 2]  # distance from the edge, along either face
  assert away.max() <= radius
  inner = (x[:, 0] + x[:, 2]) < radius - 2 * h
  assert near_edges(x, normals, radius)[inner].all()


def test_slight_creases_and_smooth_surfaces_have_none():
  rng = np.random.default_rng(0)
  normals = rng.normal(size=(2000, 3))
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  assert not near_edges(normals, normals, 0.1).any()  # a sphere: neighbours turn by 6 degrees
