"""Losses along rays against loops over pairs of sections in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.ray import blurred_interlevel, distortion, interlevel, opacity_entropy, sparsity


def rays(rows, sections, seed):
  rng = np.random.default_rng(seed)
  s = np.sort(rng.uniform(0, 1, (rows, sections + 1)), axis=1)
  weights = rng.gamma(0.3, 1, (rows, sections))
  return jnp.asarray(s, jnp.float32), jnp.asarray(0.9 * weights / weights.sum(1, keepdims=True), jnp.float32)


def test_the_interlevel_bound_is_the_weight_of_all_touching_sections():
  (s, w), (q, v) = rays(5, 12, 0), rays(5, 20, 1)
  s = s.at[:, 3].set(q[:, 7])  # Ends that coincide touch, but do not overlap.
  s = jnp.sort(s, axis=-1)
  total = 0.0
  for row in range(5):
    for i in range(12):
      bound = sum(float(v[row, j]) for j in range(20) if q[row, j] < s[row, i + 1] and q[row, j + 1] > s[row, i])
      total += max(0.0, float(w[row, i]) - bound) ** 2 / (float(w[row, i]) + 1e-7)
  np.testing.assert_allclose(interlevel(s, w, q, v), total / 5, rtol=1e-4)


def test_a_proposal_that_covers_costs_nothing_and_the_field_is_not_pulled():
  s, w = rays(5, 12, 0)
  assert float(interlevel(s, w, s, w)) < 1e-6  # a rounded sum, squared, over 1e-7
  assert float(interlevel(s, w, jnp.tile(jnp.array([[0.0, 1.0]]), (5, 1)), jnp.ones((5, 1)))) == 0
  q, v = rays(5, 20, 1)
  for loss in (interlevel, lambda *a: blurred_interlevel(*a, 0.03)):
    own, proposals = jax.grad(loss, (1, 3))(s, w, q, v)
    assert not bool(jnp.any(own)) and bool(jnp.any(proposals)) and bool(jnp.all(jnp.isfinite(proposals)))


@pytest.mark.parametrize("blur", [0.3, 0.03])
def test_the_blurred_interlevel_loss_equals_a_convolution_on_a_fine_grid(blur):
  (s, w), (q, v) = rays(3, 6, 0), rays(3, 8, 1)
  total = 0.0
  for row in range(3):
    cdf = np.concatenate([[0], np.cumsum(np.asarray(w[row], np.float64))])
    fine = np.linspace(-1, 2, 300_001)
    blurred = (np.interp(fine + blur, s[row], cdf) - np.interp(fine - blur, s[row], cdf)) / (2 * blur)
    cumulative = np.concatenate([[0], np.cumsum((blurred[1:] + blurred[:-1]) / 2 * np.diff(fine))])
    target = np.diff(np.interp(q[row], fine, cumulative))
    total += np.sum(np.maximum(target - v[row], 0) ** 2 / (v[row] + 1e-5))
  np.testing.assert_allclose(blurred_interlevel(s, w, q, v, blur), total / 3, rtol=2e-3)


def test_distortion_equals_the_sum_over_all_pairs():
  s, w = (np.asarray(a, np.float64) for a in rays(4, 15, 0))
  middle = (s[:, 1:] + s[:, :-1]) / 2
  pairs = sum(w[:, i] * w[:, j] * np.abs(middle[:, i] - middle[:, j]) for i in range(15) for j in range(15))
  own = np.sum(w**2 * np.diff(s), axis=1) / 3
  np.testing.assert_allclose(distortion(jnp.asarray(s, jnp.float32), jnp.asarray(w, jnp.float32)), np.mean(pairs + own),
                             rtol=1e-5)


def test_distortion_does_not_change_when_a_section_is_cut_in_two():
  s, w = jnp.array([0.0, 0.2, 0.7, 1.0]), jnp.array([0.1, 0.6, 0.2])
  cut = jnp.array([0.0, 0.2, 0.3, 0.7, 1.0]), jnp.array([0.1, 0.12, 0.48, 0.2])
  np.testing.assert_allclose(distortion(*cut), distortion(s, w), rtol=1e-5)


def test_decided_opacities_and_empty_space_cost_nothing():
  assert float(opacity_entropy(jnp.array([0.0, 1.0]))) < 2e-4
  assert bool(jnp.all(jnp.isfinite(jax.grad(opacity_entropy)(jnp.array([0.0, 0.3, 1.0])))))
  assert float(sparsity(jnp.zeros(3), 0.1)) == 0
  np.testing.assert_allclose(sparsity(jnp.full(3, 2.0), 0.1), 1 - np.exp(-0.2), rtol=1e-6)


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_the_blurred_loss_of_the_right_proposal_is_nothing_where_sections_are_a_hundred_thousandth(seed):
  rng, blur = np.random.default_rng(seed), 0.003
  wall = rng.uniform(0.3, 0.7)
  s = np.sort(np.concatenate([np.linspace(0, 1, 20), wall + rng.uniform(-2e-4, 1.5e-3, 40)])).astype(np.float32).astype(np.float64)
  depth = 1e4 * np.diff(s) * (s[1:] + s[:-1] > 2 * wall)
  weights, ends = -np.expm1(-depth) * np.exp(depth - np.cumsum(depth)), np.linspace(0, 1, 65)
  before = np.concatenate([[0], np.cumsum(weights)])
  area = np.concatenate([[0], np.cumsum(np.diff(s) * (before[1:] + before[:-1]) / 2)])

  def integral(t):  # of the cumulative weight, in float64
    i = np.clip(np.searchsorted(s, t, side="right") - 1, 0, len(weights) - 1)
    along = np.clip(t - s[i], 0, np.diff(s)[i])
    return area[i] + along * (before[i] + weights[i] * along / np.diff(s)[i] / 2) + np.maximum(t - s[-1], 0) * before[-1]

  mass = np.diff((integral(ends + blur) - integral(ends - blur)) / (2 * blur))
  arrays = [jnp.asarray(a, jnp.float32)[None] for a in (s, weights, ends, mass)]
  assert float(blurred_interlevel(*arrays, blur)) < 1e-4
