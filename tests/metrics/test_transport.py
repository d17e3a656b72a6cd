"""The earth mover's distance against closed forms, all permutations and the published fixture; Sinkhorn's bounds hold it."""

import itertools
import json

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial

from fields3d.core.errors import BadData, UsageFault
from fields3d.metrics import transport
from fields3d.metrics.transport import EMDS, emd, sinkhorn


def cloud(p, seed=0, stretch=(1.0, 1.0, 1.0)):
  return np.random.default_rng(seed).normal(size=(p, 3)) * np.array(stretch)


def test_the_published_fixture(real_data):
  fixture = json.loads((real_data / "reference_numbers" / "published.json").read_text())["emd_fixture"]
  found = emd(np.array(fixture["p1"]), np.array(fixture["p2"]), "emd_sum_squared")
  assert found == pytest.approx(fixture["sum_of_squared_distances_under_optimal_matching"], rel=1e-12)


@pytest.mark.parametrize("convention", EMDS)
def test_emd_is_the_least_over_all_matchings(convention):
  a, b = cloud(6), cloud(6, seed=1)
  power = EMDS[convention].power
  costs = [[float(np.sum((x - y)**2))**(power / 2) for y in b] for x in a]
  totals = [sum(costs[i][j] for i, j in enumerate(order)) for order in itertools.permutations(range(6))]
  assert emd(a, b, convention) == pytest.approx(min(totals) / (1 if EMDS[convention].summed else 6), rel=1e-12)


def test_a_translated_cloud_is_the_translation_away():
  a = cloud(300)
  assert emd(a, a[::-1] + [3.0, 0, 4.0]) == pytest.approx(5.0, rel=1e-12)
  assert emd(a, a[::-1] + [3.0, 0, 4.0], "emd_mean_squared") == pytest.approx(25.0, rel=1e-12)


@pytest.mark.parametrize("convention", ["emd", "emd_sum_squared"])
def test_the_start_from_sinkhorn_changes_no_optimum(convention, monkeypatch):
  a, b = cloud(520), cloud(520, seed=1, stretch=(1.5, 0.5, 1.0)) + 0.7
  plain = emd(a, b, convention)
  monkeypatch.setattr(transport, "_WORTH_A_START", 1)
  assert emd(a, b, convention) == pytest.approx(plain, rel=1e-13)


def test_a_large_distance_is_scipys_assignment():
  a, b = cloud(1100), cloud(1100, seed=1) + [1.0, 0, 0]
  costs = scipy.spatial.distance.cdist(a, b)
  assert emd(a, b) == pytest.approx(costs[scipy.optimize.linear_sum_assignment(costs)].mean(), rel=1e-13)


def test_order_and_sides_do_not_matter_and_repeated_points_are_matched_apart():
  a, b = cloud(50), cloud(50, seed=1)
  shuffle = np.random.default_rng(2).permutation(50)
  assert emd(a[shuffle], b) == pytest.approx(emd(a, b), rel=1e-13)
  assert emd(b, a) == pytest.approx(emd(a, b), rel=1e-13)
  assert emd(np.zeros((1, 3)), np.array([[0, 3.0, 4.0]])) == 5.0
  assert emd(np.zeros((4, 3)), np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 2], [0, 2, 0]])) == 1.0


@pytest.mark.parametrize("convention", EMDS)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_sinkhorns_bounds_hold_the_exact_distance_and_close_on_it(convention, offset):
  a, b = cloud(96) + offset, cloud(96, seed=1, stretch=(1.0, 0.5, 2.0)) + offset
  exact = emd(a, b, convention)
  gaps = []
  for regularisation in (0.1, 0.01, 0.003):
    bounds = sinkhorn(a, b, regularisation, convention)
    assert bounds.converged
    assert bounds.lower <= exact * (1 + 1e-12) and exact * (1 - 1e-12) <= bounds.upper
    gaps.append(bounds.gap)
  assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < gaps[0] / 3


def test_an_unfinished_iteration_says_so_and_its_bounds_hold():
  a, b = cloud(96), cloud(96, seed=1) + 2
  bounds = sinkhorn(a, b, 1e-3, most_iterations=3)
  assert not bounds.converged and bounds.iterations == 3 and bounds.marginal > 1e-3
  assert bounds.lower <= emd(a, b) <= bounds.upper


def test_the_feasible_plan_is_one():
  """Of any potentials whatever: what the cost is computed from has the right sums, so that constant costs cost 1."""
  rng = np.random.default_rng(0)
  f, g = rng.normal(size=30), rng.normal(size=30)
  assert transport._feasible_cost(np.ones((30, 30)), f, g, 0.5) == pytest.approx(1.0, rel=1e-12)


def test_equal_clouds_have_no_distance_and_one_spot_none_at_all():
  a = cloud(64)
  assert emd(a, a) == 0
  assert sinkhorn(np.ones((5, 3)), np.ones((5, 3)), 0.01).upper == 0
  bounds = sinkhorn(a, a, 0.01)
  assert 0 <= bounds.lower <= 1e-9 <= bounds.upper


def test_faults_are_one_line():
  a = cloud(4)
  bad = a.copy()
  bad[3, 1] = np.inf
  with pytest.raises(BadData, match="b: point 3 of cloud 0 is not finite"):
    emd(a, bad)
  with pytest.raises(UsageFault, match="4 and 3 points have no one-to-one"):
    emd(a, a[:3])
  with pytest.raises(UsageFault, match=r"draw 2,048 points"):
    emd(np.zeros((2049, 3)), np.zeros((2049, 3)))
  with pytest.raises(UsageFault, match="emd_sum_squared"):
    emd(a, a, "emd_sum_squraed")
  with pytest.raises(UsageFault, match="regularisation"):
    sinkhorn(a, a, 0.0)
  with pytest.raises(UsageFault, match="tolerance"):
    sinkhorn(a, a, 0.1, tolerance=0.0)
