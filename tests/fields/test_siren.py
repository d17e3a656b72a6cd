"""SIREN: the distributions that its initial weights promise, its frequency, its smoothness."""

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.fields.siren import siren

NO_CODE = jnp.zeros((0,))


def hidden(params, x):
  """Each hidden layer's argument of the sine and its output, in plain numpy."""
  h, out = np.asarray(x, np.float64), []
  for i in range(len(params) - 1):
    layer = params[f"layer_{i}"]
    argument = 30 * (h @ np.asarray(layer["w"], np.float64) + np.asarray(layer["b"], np.float64))
    h = np.sin(argument)
    out.append((argument, h))
  return out


def test_every_layer_starts_with_the_same_distribution():
  # The paper's theorem: arguments near a standard normal (here plus the bias, +-30/sqrt(fan_in)), outputs arcsine with
  # variance 1/2, at any depth.
  width = 512
  params = siren(width=width, depth=6).init(jax.random.key(0))
  x = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
  for argument, h in hidden(params, x)[1:]:
    bias = 30**2 / width / 3
    np.testing.assert_allclose(argument.var(), 1 + bias, rtol=0.15)
    np.testing.assert_allclose(h.var(), 0.5, rtol=0.15)


def test_the_field_is_the_paper_s_composition():
  field = siren(width=16, depth=3, channels=4)
  params = field.init(jax.random.key(1))
  x = np.random.default_rng(0).uniform(-1, 1, (10, 3)).astype(np.float32)
  last = params["layer_3"]
  truth = hidden(params, x)[-1][1] @ np.asarray(last["w"], np.float64) + np.asarray(last["b"], np.float64)
  np.testing.assert_allclose(field.apply(params, x, NO_CODE), truth, rtol=1e-4, atol=1e-5)  # values are O(0.1)


def test_half_the_frequency_is_the_field_at_half_the_point():
  x = jax.random.uniform(jax.random.key(2), (20, 3))
  slow, fast = siren(width=32, w0=15.0), siren(width=32, w0=30.0)
  key = jax.random.key(0)
  np.testing.assert_allclose(slow.apply(slow.init(key), x, NO_CODE), fast.apply(fast.init(key), x / 2, NO_CODE),
                             rtol=1e-3, atol=1e-5)  # sines of arguments near 30; values are O(0.1)


def test_the_width_of_the_code_leaves_the_points_frequencies_alone():
  plain, coded = siren(width=256, depth=1), siren(width=256, depth=1, code_dim=64)
  spread = [np.asarray(f.init(jax.random.key(0))["layer_0"]["w"])[-3:].std() for f in (plain, coded)]
  np.testing.assert_allclose(spread, 1 / 3 / np.sqrt(3), rtol=0.1)


def test_second_derivatives_equal_float64_finite_differences():
  field = siren(width=16, depth=2, code_dim=2)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda a: a.astype(jnp.float64), field.init(jax.random.key(0)))
    f = lambda q: field.apply(params, q[None], jnp.asarray([0.3, -0.2]))[0, 0]
    x, h = jnp.asarray([0.1, 0.5, -0.7]), 1e-4
    hessian = np.asarray(jax.jit(jax.hessian(f))(x))
    steps = h * np.eye(3)
    slope = jax.jit(jax.grad(f))
    numeric = np.stack([np.asarray(slope(x + s) - slope(x - s)) / (2 * h) for s in steps])
  np.testing.assert_allclose(hessian, numeric, atol=1e-4 * np.abs(hessian).max())
