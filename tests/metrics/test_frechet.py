"""Frechet distances against closed forms, the published formula by hand, and what sampling does to them."""

import numpy as np
import pytest
import scipy.linalg

from fields3d.core.errors import UsageFault
from fields3d.metrics.frechet import frechet_distance, frechet_of_sets, gaussian


def rotation(d, seed):
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def by_sqrtm(a, b):
  """The published formula by hand: a general matrix square root of the product."""
  root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
  return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)


def test_commuting_gaussians_have_the_closed_form():
  rng = np.random.default_rng(0)
  q, a, b, m = rotation(30, 1), rng.uniform(0.1, 3, 30), rng.uniform(0.1, 3, 30), rng.normal(size=(2, 30))
  found = frechet_distance(m[0], q @ np.diag(a) @ q.T, m[1], q @ np.diag(b) @ q.T)
  expected = np.sum((m[0] - m[1]) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
  assert found == pytest.approx(expected, rel=1e-12)


def test_plane_gaussians_that_do_not_commute_have_the_closed_form():
  # In two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det A det B)).
  rng = np.random.default_rng(2)
  a, b = (x @ x.T for x in rng.normal(size=(2, 2, 2)))
  shared = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
  found = frechet_distance(np.zeros(2), a, np.zeros(2), b)
  assert found == pytest.approx(np.trace(a + b) - 2 * shared, rel=1e-12)


@pytest.mark.parametrize("n, d", [(200, 20), (15, 40)])
def test_sets_agree_with_the_published_formula(n, d):
  rng = np.random.default_rng(3)
  a, b = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d), 0.3 + rng.normal(size=(n + 5, d))
  expected = by_sqrtm(a, b)
  # sqrtm of a singular product is itself only good to the root of eps.
  assert frechet_of_sets(a, b) == pytest.approx(expected, rel=1e-12 if n > d else 1e-5)
  assert frechet_distance(*gaussian(a), *gaussian(b)) == pytest.approx(frechet_of_sets(a, b), rel=1e-10)


def test_a_set_is_at_distance_zero_from_itself_even_with_fewer_features_than_dimensions():
  a = 5 + np.random.default_rng(4).normal(size=(10, 300))
  assert frechet_distance(*gaussian(a), *gaussian(a)) < 1e-10 * np.trace(gaussian(a).cov)
  assert frechet_of_sets(a, a[::-1]) < 1e-10 * np.trace(gaussian(a).cov)
  assert frechet_of_sets(a, a + 1) == pytest.approx(300, rel=1e-12)


def test_weights_are_repetitions():
  rng = np.random.default_rng(5)
  a, b, times = rng.normal(size=(12, 4)), rng.normal(size=(9, 4)), rng.integers(0, 4, 12)
  assert frechet_of_sets(a, b, times) == pytest.approx(frechet_of_sets(np.repeat(a, times, 0), b), rel=1e-12)


def test_what_cannot_be_measured_is_refused():
  a = np.random.default_rng(6).normal(size=(5, 3))
  for bad in (a[:1], a[0], np.where(a > 1e9, a, np.nan)):
    with pytest.raises(UsageFault):
      frechet_of_sets(bad, a)
  with pytest.raises(UsageFault, match="eigenvalue"):
    frechet_distance(np.zeros(2), np.diag([1.0, -1.0]), np.zeros(2), np.eye(2))
