"""Sphere tracing against closed forms of balls and boxes, its derivatives against theirs, and its faults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.numerics import norm
from fields3d.geometry.primitives import at, box
from fields3d.geometry.sphere_tracing import sphere_trace


def ball(radius):
  return lambda x: norm(x) - radius


def towards_unit_cube(num, seed=0):
  """Rays from the sphere of radius 3 at random points of the cube [-0.9, 0.9]^3: origins, directions, near, far."""
  rng = np.random.default_rng(seed)
  o = rng.standard_normal((num, 3))
  o *= 3 / np.linalg.norm(o, axis=1, keepdims=True)
  d = rng.uniform(-0.9, 0.9, (num, 3)) - o
  d /= np.linalg.norm(d, axis=1, keepdims=True)
  return jnp.float32(o), jnp.float32(d), jnp.zeros(num), jnp.full(num, 6.0)


def ball_roots(rays, radius):
  """The first crossing in float64, NaN where there is none."""
  o, d = np.float64(rays[0]), np.float64(rays[1])
  along = np.sum(o * d, axis=1)
  with np.errstate(invalid="ignore"):
    return -along - np.sqrt(along**2 - np.sum(o * o, axis=1) + radius**2)


def test_balls_are_hit_where_the_quadratic_says():
  rays = towards_unit_cube(2000)
  found = sphere_trace(ball(0.7), *rays)
  truth = ball_roots(rays, 0.7)
  clear = np.abs(np.linalg.norm(np.cross(rays[0], rays[1]), axis=1) - 0.7) > 1e-4  # not within a tolerance of grazing
  np.testing.assert_array_equal(np.asarray(found.hit)[clear], ~np.isnan(truth)[clear])
  met = clear & ~np.isnan(truth)
  np.testing.assert_allclose(found.t[met], truth[met], atol=1e-3)  # grazing: within 100 tolerances
  met &= np.linalg.norm(np.cross(rays[0], rays[1]), axis=1) < 0.6
  np.testing.assert_allclose(found.t[met], truth[met], atol=3e-6)  # float32 at t = 3
  np.testing.assert_array_equal(found.t[clear & np.isnan(truth)], 6.0)


def test_boxes_are_hit_where_the_slabs_say():
  rays = towards_unit_cube(2000, seed=1)
  half = np.array([0.5, 0.3, 0.8])
  o, d = np.float64(rays[0]), np.float64(rays[1])
  planes = (-np.sign(d) * half - o) / d
  enter, leave = planes.max(axis=1), ((np.sign(d) * half - o) / d).min(axis=1)
  found = sphere_trace(lambda x: at(box(half), x), *rays)
  clear = np.abs(enter - leave) > 1e-3
  np.testing.assert_array_equal(np.asarray(found.hit)[clear], (enter < leave)[clear])
  met = clear & (enter < leave)
  met &= np.take_along_axis(np.abs(d), planes.argmax(axis=1)[:, None], axis=1)[:, 0] > 0.02
  np.testing.assert_allclose(found.t[met], enter[met], atol=2e-5)  # float32 over a slope of 0.02


def test_a_ray_that_starts_inside_hits_at_near_and_does_not_move_with_the_surface():
  ray = jnp.array([[0.1, 0.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0]]), jnp.full(1, 0.2), jnp.full(1, 4.0)
  found = sphere_trace(ball(1.0), *ray)
  assert bool(found.hit[0]) and float(found.t[0]) == pytest.approx(0.2)
  assert float(jax.grad(lambda r: sphere_trace(ball(r), *ray).t[0])(1.0)) == 0.0


def test_a_miss_is_at_far_and_moves_with_it_alone():
  o, d, near, far = jnp.array([[0.0, 2.0, 3.0]]), jnp.array([[0.0, 0.0, -1.0]]), jnp.zeros(1), jnp.full(1, 5.0)
  t, (by_radius, by_far) = jax.value_and_grad(
      lambda p: sphere_trace(ball(p[0]), o, d, near, p[1]).t[0])((jnp.float32(1.0), far))
  assert (float(t), float(by_radius), float(by_far[0])) == (5.0, 0.0, 1.0)


def test_far_and_near_bound_the_search():
  ray = jnp.array([[0.0, 0.0, 3.0]]), jnp.array([[0.0, 0.0, -1.0]])
  assert not bool(sphere_trace(ball(1.0), *ray, jnp.zeros(1), jnp.full(1, 1.9)).hit[0])
  assert float(sphere_trace(ball(1.0), *ray, jnp.full(1, 1.0), jnp.full(1, 9.0)).t[0]) == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("lipschitz", [1.0, 4.0])
def test_a_field_four_times_as_steep_is_still_crossed(lipschitz):
  rays = towards_unit_cube(200, seed=2)
  found = sphere_trace(lambda x: 4 * (norm(x) - 0.95), *rays, lipschitz=lipschitz, refinements=30)
  truth = ball_roots(rays, 0.95)
  if lipschitz == 1.0:  # may step over a ray's whole chord, but what it brackets is a crossing
    points = rays[0] + found.t[:, None] * rays[1]
    assert float(jnp.abs(jnp.where(found.hit & (found.t > 0), norm(points) - 0.95, 0.0)).max()) < 1e-4
    return
  np.testing.assert_allclose(np.where(found.hit, found.t, 6.0), np.where(np.isnan(truth), 6.0, truth), atol=2e-4)


def test_newton_squares_the_error():
  rays = tuple(a[:, ...] for a in towards_unit_cube(300, seed=3))
  truth = ball_roots(rays, 0.9)
  direct = np.linalg.norm(np.cross(rays[0], rays[1]), axis=1) < 0.5

  def error(tolerance, refinements):
    t = sphere_trace(ball(0.9), *rays, tolerance=tolerance, refinements=refinements).t
    return np.abs(t - truth)[direct].max()

  coarse, fine = error(0.08, 1), error(0.02, 1)
  assert 8 < coarse / fine < 40, (coarse, fine)  # 16 for order 2, 4 for order 1
  assert error(0.02, 0) > 10 * fine


def test_derivatives_of_a_ball_are_the_closed_form_s_to_second_order():
  rays = towards_unit_cube(64, seed=4)
  met = np.linalg.norm(np.cross(rays[0], rays[1]), axis=1) < 0.6
  rays = tuple(a[met] for a in rays)

  def exact(r, o, d):
    along = jnp.sum(o * d, axis=1)
    return -along - jnp.sqrt(along**2 - jnp.sum(o * o, axis=1) + r * r)

  weight = jnp.linspace(1.0, 2.0, int(met.sum()))
  traced = lambda r, o, d: jnp.sum(weight * sphere_trace(ball(r), o, d, *rays[2:]).t)
  closed = lambda r, o, d: jnp.sum(weight * exact(r, o, d))
  found = jax.jit(jax.grad(traced, argnums=(0, 1)))(0.8, *rays[:2])
  truth = jax.grad(closed, argnums=(0, 1))(0.8, *rays[:2])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, truth)
  second = [float(jax.grad(jax.grad(f))(0.8, *rays[:2])) for f in (traced, closed)]
  assert second[0] == pytest.approx(second[1], rel=1e-3)


def test_turning_the_ray_moves_the_hit_as_differences_say():
  o, near, far = jnp.array([[0.0, 0.0, 3.0]]), jnp.zeros(1), jnp.full(1, 9.0)

  def hit(angle):
    d = jnp.stack([jnp.sin(angle), jnp.zeros(()), -jnp.cos(angle)])[None]
    return sphere_trace(ball(1.0), o, d, near, far).t[0]

  exact = lambda a: 3 * np.cos(a) - np.sqrt(1 - 9 * np.sin(a) ** 2)
  assert float(jax.grad(hit)(0.2)) == pytest.approx((exact(0.2 + 1e-5) - exact(0.2 - 1e-5)) / 2e-5, rel=1e-3)


def test_a_grazing_hit_has_a_bounded_derivative():
  ray = jnp.array([[0.0, 1.0 - 1e-7, 3.0]]), jnp.array([[0.0, 0.0, -1.0]]), jnp.zeros(1), jnp.full(1, 9.0)
  slope = jax.grad(lambda r: sphere_trace(ball(r), *ray).t[0])(1.0)
  assert np.isfinite(slope) and abs(float(slope)) <= 1001
