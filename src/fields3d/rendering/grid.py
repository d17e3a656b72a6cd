"""Occupancy grids: where a field absorbs at all, remembered at the resolution of cells, so that rays skip the rest.

Cascade c of C is a cube of r^3 cells of half side half * 2^c around 0; a point belongs to the finest cascade that holds it. The grid keeps
a decaying maximum of the densities met in each cell, and one bit per cell, 32 to a word, which is all that marching reads: at
128^3 that is 256 KiB, which stays in a processor's cache.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

STRIDE = 2654435761  # Odd: multiplying the numbers of a cascade's cells by it visits all of them in a scattered order.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OccupancyGrid:
  """density (C, r, r, r) float32, a decaying maximum, -1 where nobody has looked yet. bits (C r^3 / 32,) uint32.
  cursor: refreshes done, int32."""
  density: jax.Array
  bits: jax.Array
  cursor: jax.Array


def full_grid(cascades: int, resolution: int) -> OccupancyGrid:
  """A grid that knows nothing yet: every cell is occupied.

  resolution: cells per axis, a power of two, at least 4.

  >>> full_grid(1, 4).bits.shape
  (2,)
  """
  density = jnp.full((cascades, resolution, resolution, resolution), -1.0, jnp.float32)
  return OccupancyGrid(density, as_words(density.reshape(-1) < 0), jnp.zeros((), jnp.int32))


def cell_of(x: Float[Array, "*b 3"], half: float, cascades: int, resolution: int) -> Int[Array, "*b"]:
  """The number of each point's cell in its finest cascade; points outside all cascades get the nearest cell."""
  reach = jnp.max(jnp.abs(x), axis=-1)
  cascade = jnp.zeros(reach.shape, jnp.int32)
  for c in range(cascades - 1):
    cascade += (reach > half * 2.0**c).astype(jnp.int32)
  scale = jnp.exp2(-cascade.astype(x.dtype)) * (0.5 * resolution / half)
  index = [jnp.clip((x[..., a] * scale + resolution / 2).astype(jnp.int32), 0, resolution - 1) for a in range(3)]
  return ((cascade * resolution + index[0]) * resolution + index[1]) * resolution + index[2]


def occupied(grid: OccupancyGrid, x: Float[Array, "*b 3"], half: float = 1.0) -> Bool[Array, "*b"]:
  """Whether each point's cell is occupied. half: of the finest cascade's side.

  >>> bool(occupied(full_grid(1, 4), jnp.zeros(3)))
  True
  """
  cell = cell_of(x, half, *grid.density.shape[:2])
  word = grid.bits.at[cell >> 5].get(mode="promise_in_bounds")
  return ((word >> (cell & 31).astype(jnp.uint32)) & 1).astype(bool)


def share_occupied(grid: OccupancyGrid) -> jax.Array:
  """The share of cells that are occupied, in [0, 1].

  >>> float(share_occupied(full_grid(2, 4)))
  1.0
  """
  return jnp.sum(jax.lax.population_count(grid.bits).astype(jnp.float32)) / (32.0 * grid.bits.size)


def refresh_grid(grid: OccupancyGrid, density: Callable, key: jax.Array, *, half: float, cells: int, decay: float,
                 threshold: float) -> OccupancyGrid:
  """Looks at the density at one random point of each of `cells` cells, and marks every cell again.

  Half of the cells are the next ones of a scattered round through all of them, so that each is seen again after a fixed
  number of refreshes; the other half are random occupied ones, which are where emptying pays. A seen cell's value becomes
  max(decay * value, density); a cell is occupied above min(threshold, mean over all cells), so that a field that is still
  faint everywhere is not lost.

  Args:
    density: (x (n, 3)) -> (n,), 1 / unit. half: of the finest cascade's side.
    decay: per look, in [0, 1). threshold: 1 / unit.

  Source: Instant-NGP (Müller et al. 2022), appendix C (there every cell decays at every refresh).
  """
  cascades, resolution = grid.density.shape[:2]
  total, turn = grid.density.size, cells // 2
  pick_key, place_key = jax.random.split(key)
  number = (grid.cursor.astype(jnp.uint32) * jnp.uint32(turn) + jnp.arange(turn, dtype=jnp.uint32)) % jnp.uint32(total)
  each = jnp.uint32(resolution**3)  # a power of two, which any odd stride goes through completely
  cycle = number % cascades * each + (number // cascades * jnp.uint32(STRIDE)) % each
  cell = jnp.concatenate([cycle.astype(jnp.int32), _random_occupied(grid, pick_key, cells - turn)])
  values = density(half * _random_point(cell, cascades, resolution, place_key))
  flat = grid.density.reshape(-1)
  old = flat.at[cell].get(mode="promise_in_bounds")
  new = jnp.maximum(jnp.maximum(old, 0.0) * decay, values.astype(jnp.float32))
  flat = flat.at[cell].set(new, mode="promise_in_bounds")
  seen = flat >= 0
  mean = jnp.sum(jnp.where(seen, flat, 0.0)) / jnp.maximum(jnp.sum(seen), 1)
  marked = as_words((flat > jnp.minimum(threshold, mean)) | ~seen)
  return OccupancyGrid(flat.reshape(grid.density.shape), marked, grid.cursor + 1)


def as_words(flags: Bool[Array, "*b n"]) -> jax.Array:
  """Flags as bits of uint32 words, the first flag lowest: (*b, n / 32); n is a multiple of 32.

  >>> as_words(jnp.arange(64) < 3).tolist()
  [7, 0]
  """
  words = flags.reshape(*flags.shape[:-1], -1, 32).astype(jnp.uint32)
  place = jnp.arange(32, dtype=jnp.uint32).reshape((1,) * (words.ndim - 1) + (32,))
  return jnp.sum(words << place, axis=-1, dtype=jnp.uint32)


def _random_occupied(grid: OccupancyGrid, key: jax.Array, num: int) -> Int[Array, " num"]:
  """Random occupied cells: a random one of the words that have any, weighted by their bits, then one of its bits."""
  ends = jnp.cumsum(jax.lax.population_count(grid.bits).astype(jnp.int32))
  rank = jnp.minimum((jax.random.uniform(key, (num,)) * ends[-1]).astype(jnp.int32), ends[-1] - 1)
  word = jnp.clip(jnp.searchsorted(ends, rank, side="right"), 0, grid.bits.size - 1)
  bits = grid.bits[word]
  return word * 32 + nth_set_bit(bits, rank - (ends[word] - jax.lax.population_count(bits).astype(jnp.int32)))


def nth_set_bit(words: jax.Array, n: Int[Array, "*b"]) -> Int[Array, "*b"]:
  """The place (0 to 31) of the n-th set bit of each uint32, counted from 0; unspecified where there are fewer.

  >>> int(nth_set_bit(jnp.uint32(0b10110), jnp.int32(1)))
  2
  """
  place, left = jnp.zeros_like(n), n
  for width in (16, 8, 4, 2, 1):
    low = jax.lax.population_count((words >> place.astype(jnp.uint32)) & jnp.uint32(2**width - 1)).astype(n.dtype)
    above = left >= low
    place, left = place + jnp.where(above, width, 0), left - jnp.where(above, low, 0)
  return jnp.minimum(place, 31)


def _random_point(cell: Int[Array, " n"], cascades: int, resolution: int, key: jax.Array) -> Float[Array, "n 3"]:
  """A random point in each cell, for half = 1."""
  place = jnp.stack([cell // resolution**2 % resolution, cell // resolution % resolution, cell % resolution], axis=1)
  unit = (place + jax.random.uniform(key, place.shape)) * (2 / resolution) - 1
  scale = jnp.exp2((cell // resolution**3).astype(jnp.float32)) if cascades > 1 else jnp.ones(cell.shape)
  return unit * scale[:, None]
