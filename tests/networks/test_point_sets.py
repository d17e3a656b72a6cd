"""Farthest point sampling against its definition in a slow float64 loop."""

import jax.numpy as jnp
import numpy as np

from fields3d.networks.point_sets import farthest_points


def slow(x, num):
  """Pick by pick, the least distance to all picks computed anew."""
  x = np.asarray(x, np.float64)
  picks = [int(np.argmax(np.linalg.norm(x - x.mean(0), axis=1)))]
  while len(picks) < num:
    picks.append(int(np.argmax([min(np.linalg.norm(point - x[p]) for p in picks) for point in x])))
  return picks


def test_picks_are_those_of_the_definition():
  x = np.random.default_rng(0).normal(size=(3, 60, 3)).astype(np.float32)
  found = farthest_points(jnp.asarray(x), 17)
  assert found.tolist() == [slow(row, 17) for row in x]


def test_the_same_points_are_picked_whatever_their_order():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(1, 80, 3)).astype(np.float32)
  order = rng.permutation(80)
  picked = lambda x: x[0][np.asarray(farthest_points(jnp.asarray(x), 20))[0]]
  np.testing.assert_array_equal(picked(x), picked(x[:, order]))


def test_all_points_are_picked_once_when_all_are_asked_for():
  x = np.random.default_rng(2).normal(size=(2, 12, 3)).astype(np.float32)
  for row in farthest_points(jnp.asarray(x), 12).tolist():
    assert sorted(row) == list(range(12))
