"""Absorption along rays: identities, limits, order of convergence, a float64 loop, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.rendering.quadrature import absorption, composite, mean_depth, median_depth


def depths(*shape, scale=0.5):
  return jnp.asarray(np.random.default_rng(0).gamma(0.5, scale, shape).astype(np.float32))


def test_weights_equal_a_loop_over_sections_in_float64():
  tau = depths(5, 40)
  weights, passed = absorption(tau)
  expected = np.zeros((5, 40))
  light = np.ones(5)
  for i in range(40):
    share = -np.expm1(-np.asarray(tau[:, i], np.float64))
    expected[:, i] = light * share
    light = light * (1 - share)
  np.testing.assert_allclose(weights, expected, rtol=2e-5)
  np.testing.assert_allclose(passed, light, rtol=2e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_what_is_absorbed_and_what_passes_make_one(scale):
  weights, passed = absorption(depths(100, 64, scale=scale))
  np.testing.assert_allclose(jnp.sum(weights, axis=-1) + passed, 1, rtol=2e-6)


def test_splitting_a_section_of_constant_density_changes_nothing():
  tau = depths(7, 16)
  share = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (7, 16)).astype(np.float32))
  halves = jnp.stack([tau * share, tau * (1 - share)], axis=-1).reshape(7, 32)
  whole, passed = absorption(tau)
  parts, passed_parts = absorption(halves)
  np.testing.assert_allclose(jnp.sum(parts.reshape(7, 16, 2), axis=-1), whole, rtol=3e-5, atol=1e-7)  # of 1
  np.testing.assert_allclose(passed_parts, passed, rtol=3e-5)


def test_empty_sections_absorb_nothing_and_an_opaque_one_all_that_reaches_it():
  weights, passed = absorption(jnp.array([[0.0, 0.0, 0.0], [0.0, jnp.inf, jnp.inf], [np.log(2.0), jnp.inf, 1.0]]))
  np.testing.assert_allclose(weights, [[0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], rtol=1e-6)
  np.testing.assert_allclose(passed, [1, 0, 0])


def test_the_middle_rule_converges_at_second_order_to_the_closed_form():
  # Density 3 t^2 on [0, 1] absorbs 1 - exp(-t^3) up to t; with colour exp(-t^3) the integral is (1 - exp(-2)) / 2.
  errors = []
  with jax.enable_x64(True):
    for count in (16, 32, 64, 128):
      t = jnp.linspace(0.0, 1.0, count + 1)
      middle = (t[1:] + t[:-1]) / 2
      weights, passed = absorption(3 * middle**2 / count)
      seen = composite(weights, jnp.exp(-middle**3)[:, None])[0]
      errors.append([abs(float(seen) - (1 - np.exp(-2)) / 2), abs(float(passed) - np.exp(-1))])
  orders = np.log2(np.divide(errors[:-1], errors[1:]))
  np.testing.assert_allclose(orders, 2, atol=0.02)  # an order of 2.00


def test_gradients_are_the_closed_form_and_finite_at_nothing_and_at_infinity():
  tau, values = depths(1, 12)[0], jnp.arange(12.0)[:, None]
  gradient = jax.grad(lambda tau: composite(absorption(tau)[0], values)[0])(tau)
  before = np.concatenate([[0], np.cumsum(tau)])
  weights = np.exp(-before[:-1]) - np.exp(-before[1:])
  for k in range(12):
    expected = np.exp(-before[k + 1]) * k - sum(weights[i] * i for i in range(k + 1, 12))
    np.testing.assert_allclose(gradient[k], expected, rtol=1e-4, atol=1e-5)  # of values up to 11
  for tau in (jnp.zeros(3), jnp.full(3, jnp.inf), jnp.array([0.0, jnp.inf, 0.0])):
    for out in (lambda t: jnp.sum(absorption(t)[0] * jnp.arange(3.0)), lambda t: absorption(t)[1]):
      assert bool(jnp.all(jnp.isfinite(jax.grad(out)(tau))))


def test_both_depths_of_a_thin_surface_are_where_it_is():
  t = jnp.linspace(1.0, 3.0, 101)[None]
  weights, _ = absorption(jnp.zeros((1, 100)).at[0, 30].set(jnp.inf))
  np.testing.assert_allclose(mean_depth(t, weights), 1.61, rtol=1e-6)
  np.testing.assert_allclose(median_depth(t, weights), 1.61, rtol=1e-6)


def test_the_median_depth_is_where_half_of_a_fog_is_absorbed():
  t = jnp.linspace(0.0, 40.0, 2001)[None]
  weights, _ = absorption(jnp.diff(t) * 0.7)
  np.testing.assert_allclose(median_depth(t, weights), np.log(2) / 0.7, rtol=1e-3)  # linear within a section
  np.testing.assert_allclose(mean_depth(t, weights), 1 / 0.7, rtol=1e-3)


def test_the_depths_of_an_empty_ray_are_its_end_and_nothing():
  t = jnp.linspace(0.0, 4.0, 9)[None]
  assert float(median_depth(t, jnp.zeros((1, 8)))[0]) == 4.0
  assert float(mean_depth(t, jnp.zeros((1, 8)))[0]) == 0.0
