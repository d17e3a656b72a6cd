"""Intervals cover as often as they say, agree with scipy's, and repeat."""

import numpy as np
import pytest
import scipy.stats

from fields3d.metrics import statistics
from fields3d.metrics.statistics import (
  block_means,
  bootstrap_interval,
  percentile_interval,
  resampled_means,
  wilson_interval,
)


@pytest.mark.parametrize(("statistic", "tolerance"), [(np.mean, 0.01), (np.median, 0.05)])
def test_the_interval_is_scipys_bca(statistic, tolerance):
  """Monte Carlo of both; the median's steps from value to value. Without its corrections the mean's is 4% off."""
  values = np.random.default_rng(0).lognormal(size=60)
  ours = bootstrap_interval(values, statistic, resamples=20_000)
  theirs = scipy.stats.bootstrap((values,), statistic, method="BCa", n_resamples=20_000, rng=1).confidence_interval
  assert ours == pytest.approx(tuple(theirs), rel=tolerance)


def test_intervals_of_the_mean_cover_about_95_percent():
  """400 sets of 30 skewed values: 4 sigma of a 95% share is 4.4 points, and BCa is known to fall short by about 2."""
  rng = np.random.default_rng(1)
  truth = np.exp(0.125)
  covered = 0
  for i in range(400):
    low, high = bootstrap_interval(rng.lognormal(sigma=0.5, size=30), resamples=1000, seed=i)
    covered += low <= truth <= high
  assert 0.95 - 0.02 - 0.044 <= covered / 400 <= 1


def test_the_interval_moves_and_scales_with_its_values():
  values = np.random.default_rng(2).gamma(2.0, size=40)
  low, high = bootstrap_interval(values)
  assert bootstrap_interval(3 * values + 7) == pytest.approx((3 * low + 7, 3 * high + 7), rel=1e-9)


def test_the_same_seed_gives_the_same_interval():
  values = np.random.default_rng(3).normal(size=20)
  assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
  assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_the_interval_does_not_depend_on_how_many_values_are_resampled_at_once(monkeypatch):
  values = np.random.default_rng(3).normal(size=21)
  whole = bootstrap_interval(values, resamples=1000)
  monkeypatch.setattr(statistics, "_AT_ONCE", 21 * 7 + 3)
  assert bootstrap_interval(values, resamples=1000) == whole


def test_one_value_has_no_interval_and_equal_values_an_empty_one():
  assert bootstrap_interval(np.array([1.0])) is None
  assert bootstrap_interval(np.full(9, 2.0)) == (2.0, 2.0)


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 10_000])
def test_block_means_average_to_the_mean_where_blocks_are_equal(n):
  columns = np.random.default_rng(4).normal(size=(n, 2))
  means = block_means(columns, np.random.default_rng(0))
  assert means.shape == (min(n, 256), 2)
  assert means.mean(0) == pytest.approx(columns.mean(0), abs=0.05 if n % len(means) else 1e-12)


def test_resampling_blocks_has_the_variance_of_resampling_points():
  columns = np.random.default_rng(5).exponential(size=(30_000, 3))
  replicates = resampled_means(columns, np.random.default_rng(0))
  expected = columns.std(0) / np.sqrt(len(columns))
  assert np.abs(replicates.mean(0) - columns.mean(0)).max() < 4 * expected.max() / np.sqrt(len(replicates))
  assert replicates.std(0) == pytest.approx(expected, rel=4 / np.sqrt(2 * 256))  # 4 sigma of a variance of 256 blocks.
  low, high = percentile_interval(replicates[:, 0])
  assert high - low == pytest.approx(2 * 1.96 * expected[0], rel=0.2)


@pytest.mark.parametrize("count, n", [(0, 1), (0, 12), (3, 12), (12, 12), (50, 50), (481, 700)])
def test_wilson_intervals_are_scipys(count, n):
  theirs = scipy.stats.binomtest(count, n).proportion_ci(method="wilson")
  assert wilson_interval(count, n) == pytest.approx(tuple(theirs), rel=1e-12, abs=1e-15)
