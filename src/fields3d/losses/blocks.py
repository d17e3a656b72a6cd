"""Means over many points, differentiated block by block: the memory of one block, and a cache that holds it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fields3d.core.task import PyTree


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def mean_over_blocks(loss: Callable, params: PyTree, blocks: PyTree, keys: jax.Array) -> tuple[jax.Array, PyTree]:
  """The mean of loss(params, block, key) over blocks, one after another.

  Equal to one call on all points where the loss is a mean over points and draws nothing. Each block's gradient is
  taken at once and only the sum is kept, so that no block's activations outlive it. Differentiable in reverse mode,
  with respect to `params` and the loss alone.

  Args:
    loss: (params, block, key) -> (loss, pytree of scalars to report).
    blocks: pytree with the blocks on the leading axis of every leaf. keys: one for each block.

  Returns:
    The means of both.

  >>> loss = lambda p, block, key: (jnp.mean(p * block), {})
  >>> keys = jax.random.split(jax.random.key(0), 3)
  >>> grad = jax.grad(lambda p: mean_over_blocks(loss, p, jnp.arange(6.0).reshape(3, 2), keys)[0])
  >>> float(grad(2.0))
  2.5
  """
  return _mean(lambda block, key: loss(params, block, key), blocks, keys)


def split_points(batch: PyTree, points: int) -> PyTree:
  """(rows, n, ...) as (n / points, rows, points, ...): `points` of every row in each block, rows left where they are.

  >>> split_points(jnp.zeros((2, 12, 3)), 4).shape
  (3, 2, 4, 3)
  """
  return jax.tree.map(lambda a: a.reshape(a.shape[0], -1, points, *a.shape[2:]).swapaxes(0, 1), batch)


def _forward(loss, params, blocks, keys):
  grad = jax.value_and_grad(loss, has_aux=True)
  return _mean(lambda block, key: grad(params, block, key), blocks, keys)


def _backward(loss, gradient, cotangents):
  del loss
  return jax.tree.map(lambda g: cotangents[0] * g, gradient), None, None


def _mean(term: Callable, blocks: PyTree, keys: jax.Array) -> PyTree:
  """The mean of term(block, key) over blocks, a pytree of arrays."""
  shapes = jax.eval_shape(term, jax.tree.map(lambda a: a[0], blocks), keys[0])
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  total, _ = jax.lax.scan(lambda sums, b: (jax.tree.map(jnp.add, sums, term(*b)), None), zeros, (blocks, keys))
  return jax.tree.map(lambda a: a / keys.shape[0], total)


mean_over_blocks.defvjp(_forward, _backward)
