"""Samplers: intervals in boxes, spacings, distributions, the inverse of a cumulative histogram."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.rendering.hierarchical import hierarchical
from fields3d.rendering.proposal import proposal
from fields3d.rendering.samplers import anneal_exponent, box_interval, distances, importance, resample, stratified


def histogram(rows=6, bins=9):
  rng = np.random.default_rng(0)
  s = np.cumsum(rng.uniform(0.1, 1, (rows, bins + 1)), axis=1)
  weights = rng.gamma(0.4, 1, (rows, bins))
  return jnp.asarray((s - s[:, :1]) / (s[:, -1:] - s[:, :1]), jnp.float32), jnp.asarray(weights, jnp.float32)


def test_a_boxs_interval_holds_the_points_inside_and_no_others():
  rng = np.random.default_rng(0)
  origins, directions = rng.uniform(-3, 3, (500, 3)), rng.normal(size=(500, 3))
  near, far = box_interval(*jnp.asarray([origins, directions], jnp.float32), jnp.full(500, 0.2), jnp.full(500, 4.0))
  t = np.linspace(0.2, 4.0, 801)
  x = origins[:, None] + t[None, :, None] * directions[:, None]
  inside = np.all(np.abs(x) <= 1, axis=-1)
  claimed = (t[None] >= near[:, None]) & (t[None] <= far[:, None]) & (far > near)[:, None]
  assert 50 < inside.any(1).sum() < 450
  away = np.minimum(np.abs(t[None] - near[:, None]), np.abs(t[None] - far[:, None])) > 1e-4  # float32 at the ends
  np.testing.assert_array_equal(inside & away, claimed & away)


def test_rays_along_axes_are_inside_or_outside_for_all_t():
  origins = jnp.array([[0.5, -0.5, 3.0], [1.5, 0.0, 3.0], [0.0, 0.0, 0.0]])
  directions = jnp.array([[0.0, 0.0, -1.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
  near, far = box_interval(origins, directions, jnp.zeros(3), jnp.full(3, 10.0))
  np.testing.assert_allclose(near[jnp.array([0, 2])], [2, 0])
  np.testing.assert_allclose(far[jnp.array([0, 2])], [4, 1])
  assert float(near[1]) == float(far[1])


@pytest.mark.parametrize("spacing", ["linear", "disparity", "piecewise"])
def test_every_spacing_increases_from_near_to_far(spacing):
  near, far = jnp.array([0.1, 0.5, 2.0]), jnp.array([0.5, 1000.0, 3.0])
  t = distances(jnp.broadcast_to(jnp.linspace(0.0, 1.0, 33), (3, 33)), near, far, spacing)
  np.testing.assert_allclose(t[:, 0], near, rtol=1e-5)
  np.testing.assert_allclose(t[:, -1], far, rtol=1e-3)  # 1 - 1 / (2 t) near 1 in float32
  assert bool(jnp.all(jnp.diff(t) > 0))
  empty = distances(jnp.linspace(0.0, 1.0, 5)[None], jnp.full(1, 2.0), jnp.full(1, 2.0), spacing)
  np.testing.assert_array_equal(empty, 2.0)


def test_piecewise_spacing_is_even_to_one_and_even_in_disparity_beyond():
  t = distances(jnp.linspace(0.0, 1.0, 11), jnp.array(0.0), jnp.array(1e6), "piecewise")
  np.testing.assert_allclose(t[:6], np.linspace(0, 1, 6), rtol=1e-5)
  np.testing.assert_allclose(1 / t[5:10], np.linspace(1, 0, 6)[:5], rtol=1e-4)


def test_stratified_sections_cover_the_ray_and_their_middles_visit_all_of_it_alike():
  s = stratified((4000,), 8, jax.random.key(0))
  assert bool(jnp.all(jnp.diff(s) >= 0)) and bool(jnp.all(s[:, 0] == 0)) and bool(jnp.all(s[:, -1] == 1))
  ends = np.asarray(s[:, 3])
  assert abs(ends.mean() - 3 / 8) < 4 / 8 / np.sqrt(12 * 4000)
  middles = np.asarray((s[:, 1:] + s[:, :-1]) / 2)[:, 1:-1].ravel()
  middles = middles[(middles > 0.25) & (middles < 0.75)]  # Away from the ray's ends.
  counts, _ = np.histogram(middles, 16, (0.25, 0.75))  # Four sections' worth of bins, 4,000 rays each.
  assert np.all(np.abs(counts - 1000) < 4 * np.sqrt(1000))
  np.testing.assert_array_equal(stratified((2,), 4, None), [[0, 0.25, 0.5, 0.75, 1]] * 2)


def test_importance_samples_invert_the_cumulative_histogram_exactly():
  s, weights = histogram()
  samples = importance(s, weights, 64, None, padding=1e-3)
  for row in range(len(s)):
    mass = np.asarray(weights[row], np.float64) + 1e-3
    cdf = np.concatenate([[0], np.cumsum(mass) / mass.sum()])
    np.testing.assert_allclose(np.interp(samples[row], s[row], cdf), (np.arange(64) + 0.5) / 64, atol=1e-6)


def test_importance_samples_are_distributed_as_the_histogram():
  s, weights = (a[:1] for a in histogram())
  rows = 2000
  samples = importance(jnp.repeat(s, rows, 0), jnp.repeat(weights, rows, 0), 16, jax.random.key(1), padding=0.0)
  assert bool(jnp.all(jnp.diff(samples) >= 0))
  counts, _ = np.histogram(np.asarray(samples), np.asarray(s[0]))
  share = np.asarray(weights[0] / weights[0].sum(), np.float64)
  expected = rows * 16 * share
  assert np.all(np.abs(counts - expected) <= 4 * np.sqrt(rows / 4) + 1)  # a ray's count is one of two neighbours


def test_samples_of_weightless_rays_are_even_and_never_leave_the_ray():
  s = jnp.linspace(0.0, 1.0, 17)[None]
  np.testing.assert_allclose(importance(s, jnp.zeros((1, 16)), 8, None)[0], (np.arange(8) + 0.5) / 8, atol=1e-6)
  for weights in (jnp.zeros((1, 16)), jnp.zeros((1, 16)).at[0, 15].set(1.0), jnp.zeros((1, 16)).at[0, 0].set(1e30)):
    for key in (None, jax.random.key(0)):
      ends = resample(s, weights, 32, key)
      assert ends.shape == (1, 33) and bool(jnp.all(jnp.diff(ends) >= 0))
      assert float(ends.min()) >= 0 and float(ends.max()) <= 1


def test_resampled_sections_lie_where_the_weight_is():
  s = jnp.linspace(0.0, 1.0, 101)[None]
  ends = resample(s, jnp.zeros((1, 100)).at[0, 40].set(1.0), 20, jax.random.key(0))
  assert float(jnp.mean((ends >= 0.399) & (ends <= 0.411))) > 0.9


def test_no_gradient_flows_through_the_places_of_samples():
  s, weights = histogram()
  gradients = jax.grad(lambda s, w: jnp.sum(resample(s, w, 8, None) ** 2), (0, 1))(s, weights)
  assert all(not bool(jnp.any(g)) for g in gradients)


def test_annealing_starts_even_and_ends_at_the_weights_themselves():
  assert float(anneal_exponent(0, 1000)) == 0.0 and float(anneal_exponent(5000, 1000)) == 1.0
  assert float(anneal_exponent(0, 0)) == 1.0


def test_one_section_is_the_whole_ray():
  s = jnp.array([[0.0, 0.3, 1.0]])
  np.testing.assert_array_equal(resample(s, jnp.ones((1, 2)), 1, jax.random.key(0)), [[0.0, 1.0]])


@pytest.mark.parametrize("renderer", [proposal, hierarchical])
@pytest.mark.parametrize("info", [{"ndc": {"near": 1.0}, "near": 0.0}, {"ndc": None, "near": 0.0}])
def test_disparity_needs_rays_that_start_beyond_zero(renderer, info):
  with pytest.raises(UsageFault, match="beyond 0"):
    renderer({"unbounded": False, **info}, spacing="disparity")
