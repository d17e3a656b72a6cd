"""Photometric losses: closed forms, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.image import photometric

E = np.asarray([[-0.5, -0.05, 0.0], [0.02, 0.1, 0.8]])


@pytest.mark.parametrize("loss,each", [
    ("l2", E**2), ("charbonnier", np.sqrt(E**2 + 1e-6)),
    ("huber", np.where(np.abs(E) < 0.1, E**2 / 2, 0.1 * (np.abs(E) - 0.05)))])
def test_each_loss_is_its_closed_form_over_counted_rays_alone(loss, each):
  rgb = jnp.asarray(E, jnp.float32)
  np.testing.assert_allclose(photometric(rgb, jnp.zeros((2, 3)), loss), each.mean(), rtol=1e-5)
  counted = jnp.array([False, True])
  np.testing.assert_allclose(photometric(rgb, jnp.zeros((2, 3)), loss, counted), each[1].mean(), rtol=1e-5)
  gradient = jax.grad(lambda rgb: photometric(rgb, jnp.zeros((2, 3)), loss, counted))(rgb)
  assert not bool(jnp.any(gradient[0])) and bool(jnp.all(jnp.isfinite(gradient)))


def test_a_batch_without_counted_rays_costs_nothing_and_pulls_nowhere():
  none = jnp.zeros(2, bool)
  assert float(photometric(jnp.ones((2, 3)), jnp.zeros((2, 3)), "l2", none)) == 0
  assert not bool(jnp.any(jax.grad(lambda rgb: photometric(rgb, jnp.zeros((2, 3)), "l2", none))(jnp.ones((2, 3)))))
