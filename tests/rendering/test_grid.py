"""Occupancy grids: cells, bits, refreshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.rendering.grid import (
    OccupancyGrid,
    cell_of,
    full_grid,
    nth_set_bit,
    occupied,
    refresh_grid,
    share_occupied,
)

CASCADES, RESOLUTION = 3, 8


def oracle_cell(x, half):
  """The finest cube that holds the point, then its cell, in Python."""
  for c in range(CASCADES):
    if np.max(np.abs(x)) <= half * 2**c or c == CASCADES - 1:
      place = np.clip(np.floor((x / (half * 2**c) + 1) / 2 * RESOLUTION), 0, RESOLUTION - 1).astype(int)
      return ((c * RESOLUTION + place[0]) * RESOLUTION + place[1]) * RESOLUTION + place[2]
  return None


@functools.partial(jax.jit, static_argnames=("density", "half", "cells", "decay", "threshold"))
def refresh(grid, density, key, half=1.0, cells=4096, decay=0.5, threshold=1.0):
  return refresh_grid(grid, density, key, half=half, cells=cells, decay=decay, threshold=threshold)


@pytest.mark.parametrize("half", [1.0, 0.7])
def test_cells_are_those_of_the_finest_cascade_that_holds_the_point(half):
  x = np.random.default_rng(0).uniform(-5, 5, (500, 3)) * np.random.default_rng(1).uniform(0, 1, (500, 1))
  found = np.asarray(cell_of(jnp.asarray(x, jnp.float32), half, CASCADES, RESOLUTION))
  assert found.tolist() == [oracle_cell(p, half) for p in x]


def test_the_nth_set_bit_of_random_words():
  rng = np.random.default_rng(0)
  words = rng.integers(1, 2**32, 300, dtype=np.uint64).astype(np.uint32)
  ranks = np.array([rng.integers(bin(w).count("1")) for w in words], np.int32)
  places = [[i for i in range(32) if int(w) >> i & 1][n] for w, n in zip(words, ranks, strict=True)]
  assert np.asarray(nth_set_bit(jnp.asarray(words), jnp.asarray(ranks))).tolist() == places


@pytest.mark.parametrize("half", [1.0, 0.7])
def test_refreshes_find_a_ball_in_every_cascade_and_empty_the_rest(half):
  radius = 1.3  # reaches into the second cascade
  density = lambda x: 100.0 * (jnp.linalg.norm(x, axis=-1) < radius * half)
  grid = full_grid(CASCADES, RESOLUTION)
  for i in range(12):
    grid = refresh(grid, density, jax.random.key(i), half)
  rng = np.random.default_rng(0)
  x = rng.uniform(-4 * half, 4 * half, (4000, 3)).astype(np.float32)
  cell = half / 4 * 2.0 ** np.clip(np.ceil(np.log2(np.max(np.abs(x), axis=1) / half)), 0, 2)  # side of the cell
  r, found = np.linalg.norm(x, axis=1), np.asarray(occupied(grid, jnp.asarray(x), half))
  assert found[r < radius * half - 2 * cell].all()
  assert not found[r > radius * half + 2 * cell].any()


def test_every_cell_is_looked_at_in_one_round():
  grid, cells, density = full_grid(CASCADES, RESOLUTION), 512, lambda x: jnp.full(len(x), 5.0)
  for i in range(2 * CASCADES * RESOLUTION**3 // cells):
    grid = refresh(grid, density, jax.random.key(i), cells=cells)
  assert float(jnp.min(grid.density)) == 5.0


def test_a_faint_field_keeps_its_denser_half():
  density = lambda x: 1e-3 + 1e-3 * (x[:, 0] > 0)
  grid = full_grid(1, RESOLUTION)
  for i in range(4):
    grid = refresh(grid, density, jax.random.key(i))
  assert float(share_occupied(grid)) == 0.5


def test_values_decay_until_a_cell_is_empty():
  grid = full_grid(1, RESOLUTION)
  grid = OccupancyGrid(jnp.full_like(grid.density, 8.0), grid.bits, grid.cursor)
  seen, nothing = [], lambda x: jnp.zeros(len(x))
  for i in range(5):
    grid = refresh(grid, nothing, jax.random.key(i), cells=2 * RESOLUTION**3)
    seen.append(float(share_occupied(grid)))
  assert seen[0] == 1.0 and seen[-1] == 0.0
