"""What size does to a Frechet distance, and whether the limit and the intervals find the truth."""

import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.frechet_sets import estimate, size_curve


def draw(rng, n, shift=0.0, d=6):
  return shift + rng.normal(size=(n, d))


def test_the_curve_ends_at_the_whole_sets_and_falls_towards_the_truth():
  rng = np.random.default_rng(0)
  curves = [size_curve(draw(rng, 100), draw(rng, 80, 0.5), seed=i) for i in range(60)]
  a, b = draw(rng, 40), draw(rng, 30)
  assert size_curve(a, b).whole == pytest.approx(frechet_of_sets(a, b), rel=1e-12)
  assert curves[0].sizes[0] == (40, 32) and curves[0].sizes[-1] == (100, 80)
  truth = 6 * 0.25
  values, infinite = np.mean([c.values for c in curves], 0), np.array([c.infinite for c in curves])
  assert values[0] > values[-1] > truth + 0.05
  assert abs(infinite.mean() - truth) < 4 * infinite.std() / np.sqrt(60) < abs(values[-1] - truth) * 2
  assert abs(infinite.mean() - truth) < (values[-1] - truth) / 3


def test_intervals_cover_the_expected_distance_and_the_limit():
  rng, n, truth = np.random.default_rng(1), 100, 6 * 0.25
  expected = np.mean([frechet_of_sets(draw(rng, n), draw(rng, n, 0.5)) for _ in range(300)])
  covered, widths, limits = np.zeros(2), [], []
  for trial in range(60):
    found = estimate(draw(rng, n), draw(rng, n, 0.5), shares=(0.6, 1.0), seed=trial)
    covered += [low <= value <= high for value, (low, high) in
                ((expected, found.whole), (truth, found.infinite))]
    widths.append(np.diff([found.whole, found.infinite])[:, 0])
    limits.append(found.curve.infinite)
  assert np.all(covered >= 0.85 * 60)
  width = np.mean(widths, axis=0)
  assert 0.6 < width[1] / (2 * 2.262 * np.std(limits)) < 1.5  # as wide as the limit's own spread asks for (t, 9 degrees)


def test_groups_stay_together_and_few_of_them_give_no_interval():
  rng = np.random.default_rng(2)
  a, b, groups = draw(rng, 60), draw(rng, 60), np.repeat(np.arange(10), 6)
  assert size_curve(a, b, groups, groups, shares=(0.25, 1.0)).sizes[0] == (12, 12)
  assert estimate(a, b, groups, groups).whole is None and estimate(a, b).whole is not None
  with pytest.raises(UsageFault, match="more images"):
    size_curve(a[:2], b[:2])
