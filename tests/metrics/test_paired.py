"""The paired test: nothing from identical values, certainty from a shift, calibrated under the null; Holm by hand."""

import numpy as np
import pytest
import scipy.stats

from fields3d.metrics.paired import holm, paired_bootstrap


def test_identical_values_differ_by_nothing():
  values = np.random.default_rng(0).normal(size=20)
  test = paired_bootstrap(values, values)
  assert (test.difference, test.low, test.high, test.p, test.n) == (0.0, 0.0, 0.0, 1.0, 20)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_constant_shift_is_as_certain_as_so_few_pairs_allow(n):
  first = np.arange(n) / 4
  test = paired_bootstrap(first, first + 0.5, resamples=999)
  assert test.difference == test.low == test.high == 0.5
  assert test.p == pytest.approx(max(1 / 1000, 2.0 ** (1 - n)), abs=0)


@pytest.mark.parametrize("n", [3, 7, 20])
def test_a_constant_shift_that_has_no_exact_mean_is_as_certain(n):
  test = paired_bootstrap(np.zeros(n), np.full(n, 0.1), resamples=999)
  assert test.p == pytest.approx(max(1 / 1000, 2.0 ** (1 - n)), abs=0)


def test_the_difference_turns_its_sign_with_the_order():
  first, second = np.random.default_rng(1).normal(size=(2, 15))
  there, back = paired_bootstrap(first, second), paired_bootstrap(second, first)
  assert there.difference == -back.difference == pytest.approx(np.mean(second - first), rel=1e-12)
  assert there.low < there.difference < there.high


def test_p_agrees_with_students_where_students_holds():
  rng = np.random.default_rng(2)
  for shift in (0.0, 0.2, 0.4):
    gain = rng.normal(shift, size=60)
    ours, theirs = paired_bootstrap(np.zeros(60), gain).p, scipy.stats.ttest_1samp(gain, 0).pvalue
    assert abs(ours - theirs) < 4 * np.sqrt(theirs * (1 - theirs) / 4000) + 0.015  # the bootstrap's own distribution


@pytest.mark.parametrize("draw", [lambda rng: rng.normal(size=12), lambda rng: rng.laplace(size=12)],
                         ids=["normal", "heavy tails"])
def test_p_is_about_uniform_when_the_runs_are_exchangeable(draw):
  rng, runs = np.random.default_rng(3), 400
  p = np.array([paired_bootstrap(np.zeros(12), draw(rng), seed=k, resamples=400).p for k in range(runs)])
  for level in (0.05, 0.2, 0.5, 0.8):
    allowed = 4 * np.sqrt(level * (1 - level) / runs) + 0.02  # 12 pairs: second-order errors remain
    assert abs(np.mean(p <= level) - level) < allowed, (level, np.mean(p <= level))


def test_one_pair_says_nothing():
  assert paired_bootstrap(np.zeros(1), np.ones(1)).p is None


def test_the_same_seed_gives_the_same_and_chunks_change_nothing(monkeypatch):
  first, second = np.random.default_rng(4).normal(size=(2, 30))
  whole = paired_bootstrap(first, second, seed=5)
  monkeypatch.setattr("fields3d.metrics.paired._CHUNK", 700)
  assert paired_bootstrap(first, second, seed=5) == whole != paired_bootstrap(first, second, seed=6)


def test_holm_corrects_step_by_step():
  p = [0.01, 0.04, 0.03, 0.005]
  assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 3 x 0.01, then 2 x 0.03, 1 x 0.04 raised to it, 4 x 0.005
  assert holm([0.6, None, 0.9]) == [1.0, None, 1.0] and holm([]) == [] and holm([None]) == [None]
