"""Figures of sets: float64 loops, closed forms, and intervals that cover what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.errors import UsageFault
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.sets import (
    SetDistances,
    cov,
    directions,
    half_replicates,
    halves,
    jsd,
    jsd_replicates,
    mmd,
    occupancy_counts,
    one_nn,
    share_interval,
    sliced_quantiles,
    sphere_grid,
    spread_interval,
    with_failures,
)


def euclidean(a, b):
  return np.linalg.norm(a[:, None] - b[None], axis=-1)


def between(x, y):
  return SetDistances(euclidean(x, x), euclidean(x, y), euclidean(y, y))


def drawn(n, m, seed=0, shift=0.0, dim=3):
  rng = np.random.default_rng(seed)
  return between(rng.normal(size=(n, dim)) + shift, rng.normal(size=(m, dim)))


def loop(d):
  """MMD, COV, and the three 1-NN accuracies, one shape at a time."""
  n, m = d.xy.shape
  nearest = [min(d.xy[i, j] for i in range(n)) for j in range(m)]
  covered = set()
  for i in range(n):
    covered.add(min(range(m), key=lambda j: d.xy[i, j]))
  whole = np.block([[d.xx, d.xy], [d.xy.T, d.yy]])
  right = []
  for i in range(n + m):
    found = min((j for j in range(n + m) if j != i), key=lambda j: whole[i, j])
    right.append((found < n) == (i < n))
  return (sum(nearest) / m, len(covered) / m, sum(right) / (n + m), sum(right[:n]) / n, sum(right[n:]) / m)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_figures_are_those_of_a_loop(n, m, seed):
  if n == m == 1:
    m = 2
  d = drawn(n, m, seed, shift=0.5)
  found = one_nn(d)
  np.testing.assert_allclose((mmd(d), cov(d), found.accuracy, found.samples, found.references), loop(d), rtol=1e-12)


def test_known_overlaps_give_known_coverage():
  places = 10.0 * np.arange(8)[:, None]
  for repeats in range(1, 9):
    x = places[np.arange(8) % repeats] + 0.1  # so many different references are hit
    assert cov(between(x, places)) == repeats / 8
  assert mmd(between(places + 0.1, places)) == pytest.approx(0.1)


def test_sets_far_apart_are_told_and_copies_of_the_references_are_not():
  apart = drawn(20, 20, shift=100.0)
  assert one_nn(apart).accuracy == 1 and cov(apart) == 1 / 20
  x = np.random.default_rng(0).normal(size=(20, 3))
  assert one_nn(between(x + 1e-6, x)).accuracy == 0


def test_few_kinds_repeated_show_in_the_one_sided_accuracies():
  rng = np.random.default_rng(0)
  y = rng.normal(size=(40, 3))
  x = rng.normal(size=(1, 3)) + 1e-3 * rng.normal(size=(40, 3))
  found = one_nn(between(x, y))
  assert found.samples > 0.9 and found.accuracy == (found.samples + found.references) / 2


def test_ties_count_in_proportion():
  same = SetDistances(np.zeros((3, 3)), np.zeros((3, 5)), np.zeros((5, 5)))
  found = one_nn(same)
  assert found.samples == pytest.approx(2 / 7) and found.references == pytest.approx(4 / 7)


def test_failed_samples_are_always_told_and_touch_nothing_else():
  whole = drawn(6, 8, seed=3)
  rows = np.array([0, 2, 3, 5])
  d = SetDistances(with_failures(whole.xx[np.ix_(rows, rows)], rows, 6, both=True),
                   with_failures(whole.xy[rows], rows, 6), whole.yy)
  good = whole.take(rows, np.arange(8))
  assert mmd(d) == mmd(good) and cov(d) == cov(good)
  assert one_nn(d).references == one_nn(good).references
  assert one_nn(d).samples == pytest.approx((4 * one_nn(good).samples + 2) / 6)
  none = SetDistances(np.full((2, 2), np.inf), np.full((2, 8), np.inf), whole.yy)
  assert mmd(none) == np.inf and cov(none) == 0 and one_nn(none).accuracy == 1


def test_sets_that_do_not_belong_together_are_faults():
  with pytest.raises(UsageFault, match="belong together"):
    SetDistances(np.zeros((2, 2)), np.zeros((3, 2)), np.zeros((2, 2)))
  with pytest.raises(UsageFault, match="NaN"):
    SetDistances(np.zeros((1, 1)), np.full((1, 1), np.nan), np.zeros((1, 1)))


def figures(d):
  found = one_nn(d)
  return np.array([mmd(d), cov(d), found.accuracy, found.samples, found.references])


def test_intervals_cover_expectations_and_one_nna_of_real_against_real_covers_a_half():
  values, intervals = [], []
  for seed in range(60):
    d = drawn(24, 24, seed, dim=4)
    value, halves = figures(d), half_replicates(d, figures, 60, seed)
    values.append(value)
    intervals.append([spread_interval(value[0], halves[:, 0]),
                      *[share_interval(value[k], 48 if k == 2 else 24, halves[:, k]) for k in range(1, 5)]])
  intervals = np.array(intervals)
  expected = np.mean(values, axis=0)
  hits = np.sum((intervals[..., 0] <= expected) & (expected <= intervals[..., 1]), axis=0)
  assert np.all(hits >= 52), hits  # at 95%, under 52 of 60 has probability 0.02
  assert np.sum((intervals[:, 2, 0] <= 0.5) & (0.5 <= intervals[:, 2, 1])) >= 52
  widths = (intervals[..., 1] - intervals[..., 0]).mean(axis=0) / 2
  assert np.all(widths < 2.5 * 1.96 * np.std(values, axis=0, ddof=1)), "and they are no wider than they must"


def test_intervals_of_certain_shares_are_not_empty():
  low, high = share_interval(1.0, 10, np.ones(20))
  assert high == 1 and 0.6 < low < 0.8
  assert half_replicates(drawn(3, 9), figures) is None
  assert share_interval(1.0, 3, None) is None and spread_interval(np.inf, np.ones(3)) is None


def test_grid_and_occupancy_are_the_published_ones():
  nodes = sphere_grid()
  slow = [(i / 27 - 0.5, j / 27 - 0.5, k / 27 - 0.5) for i in range(28) for j in range(28) for k in range(28)]
  slow = np.array([p for p in slow if np.sqrt(sum(c * c for c in p)) <= 0.5])
  np.testing.assert_allclose(nodes, slow, atol=1e-15)  # linspace rounds once more
  clouds = np.random.default_rng(0).uniform(-0.6, 0.6, (2, 50, 3))
  counts = occupancy_counts(clouds)
  for cloud, found in zip(clouds, counts, strict=True):
    nearest = [np.argmin(np.sum((nodes - point)**2, axis=1)) for point in cloud]
    assert np.array_equal(np.bincount(nearest, minlength=len(nodes)), found)


def test_jsd_is_scipys_squared_distance_in_bits():
  from scipy.spatial.distance import jensenshannon
  rng = np.random.default_rng(0)
  p, q = rng.integers(0, 5, (2, 200))
  assert jsd(p, q) == pytest.approx(jensenshannon(p, q, base=2)**2, rel=1e-12)
  counts = rng.integers(0, 5, (6, 50))
  assert jsd_replicates(counts, counts[:3]) is None
  assert np.all(jsd_replicates(counts, counts, 5) > 0)


def test_sliced_quantiles_see_shifts_by_their_length():
  axes = directions()
  np.testing.assert_allclose(axes.T @ axes, 13 / 3 * np.eye(3), atol=1e-14)  # entries of size 1
  clouds = np.random.default_rng(0).normal(size=(30, 100, 3))
  shift = np.array([0.3, -0.2, 0.5])
  found = frechet_of_sets(sliced_quantiles(clouds), sliced_quantiles(clouds + shift))
  assert found == pytest.approx(np.sum(shift**2) / 3, rel=1e-9)


def test_sliced_quantiles_are_a_sliced_wasserstein_distance():
  from scipy.stats import wasserstein_distance
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(2, 8, 3)) * [[[1.0]], [[2.0]]]  # with 8 points each part is a point: W1 bounds W2 from below
  features = sliced_quantiles(np.stack([a, b]))
  slow = []
  for u in directions():
    slow.append(np.mean((np.sort(a @ u) - np.sort(b @ u))**2))
    assert slow[-1] >= wasserstein_distance(a @ u, b @ u)**2 - 1e-12
  assert np.sum((features[0] - features[1])**2) == pytest.approx(np.mean(slow), rel=1e-12)
  with pytest.raises(UsageFault, match="8 parts"):
    sliced_quantiles(np.zeros((1, 7, 3)))


def test_halves_take_no_shape_twice():
  for i, j in halves(9, 6, 20, 0):
    assert len(set(i.tolist())) == 4 and len(set(j.tolist())) == 3 and max(i) < 9 and max(j) < 6
