"""Losses taken block by block equal losses taken at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.losses.blocks import mean_over_blocks, split_points


def loss(params, block, key):
  del key
  y = jnp.tanh(block["x"] @ params["w"])
  value = jnp.mean((y - block["y"]) ** 2)
  return value, {"largest": jnp.mean(y)}


@pytest.fixture
def problem():
  keys = jax.random.split(jax.random.key(0), 3)
  batch = {"x": jax.random.normal(keys[0], (2, 12, 5)), "y": jax.random.normal(keys[1], (2, 12, 3))}
  return {"w": jax.random.normal(keys[2], (5, 3))}, batch


@pytest.mark.parametrize("points", [1, 4, 12])
def test_values_reports_and_gradients_equal_those_of_the_whole(problem, points):
  params, batch = problem
  blocks = split_points(batch, points)
  keys = jax.random.split(jax.random.key(1), 12 // points)
  in_blocks = jax.jit(jax.value_and_grad(lambda p: mean_over_blocks(loss, p, blocks, keys), has_aux=True))
  at_once = jax.value_and_grad(lambda p: loss(p, batch, None), has_aux=True)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # of values near 0.1
  jax.tree.map(close, in_blocks(params), at_once(params))
  undifferentiated = mean_over_blocks(loss, params, blocks, keys)
  jax.tree.map(close, undifferentiated, at_once(params)[0])


def test_the_outer_factor_reaches_the_gradient(problem):
  params, batch = problem
  blocks, keys = split_points(batch, 4), jax.random.split(jax.random.key(1), 3)
  gradient = lambda f: jax.grad(lambda p: f(mean_over_blocks(loss, p, blocks, keys)[0]))(params)["w"]
  np.testing.assert_allclose(gradient(lambda v: 3 * v), 3 * gradient(lambda v: v), rtol=1e-6)


def test_a_value_of_the_step_may_be_closed_over(problem):
  params, batch = problem
  blocks, keys = split_points(batch, 4), jax.random.split(jax.random.key(1), 3)

  @jax.jit
  def gradient(params, scale):
    scaled = lambda p, block, key: (scale * loss(p, block, key)[0], {})
    return jax.grad(lambda p: mean_over_blocks(scaled, p, blocks, keys)[0])(params)["w"]

  np.testing.assert_allclose(gradient(params, 2.0), 2 * gradient(params, 1.0), rtol=1e-6)


def test_every_point_of_a_row_stays_in_its_row():
  batch = jnp.arange(24).reshape(2, 12)
  blocks = split_points(batch, 4)
  np.testing.assert_array_equal(blocks[1], [[4, 5, 6, 7], [16, 17, 18, 19]])


def test_no_blocks_activations_outlive_it():
  # 64 blocks of (1, 512) against one of (1, 32768): the compiled gradient needs far less memory for temporaries.
  params = {"w1": jnp.ones((3, 256)), "w2": jnp.ones((256, 256)), "w3": jnp.ones((256, 1))}
  x = jnp.ones((1, 32768, 3))
  keys = jax.random.split(jax.random.key(0), 64)

  def deep(p, x, key):
    del key
    return jnp.mean(jnp.tanh(jnp.tanh(x @ p["w1"]) @ p["w2"]) @ p["w3"]), {}

  memory = lambda f: jax.jit(jax.grad(f)).lower(params).compile().memory_analysis().temp_size_in_bytes
  in_blocks = memory(lambda p: mean_over_blocks(deep, p, split_points(x, 512), keys)[0])
  at_once = memory(lambda p: deep(p, x, None)[0])
  assert in_blocks < at_once / 8
