"""Renderers with as many sections on every ray, against closed forms of a fog ball and a slab."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.types import Rays
from fields3d.losses.ray import interlevel
from fields3d.rendering import RENDERERS
from fields3d.rendering.renderer import Radiance, Section

INFO = {"unbounded": False, "ndc": None}
SETTINGS = {"hierarchical": dict(coarse=64, fine=128), "proposal": dict(samples=(128, 64, 48), anneal=0, padding=1e-5)}
RADIUS, SIGMA = 0.5, 3.0


def rays(num=64):
  rng = np.random.default_rng(0)
  origins = np.tile([[0.0, 0.0, 4.0]], (num, 1))
  directions = np.column_stack([rng.uniform(-0.2, 0.2, (num, 2)), np.full(num, -1.0)])
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  row = lambda value, kind=np.float32: jnp.full(num, value, kind)
  o, d = jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32)
  return Rays(o, d, d, row(1e-3), row(2.0), row(6.0), row(-1, np.int32))


def ball(sigma=SIGMA):
  """Fog of constant density in a ball, orange; its sections remember their middles and radii."""
  def section(x, d, dt, radius):
    del d
    inside = jnp.sum(x * x, axis=-1) < RADIUS**2
    outward = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return Section(sigma * inside * dt, jnp.concatenate([x, radius[..., None]], axis=-1), normal=outward)

  def shade(section, d, view):
    del d, view
    return jnp.ones((*section.tau.shape, 3)) * jnp.array([1.0, 0.5, 0.0]).reshape((1,) * section.tau.ndim + (3,))
  return Radiance(section, shade)


def make(name, **more):
  return build(RENDERERS, {"name": name, **SETTINGS[name], **more}, info=INFO)


def run(renderer, radiance, key=None, step=0, rays=None):
  render = jax.jit(lambda rays, key: renderer.render((radiance,) * renderer.levels, renderer.init(), rays, key, step))
  return render(RAYS if rays is None else rays, key)


RAYS = rays()
TOWARDS = -4 * np.asarray(RAYS.directions, np.float64)[:, 2]
CHORD = 2 * np.sqrt(np.maximum(RADIUS**2 - (16 - TOWARDS**2), 0))


@pytest.mark.parametrize("key", [None, 0], ids=["middle", "jittered"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_fog_balls_opacity_is_its_chords_and_its_colour_is_premultiplied(name, key):
  seen = run(make(name), ball(), None if key is None else jax.random.key(key))
  expected = 1 - np.exp(-SIGMA * CHORD)
  assert 10 < (CHORD == 0).sum() < 54
  np.testing.assert_allclose(seen.opacity, expected, atol=0.06)  # two ends of a chord, each in a section of 0.02
  assert float(jnp.sqrt(jnp.mean((seen.opacity - expected) ** 2))) < 0.02
  np.testing.assert_allclose(seen.rgb, seen.opacity[:, None] * np.array([[1.0, 0.5, 0.0]]), rtol=1e-5, atol=1e-6)
  assert seen.normal.shape == (64, 3)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_last_level_finds_a_surface_that_the_first_only_suspects(name):
  seen = run(make(name), ball(sigma=1e4))
  hit = CHORD > 0.2
  depth = (seen.depth / seen.opacity)[hit]
  np.testing.assert_allclose(depth, (TOWARDS - CHORD / 2)[hit], atol=0.017)  # half a coarse section
  width = lambda level: float(jnp.mean(jnp.sum(level[1] * jnp.diff(level[0]), axis=1)[hit]))
  assert width(seen.levels[-1]) < 0.4 * width(seen.levels[0])


@pytest.mark.parametrize("name", SETTINGS)
def test_levels_are_ordered_and_within_the_box_and_radii_grow_with_distance(name):
  renderer = make(name)
  seen = run(renderer, ball(), jax.random.key(0))
  assert len(seen.levels) == renderer.levels and len(seen.coarse) == (1 if name == "hierarchical" else 0)
  for s, weights in seen.levels:
    assert s.shape[1] == weights.shape[1] + 1 and bool(jnp.all(jnp.diff(s) >= 0))
    assert float(s.min()) >= 0 and float(s.max()) <= 1
  x, radius = seen.section.features[..., :3], seen.section.features[..., 3]
  assert float(jnp.max(jnp.abs(x))) <= 1 + 1e-5
  np.testing.assert_allclose(radius, 1e-3 * jnp.linalg.norm(x - jnp.array([[[0.0, 0.0, 4.0]]]), axis=-1), rtol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_without_a_key_nothing_is_random_and_with_one_all_is(name):
  first, again = run(make(name), ball()), run(make(name), ball(), step=7)
  np.testing.assert_array_equal(first.rgb, again.rgb)
  one, other = (run(make(name), ball(), jax.random.key(k)) for k in (0, 1))
  assert not np.allclose(one.levels[0][0], other.levels[0][0]) and not np.allclose(one.rgb, other.rgb)


@pytest.mark.parametrize("name", SETTINGS)
def test_rays_that_miss_the_box_see_nothing(name):
  away = dataclasses.replace(RAYS, origins=RAYS.origins + jnp.array([[9.0, 0.0, 0.0]]))
  seen = run(make(name), Radiance(lambda x, d, dt, r: Section(1e3 * dt, x), ball().shade), jax.random.key(0), 0, away)
  np.testing.assert_array_equal(seen.opacity, 0)
  assert bool(jnp.all(jnp.isfinite(seen.rgb)))


def test_a_proposal_learns_where_the_fog_is_from_the_interlevel_loss_alone():
  renderer = make("proposal", samples=(32, 32), spacing="linear")
  cells = 8

  def proposed(logits):
    def section(x, d, dt, radius):
      del d, radius
      place = jnp.clip(((x + 1) / 2 * cells).astype(jnp.int32), 0, cells - 1)
      return Section(jnp.exp(logits[place[..., 0], place[..., 1], place[..., 2]]) * dt, x)
    return Radiance(section, None)

  def loss(logits, key):
    seen = renderer.render((proposed(logits), ball()), {}, RAYS, key, 0)
    return interlevel(*seen.levels[1], *seen.levels[0])

  logits = jnp.full((cells,) * 3, -3.0)
  step = jax.jit(lambda l, k: (l - 30 * jax.grad(loss)(l, k), loss(l, k)))
  losses = []
  for k in range(40):
    logits, value = step(logits, jax.random.key(k))
    losses.append(float(value))
  assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])


def test_directions_that_are_not_unit_ones_do_not_change_what_is_seen():
  longer = dataclasses.replace(RAYS, directions=2 * RAYS.directions, near=RAYS.near / 2, far=RAYS.far / 2,
                               radii=2 * RAYS.radii)
  for name in SETTINGS:
    np.testing.assert_allclose(run(make(name), ball(), rays=longer).rgb, run(make(name), ball()).rgb, atol=1e-4)
