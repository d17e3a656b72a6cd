"""The hash grid against a slow float64 loop, its derivatives against finite differences, and what it interpolates."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.encodings.hashgrid import hashgrid, resolutions
from fields3d.encodings.planes import kplanes, triplane

KINDS = ("linear", "smoothstep", "quintic")
SMALL = {"levels": 4, "features": 3, "log2_rows": 9, "coarsest": 4, "finest": 40}  # 4 cells dense, 40 hashed


def ease(t, kind):
  return {"linear": t, "smoothstep": 3 * t**2 - 2 * t**3, "quintic": 6 * t**5 - 15 * t**4 + 10 * t**3}[kind]


def loop(table, x, cells, kind):
  """Features (n, levels * features) of points x (n, 3), one corner at a time, in python integers and float64."""
  levels, features, rows = table.shape
  shift = 0.0 if kind == "linear" else 0.5
  out = np.zeros((len(x), levels, features))
  for p, point in enumerate(np.clip(x, -1, 1)):
    for level, n in enumerate(int(c) for c in cells):
      per_axis = n + (1 if kind == "linear" else 2)
      position = (point + 1) / 2 * n + shift
      low = [min(int(np.floor(q)), per_axis - 2) for q in position]
      for corner in itertools.product((0, 1), repeat=3):
        node = [a + b for a, b in zip(low, corner, strict=True)]
        if per_axis**3 <= rows:
          row = node[0] + per_axis * (node[1] + per_axis * node[2])
        else:
          row = 0
          for a, prime in zip(node, (1, 2654435761, 805459861), strict=True):
            row ^= (a * prime) % 2**32
          row %= rows
        w = 1.0
        for q, a, b in zip(position, low, corner, strict=True):
          t = ease(q - a, kind)
          w *= t if b else 1 - t
        out[p, level] += w * table[level, :, row]
  return out.reshape(len(x), -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unroll", [1, 4])
def test_it_equals_a_float64_loop(kind, unroll):
  rng = np.random.default_rng(0)
  x = np.concatenate([rng.uniform(-1.1, 1.1, (40, 3)), np.ones((1, 3)), -np.ones((1, 3)), np.zeros((1, 3))])
  table = rng.normal(size=(4, 3, 512))
  with jax.enable_x64(True):
    out = hashgrid(**SMALL, interpolation=kind, unroll=unroll).apply({"table": jnp.asarray(table)}, jnp.asarray(x))
  np.testing.assert_allclose(out, loop(table, x, resolutions(4, 4, 40), kind), rtol=1e-10, atol=1e-10)  # O(1)


def test_a_dense_level_reproduces_a_trilinear_function_exactly():
  n = 5
  nodes = np.stack(np.meshgrid(*[np.linspace(-1, 1, n + 1)] * 3, indexing="ij"), -1)
  f = lambda p: 1 + 2 * p[..., 0] - p[..., 1] * p[..., 2] + 0.5 * p[..., 0] * p[..., 1] * p[..., 2]
  table = np.zeros((1, 1, 256))
  table[0, 0, :(n + 1)**3] = f(nodes).transpose(2, 1, 0).ravel()  # x fastest
  x = np.random.default_rng(2).uniform(-1, 1, (200, 3))
  with jax.enable_x64(True):
    grid = hashgrid(levels=1, features=1, log2_rows=8, coarsest=n, finest=n)
    out = grid.apply({"table": jnp.asarray(table)}, jnp.asarray(x))
  np.testing.assert_allclose(out[:, 0], f(x), rtol=1e-12, atol=1e-12)  # values are O(1)


def test_a_constant_table_is_a_constant_field():
  for kind in KINDS:
    out = hashgrid(**SMALL, interpolation=kind).apply({"table": jnp.full((4, 3, 512), 0.7)},
                                                      jax.random.uniform(jax.random.key(0), (50, 3)))
    np.testing.assert_allclose(out, 0.7, rtol=1e-5)


@pytest.mark.parametrize("kind, order", [("linear", 0), ("smoothstep", 1), ("quintic", 2)])
def test_derivatives_are_continuous_across_cells_up_to_the_order_of_the_kind(kind, order):
  # One level of 8 cells: the face between two cells is at u = 0.5 without the half-cell offset, at 0.5625 with it.
  # Along an axis each side is a polynomial of degree 5 at most, so six points give its derivatives at the face.
  face, h = 2 * (0.5 if kind == "linear" else 0.5625) - 1, 0.02
  s = np.concatenate([face - h * np.arange(1, 7), face + h * np.arange(1, 7)])
  with jax.enable_x64(True):
    grid = hashgrid(levels=1, features=1, log2_rows=10, coarsest=8, finest=8, interpolation=kind)
    params = {"table": jax.random.normal(jax.random.key(0), (1, 1, 1024), jnp.float64)}
    values = np.asarray(grid.apply(params, jnp.asarray(np.stack([s, 0.13 + 0 * s, 0.41 + 0 * s], axis=1))))[:, 0]
  left, right = (np.polynomial.Polynomial.fit((s - face)[i], values[i], 5).convert() for i in (slice(6), slice(6, 12)))
  jumps = [abs(left.deriv(k)(0) - right.deriv(k)(0)) if k else abs(left(0) - right(0)) for k in range(order + 2)]
  np.testing.assert_allclose(jumps[:-1], 0, atol=1e-6)  # derivatives are of order 8^k or more
  assert jumps[-1] > 1


def value(grid, table, x):
  """A scalar field with curvature everywhere: the sum of the features' sines, (n,)."""
  return jnp.sum(jnp.sin(grid.apply({"table": table}, x)), axis=-1)


def eikonal(grid, table, x):
  """The loss whose gradient needs second derivatives: mean (|grad value| - 1)^2."""
  normals = jax.vmap(jax.grad(lambda q: value(grid, table, q[None])[0]))(x)
  return jnp.mean((jnp.sqrt(jnp.sum(normals**2, axis=-1)) - 1) ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_eikonal_gradient_equals_float64_finite_differences(kind):
  rng = np.random.default_rng(3)
  grid = hashgrid(levels=2, features=2, log2_rows=6, coarsest=2, finest=9, interpolation=kind)
  x, table = rng.uniform(-0.9, 0.9, (12, 3)), rng.normal(size=(2, 2, 64))
  to_x, to_table = rng.normal(size=x.shape), rng.normal(size=table.shape)
  with jax.enable_x64(True):
    f = jax.jit(lambda t, q: value(grid, t, q))

    def differenced(h, inner=1e-5):  # the loss without a single derivative, moved by h
      t, q = table + h * to_table, x + h * to_x
      normals = np.stack([f(t, q + inner * e) - f(t, q - inner * e) for e in np.eye(3)[:, None]]) / (2 * inner)
      return float(np.mean((np.linalg.norm(normals, axis=0) - 1) ** 2))

    by_table, by_x = jax.jit(jax.grad(lambda t, q: eikonal(grid, t, q), (0, 1)))(table, x)
    slope = np.sum(np.asarray(by_table) * to_table) + np.sum(np.asarray(by_x) * to_x)
    np.testing.assert_allclose(slope, (differenced(1e-5) - differenced(-1e-5)) / 2e-5, rtol=1e-5)


def test_single_precision_eikonal_gradients_are_good_to_a_ten_thousandth():
  rng = np.random.default_rng(4)
  grid = hashgrid(levels=2, features=2, log2_rows=6, coarsest=2, finest=9, interpolation="smoothstep")
  x, table = rng.uniform(-0.9, 0.9, (64, 3)), rng.normal(size=(2, 2, 64))
  gradient = jax.jit(jax.grad(lambda t, q: eikonal(grid, t, q)))
  single = gradient(jnp.asarray(table, jnp.float32), jnp.asarray(x, jnp.float32))
  with jax.enable_x64(True):
    # The same points in both: float32 ones, so that none falls into another cell.
    double = np.asarray(gradient(jnp.asarray(table, jnp.float32).astype(jnp.float64),
                                 jnp.asarray(x, jnp.float32).astype(jnp.float64)))
  assert np.linalg.norm(single - double) < 1e-4 * np.linalg.norm(double)


def test_outside_the_box_the_nearest_face_speaks():
  grid = hashgrid(**SMALL)
  params = {"table": jax.random.normal(jax.random.key(0), (4, 3, 512))}
  outside = grid.apply(params, jnp.asarray([[1.5, 0.2, -3.0]]))
  np.testing.assert_array_equal(outside, grid.apply(params, jnp.asarray([[1.0, 0.2, -1.0]])))


def test_non_finite_points_read_no_other_memory():
  grid = hashgrid(**SMALL)
  out = grid.apply(grid.init(jax.random.key(0)), jnp.asarray([[jnp.nan, 0.0, 0.0], [jnp.inf, 0.0, 0.0]]))
  assert bool(jnp.all(jnp.isnan(out[0]))) and bool(jnp.all(jnp.isfinite(out[1])))


def test_levels_grow_geometrically_and_end_at_the_finest():
  n = resolutions(8, 16, 300)
  assert n[0] == 16 and n[-1] == 300
  np.testing.assert_allclose(n[1:] / n[:-1], (300 / 16) ** (1 / 7), rtol=0.04)  # rounding to whole cells
  assert resolutions(1, 16, 16).tolist() == [16]


def test_the_initial_table_is_small_and_centred():
  table = np.asarray(hashgrid(levels=2, log2_rows=14).init(jax.random.key(0))["table"])
  assert table.shape == (2, 2, 2**14) and np.abs(table).max() <= 1e-4
  assert abs(table.mean()) < 4 * 1e-4 / np.sqrt(3 * table.size)  # 4 standard errors


def test_a_finest_level_below_the_coarsest_is_refused():
  with pytest.raises(UsageFault, match="below coarsest"):
    hashgrid(coarsest=64, finest=32)


def test_frozen_levels_get_no_gradient_and_change_no_value():
  x = jax.random.uniform(jax.random.key(1), (20, 3), minval=-1)
  grid, frozen = hashgrid(**SMALL), hashgrid(**SMALL, frozen=(0, 2))
  params = grid.init(jax.random.key(0))
  np.testing.assert_array_equal(frozen.apply(params, x), grid.apply(params, x))
  slope = [np.asarray(jax.grad(lambda p, g=g: jnp.sum(jnp.sin(g.apply(p, x))))(params)["table"]) for g in (grid, frozen)]
  np.testing.assert_array_equal(slope[1], slope[0] * np.array([0, 1, 0, 1])[:, None, None])
  with pytest.raises(UsageFault, match="level 4 does not exist"):
    hashgrid(**SMALL, frozen=(4,))


def test_a_cone_scales_levels_down_by_the_gaussian_inside_their_cells():
  x, radius = jax.random.uniform(jax.random.key(1), (5, 3)), np.array([0.0, 0.01, 0.1, 0.5, 2.0])
  grid = hashgrid(**SMALL, antialias=True)
  params = {"table": jnp.ones((4, 3, 512))}
  out = np.asarray(grid.apply(params, x, radius=jnp.asarray(radius))).reshape(5, 4, 3)
  for i, n in enumerate(resolutions(4, 4, 40)):
    sigma = radius / 4  # a disc's standard deviation, where the box is one unit wide
    expected = [math.erf(1 / math.sqrt(8 * s**2 * n**2)) if s else 1.0 for s in sigma]
    np.testing.assert_allclose(out[:, i], np.repeat(np.array(expected)[:, None], 3, axis=1), rtol=1e-4)
  np.testing.assert_array_equal(hashgrid(**SMALL).apply(params, x, radius=jnp.asarray(radius)), grid.apply(params, x))
  slope = jax.grad(lambda r: jnp.sum(grid.apply(params, x, radius=r)))(jnp.asarray(radius, jnp.float32))
  assert bool(jnp.all(jnp.isfinite(slope)))


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("unroll", [1, 4])
def test_a_table_cut_by_levels_or_rows_gives_the_same_features_and_gradients(axis, unroll):
  grid = hashgrid(**SMALL, unroll=unroll)
  table = jax.random.normal(jax.random.key(0), (4, 3, 512))
  x = jax.random.uniform(jax.random.key(1), (64, 3), minval=-1)
  mesh = jax.make_mesh((4,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
  cut = jax.device_put(table, jax.NamedSharding(mesh, jax.P(*(None,) * axis, "model")))
  both = jax.jit(jax.value_and_grad(lambda t: jnp.sum(jnp.sin(grid.apply({"table": t}, x)))))
  for ours, whole in zip(both(cut), both(table), strict=True):
    np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-5)  # sums of numbers of order 1


def test_forward_mode_equals_reverse_mode():
  grid = hashgrid(**SMALL)
  params = {"table": jax.random.normal(jax.random.key(0), (4, 3, 512))}
  x = jax.random.uniform(jax.random.key(1), (3,), minval=-1)
  np.testing.assert_allclose(jax.jacfwd(grid.apply, 1)(params, x), jax.jacrev(grid.apply, 1)(params, x), rtol=1e-4,
                             atol=1e-4)  # slopes are of order 10


@pytest.mark.parametrize("encoding", [hashgrid, triplane, kplanes])
def test_one_level_has_one_number_of_cells(encoding):
  with pytest.raises(UsageFault, match="there is one level"):
    encoding(levels=1, coarsest=8, finest=16)
