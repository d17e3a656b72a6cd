"""Attention against a slow float64 loop, and what it promises about order, precision and memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Policy
from fields3d.networks.attention import (
  attention,
  block,
  blocks,
  check_heads,
  feed_forward,
  init_attention,
  init_block,
  init_blocks,
  init_feed_forward,
  init_norm,
  layer_norm,
)

WIDTH, CONTEXT, HEADS = 8, 6, 2


@pytest.fixture
def sets():
  keys = jax.random.split(jax.random.key(1), 2)
  return jax.random.normal(keys[0], (2, 5, WIDTH)), jax.random.normal(keys[1], (2, 7, CONTEXT))


def in_float64(params, x, context):
  """Query by query, head by head."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  x, context = np.asarray(x, np.float64), np.asarray(context, np.float64)
  size, out = WIDTH // HEADS, np.zeros(x.shape)
  for row in range(len(x)):
    key_value = context[row] @ p["key_value"]["w"] + p["key_value"]["b"]
    for i, token in enumerate(x[row]):
      q, answer = token @ p["query"]["w"] + p["query"]["b"], np.zeros(WIDTH)
      for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        score = np.exp(key_value[:, :WIDTH][:, part] @ q[part] / np.sqrt(size))
        answer[part] = (score / score.sum()) @ key_value[:, WIDTH:][:, part]
      out[row, i] = answer @ p["out"]["w"] + p["out"]["b"]
  return out


def test_attention_equals_a_loop_over_heads_and_queries_in_float64(sets):
  params = init_attention(jax.random.key(0), WIDTH, CONTEXT)
  found = attention(params, *sets, HEADS, Policy())
  np.testing.assert_allclose(found, in_float64(params, *sets), rtol=1e-4, atol=1e-6)  # of values near 0.5


def test_the_feed_forward_part_is_gated():
  params = init_feed_forward(jax.random.key(0), 4, 2)
  x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
  inner = np.asarray(x @ params["in"]["w"] + params["in"]["b"][None], np.float64)
  erf = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))
  expected = (inner[:, :8] * erf(inner[:, 8:])) @ np.asarray(params["out"]["w"]) + np.asarray(params["out"]["b"])
  # jax.nn.gelu is the tanh approximation, off by 5e-4 at most; values are near 0.3.
  np.testing.assert_allclose(feed_forward(params, x, Policy()), expected, atol=1e-3)


def test_the_order_of_the_context_does_not_matter_and_that_of_the_queries_is_kept(sets):
  x, context = sets
  params = init_block(jax.random.key(0), WIDTH, CONTEXT)
  order = np.random.default_rng(0).permutation
  there, here = order(7), order(5)
  plain = block(params, x, context, HEADS, Policy())
  np.testing.assert_allclose(block(params, x, context[:, there], HEADS, Policy()), plain, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(block(params, x[:, here], context, HEADS, Policy()), plain[:, here], rtol=1e-4, atol=1e-6)


def test_leading_axes_are_batches(sets):
  x, context = sets
  params = init_attention(jax.random.key(0), WIDTH, CONTEXT)
  whole = attention(params, x, context, HEADS, Policy())
  np.testing.assert_allclose(attention(params, x[0], context[0], HEADS, Policy()), whole[0], rtol=1e-5, atol=1e-6)
  folded = attention(params, x[:, None], context[:, None], HEADS, Policy())
  np.testing.assert_allclose(folded[:, 0], whole, rtol=1e-5, atol=1e-6)


def test_layer_norm_has_mean_0_and_variance_1_then_scale_and_shift():
  x = 5 + 3 * jax.random.normal(jax.random.key(0), (4, 200))
  y = layer_norm(init_norm(200), x)
  np.testing.assert_allclose(jnp.mean(y, -1), 0, atol=1e-5)  # of entries near 1
  np.testing.assert_allclose(jnp.var(y, -1), 1, rtol=1e-4)
  changed = layer_norm({"scale": jnp.full(200, 2.0), "shift": jnp.ones(200)}, x)
  np.testing.assert_allclose(changed, 2 * layer_norm(None, x) + 1, rtol=1e-5, atol=1e-5)


def test_remat_changes_no_value_and_no_gradient(sets):
  layers = init_blocks(jax.random.key(0), 2, WIDTH)
  of = lambda remat: jax.jit(jax.value_and_grad(
      lambda layers: jnp.sum(jnp.sin(blocks(layers, sets[0], HEADS, Policy(), remat)))))(layers)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), of(True), of(False))


def test_bfloat16_stays_near_float32_and_returns_float32(sets):
  layers = init_blocks(jax.random.key(0), 2, WIDTH)
  of = lambda compute: jax.value_and_grad(
      lambda layers: jnp.mean(blocks(layers, sets[0], HEADS, Policy(compute)) ** 2))(layers)
  (rough, rough_gradient), (exact, gradient) = of("bfloat16"), of("float32")
  np.testing.assert_allclose(rough, exact, rtol=0.02)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), rough_gradient, gradient)  # up to 0.5
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(rough_gradient))


def test_heads_that_do_not_divide_the_width_are_refused():
  with pytest.raises(UsageFault, match="3 heads do not divide a width of 8"):
    check_heads(8, 3, "--config.task")
