"""Point-voxel convolution against a dense float64 loop over points and voxels; balls and spreading likewise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.numerics import Policy
from fields3d.networks.point_neighbours import ball, spread
from fields3d.networks.point_voxels import from_voxels, init_pvconv, pvconv, to_voxels
from fields3d.networks.voxel_blocks import convolve

R, ROWS, POINTS, CHANNELS, OUT, CONDITION = 4, 2, 30, 3, 16, 5
DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((ROWS, POINTS, 3)).astype(np.float32)
FEATURES = DRAW.standard_normal((ROWS, POINTS, CHANNELS)).astype(np.float32)
E = DRAW.standard_normal((ROWS, CONDITION)).astype(np.float32)
PARAMS = jax.tree.map(lambda leaf: 0.4 * DRAW.standard_normal(leaf.shape),
                      jax.eval_shape(lambda key: init_pvconv(key, CHANNELS, OUT, CONDITION), jax.random.key(0)))
NODES = list(itertools.product(range(R), repeat=3))

swish = lambda h: h / (1 + np.exp(-h))
affine = lambda layer, h: h @ layer["w"] + layer["b"]


def standing(x):
  """Places (n, 3) in nodes."""
  x = x.astype(np.float64) - x.astype(np.float64).mean(0)
  return np.clip((x / (2 * np.linalg.norm(x, axis=1).max()) + 0.5) * R, 0, R - 1)


def voxels_of(where, features):
  """{node: mean of the features of the points nearest to it}."""
  at = {node: [f for p, f in zip(where, features) if tuple(np.rint(p).astype(int)) == node] for node in NODES}
  return {node: np.mean(found, axis=0, dtype=np.float64) if found else np.zeros(features.shape[1])
          for node, found in at.items()}


def convolved(layer, voxels):
  """{node: sum over the 27 nodes around it, those outside being 0}."""
  shifts = list(itertools.product((-1, 0, 1), repeat=3))
  return {n: layer["b"] + sum(voxels[m] @ layer["w"][tuple(np.add(s, 1))] for s in shifts
                              if (m := tuple(np.add(n, s))) in voxels) for n in NODES}


def normed(layer, rows, e):
  """Group norm of rows (m, c), 8 groups."""
  out = np.empty_like(rows)
  for group in np.split(np.arange(rows.shape[1]), 8):
    out[:, group] = (rows[:, group] - rows[:, group].mean()) / np.sqrt(rows[:, group].var() + 1e-5)
  scale, shift = np.split(affine(layer, e.astype(np.float64)), 2)
  return out * (1 + scale) + shift


def read(voxels, p):
  """Each node's features by its trilinear hat."""
  return sum(f * np.prod(np.maximum(0, 1 - np.abs(p - node))) for node, f in voxels.items())


def dense_pvconv(x, features, e):
  """One row, (n, OUT)."""
  where = standing(x)
  voxels = voxels_of(where, features)
  for i in range(2):
    voxels = convolved(PARAMS[f"conv_{i}"], voxels)
    voxels = dict(zip(NODES, swish(normed(PARAMS[f"norm_{i}"], np.stack([voxels[n] for n in NODES]), e))))
  gate = np.maximum(affine(PARAMS["squeeze"], np.mean(list(voxels.values()), axis=0)), 0)
  gate = 1 / (1 + np.exp(-affine(PARAMS["excite"], gate)))
  layer = PARAMS["points"]["layer_0"]
  own = swish(normed(layer["norm"], affine(layer["dense"], features.astype(np.float64)), e))
  return np.stack([gate * read(voxels, p) for p in where]) + own


FLOATS = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
run = jax.jit(lambda x, features: pvconv(FLOATS, x, features, jnp.asarray(E), R, Policy()))


def test_pvconv_is_the_dense_loops_over_points_and_voxels():
  expected = np.stack([dense_pvconv(*row) for row in zip(X, FEATURES, E)])
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(run(X, FEATURES), expected, rtol=1e-4, atol=2e-5)  # values near 1


def test_the_convolutions_own_gradients_are_those_of_jaxs_convolution():
  draw = np.random.default_rng(4)
  h, w, g = (jnp.asarray(draw.standard_normal(shape), jnp.float32)
             for shape in ((2, 2, 3, 4, 3), (3, 3, 3, 3, 5), (2, 2, 3, 4, 5)))
  own = lambda h, w: convolve({"w": w, "b": jnp.zeros(5)}, h, Policy())
  jaxs = lambda h, w: jax.lax.conv_general_dilated(h, w, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
  for found, expected in zip(*(jax.jit(lambda h, w, f=f: jax.vjp(f, h, w)[1](g))(h, w) for f in (own, jaxs))):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # sums of 50 to 135 terms near 1


def test_pvconv_hears_neither_order_nor_shift_nor_scale():
  order = np.random.default_rng(2).permutation(POINTS)
  base = run(X, FEATURES)
  np.testing.assert_allclose(run(X[:, order], FEATURES[:, order]), base[:, order], rtol=1e-4, atol=1e-5)  # near 1
  np.testing.assert_allclose(run(4 * X + 2, FEATURES), base, rtol=1e-4, atol=1e-4)  # places near 1 round


def test_voxels_have_the_gradients_of_means_and_hats():
  """<w, read(means(f))> is linear in f: its gradient is the loops' own matrix, transposed."""
  w = np.random.default_rng(3).standard_normal((POINTS, CHANNELS))
  where = standing(X[0])
  nodes = [tuple(np.rint(p).astype(int)) for p in where]
  hat = np.array([[np.prod(np.maximum(0, 1 - np.abs(p - node))) / nodes.count(node) for node in nodes] for p in where])

  def score(features):
    voxels, where = to_voxels(jnp.asarray(X[:1]), features, R)
    return jnp.sum(from_voxels(voxels, where)[0] * w.astype(np.float32))

  np.testing.assert_allclose(jax.grad(score)(jnp.asarray(FEATURES[:1]))[0], hat.T @ w, rtol=1e-4, atol=1e-5)  # near 1


def test_clouds_of_one_place_are_finite_and_grids_of_one_voxel_are_the_mean():
  voxels, where = to_voxels(jnp.ones((1, 5, 3)), jnp.ones((1, 5, 2)), 3)
  assert np.isfinite(from_voxels(voxels, where)).all() and float(voxels.sum()) == 2
  voxels, where = to_voxels(jnp.asarray(X), jnp.asarray(FEATURES), 1)
  expected = np.broadcast_to(FEATURES.mean(1, keepdims=True), FEATURES.shape)
  np.testing.assert_allclose(from_voxels(voxels, where), expected, rtol=1e-5, atol=1e-6)  # values near 0.1


@pytest.mark.parametrize("radius", [0.6, 1.5])
def test_balls_hold_the_nearest_points_within_the_radius(radius):
  found = ball(jnp.asarray(X[:, :7]), jnp.asarray(X), radius, 6)
  for row in range(ROWS):
    for i in range(7):
      distance = np.linalg.norm(X[row].astype(np.float64) - X[row, i], axis=1)
      order = [j for j in np.argsort(distance)[:6] if distance[j] <= radius]
      assert found[row, i].tolist() == order + order[:1] * (6 - len(order))


def test_spread_features_are_means_by_inverse_squares_of_the_three_nearest():
  centres, h = X[:, :8] + 0.1, FEATURES[:, :8]
  out = spread(jnp.asarray(X), jnp.asarray(centres), jnp.asarray(h))
  for row in range(ROWS):
    for i in range(POINTS):
      square = np.sum((centres[row].astype(np.float64) - X[row, i]) ** 2, axis=1)
      near = np.argsort(square)[:3]
      expected = np.average(h[row, near], axis=0, weights=1 / square[near])
      np.testing.assert_allclose(out[row, i], expected, rtol=1e-4, atol=1e-5)  # values near 1
