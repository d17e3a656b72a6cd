"""The published kernels: a float64 loop of their rounds, known cases, and their distance from the optimum."""

import math

import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.metrics.annealed_matching import ANNEALINGS, annealed_pairwise
from fields3d.metrics.transport import emd


def loop(a, b, levels, squared, mean):
  """Point by point, as the kernels run."""
  n = len(a)
  square = [[sum((x - y)**2 for x, y in zip(p, q, strict=True)) for q in b] for p in a]
  left, right, cost = [1.0] * n, [1.0] * n, 0.0
  for level in levels:
    w = [[math.exp(-level * s) for s in row] for row in square]
    ratio_left = [left[k] / (1e-9 + sum(w[k][j] * right[j] for j in range(n))) for k in range(n)]
    ratio_right, flow = [], []
    for j in range(n):
      total = right[j] * sum(w[k][j] * ratio_left[k] for k in range(n))
      ratio_right.append(min(right[j] / (total + 1e-9), 1.0) * right[j])
      right[j] = max(0.0, right[j] - total)
    for k in range(n):
      flow = [w[k][j] * ratio_left[k] * ratio_right[j] for j in range(n)]
      left[k] = max(0.0, left[k] - sum(flow))
      cost += sum(f * (s if squared else math.sqrt(s)) for f, s in zip(flow, square[k], strict=True))
  return cost / n if mean else cost


@pytest.mark.parametrize("name", ANNEALINGS)
def test_costs_are_those_of_the_rounds_point_by_point(name):
  rng = np.random.default_rng(0)
  a, b = rng.uniform(-0.5, 0.5, (2, 12, 3)), rng.uniform(-0.4, 0.5, (10, 12, 3))
  kind = ANNEALINGS[name]
  slow = [[loop(x, y, kind.levels, kind.squared, kind.mean) for y in b] for x in a]
  found = annealed_pairwise(a, b, name)
  np.testing.assert_allclose(found, slow, rtol=2e-5)  # float32, thirty sums of twelve
  assert annealed_pairwise(b, a, name)[0, 0] != pytest.approx(found[0, 0], rel=1e-4), "which comes first matters"


def test_close_clouds_cost_what_the_best_matching_does_and_others_do_not():
  rng = np.random.default_rng(1)
  a = rng.uniform(-0.5, 0.5, (64, 3))
  near, far = a + 1e-3 * rng.normal(size=a.shape), rng.uniform(-0.5, 0.5, (64, 3))
  exact = [emd(a, b) for b in (near, far)]
  found = annealed_pairwise(a[None], np.stack([near, far]), "pointflow")[0]
  assert found[0] == pytest.approx(exact[0], rel=0.05)
  assert 1.01 < found[1] / exact[1] < 1.6  # an approximation, from above where the mass has moved
  squared = annealed_pairwise(a[None], far[None], "pvd")[0, 0]
  assert 1.01 < squared / emd(a, far, "emd_sum_squared") < 2


def test_unknown_kernels_and_unequal_clouds_are_faults():
  with pytest.raises(UsageFault, match="did you mean 'pvd'"):
    annealed_pairwise(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), "pwd")
  with pytest.raises(UsageFault, match="2 points against 3"):
    annealed_pairwise(np.zeros((1, 2, 3)), np.zeros((1, 3, 3)), "pvd")


@pytest.mark.parametrize("name", ["pointflow", "pvd"])
def test_clouds_far_from_the_origin_keep_their_digits(name):
  a, b = np.round(np.random.default_rng(7).uniform(-0.5, 0.5, (2, 2, 32, 3)), 6)
  near, far = annealed_pairwise(a, b, name), annealed_pairwise(a + 2.0**20, b + 2.0**20, name)
  np.testing.assert_allclose(far, near, rtol=1e-4)  # float64 has 2e-10 there, and float32 0.06
