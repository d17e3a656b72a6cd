"""Marching through an occupancy grid: samples only where something may be, packed without gaps, in static shapes.

Each ray is cut into the same number of candidate sections. One bit per candidate, 32 to a word, says whether the grid is
occupied at its middle; the samples of a batch are the set bits of all rays, in order, laid into one array of fixed size (the
budget). How many rays a step uses is no shape: as many of the batch's first rays as fit, which become more as the grid
empties, so that the budget stays full and nothing is ever compiled twice.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fields3d.core.types import Rays
from fields3d.rendering.grid import OccupancyGrid, as_words, nth_set_bit, occupied


@dataclasses.dataclass(frozen=True)
class Steps:
  """How rays are cut into candidate sections.

  count: sections, a multiple of 32. length: of the first, model units. growth: relative growth with distance, so that a
    section at distance t is max(length, growth * t) long; 0 for equal sections.
  """
  count: int
  length: float
  growth: float = 0.0

  @classmethod
  def covering(cls, near: float, far: float, longest: float, length: float, growth: float) -> "Steps":
    """As many sections as the longest way needs: at most `longest`, between near and far."""
    if growth:
      turn = max(length / growth, near)
      even = max(min(turn, far) - near, 0.0) / length
      number = even + max(math.log(far / turn), 0.0) / math.log1p(growth)
    else:
      number = min(far - near, longest) / length
    return cls(32 * math.ceil((number + 1) / 32), length, growth)

  def edge(self, start: Float[Array, "*b"], k: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The distance at which section k of a ray that enters at `start` begins; k may be fractional.

    Equal steps up to length / growth, then geometric ones: a closed form of Instant-NGP's recurrence.
    """
    if not self.growth:
      return start + k * self.length
    turn = self.length / self.growth
    before = jnp.maximum(turn - start, 0.0) / self.length
    beyond = jnp.maximum(k - before, 0.0)
    straight = start + jnp.minimum(k, before) * self.length
    return straight * jnp.exp(beyond * jnp.log1p(self.growth))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
  """Of r rays: where each enters, start (r,); bits (r, w) uint32, of its occupied sections; ends (r, w), the number of
  set bits up to and with each word."""
  start: jax.Array
  bits: jax.Array
  ends: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
  """Samples of many rays, ray after ray: ray (s,) int32, t (s,) middles, dt (s,) lengths, valid (s,), first (s,): where a
  ray begins."""
  ray: jax.Array
  t: jax.Array
  dt: jax.Array
  valid: jax.Array
  first: jax.Array


def candidates(grid: OccupancyGrid, rays: Rays, near: Float[Array, " r"], far: Float[Array, " r"], steps: Steps,
               shift: Float[Array, " r"], half: float = 1.0) -> Candidates:
  """The occupied sections of each ray between near and far.

  half: of the grid's finest cascade. shift: in [0, 1], where rays' combs begin: 0 a section before near, 1 at near (without randomness).
  """
  k = jnp.arange(steps.count, dtype=jnp.float32)
  start = near + (shift - 1.0) * jnp.maximum(steps.length, steps.growth * near)
  middle = steps.edge(start[:, None], k[None] + 0.5)
  x = rays.origins[:, None, :] + middle[..., None] * rays.directions[:, None, :]
  inside = occupied(grid, x, half) & (middle < far[:, None]) & (middle > near[:, None])
  bits = as_words(inside)
  ends = jnp.cumsum(jax.lax.population_count(bits).astype(jnp.int32), axis=1)
  return Candidates(start, bits, ends)


def pack(found: Candidates, begin: Int[Array, " r"], take: Int[Array, " r"], budget: int, steps: Steps) -> Packed:
  """Lays `take` samples of each ray, from its `begin`-th occupied section on, one after another.

  The sum of `take` must not exceed the budget; what is left of it is not valid.
  """
  ends = jnp.cumsum(take)
  offsets = ends - take
  slot = jnp.arange(budget, dtype=jnp.int32)
  mark = jnp.where(take > 0, offsets, budget)
  starts = jnp.zeros(budget, jnp.int32).at[mark].max(jnp.arange(len(take), dtype=jnp.int32) + 1, mode="drop")
  ray = jnp.maximum(jax.lax.cummax(starts) - 1, 0)
  at = lambda values: values.at[ray].get(mode="promise_in_bounds")
  rank = at(begin) + slot - at(offsets)
  before = at(found.ends) <= rank[:, None]
  word = jnp.minimum(jnp.sum(before, axis=1), found.bits.shape[1] - 1)
  skipped = jnp.max(jnp.where(before, at(found.ends), 0), axis=1)
  bits = found.bits.reshape(-1).at[ray * found.bits.shape[1] + word].get(mode="promise_in_bounds")
  k = (word * 32 + nth_set_bit(bits, rank - skipped)).astype(jnp.float32)
  low, high = steps.edge(at(found.start), k), steps.edge(at(found.start), k + 1)
  valid = slot < ends[-1]
  return Packed(ray, (low + high) / 2, high - low, valid, valid & (starts > 0))


def whole_rays(counts: Int[Array, " r"], budget: int) -> tuple[Int[Array, " r"], Bool[Array, " r"]]:
  """Samples to take so that every ray is complete: those of the first rays that fit, and which rays fit."""
  fits = jnp.cumsum(counts) <= budget
  return jnp.where(fits, counts, 0), fits


def thinned(packed: Packed, keep: Bool[Array, " s"], budget: int, num: int) -> tuple[Packed, Bool[Array, " r"]]:
  """The samples to keep of `num` rays, packed anew, and which rays are complete; rays beyond the budget are left out."""
  keep = keep & packed.valid
  _, fits = whole_rays(sum_by_ray(keep.astype(jnp.int32), packed.ray, num), budget)
  keep = keep & fits.at[packed.ray].get(mode="promise_in_bounds")
  place = jnp.where(keep, jnp.cumsum(keep) - 1, budget)
  source = jnp.zeros(budget, jnp.int32).at[place].set(jnp.arange(len(keep), dtype=jnp.int32), mode="drop")
  ray, t, dt = (values.at[source].get(mode="promise_in_bounds") for values in (packed.ray, packed.t, packed.dt))
  valid = jnp.arange(budget) < jnp.sum(keep)
  ray = jnp.where(valid, ray, num - 1)
  first = valid & jnp.concatenate([jnp.ones(1, bool), ray[1:] != ray[:-1]])
  return Packed(ray, t, dt, valid, first), fits


def segmented_cumsum(values: Float[Array, " s"], first: Bool[Array, " s"]) -> Float[Array, " s"]:
  """Running sums that begin anew at each `first`, as accurate as each ray alone.

  >>> segmented_cumsum(jnp.array([1., 2., 3.]), jnp.array([True, False, True])).tolist()
  [1.0, 3.0, 3.0]
  """
  def join(a, b):
    return jnp.where(b[1], b[0], a[0] + b[0]), a[1] | b[1]
  return jax.lax.associative_scan(join, (values, first))[0]


def light_before(tau: Float[Array, " s"], first: Bool[Array, " s"]) -> Float[Array, " s"]:
  """The share of light that reaches each section, of rays laid one after another."""
  return jnp.exp(-segmented_cumsum(jnp.where(first, 0.0, jnp.roll(tau, 1)), first))


@jax.custom_vjp
def packed_weights(tau: Float[Array, " s"], first: Bool[Array, " s"]) -> Float[Array, " s"]:
  """The share of light absorbed in each section, of rays laid one after another: exp(-sum before) (1 - exp(-tau)).

  Exact for sections of constant density. Its gradient by tau is the closed form, which needs one more running sum.
  """
  return _packed_forward(tau, first)[0]


def _packed_forward(tau, first):
  before = light_before(tau, first)
  weights = before * -jnp.expm1(-tau)
  return weights, (weights, before * jnp.exp(-tau), first)


def _packed_backward(saved, g):
  weights, after, first = saved
  last = jnp.concatenate([first[1:], jnp.ones(1, bool)])
  share = g * weights
  behind = segmented_cumsum(share[::-1], last[::-1])[::-1] - share
  return g * after - behind, None


packed_weights.defvjp(_packed_forward, _packed_backward)


def sum_by_ray(values: Float[Array, "s ..."], ray: Int[Array, " s"], num: int) -> Float[Array, "r ..."]:
  """Sums of the samples of each ray; `ray` is sorted."""
  return jnp.zeros((num, *values.shape[1:]), values.dtype).at[ray].add(values, indices_are_sorted=True)
