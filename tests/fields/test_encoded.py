"""Encoded fields: where they start, that they learn, and their gradients to second order."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.encodings import ENCODINGS, fourier, hashgrid, identity
from fields3d.fields import FIELDS
from fields3d.fields.encoded import encoded

GRID = {"levels": 4, "features": 2, "log2_rows": 12, "coarsest": 4, "finest": 32}
NO_CODE = jnp.zeros((0,))


def points(num, seed=0):
  return jax.random.uniform(jax.random.key(seed), (num, 3), minval=-1, maxval=1)


@pytest.mark.parametrize("encoding, activation, depth", [
    (hashgrid(**GRID), "relu", 1), (fourier(levels=6), "relu", 3), (identity(), "softplus", 2)])
def test_it_starts_as_a_sphere_whatever_the_code(encoding, activation, depth):
  width = 1024
  field = encoded(encoding, width=width, depth=depth, activation=activation, sphere=0.4, code_dim=5, channels=4)
  params = field.init(jax.random.key(3))
  x = points(500)
  truth = jnp.linalg.norm(x, axis=-1) - 0.4
  values = [field.apply(params, x, code)[..., 0] for code in (jnp.zeros(5), 3 * jnp.ones(5))]
  np.testing.assert_allclose(values[0], values[1], atol=1e-6)  # distances are O(1)
  # A mean over `width` rectified normals, depth times: 4 sigma of a relative error near sqrt(depth / width).
  assert np.abs(values[0] - truth).max() < 4 * 1.8 * np.sqrt(depth / width)


def test_a_sphere_from_waves_is_refused():
  with pytest.raises(UsageFault, match="sphere cannot be had from 'sine'"):
    encoded(identity(), activation="sine")


def test_the_config_section_builds_it_with_its_encoding():
  section = {"name": "encoded", "encoding": {"name": "hashgrid", **GRID}, "width": 16, "code_dim": 3, "channels": 4}
  field = build(FIELDS, section)
  params = field.init(jax.random.key(0))
  out = field.apply(params, jnp.zeros((2, 5, 3)), jnp.zeros((2, 3)))
  assert out.shape == (2, 5, 4) and (field.code_dim, field.channels) == (3, 4)
  assert params["encoding"]["table"].shape == (4, 2, 2**12)


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_a_few_hundred_steps_turn_the_sphere_into_a_box(name):
  sections = {"hashgrid": GRID, "fourier": {"levels": 3}, "gaussian_fourier": {"features": 32, "frequency": 1.0},
              "triplane": {"features": 8, "coarsest": 16, "finest": 16},
              "kplanes": {"levels": 2, "features": 4, "coarsest": 8, "finest": 16}}
  field = encoded(ENCODINGS[name](**sections.get(name, {})), width=32, depth=2)
  params, tx = field.init(jax.random.key(0)), optax.adam(5e-3, eps=1e-15)

  def loss(params, x):
    q = jnp.abs(x) - jnp.asarray([[0.6, 0.4, 0.3]])
    truth = jnp.linalg.norm(jnp.maximum(q, 0), axis=-1) + jnp.minimum(jnp.max(q, axis=-1), 0)
    return jnp.mean(jnp.abs(field.apply(params, x, NO_CODE)[..., 0] - truth))

  @jax.jit
  def train(params):
    def step(carry, key):
      params, opt = carry
      gradient = jax.grad(loss)(params, jax.random.uniform(key, (512, 3), minval=-1, maxval=1))
      updates, opt = tx.update(gradient, opt)
      return (optax.apply_updates(params, updates), opt), None
    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(jax.random.key(1), 300))[0][0]

  x = points(4000, seed=9)
  start, end = float(loss(params, x)), float(loss(train(params), x))
  assert start > 0.1 and end < 0.02


def test_levels_reach_the_encoding():
  field = encoded(hashgrid(**GRID), sphere=None)
  params = field.init(jax.random.key(0))
  params["encoding"]["table"] *= 1e4
  x = points(20)
  all_levels = field.apply(params, x, NO_CODE)
  np.testing.assert_array_equal(field.apply(params, x, NO_CODE, level=4.0), all_levels)
  coarse = field.apply(params, x, NO_CODE, level=2.0)
  params["encoding"]["table"] = params["encoding"]["table"].at[2:].set(0)
  np.testing.assert_allclose(coarse, field.apply(params, x, NO_CODE), rtol=1e-5, atol=1e-6)  # values are O(1)
  assert not np.allclose(coarse, all_levels)


def test_the_eikonal_gradient_equals_float64_finite_differences():
  field = encoded(hashgrid(levels=2, log2_rows=6, coarsest=2, finest=6, init_scale=1.0), width=8, depth=2,
                  activation="softplus", sphere=None)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda a: a.astype(jnp.float64), field.init(jax.random.key(0)))
    x = points(8).astype(jnp.float64)
    along = jax.tree.map(lambda a: jnp.asarray(np.random.default_rng(a.size).normal(size=a.shape)), params)

    def loss(params):
      value = lambda q: field.apply(params, q[None], NO_CODE)[0, 0]
      return jnp.mean((jnp.linalg.norm(jax.vmap(jax.grad(value))(x), axis=-1) - 1) ** 2)

    moved = lambda h: float(jax.jit(loss)(jax.tree.map(lambda p, d: p + h * d, params, along)))
    slope = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (jax.jit(jax.grad(loss))(params), along)),
                                               strict=True))
    np.testing.assert_allclose(float(slope), (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-5)
