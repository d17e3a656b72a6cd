"""Adversarial losses and penalties against closed forms of linear and quadratic critics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.adversarial import consistency, critic_loss, generator_loss, lazily, r1, shifted, watched, wgan_gp


@pytest.fixture
def pictures():
  return jax.random.normal(jax.random.key(1), (6, 4, 5, 3))


def test_r1_of_a_linear_critic_is_half_its_squared_weight_everywhere(pictures):
  w = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
  linear = lambda x: jnp.einsum("bijc,ijc->b", x, w) + 7
  np.testing.assert_allclose(r1(linear, pictures), 0.5 * np.sum(w**2), rtol=1e-5)


def test_r1_of_a_quadratic_critic_depends_on_the_pictures_as_it_should(pictures):
  quadratic = lambda x: jnp.sum(x**2, axis=(1, 2, 3))
  np.testing.assert_allclose(r1(quadratic, pictures), 2 * np.mean(np.sum(np.asarray(pictures)**2, axis=(1, 2, 3))), rtol=1e-5)


def test_the_gradient_penalty_of_a_linear_critic_is_the_squared_excess_of_its_length(pictures):
  w = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
  linear = lambda x: jnp.einsum("bijc,ijc->b", x, w)
  got = wgan_gp(linear, pictures, pictures + 1, jax.random.key(0))
  np.testing.assert_allclose(got, (np.linalg.norm(w) - 1) ** 2, rtol=1e-5)
  unit = lambda x: linear(x) / np.linalg.norm(w)
  assert float(wgan_gp(unit, pictures, pictures + 1, jax.random.key(0))) < 1e-10  # rounding of a length near 1, squared


def test_the_gradient_penalty_is_taken_between_real_and_fake():
  """The critic's slope is 3 between 0 and 1 and 1 elsewhere: only places between count."""
  kinked = lambda x: jnp.where((x > 0) & (x < 1), 3 * x, x)[:, 0]
  zeros, ones = jnp.full((64, 1), 1e-6), jnp.full((64, 1), 1 - 1e-6)
  np.testing.assert_allclose(wgan_gp(kinked, zeros, ones, jax.random.key(0)), 4.0, rtol=1e-5)
  np.testing.assert_allclose(wgan_gp(kinked, zeros - 1, zeros - 2, jax.random.key(0)), 0.0, atol=1e-10)  # a length of exactly 1
  # From -1 to 2 a third of all places, each its own, have the slope 3: 4 / 3 within 4 standard deviations of 4096 draws.
  real, fake = jnp.full((4096, 1), -1.0), jnp.full((4096, 1), 2.0)
  np.testing.assert_allclose(wgan_gp(kinked, real, fake, jax.random.key(0)), 4 / 3, atol=0.12)


def test_at_equal_scores_the_critic_pays_two_logarithms_of_two_and_pulls_both_ways():
  real, fake = jnp.zeros(3), jnp.zeros(5)
  np.testing.assert_allclose(critic_loss(real, fake), 2 * np.log(2), rtol=1e-6)
  to_real, to_fake = jax.grad(critic_loss, argnums=(0, 1))(real, fake)
  np.testing.assert_allclose(to_real, -0.5 / 3, rtol=1e-6)
  np.testing.assert_allclose(to_fake, 0.5 / 5, rtol=1e-6)


@pytest.mark.parametrize("game", ["non_saturating", "wgan", "hinge"])
def test_every_game_makes_the_generator_raise_the_scores_of_its_pictures(game):
  assert bool(jnp.all(jax.grad(lambda s: generator_loss(s, game))(jnp.array([-30.0, 0.0, 3.0])) < 0))


def test_hinge_leaves_scores_beyond_the_margin_alone():
  to_real, to_fake = jax.grad(lambda a, b: critic_loss(a, b, "hinge"), argnums=(0, 1))(jnp.array([2.0]), jnp.array([-2.0]))
  assert not to_real.any() and not to_fake.any()


def test_a_lazy_penalty_has_the_same_mean_and_gradient_as_an_eager_one():
  lazy = lambda w, step: lazily(lambda: w**2, step, 4)
  steps = jnp.arange(8)
  np.testing.assert_allclose(jnp.mean(jax.vmap(lambda s: lazy(3.0, s))(steps)), 9.0)
  np.testing.assert_allclose(jnp.mean(jax.vmap(lambda s: jax.grad(lazy)(3.0, s))(steps)), 6.0)


def test_consistency_is_zero_only_for_critics_that_do_not_mind(pictures):
  moved = lambda x: jnp.roll(x, 1, axis=2)
  total, first = (lambda x: jnp.sum(x, axis=(1, 2, 3))), (lambda x: x[:, 0, 0, 0])
  assert float(consistency(total, pictures, total(pictures), moved)) < 1e-8  # rounding of sums, squared
  want = np.mean((np.asarray(pictures)[:, 0, -1, 0] - np.asarray(pictures)[:, 0, 0, 0]) ** 2)
  np.testing.assert_allclose(consistency(first, pictures, first(pictures), moved), want, rtol=1e-5)


def test_shifted_pictures_are_windows_of_the_padded_ones(pictures):
  got = np.asarray(shifted(jax.random.key(3), pictures, 2))
  padded = np.pad(np.asarray(pictures), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
  starts = [[(i, j) for i in range(5) for j in range(5) if np.array_equal(padded[b, i:i + 4, j:j + 5], got[b])] for b in range(6)]
  assert all(starts) and len({places[0] for places in starts}) > 2


def test_each_of_several_wasserstein_critics_has_a_middle_of_its_own():
  real, fake = jnp.array([[6.0, -1.0], [5.0, -2.0]]), jnp.array([[4.0, -7.0], [3.0, -3.0]])
  found = watched(real, fake, "wgan")
  assert float(found["right_on_real"]) == 1 and float(found["right_on_fake"]) == 0.75  # -3 is above -3.25
