"""Losses of latent-variable models against integrals and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.latent import kl_to_normal, occupancy_cross_entropy


@pytest.mark.parametrize(("mean", "log_variance"), [(0.0, 0.0), (1.5, 0.0), (-0.3, -2.0), (0.7, 1.1)])
def test_the_divergence_is_the_integral_of_its_definition(mean, log_variance):
  x = np.linspace(-30, 30, 200_001)
  density = lambda m, v: np.exp(-(x - m) ** 2 / (2 * v)) / np.sqrt(2 * np.pi * v)
  log = lambda m, v: -(x - m) ** 2 / (2 * v) - 0.5 * np.log(2 * np.pi * v)
  v = np.exp(log_variance)
  integral = np.sum(density(mean, v) * (log(mean, v) - log(0, 1))) * (x[1] - x[0])
  np.testing.assert_allclose(kl_to_normal(jnp.full(3, mean), jnp.full(3, log_variance)), integral, rtol=1e-4, atol=1e-6)


def test_the_divergence_is_a_mean_over_entries():
  keys = jax.random.split(jax.random.key(0), 2)
  mean, log_variance = (jax.random.normal(key, (4, 3, 2)) for key in keys)
  parts = [float(kl_to_normal(m, v)) for m, v in zip(mean, log_variance, strict=True)]
  np.testing.assert_allclose(kl_to_normal(mean, log_variance), np.mean(parts), rtol=1e-5)


def test_cross_entropy_is_that_of_the_sigmoid_with_near_points_weighted():
  rng = np.random.default_rng(0)
  predicted, sdf = rng.normal(0, 0.05, 50), rng.normal(0, 0.2, 50)
  inside = 1 / (1 + np.exp(predicted / 0.02))
  entropy = -np.where(sdf < 0, np.log(inside), np.log(1 - inside))
  expected = np.mean(entropy * np.where(np.abs(sdf) <= 0.1, 0.1, 1.0))
  found = occupancy_cross_entropy(jnp.asarray(predicted, jnp.float32), jnp.asarray(sdf, jnp.float32), 0.02, 0.1, 0.1)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_cross_entropy_of_certain_mistakes_is_finite_and_pulls_back():
  loss = lambda p: occupancy_cross_entropy(p, jnp.asarray([0.5, -0.5]), 0.001, 0.1, 0.1)
  value, gradient = jax.value_and_grad(loss)(jnp.asarray([-1.0, 1.0]))
  np.testing.assert_allclose(value, 1000, rtol=1e-5)
  assert gradient[0] < 0 < gradient[1]
