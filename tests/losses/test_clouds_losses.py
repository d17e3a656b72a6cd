"""Distances of clouds as losses: their values and gradients against float64 and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.spatial

from fields3d.core.errors import UsageFault
from fields3d.losses.clouds import chamfer, emd, nearest_points

LOSSES = [(chamfer, True), (chamfer, False), (emd, True), (emd, False)]


def clouds(n=37, m=37, rows=2, seed=0):
  draw = np.random.default_rng(seed)
  return tuple(draw.normal(size=(rows, k, 3)).astype(np.float32) for k in (n, m))


def slow(loss, squared, a, b):
  """Row by row in float64, from the whole matrix of distances."""
  out = []
  for x, y in zip(a.astype(np.float64), b.astype(np.float64), strict=True):
    costs = scipy.spatial.distance.cdist(x, y) ** (2 if squared else 1)
    out.append(costs.min(1).mean() + costs.min(0).mean() if loss is chamfer else
               costs[scipy.optimize.linear_sum_assignment(costs)].mean())
  return np.array(out)


@pytest.mark.parametrize("loss, squared", LOSSES)
def test_values_and_gradients_are_those_of_float64(loss, squared):
  a, b = clouds()
  value = lambda a, b: loss(a, b, squared)
  np.testing.assert_allclose(jax.jit(value)(a, b), slow(loss, squared, a, b), rtol=1e-6)
  weight = np.array([1.0, -2.0], np.float32)
  got = jax.jit(jax.grad(lambda a, b: jnp.sum(jnp.asarray(weight) * value(a, b)), argnums=(0, 1)))(a, b)
  for of, gradient in enumerate(got):
    for row, point, axis in [(0, 3, 1), (1, 36, 2), (1, 0, 0)]:
      moved = []
      for step in (-1e-6, 1e-6):
        pair = [a.astype(np.float64), b.astype(np.float64)]
        pair[of][row, point, axis] += step
        moved.append(weight @ slow(loss, squared, *pair))
      np.testing.assert_allclose(gradient[row, point, axis], (moved[1] - moved[0]) / 2e-6, rtol=1e-4, atol=1e-6)
      # entries of order 1/37; the difference itself is good to 1e-9


@pytest.mark.parametrize("n, m", [(5, 40), (48, 17), (1, 3)])
def test_neighbours_are_scipys_for_clouds_of_different_sizes(n, m):
  a, b = clouds(n, m)
  to_b, to_a = nearest_points(jnp.asarray(a), jnp.asarray(b))
  for row in range(len(a)):
    np.testing.assert_array_equal(to_b[row], scipy.spatial.cKDTree(b[row]).query(a[row])[1])
    np.testing.assert_array_equal(to_a[row], scipy.spatial.cKDTree(a[row]).query(b[row])[1])


@pytest.mark.parametrize("loss, squared", LOSSES)
def test_the_order_of_points_is_nothing_and_a_cloud_is_at_no_distance_from_itself(loss, squared):
  a, b = clouds(seed=1)
  order = np.random.default_rng(2).permutation(a.shape[1])
  np.testing.assert_allclose(loss(a[:, order], b, squared), loss(a, b, squared), rtol=1e-6)
  value, gradient = jax.value_and_grad(lambda a: jnp.sum(loss(a, jnp.asarray(b[:, order]), squared)))(jnp.asarray(b))
  np.testing.assert_array_equal(value, 0)
  np.testing.assert_array_equal(gradient, np.zeros(b.shape))


def test_no_residual_is_as_large_as_all_pairs():
  a, b = clouds(200, 300)
  _, pull = jax.vjp(chamfer, jnp.asarray(a), jnp.asarray(b))
  assert max(x.size for x in jax.tree.leaves(pull)) <= 2 * 300 * 3


def test_a_row_that_is_not_finite_spoils_no_other_and_is_not_finite():
  a, b = clouds()
  a[0, 5, 1] = np.nan
  for loss in (chamfer, emd):
    value = np.asarray(loss(jnp.asarray(a), jnp.asarray(b), True))
    assert not np.isfinite(value[0])
    np.testing.assert_allclose(value[1], slow(loss, True, a[1:], b[1:])[0], rtol=1e-6)


def test_no_matching_of_clouds_of_different_sizes():
  with pytest.raises(UsageFault, match="one to one"):
    emd(*map(jnp.asarray, clouds(4, 5)))
