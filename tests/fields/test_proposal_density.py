"""The density that proposes: optical depth is density times length, and there is no colour."""

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import build
from fields3d.fields import RADIANCE_FIELDS

SECTION = {"name": "proposal", "encoding": {"name": "hashgrid", "levels": 2, "log2_rows": 8, "finest": 32}}


def test_a_section_s_optical_depth_is_its_density_times_its_length():
  field = build(RADIANCE_FIELDS, {**SECTION, "density_bias": -1.0})
  params = field.init(jax.random.key(0))
  x = jax.random.uniform(jax.random.key(1), (2, 7, 3), minval=-1.0)
  dt = jnp.linspace(0.0, 1.0, 14).reshape(2, 7)
  tau, features, sdf, gradient = field.section(params, x, x, dt, jnp.full((2, 7), 1e-3), None)
  density = field.density(params, x, None)
  np.testing.assert_allclose(tau, density * dt, rtol=1e-5)
  assert features.shape == (2, 7, 0) and sdf is None and gradient is None and field.color is None
  brighter = build(RADIANCE_FIELDS, SECTION)
  np.testing.assert_allclose(brighter.density(params, x, None), density * np.e, rtol=1e-5)


def test_all_parameters_learn():
  field = build(RADIANCE_FIELDS, SECTION)
  x = jax.random.uniform(jax.random.key(1), (200, 3), minval=-1.0)
  gradient = jax.grad(lambda p: jnp.sum(field.density(p, x, None)))(field.init(jax.random.key(0)))
  assert all(bool(jnp.any(g)) and bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradient))
