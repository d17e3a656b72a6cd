"""Precision policies and norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.numerics import Policy, norm


def factors(n=32, k=48, m=16):
  x_key, w_key = jax.random.split(jax.random.key(0))
  return jax.random.normal(x_key, (n, k)), jax.random.normal(w_key, (k, m))


@pytest.mark.parametrize("compute", ["float32", "tensorfloat32", "bfloat16"])
def test_products_are_float32_whatever_the_factors_are_rounded_to(compute):
  x, w = factors()
  y = Policy(compute).dot(x, w)
  exact = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
  scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0)[None]
  assert y.dtype == jnp.float32
  np.testing.assert_array_less(np.abs(y - exact) / scale, 2**-8 if compute == "bfloat16" else 1e-6)


def test_bfloat16_sums_in_float32():
  x = jnp.full((1, 4096), 1.0)
  w = jnp.full((4096, 1), 1.0 + 2**-7)  # In bfloat16 a running sum stops growing at 256.
  assert float(Policy("bfloat16").dot(x, w)[0, 0]) == 4096 * (1 + 2**-7)


def test_bfloat16_saves_its_factors_in_bfloat16_and_its_gradients_are_float32():
  x, w = factors()
  value, pullback = jax.vjp(Policy("bfloat16").dot, x, w)
  saved = [leaf for leaf in jax.tree.leaves(pullback) if leaf.size]
  assert all(leaf.dtype == jnp.bfloat16 for leaf in saved)
  dx, dw = pullback(jnp.ones_like(value))
  assert dx.dtype == dw.dtype == jnp.float32
  np.testing.assert_allclose(dx, np.broadcast_to(np.sum(w, axis=1), dx.shape), rtol=0.02, atol=0.05)  # 48 roundings


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_convolutions_round_factors_and_keep_sums_and_gradients_in_float32(stride):
  keys = jax.random.split(jax.random.key(0), 3)
  x, w = jax.random.normal(keys[0], (2, 8, 8, 16)), jax.random.normal(keys[1], (3, 3, 16, 4))
  rounded = lambda a: a.astype(jnp.bfloat16).astype(jnp.float32)
  convolve = lambda compute: lambda x, w: Policy(compute).convolve(x, w, stride)
  value, pull = jax.vjp(convolve("bfloat16"), x, w)
  exact, exact_pull = jax.vjp(convolve("float32"), rounded(x), rounded(w))
  g = jax.random.normal(keys[2], value.shape)
  for ours, theirs in zip((value, *pull(g)), (exact, *exact_pull(rounded(g))), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)  # sums of 144 products of order 1
    assert bool(jnp.any(rounded(ours) != ours))
  assert sorted(leaf.dtype.name for leaf in jax.tree.leaves(jax.vjp(convolve("bfloat16"), x, w)[1]))[0] == "bfloat16"


def test_bfloat16_has_second_derivatives():
  x, w = factors(4, 5, 1)
  energy = lambda x, w: jnp.sum(jnp.tanh(Policy("bfloat16").dot(x, w)))
  of_gradient = lambda w: jnp.sum(jax.grad(energy)(x, w) ** 2)
  exact = lambda w: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(x @ w)))(x) ** 2)
  np.testing.assert_allclose(jax.grad(of_gradient)(w), jax.grad(exact)(w), rtol=0.1, atol=0.05)  # 8 bits, twice


def test_a_norm_is_a_norm_and_its_gradient_at_zero_is_zero():
  x = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1e-12, 0.0]])
  np.testing.assert_allclose(norm(x), [5, 0, 1e-12], rtol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(norm(x)))(x)
  np.testing.assert_allclose(gradient, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
  second = jax.grad(lambda x: jnp.sum(jax.grad(lambda y: jnp.sum(norm(y)))(x) ** 2))(x)
  assert bool(jnp.all(jnp.isfinite(second[:2])))
