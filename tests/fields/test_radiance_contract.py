"""What every radiance field keeps, whatever it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import compiled

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.fields import RADIANCE_FIELDS

GRID = dict(name="hashgrid", levels=2, features=2, log2_rows=8, coarsest=4, finest=8)
SH = dict(name="spherical_harmonics", degree=2)
ROWS = {
    "ngp": dict(encoding=GRID, directions=SH, width=8, color_width=8, appearance_dim=2),
    "nerf": dict(encoding=dict(name="fourier", levels=2), directions=SH, width=8, depth=2, skip=None, color_width=8, appearance_dim=2),
    "proposal": dict(encoding=GRID),
    "neus": dict(encoding=GRID, directions=SH, width=8, depth=1),
    "volsdf": dict(encoding=GRID, directions=SH, width=8, depth=1),
}


@pytest.fixture(params=RADIANCE_FIELDS)
def case(request):
  field = compiled(build(RADIANCE_FIELDS, dict(name=request.param, **ROWS[request.param]), "task.field"))
  keys = jax.random.split(jax.random.key(0), 4)
  x = jax.random.uniform(keys[0], (3, 5, 3), minval=-0.9, maxval=0.9)
  d = jax.random.normal(keys[1], (3, 5, 3))
  d = d / jnp.linalg.norm(d, axis=-1, keepdims=True)
  return field, field.init(keys[2]), x, d, jnp.full((3, 5), 1e-3), jnp.full((3, 5), 1e-3)


def test_sections_absorb_and_any_leading_shape_gives_the_same(case):
  field, params, x, d, dt, radius = case
  found = field.section(params, x, d, dt, radius, None)
  flat = field.section(params, x.reshape(-1, 3), d.reshape(-1, 3), dt.reshape(-1), radius.reshape(-1), None)
  assert bool(jnp.all(found[0] >= 0)) and found[0].shape == (3, 5) and found[1].shape[:2] == (3, 5)
  for a, b in zip(found, flat, strict=True):
    assert (a is None) == (b is None)
    if a is not None:
      np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-5, atol=1e-7)  # float32 matmuls of other shapes


def test_short_sections_absorb_in_proportion_to_their_length(case):
  field, params, x, d, dt, radius = case
  one, half = (field.section(params, x, d, t, radius, None)[0] for t in (dt, dt / 2))
  np.testing.assert_allclose(one, 2 * half, rtol=2e-2, atol=1e-9)  # a section is 1e-3 long


def test_density_is_the_greatest_absorption_over_directions(case):
  field, params, x, d, dt, radius = case
  density = field.density(params, x, None)
  tau = field.section(params, x, d, dt, radius, None)[0]
  assert density.shape == (3, 5) and bool(jnp.all(tau / dt <= density * 1.05 + 1e-6))
  if field.sdf is None:
    np.testing.assert_allclose(tau / dt, density, rtol=1e-4)


def test_colours_are_colours_and_gradients_are_finite(case):
  field, params, x, d, dt, radius = case
  if field.color is None:
    pytest.skip("a field of density alone")

  def total(params):
    tau, features, _, _ = field.section(params, x, d, dt, radius, None)
    codes = jnp.ones((3, 5, field.appearance_dim)) if field.appearance_dim else None
    rgb = field.color(params, features, d, codes)
    return jnp.sum(tau) + jnp.sum(rgb), rgb

  grads, rgb = jax.grad(total, has_aux=True)(params)
  assert rgb.shape == (3, 5, 3) and bool(jnp.all((rgb >= 0) & (rgb <= 1)))
  assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(grads))


def test_distances_have_their_gradient(case):
  field, params, x, d, dt, radius = case
  if field.sdf is None:
    pytest.skip("a field without a distance")
  _, _, sdf, gradient = field.section(params, x, d, dt, radius, None)
  np.testing.assert_allclose(field.sdf(params, x, None), sdf, rtol=1e-5, atol=1e-6)  # lengths of order 1
  by_autodiff = jax.grad(lambda x: jnp.sum(field.sdf(params, x, None)))(x)
  np.testing.assert_allclose(gradient, by_autodiff, rtol=1e-4, atol=1e-5)  # of order 1


@pytest.mark.parametrize("name", ["ngp", "nerf", "neus", "volsdf"])
def test_directions_are_encoded_without_parameters(name):
  with pytest.raises(UsageFault, match="this encoding is learned"):
    build(RADIANCE_FIELDS, dict(name=name, **ROWS[name] | dict(directions=GRID)), "task.field")


@pytest.mark.parametrize("name", ["ngp", "neus", "volsdf"])
def test_a_wider_cone_sees_less_of_fine_levels(name):
  field = build(RADIANCE_FIELDS, dict(name=name, **ROWS[name] | dict(encoding=GRID | dict(antialias=True, init_scale=1.0))), "task.field")
  params, x = jax.tree.map(lambda a: a + 0.1, field.init(jax.random.key(0))), jnp.full((4, 3), 0.3)  # a sphere ignores its encoding
  seen = [field.section(params, x, x, jnp.full(4, 0.01), jnp.full(4, radius), None)[1] for radius in (1e-4, 0.5)]
  assert bool(jnp.any(jnp.abs(seen[0] - seen[1]) > 1e-4))
