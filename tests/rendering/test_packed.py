"""The packed renderer against closed forms and against dense sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.core.types import Rays
from fields3d.rendering.packed import packed
from fields3d.rendering.renderer import Radiance, Section

INFO = {"near": 1.0, "far": 5.0, "unbounded": False, "ndc": None, "bounds": ((-1.0,) * 3, (1.0,) * 3)}
SIGMA, RADIUS = 3.0, 0.6


def ball(sigma=SIGMA):
  """A ball of constant density, coloured by place, whose normal points outwards."""
  def density(x):
    return sigma * (jnp.sum(x * x, axis=-1) < RADIUS**2)

  def section(x, d, dt, radius):
    del d, radius
    return Section(density(x) * dt, 0.5 + 0.4 * x, normal=x / jnp.linalg.norm(x, axis=-1, keepdims=True))

  return density, Radiance(section, lambda section, d, view: section.features)


def rays_at(offsets, distance=3.0):
  """Rays along -z that pass the centre at these distances."""
  n = len(offsets)
  o = np.stack([offsets, np.zeros(n), np.full(n, distance)], axis=1).astype(np.float32)
  d = np.tile(np.array([[0.0, 0.0, -1.0]], np.float32), (n, 1))
  return Rays(*map(jnp.asarray, (o, d, d, np.zeros(n, np.float32), np.full(n, 1, np.float32), np.full(n, 5, np.float32),
                                 np.full(n, -1, np.int32))))


def trained_grid(renderer, density, times=30):
  grid = renderer.init()
  refresh = jax.jit(lambda grid, key: renderer.refresh(density, grid, key, jnp.int32(0)))
  for i in range(times):
    grid = refresh(grid, jax.random.key(i))
  return grid


def seen_by(renderer, radiance, grid, rays, key=None):
  """What rays see, compiled whole."""
  return jax.jit(lambda grid, rays, key: renderer.render([radiance], grid, rays, key, 0))(grid, rays, key)


def exact(offsets, sigma=SIGMA):
  chord = 2 * np.sqrt(np.maximum(RADIUS**2 - offsets**2, 0))
  return 1 - np.exp(-sigma * chord)


def test_opacity_of_a_ball_is_exact_to_half_a_section_with_and_without_a_key():
  density, radiance = ball()
  renderer = packed(INFO, budget=8192, step=0.01, resolution=32)
  grid, offsets = trained_grid(renderer, density), np.linspace(0, 0.9, 40)
  bound = SIGMA * 2 * 0.01  # each end of the chord is off by at most a section
  for key in (None, jax.random.key(0)):
    seen = seen_by(renderer, radiance, grid, rays_at(offsets), key)
    np.testing.assert_allclose(seen.opacity, exact(offsets), atol=bound)
    outside = offsets > RADIUS + 0.01
    assert float(jnp.max(jnp.abs(seen.rgb[outside]))) == 0.0


def test_refining_renders_completely_as_shorter_steps_do_and_trains_as_before():
  density, radiance = ball()
  rays = rays_at(np.linspace(0, 0.7, 30))
  plain, short, refined = (packed(INFO, budget=8192, resolution=32, **more)
                           for more in (dict(step=0.04), dict(step=0.01), dict(step=0.04, refine=4)))
  grid, key = trained_grid(plain, density), jax.random.key(0)
  np.testing.assert_array_equal(seen_by(refined, radiance, grid, rays).rgb, seen_by(short, radiance, grid, rays).rgb)
  np.testing.assert_array_equal(seen_by(refined, radiance, grid, rays, key).rgb, seen_by(plain, radiance, grid, rays, key).rgb)


def test_rounds_change_nothing():
  """A budget so small that a complete rendering takes many rounds, and one that takes few."""
  density, radiance = ball()
  offsets = np.linspace(0, 0.7, 30)
  seen = []
  for budget in (256, 16384):
    renderer = packed(INFO, budget=budget, step=0.01, resolution=32, stop_below=1e-9)
    grid = trained_grid(renderer, density)
    seen.append(seen_by(renderer, radiance, grid, rays_at(offsets)))
  for name in ("rgb", "opacity", "depth", "normal"):
    np.testing.assert_allclose(getattr(seen[0], name), getattr(seen[1], name), rtol=2e-5, atol=1e-6)  # of order 1


def test_an_opaque_ball_shows_its_front_and_an_empty_field_nothing():
  density, radiance = ball(1e4)
  renderer = packed(INFO, budget=8192, step=0.01, resolution=32)
  seen = seen_by(renderer, radiance, trained_grid(renderer, density), rays_at(np.array([0.0, 0.3])))
  front = np.sqrt(RADIUS**2 - np.array([0.0, 0.09]))
  np.testing.assert_allclose(seen.opacity, 1.0, rtol=1e-5)
  np.testing.assert_allclose(seen.depth, 3.0 - front, atol=0.02)  # two sections
  np.testing.assert_allclose(seen.rgb[:, 2], 0.5 + 0.4 * front, atol=0.01)
  np.testing.assert_allclose(seen.normal[:, 2], front / RADIUS, atol=0.03)
  empty, clear = ball(0.0)
  seen = seen_by(renderer, clear, trained_grid(renderer, empty), rays_at(np.array([0.0, 0.3])))
  assert float(jnp.max(seen.opacity)) == 0.0


def test_rays_that_do_not_fit_the_budget_are_said_to_be_incomplete_and_the_fill_is_high():
  density, radiance = ball()
  renderer = packed(INFO, budget=1024, step=0.01, resolution=32)
  grid, offsets = trained_grid(renderer, density), np.random.default_rng(0).uniform(0, 0.9, 200)
  seen = seen_by(renderer, radiance, grid, rays_at(offsets), jax.random.key(1))
  complete = np.asarray(seen.complete)
  assert 0 < complete.sum() < 200 and complete[:complete.sum()].all()
  plain = complete & (np.abs(offsets - RADIUS) > 0.05)  # a grazing chord is shorter than a cell of the grid
  np.testing.assert_allclose(seen.opacity[plain], exact(offsets)[plain], atol=SIGMA * 0.02)
  assert float(seen.scalars["fill"]) > 0.9 and int(seen.scalars["rays"]) == complete.sum()


def test_pictures_count_what_lies_at_the_face_of_the_box():
  info = INFO | {"near": 1.0, "far": 5.0, "bounds": ((-1.5,) * 3, (1.5,) * 3)}
  fog = Radiance(lambda x, d, dt, radius: Section(0.5 * dt, 0.5 + 0 * x), lambda section, d, view: section.features)
  renderer = packed(info, budget=4096, step=0.2, resolution=4)
  seen = seen_by(renderer, fog, renderer.init(), rays_at(np.linspace(0, 1, 8)))
  np.testing.assert_allclose(-np.log1p(-np.asarray(seen.opacity)), 0.5 * 3.0, rtol=1e-5)  # fifteen sections from face to face


def test_the_depth_of_a_smooth_field_is_near_with_few_sections_and_nearer_with_more():
  def section(x, d, dt, radius):
    return Section(jnp.exp(-4 * jnp.sum(x * x, axis=-1)) * dt, 0.5 + 0.4 * x)
  radiance = Radiance(section, lambda section, d, view: section.features)
  exact_depth = np.sqrt(np.pi) / 2 * 0.9999779  # erf(3): ends of the box are at 1.5 of its box of half side 1.5
  errors = []
  for step in (0.4, 0.2, 0.1):
    info = INFO | {"near": 1.5, "far": 4.5, "bounds": ((-1.5,) * 3, (1.5,) * 3)}
    renderer = packed(info, budget=4096, step=step, resolution=4)
    rays = rays_at(np.zeros(64))
    depth = jax.jit(lambda key: -jnp.log1p(-renderer.render([radiance], renderer.init(), rays, key, 0).opacity))  # noqa: B023
    tau = [depth(key) for key in jax.random.split(jax.random.key(0), 8)]
    errors.append(abs(float(jnp.mean(jnp.concatenate(tau))) - exact_depth))
  assert errors[-1] < 2e-3 and errors[0] < 0.05


def test_a_grid_that_is_no_power_of_two_is_refused():
  with pytest.raises(UsageFault, match="power of two"):
    packed(INFO, resolution=48)


def test_parameter_gradients_match_finite_differences():
  density, _ = ball()
  renderer = packed(INFO, budget=2048, step=0.02, resolution=32)
  grid, rays, key = trained_grid(renderer, density), rays_at(np.linspace(0, 0.5, 20)), jax.random.key(3)

  @jax.jit
  def loss(sigma):
    section = lambda x, d, dt, radius: Section(sigma * jnp.exp(-3 * jnp.sum(x * x, -1)) * dt, 0.5 + 0.4 * x)
    seen = renderer.render([Radiance(section, lambda s, d, v: s.features)], grid, rays, key, 0)
    return jnp.sum(seen.rgb**2)

  step = 0.02
  difference = (loss(3.0 + step) - loss(3.0 - step)) / (2 * step)
  np.testing.assert_allclose(jax.grad(loss)(3.0), difference, rtol=1e-3)


@pytest.mark.parametrize("settings", [dict(budget=257, groups=2), dict(budget=512, survey=33, groups=2)])
def test_groups_that_do_not_divide_the_samples_are_refused(settings):
  with pytest.raises(UsageFault, match="do not divide over 2 groups"):
    packed(INFO, **settings)


def test_many_groups_render_completely_and_refuse_rays_that_they_do_not_divide():
  density, radiance = ball()
  renderer = packed(INFO, budget=256, step=0.05, resolution=16, groups=32)
  seen = seen_by(renderer, radiance, renderer.init(), rays_at(np.zeros(2)))
  np.testing.assert_allclose(seen.opacity, exact(np.zeros(2)), atol=2 * SIGMA * 0.05)
  with pytest.raises(UsageFault, match="2 rays do not divide"):
    renderer.render([radiance], renderer.init(), rays_at(np.zeros(2)), jax.random.key(0), 0)
