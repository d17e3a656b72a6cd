"""Normalising flows against dense Jacobians, their own inverses and integrals over the plane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.generative import FLOWS
from fields3d.generative.splines import knots, spline

FLOW_NAMES = ("realnvp", "spline")  # a row per entry of the table


def made(name, dim, context_dim=0, scale=0.3):
  """A flow with parameters as after training: none of them 0."""
  flow = build(FLOWS, dict(name=name, layers=4, width=8))
  draw = np.random.default_rng(dim)
  params = jax.tree.map(lambda x: jnp.asarray(scale * draw.standard_normal(x.shape), jnp.float32),
                        jax.eval_shape(lambda key: flow.init(key, dim, context_dim), jax.random.key(0)))
  return flow, params


def test_the_table_and_these_tests_name_the_same_flows():
  assert set(FLOW_NAMES) == set(FLOWS)


@pytest.mark.parametrize("name", FLOW_NAMES)
@pytest.mark.parametrize("dim, context_dim", [(5, 2), (1, 1), (1, 0)])
def test_log_prob_is_the_change_of_variables_by_a_dense_jacobian_and_inverse_inverts(name, dim, context_dim):
  flow, params = made(name, dim, context_dim)
  draw = np.random.default_rng(0)
  z = jnp.asarray(2 * draw.standard_normal((16, dim)), jnp.float32)
  context = jnp.asarray(draw.standard_normal((16, context_dim)), jnp.float32) if context_dim else None

  @jax.jit
  def both(params, z, context):
    noise, _ = flow.forward(params, z, context)
    one = lambda z, c: flow.forward(params, z[None], None if c is None else c[None])[0][0]
    jacobian = jax.vmap(jax.jacfwd(one), in_axes=(0, None if context is None else 0))(z, context)
    return noise, jacobian, flow.log_prob(params, z, context), flow.inverse(params, noise, context)

  noise, jacobian, log_prob, back = (np.asarray(a, np.float64) for a in both(params, z, context))
  expected = (np.linalg.slogdet(jacobian)[1] - np.sum(noise**2, axis=1) / 2 - dim / 2 * np.log(2 * np.pi))
  np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)  # nats, of values near 10
  np.testing.assert_allclose(back, z, rtol=1e-4, atol=1e-4)  # values near 2, through slopes of up to 100


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_a_density_on_the_plane_integrates_to_one_for_every_context(name):
  flow, params = made(name, 2, 1)
  side = np.linspace(-12, 12, 481)
  grid = jnp.asarray(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), jnp.float32)
  density = jax.jit(lambda params, context: jnp.exp(flow.log_prob(params, grid, context)))
  values = [np.asarray(density(params, jnp.full((len(grid), 1), c)), np.float64) for c in (-1.0, 2.0)]
  for value in values:
    assert abs(value.sum() * (side[1] - side[0]) ** 2 - 1) < 2e-3  # midpoints of 0.05; RealNVP's tails end before 12
  assert np.abs(values[0] - values[1]).max() > 1e-3  # and the context is heard


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_a_new_flow_is_the_standard_normal_and_its_samples_follow_it(name):
  flow = build(FLOWS, dict(name=name, layers=2, width=8))
  params = flow.init(jax.random.key(0), 3)
  z = jnp.asarray([[0.5, -1.0, 6.0]])
  np.testing.assert_allclose(jax.jit(flow.log_prob)(params, z), -(0.25 + 1 + 36) / 2 - 1.5 * np.log(2 * np.pi), rtol=1e-6)
  params = {**params, "shift": jnp.asarray([1.0, 2.0, 3.0]), "log_scale": jnp.log(jnp.asarray([0.1, 1.0, 10.0]))}
  draws = np.asarray(flow.sample(params, jax.random.key(1), 40_000))
  standard = (draws - np.asarray([1, 2, 3])) / np.asarray([0.1, 1.0, 10.0])
  assert np.all(np.abs(standard.mean(0)) < 4 / 200) and np.all(np.abs(standard.var(0) - 1) < 4 * np.sqrt(2) / 200)


def test_a_spline_meets_its_knots_with_its_slopes_and_the_identity_outside():
  raw = jnp.asarray(np.random.default_rng(0).standard_normal(3 * 5 - 1), jnp.float32)
  x, y, slopes = knots(raw, 2.0)
  assert np.all(np.diff(x) > 0) and np.all(np.diff(y) > 0)
  many = lambda x, inverse: jax.vmap(lambda x: spline(x, raw, 2.0, inverse))(x)
  for inverse, a, b, c in ((False, x, y, slopes), (True, y, x, 1 / slopes)):
    moved, log_slope = many(a, inverse)
    np.testing.assert_allclose(moved, b, rtol=1e-5, atol=1e-6)  # of a box of 2
    np.testing.assert_allclose(log_slope, np.log(c), rtol=1e-4, atol=1e-5)  # a slope's relative error
  far, log_slope = many(jnp.asarray([-5.0, 2.5]), False)
  assert far.tolist() == [-5.0, 2.5] and log_slope.tolist() == [0.0, 0.0]
