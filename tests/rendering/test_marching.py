"""Packed marching: every occupied section once, in order, and the integral over packed sections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.types import Rays
from fields3d.rendering.grid import OccupancyGrid, as_words, full_grid, occupied
from fields3d.rendering.marching import (
    Steps,
    candidates,
    pack,
    packed_weights,
    segmented_cumsum,
    sum_by_ray,
    whole_rays,
)
from fields3d.rendering.quadrature import absorption


def random_grid(share, seed=0, resolution=8):
  grid = full_grid(1, resolution)
  flags = np.random.default_rng(seed).random(resolution**3) < share
  return OccupancyGrid(grid.density, as_words(jnp.asarray(flags)), grid.cursor)


def random_rays(num, seed=0):
  rng = np.random.default_rng(seed)
  d = rng.normal(size=(num, 3))
  d /= np.linalg.norm(d, axis=1, keepdims=True)
  o = rng.uniform(-0.5, 0.5, (num, 3)) - 2 * d
  zero = np.zeros(num, np.float32)
  return Rays(*(jnp.asarray(a, jnp.float32) for a in (o, d, d)), zero, zero, zero + 4, np.zeros(num, np.int32))


def oracle(grid, rays, steps, shift):
  """[(ray, k)] of the occupied sections, one by one."""
  out = []
  for r in range(len(rays.near)):
    start = np.float32(rays.near[r]) + (np.float32(shift[r]) - 1) * np.float32(steps.length)
    t = np.asarray(steps.edge(jnp.full(steps.count, start), jnp.arange(steps.count) + 0.5))
    x = np.asarray(rays.origins)[r] + t[:, None] * np.asarray(rays.directions)[r]
    inside = np.asarray(occupied(grid, jnp.asarray(x))) & (t > rays.near[r]) & (t < rays.far[r])
    out += [(r, k) for k in np.flatnonzero(inside)]
  return out


@pytest.mark.parametrize("growth", [0.0, 0.02])
def test_samples_are_the_occupied_sections_of_all_rays_in_order(growth):
  grid, rays = random_grid(0.2), random_rays(40)
  steps = Steps.covering(0.0, 4.0, 4.0, 0.05, growth)
  shift = np.random.default_rng(2).random(40).astype(np.float32)
  found = jax.jit(lambda s: candidates(grid, rays, rays.near, rays.far, steps, s))(shift)
  expected = oracle(grid, rays, steps, shift)
  take = found.ends[:, -1]
  packed = pack(found, jnp.zeros_like(take), take, 2048, steps)
  n = len(expected)
  assert int(jnp.sum(packed.valid)) == n == int(jnp.sum(take)) and bool(jnp.all(packed.valid[:n]))
  assert np.asarray(packed.ray)[:n].tolist() == [r for r, _ in expected]
  k = jnp.asarray([k for _, k in expected], jnp.float32)
  start = found.start[packed.ray[:n]]
  middle = (steps.edge(start, k) + steps.edge(start, k + 1)) / 2
  np.testing.assert_allclose(packed.t[:n], middle, rtol=1e-6)
  firsts = [i for i, (r, _) in enumerate(expected) if i == 0 or expected[i - 1][0] != r]
  assert np.flatnonzero(packed.first).tolist() == firsts


def test_taking_samples_in_turns_gives_the_same_samples():
  grid, rays = random_grid(0.3), random_rays(20)
  steps = Steps.covering(0.0, 4.0, 4.0, 0.05, 0.0)
  found = candidates(grid, rays, rays.near, rays.far, steps, jnp.full(20, 0.5))
  total = found.ends[:, -1]
  laid = jax.jit(functools.partial(pack, steps=steps), static_argnames="budget")
  whole = laid(found, jnp.zeros_like(total), total, budget=2048)
  collected = []
  begin = jnp.zeros_like(total)
  for _ in range(20):
    take, _ = whole_rays(jnp.minimum(total - begin, 3), 32)
    part = laid(found, begin, take, budget=32)
    collected += list(zip(np.asarray(part.ray)[part.valid].tolist(), np.asarray(part.t)[part.valid].tolist(), strict=True))
    begin = begin + take
  n = int(jnp.sum(total))
  assert len(collected) == n and int(jnp.sum(begin)) == n
  assert sorted(collected) == sorted(zip(np.asarray(whole.ray)[:n].tolist(), np.asarray(whole.t)[:n].tolist(), strict=True))


def test_sections_join_without_gaps_or_overlaps_and_cover_the_way():
  for growth in (0.0, 0.03):
    steps = Steps.covering(0.1, 30.0, 1e9, 0.02, growth)
    edges = np.asarray(steps.edge(jnp.full(steps.count + 1, 0.1), jnp.arange(steps.count + 1.0)), np.float64)
    length = np.diff(edges)
    assert (length > 0).all() and edges[-1] >= 30.0 and steps.count % 32 == 0
    wanted = np.maximum(0.02, growth * edges[:-1])
    np.testing.assert_allclose(length, wanted, rtol=0.05)  # one section straddles the turn; float32 edges at 30


def test_only_whole_rays_are_taken_and_none_after_the_first_that_does_not_fit():
  take, fits = whole_rays(jnp.array([3, 0, 4, 5, 1]), 10)
  assert take.tolist() == [3, 0, 4, 0, 0] and fits.tolist() == [True, True, True, False, False]


def test_segmented_sums_are_as_accurate_as_each_segment_alone():
  rng = np.random.default_rng(0)
  values = (rng.random(5000) * 10.0 ** rng.integers(-3, 5, 5000)).astype(np.float32)
  first = rng.random(5000) < 0.1
  first[0] = True
  found = np.asarray(jax.jit(segmented_cumsum)(jnp.asarray(values), jnp.asarray(first)))
  for part in np.split(np.arange(5000), np.flatnonzero(first)[1:]):
    np.testing.assert_allclose(found[part], np.cumsum(values[part].astype(np.float64)), rtol=1e-5)


def test_packed_weights_are_those_of_separate_rays_and_so_are_their_gradients():
  rng = np.random.default_rng(0)
  counts = [5, 1, 7, 3]
  ray = np.repeat(np.arange(4), counts)
  first = jnp.asarray(np.r_[True, ray[1:] != ray[:-1]])
  tau = jnp.asarray(rng.exponential(1.0, 16) * rng.choice([0.0, 1.0, 100.0], 16), jnp.float32)
  g = jnp.asarray(rng.normal(size=16), jnp.float32)

  def separate(tau):
    return jnp.concatenate([absorption(tau[ray == r])[0] for r in range(4)])

  weights = jax.jit(packed_weights)
  np.testing.assert_allclose(weights(tau, first), separate(tau), rtol=1e-5, atol=1e-7)  # weights are at most 1
  ours = jax.grad(lambda t: jnp.sum(g * weights(t, first)))(tau)
  theirs = jax.grad(lambda t: jnp.sum(g * separate(t)))(tau)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)  # gradients are of order 1
  sums = sum_by_ray(weights(tau, first), jnp.asarray(ray), 4)
  np.testing.assert_allclose(sums, [1 - np.exp(-np.asarray(tau)[ray == r].sum()) for r in range(4)], rtol=1e-5)


@pytest.mark.parametrize("growth", [0.0, 0.1])
def test_a_ray_may_start_anywhere_in_its_first_section(growth):
  """At random starts the middles near any distance visit the whole of a section there."""
  steps, num = Steps.covering(2.0, 4.0, 4.0, 0.05, growth), 200
  rays = Rays(jnp.zeros((num, 3)), *2 * [jnp.tile(jnp.array([[0.1, 0.0, 0.0]]), (num, 1))], *4 * [jnp.zeros(num)])
  start = candidates(full_grid(1, 8), rays, jnp.full(num, 2.0), jnp.full(num, 4.0), steps, jnp.linspace(0, 0.999, num)).start
  lengths = max(0.05, growth * 2.0)
  np.testing.assert_allclose([start.min(), start.max()], [2.0 - lengths, 2.0], atol=1e-2 * lengths)
