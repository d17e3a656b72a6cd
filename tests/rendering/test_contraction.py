"""Contraction of space: continuity, inverse, Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.rendering.contraction import contract, expand, shrink

SHAPES = ["ball", "cube"]


def points(num=400, reach=3.0):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(num, 3)) * 10 ** rng.uniform(-1, reach, (num, 1)), jnp.float32)


def radius(x, shape):
  return np.linalg.norm(x, axis=-1) if shape == "ball" else np.abs(x).max(-1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_paper_s_formula_halved(shape):
  x = np.asarray(points(), np.float64)
  r = radius(x, shape)[:, None]
  expected = np.where(r <= 1, x, (2 - 1 / np.maximum(r, 1)) * x / np.maximum(r, 1)) / 2
  np.testing.assert_allclose(contract(points(), shape), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_of_space_ends_inside_and_the_order_of_radii_stays(shape):
  assert float(radius(contract(points(reach=6.0), shape), shape).max()) <= 1
  along = jnp.asarray([[1.0, -2.0, 0.5]]) * jnp.logspace(-2, 2, 100)[:, None]
  assert np.all(np.diff(radius(contract(along, shape), shape)) > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_expanding_undoes_contracting(shape):
  x = points(reach=1.5)
  np.testing.assert_allclose(expand(contract(x, shape), shape), x, rtol=2e-4)  # 1 - 1/(2 r) loses log2(r) bits


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_derivative_across_the_sphere_are_continuous_along_the_ray(shape):
  direction = jnp.asarray([0.48, 0.6, 0.64]) / (1.0 if shape == "ball" else 0.64)
  along = lambda r: jnp.vdot(contract(r * direction, shape), direction) / jnp.vdot(direction, direction)
  h = 1e-4
  np.testing.assert_allclose(along(1 + h) - along(1 - h), h, rtol=1e-2)  # slope one half
  np.testing.assert_allclose(jax.grad(along)(1 + h), jax.grad(along)(1 - h), rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_lengths_shrink_by_the_cube_root_of_the_jacobian_s_determinant(shape):
  x = points(reach=1.5)
  jacobian = jax.vmap(jax.jacfwd(lambda x: contract(x, shape)))(x)
  np.testing.assert_allclose(shrink(x, shape), np.cbrt(np.linalg.det(np.asarray(jacobian, np.float64))), rtol=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_middle_of_space_has_finite_gradients(shape):
  for fn in (lambda x: jnp.sum(contract(x, shape)), lambda x: shrink(x, shape)):
    assert bool(jnp.all(jnp.isfinite(jax.grad(fn)(jnp.zeros(3)))))
