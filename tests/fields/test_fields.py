"""The contract that every field keeps, over the table FIELDS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import compiled

from fields3d.core.config import build
from fields3d.fields import FIELDS

SMALL = {
    "deepsdf": dict(name="deepsdf", width=16, depth=4, skip=2, dropout=0.0),
    "encoded": dict(name="encoded", width=16, encoding=dict(name="fourier", levels=2), sphere=None),
    "siren": dict(name="siren", width=16, depth=2),
    "generated_planes": dict(name="generated_planes", features=4, coarsest=2, doublings=1, generator_width=8, width=16),
    "modulated": dict(name="modulated", width=16, depth=2, encoding=dict(name="fourier", levels=2)),
}


def make(name, **more):
  field = compiled(build(FIELDS, {**SMALL[name], "code_dim": 0, **more}))
  return field, field.init(jax.random.key(0))


def points(*shape):
  return jax.random.uniform(jax.random.key(1), (*shape, 3), jnp.float32, -1.0, 1.0)


def test_every_field_is_under_contract():
  assert set(SMALL) == set(FIELDS)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("code_dim", [0, 5])
@pytest.mark.parametrize("name", SMALL)
def test_shapes_follow_points_codes_and_channels(name, code_dim, channels):
  field, params = make(name, code_dim=code_dim, channels=channels)
  assert (field.code_dim, field.channels) == (code_dim, channels)
  for rows in ((), (2,), (2, 3)):
    out = field.apply(params, points(*rows, 7), jnp.zeros((*rows, code_dim)))
    assert out.shape == (*rows, 7, channels) and out.dtype == jnp.float32


@pytest.mark.parametrize("name", SMALL)
def test_each_value_is_its_own_points_and_codes_alone(name):
  field, params = make(name, code_dim=5)
  x, z = points(3, 7), jax.random.normal(jax.random.key(2), (3, 5))
  whole = field.apply(params, x, z)
  for row in range(3):
    np.testing.assert_allclose(field.apply(params, x[row], z[row]), whole[row], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(field.apply(params, x[:, 4:5], z), whole[:, 4:5], rtol=1e-5, atol=1e-6)
  assert not np.allclose(field.apply(params, x, z + 1), whole)


@pytest.mark.parametrize("name", SMALL)
def test_second_derivatives_are_finite_and_agree_with_differences(name):
  field, params = make(name, **({"activation": "tanh"} if name == "deepsdf" else {}),
                       **({"activation": "softplus"} if name in ("encoded", "generated_planes", "modulated") else {}))
  value = lambda x: field.apply(params, x[None], jnp.zeros(0))[0, 0]
  x = jnp.asarray([0.31, -0.42, 0.27])
  slope = lambda x: jnp.sum(jax.grad(value)(x) ** 2)
  analytic = jax.grad(slope)(x)
  h = 1e-3
  numeric = [(slope(x + h * e) - slope(x - h * e)) / (2 * h) for e in jnp.eye(3)]
  np.testing.assert_allclose(analytic, numeric, rtol=0.05, atol=0.02 * float(jnp.max(jnp.abs(analytic))))


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_a_plain_dict_of_float32_and_all_reach_the_values(name):
  field, params = make(name, code_dim=5, channels=4)
  assert isinstance(params, dict)
  gradient = jax.grad(lambda p: jnp.sum(field.apply(p, points(2, 50), jnp.ones((2, 5))) ** 2))(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    assert leaf.dtype == jnp.float32, path
  unreached = [path for path, leaf in jax.tree_util.tree_leaves_with_path(gradient) if not bool(jnp.any(leaf != 0))]
  assert not unreached


@pytest.mark.parametrize("name", SMALL)
def test_a_level_may_be_asked_of_every_field_and_none_means_all(name):
  field, params = make(name)
  x = points(7)
  everything = field.apply(params, x, jnp.zeros(0), None, 99.0)
  np.testing.assert_allclose(everything, field.apply(params, x, jnp.zeros(0)), rtol=1e-6, atol=1e-7)
