"""Coins of dropout: fair, independent of one another, of the layer and of the sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fields3d.networks.dropout import dropout, keep_mask

SHAPE = (1024, 512)


def correlation(a, b):
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std())


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate(rate):
  mask = np.asarray(keep_mask(jax.random.key(1), SHAPE, rate), np.float64)
  sigma = np.sqrt(rate * (1 - rate))
  assert abs(mask.mean() - (1 - rate)) < 4 * sigma / np.sqrt(mask.size)
  # Of rows and columns too: their means scatter as those of independent coins do (chi squared at 4 sigma).
  for axis, n in ((0, SHAPE[0]), (1, SHAPE[1])):
    z = (mask.mean(axis) - (1 - rate)) / (sigma / np.sqrt(n))
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / z.size)


def test_neighbours_and_keys_are_independent():
  key = jax.random.key(3)
  mask = keep_mask(key, SHAPE, 0.5)
  bound = 4 / np.sqrt(mask.size)
  for shift in (1, 2, 256):
    assert abs(correlation(mask[shift:], mask[:-shift])) < 1.1 * bound
    assert abs(correlation(mask[:, shift:], mask[:, :-shift])) < 1.5 * bound
  for other in (jax.random.fold_in(key, 0), jax.random.fold_in(key, 1), jax.random.key(4)):
    assert abs(correlation(mask, keep_mask(other, SHAPE, 0.5))) < bound


def test_keys_that_differ_in_one_bit_give_unrelated_masks_not_shifted_ones():
  # Keys whose words are neighbours: the second mask must not be the first with its entries moved about.
  first = keep_mask(jax.random.wrap_key_data(jnp.asarray([7, 9], jnp.uint32)), (64, 64), 0.5)
  for words in ([6, 9], [7, 8], [7, 10]):
    second = keep_mask(jax.random.wrap_key_data(jnp.asarray(words, jnp.uint32)), (64, 64), 0.5)
    assert abs(correlation(first, second)) < 4 / 64


def test_dropout_keeps_the_mean_and_its_gradient_is_the_mask():
  h = jnp.ones(SHAPE)
  out = dropout(jax.random.key(0), h, 0.2)
  assert sorted(np.unique(out).tolist()) == [0.0, 1.25]
  assert abs(float(jnp.mean(out)) - 1) < 4 * 0.5 / np.sqrt(h.size)
  gradient = jax.grad(lambda h: jnp.sum(dropout(jax.random.key(0), h, 0.2)))(h)
  np.testing.assert_array_equal(gradient, out)


def test_masks_do_not_depend_on_the_sharding():
  mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  h = jax.random.normal(jax.random.key(0), (64, 32))
  sharded = jax.device_put(h, NamedSharding(mesh, PartitionSpec("data")))
  drop = jax.jit(lambda h: dropout(jax.random.key(5), h, 0.3))
  np.testing.assert_array_equal(drop(sharded), drop(h))


def test_masks_are_the_same_on_every_platform_and_version():
  # The first eight coins of one key, worked out by hand from the definition in Python integers.
  words = np.asarray(jax.random.bits(jax.random.key(0), (2,), jnp.uint32)).tolist()

  def mix(x):
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
    return x ^ (x >> 16)

  expected = [mix((mix(i ^ words[0]) + words[1]) % 2**32) >= 0.2 * 2**32 for i in range(1000)]
  assert np.asarray(keep_mask(jax.random.key(0), (10, 100), 0.2)).reshape(-1).tolist() == expected
