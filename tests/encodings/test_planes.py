"""Planes against slow float64 loops, their derivatives against finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.encodings import kplanes, triplane
from fields3d.encodings.hashgrid import resolutions

SIZE = {"levels": 2, "features": 3, "coarsest": 4, "finest": 9}
KINDS = {"triplane": (triplane, np.sum), "kplanes": (kplanes, np.prod)}


def loop(params, x, join):
  """Features (n, levels * features), one corner at a time."""
  out = np.zeros((len(x), 2, 3))
  for level, n in enumerate(int(c) for c in resolutions(2, 4, 9)):
    planes = params[f"planes_{level}"].reshape(3, 3, n + 1, n + 1)  # plane, feature, second axis, first axis
    for p, point in enumerate(np.clip(x, -1, 1)):
      read = np.zeros((3, 3))
      for i, axes in enumerate(((0, 1), (0, 2), (1, 2))):
        position = (point[list(axes)] + 1) / 2 * n
        low = np.minimum(position.astype(int), n - 1)
        for a, b in itertools.product((0, 1), repeat=2):
          w = np.abs(1 - a - (position - low)[0]) * np.abs(1 - b - (position - low)[1])
          read[i] += w * planes[i, :, low[1] + b, low[0] + a]
      out[p, level] = join(read, axis=0)
  return out.reshape(len(x), -1)


@pytest.fixture(params=sorted(KINDS))
def case(request):
  make, join = KINDS[request.param]
  rng = np.random.default_rng(0)
  encoding = make(**SIZE)
  shapes = jax.eval_shape(encoding.init, jax.random.key(0))
  return encoding, {name: rng.normal(size=leaf.shape) for name, leaf in shapes.items()}, join


def test_they_equal_a_float64_loop(case):
  encoding, params, join = case
  x = np.concatenate([np.random.default_rng(1).uniform(-1.1, 1.1, (30, 3)), np.ones((1, 3)), -np.ones((1, 3))])
  with jax.enable_x64(True):
    out = encoding.apply(jax.tree.map(jnp.asarray, params), jnp.asarray(x))
  np.testing.assert_allclose(out, loop(params, x, join), rtol=1e-10, atol=1e-10)  # values are O(1)


def test_first_and_second_derivatives_equal_finite_differences(case):
  encoding, params, join = case
  rng = np.random.default_rng(2)
  x, step = rng.uniform(-0.95, 0.95, (6, 3)), rng.normal(size=(6, 3))
  move = {name: rng.normal(size=leaf.shape) for name, leaf in params.items()}
  h = 1e-6
  with jax.enable_x64(True):
    value = jax.jit(lambda p, q: jnp.sum(jnp.sin(encoding.apply(p, q))))
    slope = jax.jit(lambda p, q: jnp.sum(jax.grad(value, 1)(p, q) * step))
    at = lambda t: {name: leaf + t * move[name] for name, leaf in params.items()}
    np.testing.assert_allclose(slope(params, x), (value(params, x + h * step) - value(params, x - h * step)) / (2 * h),
                               rtol=1e-5)
    second = jax.jit(jax.grad(slope))(params, x)
    along = sum(np.sum(np.asarray(second[name]) * move[name]) for name in params)
    np.testing.assert_allclose(along, (slope(at(h), x) - slope(at(-h), x)) / (2 * h), rtol=1e-5)


def test_a_product_starts_away_from_zero():
  planes = kplanes(**SIZE).init(jax.random.key(0))["planes_0"]
  assert 0.1 <= float(planes.min()) and float(planes.max()) <= 0.5


@pytest.mark.parametrize("make", [triplane, kplanes])
def test_a_finest_level_below_the_coarsest_is_refused(make):
  with pytest.raises(UsageFault, match="below coarsest"):
    make(coarsest=64, finest=32)
