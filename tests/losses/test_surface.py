"""Surface losses against loops, and their gradients where they bend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.surface import clamped_l1, color_l1, normal_alignment, relative_l1, value_and_gradient


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_losses_equal_their_loops(rng):
  p, s = rng.normal(0, 0.2, (4, 9)), rng.normal(0, 0.2, (4, 9))
  clip = lambda v: max(-0.1, min(0.1, v))
  pairs = list(zip(p.ravel(), s.ravel(), strict=True))
  f = lambda a: jnp.asarray(a, jnp.float32)
  clamped = np.mean([abs(clip(a) - clip(b)) for a, b in pairs])
  np.testing.assert_allclose(clamped_l1(f(p), f(s), 0.1), clamped, rtol=1e-5)
  np.testing.assert_allclose(relative_l1(f(p), f(s), 0.01), np.mean([abs(a - b) / (abs(b) + 0.01) for a, b in pairs]),
                             rtol=1e-5)
  logits, colors = rng.normal(size=(4, 9, 3)), rng.uniform(size=(4, 9, 3))
  near = [np.mean(np.abs(1 / (1 + np.exp(-logits[i, j])) - colors[i, j])) if abs(s[i, j]) <= 0.15 else 0.0
          for i in range(4) for j in range(9)]
  np.testing.assert_allclose(color_l1(f(logits), f(colors), f(s), 0.15), np.mean(near), rtol=1e-5)
  g, n = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
  n /= np.linalg.norm(n, axis=1, keepdims=True)
  angles = [1 - a @ b / np.linalg.norm(a) for a, b in zip(g, n, strict=True)]
  np.testing.assert_allclose(normal_alignment(f(g), f(n)), np.mean(angles), rtol=1e-5)


def test_a_prediction_beyond_the_clamp_has_no_gradient():
  sdf, predicted = jnp.asarray([0.0, 0.0, 0.5, -0.5]), jnp.asarray([0.3, 0.05, 0.05, 0.05])
  slope = jax.grad(lambda p: clamped_l1(p, sdf, 0.1))(predicted)
  np.testing.assert_allclose(slope, [0, 0.25, -0.25, 0.25])


def test_relative_loss_is_free_of_scale_far_from_the_surface():
  p, s = jnp.asarray([1.1, 2.2]), jnp.asarray([1.0, 2.0])
  np.testing.assert_allclose(relative_l1(p, s, 0.0), relative_l1(1000 * p, 1000 * s, 0.0), rtol=1e-6)


def test_the_angle_does_not_hear_the_gradients_length_and_a_zero_gradient_is_no_nan():
  n = jnp.asarray([[0.0, 1.0, 0.0]])
  g = jnp.asarray([[0.3, 0.4, 0.0]])
  np.testing.assert_allclose(normal_alignment(g, n), 1 - 0.8, rtol=1e-6)
  np.testing.assert_allclose(normal_alignment(10 * g, n), 1 - 0.8, rtol=1e-6)
  zero = jnp.zeros((1, 3))
  assert float(normal_alignment(zero, n)) == 1.0
  assert bool(jnp.all(jnp.isfinite(jax.grad(normal_alignment)(zero, n))))


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_equal_parts_average_to_the_whole(rng, parts):
  p, s, logits, colors = (jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)
                          for shape in ((6, 8), (6, 8), (6, 8, 3), (6, 8, 3)))
  for loss in (lambda i: clamped_l1(p[i], s[i], 0.1), lambda i: relative_l1(p[i], s[i], 0.01),
               lambda i: color_l1(logits[i], colors[i], s[i], 0.05), lambda i: normal_alignment(logits[i], colors[i])):
    whole = loss(slice(None))
    np.testing.assert_allclose(np.mean([loss(slice(k, None, parts)) for k in range(parts)]), whole, rtol=1e-5)


def test_the_gradient_of_every_point_is_its_own():
  x = jax.random.normal(jax.random.key(0), (2, 5, 3))
  values, gradient = value_and_gradient(lambda x: jnp.sqrt(jnp.sum(x * x, axis=-1)) - 0.5, x)
  length = np.linalg.norm(x, axis=-1)
  np.testing.assert_allclose(values, length - 0.5, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient, x / length[..., None], rtol=1e-5, atol=1e-6)
