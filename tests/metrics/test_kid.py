"""The kernel distance against double loops, torch-fidelity's formula by hand, and its own promises."""

import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.metrics import kid as module
from fields3d.metrics.kid import kid, kid_of_subsets


def by_loops(a, b, groups_a, groups_b):
  def k(x, y):
    return (sum(p * q for p, q in zip(x, y)) / len(x) + 1) ** 3

  def own(x, groups):
    found = [k(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if groups[i] != groups[j]]
    return sum(found) / len(found)

  cross = [k(p, q) for p in a for q in b]
  return own(a, groups_a) + own(b, groups_b) - 2 * sum(cross) / len(cross)


@pytest.mark.parametrize("rows", [1, 5, 1024])
def test_it_is_the_double_loop_whatever_the_tile(monkeypatch, rows):
  monkeypatch.setattr(module, "_ROWS", rows)
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(14, 3)), 0.5 + rng.normal(size=(9, 3))
  groups_a, groups_b = rng.integers(0, 5, 14), rng.integers(0, 4, 9)
  assert kid(a, b, groups_a, groups_b)[0] == pytest.approx(by_loops(a, b, groups_a, groups_b), rel=1e-12)
  assert kid(a, b)[0] == pytest.approx(by_loops(a, b, range(14), range(9)), rel=1e-12)


def test_a_subset_of_everything_is_torch_fidelity_s_formula():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(20, 6)), 0.3 + rng.normal(size=(20, 6))
  xx, yy, xy = ((p @ q.T / 6 + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
  expected = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (20 * 19) - 2 * xy.sum() / 400
  mean, deviation = kid_of_subsets(a, b, subsets=3, size=20)
  assert mean == pytest.approx(expected, rel=1e-12) and deviation == pytest.approx(0, abs=1e-12)
  with pytest.raises(UsageFault, match="smaller"):
    kid_of_subsets(a, b, size=21)


def test_it_is_unbiased_and_its_interval_covers():
  # k = (xy + 1)^3 of normals: E k(x, x') - 2 E k(x, y) + E k(y, y') in closed form by moments (0, 1, 0, and m, 1 + m^2,
  # m^3 + 3m): sum over powers of C(3, p) (M_p - M'_p)^2.
  m, rng = 0.5, np.random.default_rng(2)
  truth = 3 * m**2 + 3 * (m**2) ** 2 + (m**3 + 3 * m) ** 2
  found, covered = [], 0
  for trial in range(120):
    a, b = rng.normal(size=(60, 1)), m + rng.normal(size=(60, 1))
    value, (low, high) = kid(a, b, resamples=200, seed=trial)
    found.append(value)
    covered += low <= truth <= high
  assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(120)
  assert 0.85 * 120 < covered  # Of a skewed statistic of 60 points the percentile interval covers a little less than 95%.


def test_views_of_a_shape_do_not_count_as_independent():
  # Each group is one value many times. Two sets of one distribution: with groups unbiased, without far above 0.
  rng, grouped, naive = np.random.default_rng(3), [], []
  for _ in range(60):
    a, b = (np.repeat(rng.normal(size=(10, 2)), 8, axis=0) for _ in range(2))
    groups = np.repeat(np.arange(10), 8)
    grouped.append(kid(a, b, groups, groups, resamples=0)[0])
    naive.append(kid(a, b, resamples=0)[0])
  assert abs(np.mean(grouped)) < 4 * np.std(grouped) / np.sqrt(60)
  assert np.mean(naive) > 4 * np.std(naive) / np.sqrt(60)
