"""Occupancy figures: closed forms of boxes, and loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.errors import UsageFault
from fields3d.metrics.voxels import cube_centres, iou, precision_recall, surface, surface_distances


def box(low, high, n=24):
  grid = np.zeros((n, n, n), bool)
  grid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
  return grid


grids = st.integers(0, 10**6).map(lambda seed: np.random.default_rng(seed).random((2, 5, 4, 6)) < 0.4)


def test_shifted_boxes_overlap_exactly():
  a, b = box((2, 2, 2), (12, 12, 12)), box((7, 2, 2), (17, 12, 12))
  assert iou(a, b) == 5 / 15 and precision_recall(a, b) == (0.5, 0.5)
  assert precision_recall(box((2, 2, 2), (7, 12, 12)), a) == (1.0, 0.5)
  assert iou(a, a) == 1 and iou(a, box((13, 2, 2), (20, 12, 12))) == 0


@settings(max_examples=30, deadline=None)
@given(grids)
def test_counts_equal_a_loop(pair):
  a, b = pair
  flat = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
  both, ours, theirs = sum(x and y for x, y in flat), sum(x for x, _ in flat), sum(y for _, y in flat)
  assert iou(a, b) == both / (ours + theirs - both)
  assert precision_recall(a, b) == (both / ours, both / theirs)


@settings(max_examples=30, deadline=None)
@given(grids)
def test_surface_distances_equal_a_loop_over_all_pairs(pair):
  a, b = pair

  def shell(grid):
    padded = np.pad(grid, 1)
    return np.array([p for p in np.argwhere(grid)
                     if not all(padded[tuple(p + 1 + s * np.eye(3, dtype=int)[k])] for k in range(3) for s in (-1, 1))])

  ours, theirs = shell(a), shell(b)
  assert np.array_equal(np.argwhere(surface(a)), ours)
  found = surface_distances(a, b)
  apart = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
  np.testing.assert_allclose(found.forward, apart.min(1), rtol=1e-12)
  np.testing.assert_allclose(found.backward, apart.min(0), rtol=1e-12)


def test_empty_grids_have_no_distance_and_share_nothing():
  empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
  assert surface_distances(empty, full) is None and iou(empty, empty) == 1
  assert precision_recall(empty, empty) == (1, 1) and precision_recall(full, empty) == (0, 0)


def test_grids_of_different_sizes_are_refused():
  with pytest.raises(UsageFault, match="3 x 3 x 3 and 4 x 4 x 4"):
    iou(np.ones((3, 3, 3), bool), np.ones((4, 4, 4), bool))
  with pytest.raises(UsageFault, match="bool"):
    iou(np.ones((3, 3, 3)), np.ones((3, 3, 3)))


def test_the_cube_is_the_least_about_the_box():
  x = cube_centres(np.array([0.0, -1, 2]), np.array([4.0, 1, 3]), 8)
  assert x.min(0).tolist() == [0.25, -1.75, 0.75] and x.max(0).tolist() == [3.75, 1.75, 4.25]
  assert x[1].tolist() == [0.25, -1.75, 1.25]  # z runs fastest
