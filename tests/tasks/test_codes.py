"""Codes: the bound against PyTorch's rule, balanced draws, shrinkage against its formula, Gaussian samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.regularizers import overshoot
from fields3d.tasks.codes import Reconstruction, balanced, fit_code, sample_gaussian, shrunk_gaussian, within


def test_the_bound_is_that_of_a_torch_embedding_with_max_norm():
  codes = jax.random.normal(jax.random.key(0), (50, 8)) * jnp.linspace(0.05, 1, 50)[:, None]
  expected = []
  for row in np.asarray(codes, np.float64):  # renorm in PyTorch: rows longer than the bound times bound / (norm + 1e-7)
    length = np.sqrt((row**2).sum())
    expected.append(row * (0.9 / (length + 1e-7)) if length > 0.9 else row)
  np.testing.assert_allclose(within(codes, 0.9), expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_array_equal(within(codes, None), codes)
  assert within(jnp.zeros((3, 0)), 1.0).shape == (3, 0)


def test_the_radial_gradient_is_gone_outside_and_whole_inside():
  g = jnp.asarray([1.0, 2.0])
  slope = lambda c: jax.grad(lambda c: jnp.sum(within(c, 1.0) * g))(c)
  np.testing.assert_allclose(slope(jnp.asarray([0.3, 0.4])), g)
  np.testing.assert_allclose(slope(jnp.asarray([2.0, 0.0])), [0.0, 1.0], atol=1e-6)  # of a gradient of size 1
  assert bool(jnp.all(jnp.isfinite(slope(jnp.zeros(2)))))


def test_a_code_that_is_pushed_outwards_settles_at_the_bound():
  push = lambda c: jnp.sum(within(c, 1.0) * jnp.asarray([-0.5, -0.1])) + overshoot(c, 1.0)
  code = jax.lax.fori_loop(0, 500, lambda _, code: code - 0.05 * jax.grad(push)(code), jnp.asarray([0.2, 0.9]))
  assert abs(float(jnp.linalg.norm(code)) - 1) < 0.02
  np.testing.assert_allclose(within(code, 1.0), np.asarray([0.5, 0.1]) / np.hypot(0.5, 0.1), atol=0.02)


@pytest.mark.parametrize("outside, inside", [(10, 90), (100, 0), (0, 100), (1, 1)])
def test_half_of_the_draws_are_outside_or_all_from_the_only_side(outside, inside):
  pick = np.asarray(balanced(jax.random.key(0), outside + inside, jnp.asarray(outside), 5001))
  assert pick.min() >= 0 and pick.max() < outside + inside
  share = np.sum(pick < outside)
  assert share == (2501 if outside and inside else 5001 if outside else 0)
  assert len(np.unique(pick)) == outside + inside  # 2,500 draws reach all of 100 places


def test_fitting_a_code_finds_the_optimum_of_a_known_loss():
  # A sphere whose radius is the code's first entry: the samples' own distances tell it.
  x = jax.random.uniform(jax.random.key(0), (300, 3), jnp.float32, -1.0, 1.0)
  loss = lambda z, x, sdf: jnp.mean(jnp.abs(jnp.sqrt(jnp.sum(x * x, axis=-1)) - z[0] - sdf))
  sdf = jnp.sqrt(jnp.sum(x * x, axis=-1)) - 0.37
  settings = Reconstruction(steps=400, samples=64)
  fit = jax.jit(lambda x, sdf, key: fit_code(loss, x, sdf, 4, settings, key))
  z = fit(x, sdf, jax.random.key(1))
  assert abs(float(z[0]) - 0.37) < 2e-3  # the last learning rate is 5e-4
  half = x[:, 0] > 0
  partial = fit(x[half], sdf[half], jax.random.key(1))
  assert abs(float(partial[0]) - 0.37) < 2e-3
  np.testing.assert_array_equal(z, fit(x, sdf, jax.random.key(1)))


def test_the_covariance_equals_its_formula_in_float64():
  codes = np.random.default_rng(0).normal(size=(12, 5)) @ np.diag([3, 2, 1, 0.5, 0.1]) + 1.0
  mean, covariance = shrunk_gaussian(jnp.asarray(codes, jnp.float32))
  n, p = codes.shape
  s = np.cov(codes.T, bias=True)
  trace, square = np.trace(s), np.trace(s @ s)
  rho = min(1.0, ((1 - 2 / p) * square + trace**2) / ((n + 1 - 2 / p) * (square - trace**2 / p)))
  assert 0 < rho < 1
  np.testing.assert_allclose(mean, codes.mean(0), rtol=1e-5)
  np.testing.assert_allclose(covariance, (1 - rho) * s + rho * trace / p * np.eye(p), rtol=1e-4, atol=1e-5)


def test_shrinkage_keeps_the_trace_and_few_codes_are_nearly_round():
  codes = jax.random.normal(jax.random.key(0), (4, 32))
  _, covariance = shrunk_gaussian(codes)
  np.testing.assert_allclose(np.trace(covariance), np.trace(np.cov(np.asarray(codes).T, bias=True)), rtol=1e-5)
  assert np.linalg.cond(covariance) < 10


def test_one_code_or_equal_codes_give_that_code():
  for codes in (jnp.asarray([[0.1, 0.2, 0.3]]), jnp.ones((4, 3))):
    mean, covariance = shrunk_gaussian(codes)
    draws = sample_gaussian(jax.random.key(0), mean, covariance, 5)
    np.testing.assert_allclose(draws, np.broadcast_to(codes[0], (5, 3)), atol=1e-6)  # of entries near 1


def test_draws_have_the_mean_and_the_covariance():
  factor = jnp.asarray([[1.0, 0, 0], [0.5, 0.3, 0], [-0.2, 0.1, 0.05]])
  mean, covariance = jnp.asarray([1.0, -2.0, 0.5]), factor @ factor.T
  draws = np.asarray(sample_gaussian(jax.random.key(0), mean, covariance, 20_000), np.float64)
  sigma = np.sqrt(np.diag(covariance))
  np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 4 * sigma / np.sqrt(20_000))
  error = np.abs(np.cov(draws.T) - covariance) / np.outer(sigma, sigma)
  assert error.max() < 4 * np.sqrt(2 / 20_000)
