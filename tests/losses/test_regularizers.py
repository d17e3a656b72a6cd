"""Regularisers: closed forms, zero gradients, second order."""

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.losses.regularizers import code_norm, eikonal, overshoot
from fields3d.losses.surface import value_and_gradient


def test_a_true_distance_costs_nothing_and_a_scaled_one_its_square():
  x = jax.random.normal(jax.random.key(0), (50, 3))
  _, gradient = value_and_gradient(lambda x: 3 * (jnp.sqrt(jnp.sum(x * x, axis=-1)) - 0.5), x)
  np.testing.assert_allclose(eikonal(gradient / 3), 0, atol=1e-9)  # of a loss of size 1
  np.testing.assert_allclose(eikonal(gradient), 4, rtol=1e-5)


def test_the_eikonal_loss_has_its_closed_second_order_gradient():
  # The field a |x|^2 / 2 has gradient a x, so the loss is mean (a |x| - 1)^2.
  x = jax.random.normal(jax.random.key(0), (50, 3))
  length = np.linalg.norm(x, axis=-1)

  def loss(a):
    return eikonal(value_and_gradient(lambda x: a * jnp.sum(x * x, axis=-1) / 2, x)[1])

  np.testing.assert_allclose(jax.grad(loss)(0.7), np.mean(2 * (0.7 * length - 1) * length), rtol=1e-5)


def test_a_zero_gradient_or_code_is_no_nan():
  for loss, shape in ((eikonal, (2, 3)), (code_norm, (2, 4)), (lambda z: overshoot(z, 1.0), (2, 4))):
    assert bool(jnp.all(jax.grad(loss)(jnp.zeros(shape)) == 0))
  assert float(code_norm(jnp.zeros((3, 0)))) == 0.0


def test_the_code_regulariser_is_the_length_and_pulls_with_constant_force():
  z = jnp.asarray([[3.0, 4.0], [0.3, 0.4]])
  np.testing.assert_allclose(code_norm(z), 2.75, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(code_norm)(z), [[0.3, 0.4], [0.3, 0.4]], rtol=1e-5)


def test_the_overshoot_is_felt_outside_the_ball_alone():
  z = jnp.asarray([[0.6, 0.0], [0.0, 1.5]])
  np.testing.assert_allclose(overshoot(z, 1.0), 0.5 * 0.25 / 2, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(overshoot)(z, 1.0), [[0, 0], [0, 0.25]], rtol=1e-6)
