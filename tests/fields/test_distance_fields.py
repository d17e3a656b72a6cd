"""NeuS and VolSDF: what a ray absorbs at a plane, in closed form, and the networks' contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import compiled

from fields3d.encodings import ENCODINGS
from fields3d.fields import RADIANCE_FIELDS
from fields3d.fields.neus import crossing_depth
from fields3d.fields.volsdf import laplace_density


def weights_of(tau):
  """Shares of the light, and the middle's index of the largest."""
  before = np.concatenate([[0.0], np.cumsum(tau)[:-1]])
  return np.exp(-before) * -np.expm1(-tau)


def plane_sections(edges, cosine, offset=1.0):
  """Middle distance and slope of sections of a ray that meets a plane at t = offset."""
  t = np.float32(edges)
  middle = (t[1:] + t[:-1]) / 2
  return jnp.asarray(cosine * (offset - middle)), jnp.full(len(middle), -cosine), jnp.asarray(np.diff(t))


@pytest.mark.parametrize("cosine", [1.0, 0.3])
def test_the_light_of_neus_is_absorbed_at_the_crossing_and_completely(cosine):
  edges = np.linspace(0, 2, 401)
  weights = weights_of(np.asarray(crossing_depth(*plane_sections(edges, cosine), jnp.float32(64.0))))
  assert abs((edges[np.argmax(weights)] + edges[np.argmax(weights) + 1]) / 2 - 1.0) <= edges[1]  # unbiased
  assert weights.sum() == pytest.approx(1.0, abs=1e-5)


def test_volsdf_s_peak_lies_elsewhere_where_neus_is_unbiased():
  edges = np.linspace(0, 2, 401)
  sdf, _, dt = plane_sections(edges, 0.3)
  weights = weights_of(np.asarray(laplace_density(sdf, jnp.float32(0.05)) * dt))
  assert abs(edges[np.argmax(weights)] - 1.0) > 2 * edges[1]


def test_the_optical_depth_of_neus_does_not_depend_on_the_cuts():
  s = jnp.float32(30.0)
  whole = crossing_depth(*plane_sections([0.2, 1.7], 0.8), s).sum()
  cut = crossing_depth(*plane_sections(np.sort(np.random.default_rng(0).uniform(0.2, 1.7, 20)).tolist() + [1.7], 0.8), s)
  first = plane_sections([0.2, np.sort(np.random.default_rng(0).uniform(0.2, 1.7, 20))[0]], 0.8)
  assert float(cut.sum() + crossing_depth(*first, s).sum()) == pytest.approx(float(whole), rel=1e-5)


def test_the_transmittance_of_neus_is_the_sigmoids_quotient():
  tau = crossing_depth(*plane_sections([0.5, 0.9], 1.0), jnp.float32(10.0))
  phi = lambda f: 1 / (1 + np.exp(-10.0 * f))
  assert float(jnp.exp(-tau[0])) == pytest.approx(phi(0.1) / phi(0.5), rel=1e-5)


def test_nothing_is_absorbed_on_the_way_out_and_never_less_than_nothing():
  rng = np.random.default_rng(1)
  sdf, slope, dt = (jnp.float32(rng.uniform(*ends, 1000)) for ends in ((-2, 2), (-1.5, 1.5), (0, 0.2)))
  tau = crossing_depth(sdf, slope, dt, jnp.float32(500.0))
  assert float(tau.min()) >= 0 and np.isfinite(tau).all()
  np.testing.assert_array_equal(tau[slope >= 0], 0.0)


def test_a_half_space_of_volsdf_absorbs_what_the_laplace_integral_says():
  beta, depth = 0.1, 0.3  # from far outside to `depth` inside: beta / 2 + depth - beta / 2 (1 - exp(-depth / beta))
  edges = np.linspace(0, 1 + depth, 4001)
  sdf, _, dt = plane_sections(edges, 1.0)
  total = float(jnp.sum(laplace_density(sdf, jnp.float32(beta)) * dt))
  closed = (beta / 2 + depth - beta / 2 * (1 - np.exp(-depth / beta))) / beta
  assert total == pytest.approx(closed, rel=1e-3)


def test_the_density_of_volsdf_falls_through_the_surface_without_a_bend():
  slopes = jax.vmap(jax.grad(laplace_density), (0, None))(jnp.asarray([-1e-6, 0.0, 1e-6]), jnp.float32(0.1))
  np.testing.assert_allclose(slopes, -0.5 / 0.1**2, rtol=1e-4)  # -psi(0) / beta, psi the Laplace density


@pytest.mark.parametrize("name", ["neus", "volsdf"])
def test_the_fields_start_as_a_sphere_with_its_own_gradient(name):
  grid = ENCODINGS["hashgrid"](levels=3, log2_rows=10)
  field = compiled(RADIANCE_FIELDS[name](grid, ENCODINGS["identity"](), width=256))
  params = field.init(jax.random.key(0))
  x = jax.random.uniform(jax.random.key(1), (200, 3), minval=-0.9, maxval=0.9)
  d, ones = jnp.broadcast_to(jnp.array([[0.0, 0.0, 1.0]]), x.shape), jnp.full(200, 0.01)
  tau, seen, sdf, gradient = field.section(params, x, d, ones, ones, None)
  radius = jnp.linalg.norm(x, axis=1)
  assert float(jnp.abs(sdf - (radius - 0.5)).max()) < 0.25  # a few times 1 / sqrt(256)
  assert float(jnp.sum(gradient * x / radius[:, None], axis=1).mean()) == pytest.approx(1.0, abs=0.15)
  np.testing.assert_allclose(sdf, field.sdf(params, x, None), rtol=1e-5, atol=1e-6)
  differences = jax.grad(lambda x: field.sdf(params, x, None).sum())(x)
  np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-5)
  assert float(tau.min()) >= 0 and field.color(params, seen, d, None).shape == (200, 3)
  inside, outside = field.density(params, jnp.array([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0]]), None)
  assert float(inside) > 10 * float(outside)


@pytest.mark.parametrize("name", ["neus", "volsdf"])
def test_the_eikonal_term_reaches_every_parameter_of_the_distance(name):
  field = compiled(RADIANCE_FIELDS[name](ENCODINGS["hashgrid"](levels=2, log2_rows=8, init_scale=0.1), ENCODINGS["identity"](), width=8))
  params = field.init(jax.random.key(0))
  params["distance"]["layer_0"]["w"] += 0.1  # the sphere has no weights on the encoding
  x = jax.random.uniform(jax.random.key(1), (64, 3), minval=-1, maxval=1)

  def eikonal(params):
    gradient = field.section(params, x, x, jnp.ones(64), jnp.ones(64), None)[3]
    return jnp.mean((jnp.sum(gradient**2, axis=1) - 1) ** 2)

  slope = jax.grad(eikonal)(params)
  assert float(jnp.abs(slope["encoding"]["table"]).max()) > 0
  assert float(jnp.abs(slope["distance"]["layer_0"]["w"]).min()) > 0
