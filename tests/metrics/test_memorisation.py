"""The copying test: scipy's rank-sum test, copies far below zero, held-out shapes about zero."""

import numpy as np
import pytest
import scipy.stats

from fields3d.core.errors import UsageFault
from fields3d.metrics.memorisation import copy_test, nearest_training
from fields3d.metrics.pairs import pairwise


def test_z_is_scipys_without_continuity_correction_ties_included():
  rng = np.random.default_rng(0)
  for n, m, levels in ((9, 13, None), (20, 11, 4)):
    a, b = rng.normal(size=n), rng.normal(size=m)
    if levels:
      a, b = np.round(a * levels) / levels, np.round(b * levels) / levels
    peer = scipy.stats.mannwhitneyu(a, b, alternative="less", use_continuity=False, method="asymptotic")
    found = copy_test(a, b)
    assert found.farther == pytest.approx(peer.statistic / (n * m), rel=1e-12)
    assert found.p_value == pytest.approx(peer.pvalue, rel=1e-9)


def clouds(num, rng):
  """Boxes of random sides, 128 points on each: a family in which no two shapes are the same."""
  sides = rng.uniform(0.2, 1.0, (num, 1, 3))
  points = rng.uniform(-0.5, 0.5, (num, 128, 3))
  axis = rng.integers(0, 3, (num, 128))
  np.put_along_axis(points, axis[..., None], rng.choice([-0.5, 0.5], (num, 128, 1)), axis=2)
  return (points * sides).astype(np.float32)


def test_noisy_copies_score_far_below_zero_and_held_out_shapes_about_zero():
  rng = np.random.default_rng(0)
  training, held_out, fresh = clouds(40, rng), clouds(30, rng), clouds(30, rng)
  copies = training[rng.integers(40, size=30)] + rng.normal(0, 0.002, (30, 128, 3)).astype(np.float32)
  far = {name: nearest_training(pairwise(x, training, "chamfer_sum_squared"))[1]
         for name, x in (("held_out", held_out), ("fresh", fresh), ("copies", copies))}
  copied, new = copy_test(far["copies"], far["held_out"]), copy_test(far["fresh"], far["held_out"])
  assert copied.z < -5 and copied.p_value < 1e-6 and copied.interval[1] < -4
  assert abs(new.z) < 2.6 and new.interval[0] < 0 < new.interval[1]  # 99% of a standard normal


def test_z_of_real_against_real_is_standard_normal():
  rng = np.random.default_rng(1)
  z = [copy_test(rng.normal(size=25), rng.normal(size=40), resamples=2).z for _ in range(400)]
  assert abs(np.mean(z)) < 4 / 20 and abs(np.var(z) - 1) < 4 * np.sqrt(2 / 400)


def test_intervals_cover_the_expected_z_when_the_sets_differ():
  rng = np.random.default_rng(2)
  found = [copy_test(rng.normal(size=30) - 1, rng.normal(size=30), seed, 200) for seed in range(60)]
  expected = np.mean([one.z for one in found])
  assert sum(one.interval[0] <= expected <= one.interval[1] for one in found) >= 52  # of 60 at 95%: probability 0.98


@pytest.mark.parametrize("n, m", [(60, 60), (30, 300)])
def test_intervals_under_the_null_are_as_wide_as_z_varies(n, m):
  rng = np.random.default_rng(3)
  found = [copy_test(rng.normal(size=n), rng.normal(size=m), seed, 200) for seed in range(60)]
  assert abs(np.mean([one.interval[1] - one.interval[0] for one in found]) / (2 * 1.96) - 1) < 0.1
  assert sum(one.interval[0] <= 0 <= one.interval[1] for one in found) >= 52


def test_nearest_are_found_and_impossible_sets_are_faults():
  index, far = nearest_training(np.array([[3.0, 1.0, 1.0], [0.5, 2.0, 9.0]]))
  assert index.tolist() == [1, 0] and far.tolist() == [1.0, 0.5]
  assert copy_test(np.ones(5), np.ones(6)).z == 0
  with pytest.raises(UsageFault, match="not all finite"):
    copy_test(np.array([np.inf]), np.ones(3))
