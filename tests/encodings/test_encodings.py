"""What every encoding promises, over the whole table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import compiled

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import fade

SECTIONS = {
    "hashgrid": {"name": "hashgrid", "levels": 3, "features": 2, "log2_rows": 8, "coarsest": 4, "finest": 16,
                 "interpolation": "quintic"},
    "triplane": {"name": "triplane", "levels": 2, "features": 3, "coarsest": 4, "finest": 8},
    "kplanes": {"name": "kplanes", "levels": 2, "features": 2, "coarsest": 4, "finest": 8},
    "fourier": {"name": "fourier", "levels": 3},
    "integrated_fourier": {"name": "integrated_fourier", "levels": 3},
    "spherical_harmonics": {"name": "spherical_harmonics", "degree": 3},
    "gaussian_fourier": {"name": "gaussian_fourier", "features": 8, "frequency": 1.0},
    "identity": {"name": "identity"},
}


@pytest.fixture(params=sorted(ENCODINGS))
def encoding(request):
  return compiled(build(ENCODINGS, SECTIONS[request.param]))


@pytest.fixture
def params(encoding):
  return jax.tree.map(lambda a: a / jnp.abs(a).max(), encoding.init(jax.random.key(0)))


def points(*shape):
  return jax.random.uniform(jax.random.key(1), (*shape, 3), minval=-0.99, maxval=0.99)


def test_batch_axes_stay_and_the_last_one_is_dim_wide(encoding, params):
  x = points(2, 3, 5)
  out = encoding.apply(params, x)
  assert out.shape == (2, 3, 5, encoding.dim)
  np.testing.assert_allclose(out[1, 2], encoding.apply(params, x[1, 2]), rtol=1e-6, atol=1e-6)  # features are O(1)


@pytest.mark.parametrize("name, setting", [("fourier", "levels=21"), ("integrated_fourier", "levels=130"), ("triplane", "finest=131072"),
                                           ("kplanes", "finest=16385")])
def test_what_its_numbers_cannot_hold_is_refused(name, setting):
  key, value = setting.split("=")
  with pytest.raises(UsageFault, match=f"{key}: {value} is out of range"):
    build(ENCODINGS, {**SECTIONS[name], key: int(value)})


def test_jit_and_vmap_change_nothing(encoding, params):
  x = points(4, 5)
  out = encoding.apply(params, x)
  np.testing.assert_allclose(jax.jit(encoding.apply)(params, x), out, rtol=1e-5, atol=1e-5)  # features are O(1)
  np.testing.assert_allclose(jax.vmap(encoding.apply, (None, 0))(params, x), out, rtol=1e-5, atol=1e-5)


def test_any_leading_shape_will_do(encoding, params):
  x = points(2)
  np.testing.assert_allclose(encoding.apply(params, x[0]), encoding.apply(params, x)[0], rtol=1e-5, atol=1e-5)  # O(1)
  assert encoding.apply(params, points(0)).shape == (0, encoding.dim)


def test_a_cone_without_width_is_a_point(encoding, params):
  x = points(2, 3)
  np.testing.assert_array_equal(encoding.apply(params, x, radius=jnp.zeros((2, 3))), encoding.apply(params, x))


def test_the_second_derivative_exists_and_is_finite(encoding, params):
  hessian = jax.jit(jax.hessian(lambda q: jnp.sum(jnp.sin(encoding.apply(params, q[None])))))(points(1)[0])
  assert bool(jnp.all(jnp.isfinite(hessian))) and float(jnp.abs(hessian).max()) > 0


def test_no_level_means_all_of_them(encoding, params):
  x = points(7)
  np.testing.assert_array_equal(encoding.apply(params, x, encoding.levels), encoding.apply(params, x))


def test_levels_come_in_one_by_one_and_never_leave(encoding, params):
  if encoding.levels == 1:
    pytest.skip("an encoding of one level")
  x = points(16)
  size = [np.abs(encoding.apply(params, x, level)).sum(axis=0).reshape(encoding.levels, -1).sum(axis=1)
          for level in np.linspace(0, encoding.levels, 4 * encoding.levels + 1)]
  assert np.all(np.diff(size, axis=0) >= 0)
  for level in range(encoding.levels + 1):
    np.testing.assert_array_equal(size[4 * level] > 0, np.arange(encoding.levels) < level)


def test_a_traced_level_compiles_once(encoding, params):
  x, traced = points(4), []
  apply = jax.jit(lambda *args: (traced.append(1), encoding.apply(*args))[1])
  for level in (0.5, 1.0, 2.25):
    np.testing.assert_allclose(apply(params, x, jnp.float32(level)), encoding.apply(params, x, level), rtol=1e-5,
                               atol=1e-5)  # features are O(1)
  assert len(traced) == 1


def test_half_precision_points_are_encoded_in_single(encoding, params):
  x = points(9).astype(jnp.bfloat16)
  np.testing.assert_array_equal(encoding.apply(params, x).astype(jnp.float32),
                                encoding.apply(params, x.astype(jnp.float32)))


def test_a_level_fades_in_with_no_slope_at_its_ends():
  slope = jax.grad(lambda level: fade(level, 2)[0])
  np.testing.assert_allclose([slope(1e-4), slope(0.5), slope(1 - 1e-4)], [0, np.pi / 2, 0], atol=1e-3)
