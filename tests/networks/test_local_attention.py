"""Attention with places against a slow float64 loop, and what it promises about moves and order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.numerics import Policy
from fields3d.networks.attention import dense, layer_norm
from fields3d.networks.local_attention import SLOPE, init_local_block, local_block, near_bias

WIDTH, HEADS = 8, 2


@pytest.fixture
def inputs():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return draw(2, 5, WIDTH), 0.2 * draw(2, 5, 3), draw(2, 7, WIDTH), 0.2 * draw(2, 7, 3)


def test_the_bias_towards_what_is_near_is_the_negative_scaled_square(inputs):
  _, x, _, y = inputs
  scales = np.asarray([0.5, 20.0], np.float32)
  slow = [[[[-s * sum((a - b) ** 2) for b in y[row]] for a in x[row]] for s in scales] for row in range(2)]
  np.testing.assert_allclose(near_bias(jnp.log(scales), x, y), slow, rtol=1e-4, atol=1e-6)  # of values up to 20


def in_float64(params, x, at, context, anchors):
  """What attention adds to x, token by token and head by head: means of a + 8 B (at - anchor)."""
  own, seen = (layer_norm(params[norm], h) for norm, h in (("norm", x), ("context_norm", context)))
  q, k, v = (np.asarray(dense(params[name], h, Policy()), np.float64)
             for name, h in (("query", own), ("key", seen), ("value", seen)))
  size, out = WIDTH // HEADS, np.zeros(x.shape)
  for row in range(2):
    for i in range(x.shape[1]):
      for head in range(HEADS):
        part, score, answers = slice(head * size, (head + 1) * size), [], []
        for j in range(context.shape[1]):
          step = np.asarray(at[row, i], np.float64) - anchors[row, j]
          score.append(q[row, i, part] @ k[row, j, part] / np.sqrt(size) - np.exp(params["near"][head]) * step @ step)
          a, *b = v[row, j].reshape(HEADS, 4, size)[head]
          answers.append(a + SLOPE * sum(s * column for s, column in zip(step, b, strict=True)))
        weights = np.exp(score) / np.sum(np.exp(score))
        out[row, i, part] = weights @ np.asarray(answers)
  return out @ np.asarray(params["out"]["w"]) + np.asarray(params["out"]["b"])


def test_answers_are_means_of_affine_functions_of_the_place(inputs):
  params = init_local_block(jax.random.key(0), WIDTH, HEADS)
  silent = {**params, "forward": jax.tree.map(jnp.zeros_like, params["forward"])}  # the feed-forward part adds nothing
  found = np.asarray(local_block(silent, *inputs, HEADS, Policy())) - inputs[0]
  np.testing.assert_allclose(found, in_float64(params, *inputs), rtol=1e-3, atol=1e-5)  # of values near 0.5


def test_moving_all_places_changes_nothing_and_neither_does_the_order_of_the_context(inputs):
  params = init_local_block(jax.random.key(0), WIDTH, HEADS, factor=1)
  run = jax.jit(lambda *inputs: local_block(params, *inputs, HEADS, Policy()))
  x, at, context, anchors = inputs
  plain = run(*inputs)
  order = np.random.default_rng(1).permutation(7)
  close = lambda other: np.testing.assert_allclose(other, plain, rtol=1e-3, atol=1e-4)  # of values near 1
  close(run(x, at + 0.5, context, anchors + 0.5))
  close(run(x, at, context[:, order], anchors[:, order]))
  assert not np.allclose(run(x, at + 0.5, context, anchors), plain, atol=1e-2)
