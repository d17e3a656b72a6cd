"""Precision, recall, density, coverage and diversity: loops, closed forms, expectations at 4 sigma."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.errors import UsageFault
from fields3d.metrics.manifold import Manifold, manifold, median_distance, radii, vendi_like
from fields3d.metrics.sets import SetDistances, jackknife_interval, with_failures


def euclidean(a, b):
  return np.linalg.norm(a[:, None] - b[None], axis=-1)


def between(x, y):
  return SetDistances(euclidean(x, x), euclidean(x, y), euclidean(y, y))


def loop(d, k):
  n, m = d.xy.shape
  of_x = [sorted(d.xx[i, j] for j in range(n) if j != i)[k - 1] for i in range(n)]
  of_y = [sorted(d.yy[i, j] for j in range(m) if j != i)[k - 1] for i in range(m)]
  precision = sum(any(d.xy[i, j] <= of_y[j] for j in range(m)) for i in range(n)) / n
  recall = sum(any(d.xy[i, j] <= of_x[i] for i in range(n)) for j in range(m)) / m
  density = sum(d.xy[i, j] <= of_y[j] for i in range(n) for j in range(m)) / (k * n)
  return Manifold(precision, recall, density, sum(any(d.xy[i, j] <= of_y[j] for i in range(n)) for j in range(m)) / m)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 12), st.integers(4, 12), st.integers(1, 3), st.integers(0, 99))
def test_figures_are_those_of_a_loop(n, m, k, seed):
  rng = np.random.default_rng(seed)
  d = between(rng.normal(size=(n, 3)) + 0.5, rng.normal(size=(m, 3)))
  found, slow = manifold(d, k), loop(d, k)
  for name, value in vars(slow).items():
    assert getattr(found, name) == pytest.approx(value, rel=1e-12), name


def test_a_set_against_itself_and_against_one_far_away():
  x = np.random.default_rng(0).normal(size=(30, 3))
  for k in (1, 5):
    assert manifold(between(x, x), k) == Manifold(1.0, 1.0, pytest.approx((k + 1) / k), 1.0)
    assert manifold(between(x + 100, x), k) == Manifold(0.0, 0.0, 0.0, 0.0)


def test_known_overlaps_of_separate_places():
  """Clusters of k + 1 shapes, far apart: balls stay within them, so shares are those of the clusters hit."""
  rng = np.random.default_rng(0)
  places = 100.0 * np.arange(4)[:, None, None] + rng.normal(size=(4, 6, 3))
  x = np.concatenate([places[0] + 1e-3, places[1] + 1e-3, 1000 + 100.0 * np.arange(6)[:, None] * np.ones(3)])
  found = manifold(between(x, places.reshape(-1, 3)), 5)
  assert found.precision == pytest.approx(12 / 18) and found.recall == found.coverage == pytest.approx(12 / 24)
  assert found.density == pytest.approx(12 * 6 / 5 / 18, abs=0.1)  # the farthest of six may lie 1e-3 beyond a ball


def test_expectations_for_samples_of_the_truth():
  n, m, k, found = 20, 15, 3, []
  for seed in range(200):
    rng = np.random.default_rng(seed)
    one = manifold(between(rng.normal(size=(n, 2)), rng.normal(size=(m, 2))), k)
    found.append([one.density, one.coverage])
  expected = [1.0, 1 - math.prod((m - 1 - i) / (n + m - 1 - i) for i in range(k))]
  error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
  assert np.all(np.abs(np.mean(found, axis=0) - expected) < 4 * error)


def test_failed_samples_lie_in_no_ball_and_have_none():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(6, 3)), rng.normal(size=(8, 3))
  rows, good = np.arange(6), between(x, y)
  d = SetDistances(with_failures(good.xx, rows, 9, both=True), with_failures(good.xy, rows, 9), good.yy)
  found, alone = manifold(d, 2), manifold(good, 2)
  assert found.precision == pytest.approx(alone.precision * 6 / 9)
  assert found.density == pytest.approx(alone.density * 6 / 9)
  assert (found.recall, found.coverage) == (alone.recall, alone.coverage)
  only = SetDistances(np.full((4, 4), np.inf), np.full((4, 8), np.inf), good.yy)
  assert manifold(only, 2) == Manifold(0.0, 0.0, 0.0, 0.0)


def test_k_must_leave_others():
  with pytest.raises(UsageFault, match="choose k from 1 to 2"):
    radii(np.zeros((3, 3)), 3)


def test_diversity_counts_clusters():
  label = np.arange(12) % 3  # three kinds of four
  assert vendi_like(1e6 * (label[:, None] != label), 1.0) == pytest.approx(3, rel=1e-9)
  # Two shapes at similarity s: eigenvalues (1 + s) / 2 and (1 - s) / 2.
  s = math.exp(-0.7)
  p = np.array([1 + s, 1 - s]) / 2
  assert vendi_like(np.array([[0, 1.4], [1.4, 0]]), 2.0) == pytest.approx(math.exp(-np.sum(p * np.log(p))), rel=1e-12)


def test_the_interval_of_diversity_holds_the_expected_number_of_its_size():
  rng, found = np.random.default_rng(4), []
  for seed in range(60):
    (x, y) = (np.linalg.norm(points[:, None] - points[None], axis=-1) for points in rng.normal(size=(2, 40, 3)))
    figure = lambda i, j, x=x, y=y: vendi_like(x[np.ix_(i, i)], median_distance(y[np.ix_(j, j)]))
    value = figure(np.arange(40), np.arange(40))
    found.append((value, *jackknife_interval(value, figure, 40, 40, seed)))
  values, low, high = np.transpose(found)
  assert np.sum((low <= values.mean()) & (values.mean() <= high)) >= 52  # of 60 at 95 %: probability 0.98
  assert np.mean(high - low) < 1.4 * 2 * 1.96 * values.std()


def test_diversity_of_indefinite_kernels_is_a_number():
  triangle = np.array([[0, 0.01, 9], [0.01, 0, 0.01], [9, 0.01, 0]])  # no metric: a kernel with a negative eigenvalue
  assert np.linalg.eigvalsh(np.exp(-triangle))[0] < -0.1
  assert 1 < vendi_like(triangle, 1.0) < 3
  with pytest.raises(UsageFault, match="not finite"):
    vendi_like(np.full((2, 2), np.inf), 1.0)
  assert median_distance(np.array([[0, 1, 2], [1, 0, 5], [2, 5, 0.0]])) == 2
