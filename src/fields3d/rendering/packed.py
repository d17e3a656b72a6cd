"""The packed renderer: samples only in occupied cells, under one budget for all rays of a batch."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Fraction, Given, NonNegative, Positive, Range
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import norm
from fields3d.core.task import require
from fields3d.core.types import Rays
from fields3d.rendering.grid import OccupancyGrid, full_grid, refresh_grid, share_occupied
from fields3d.rendering.marching import (
  Packed,
  Steps,
  candidates,
  light_before,
  pack,
  packed_weights,
  sum_by_ray,
  thinned,
  whole_rays,
)
from fields3d.rendering.renderer import Radiance, Rendered, Renderer
from fields3d.rendering.samplers import box_interval

ROUND = 16  # samples that a ray may take in one round of a complete rendering


def packed(info: Annotated[Mapping, Given()], budget: Annotated[int, Range(ge=256)] = 2**16, step: Positive = 2 / 256,
           growth: NonNegative = 0.0, cascades: Annotated[int, Range(ge=1, le=12)] = 1,
           resolution: Annotated[int, Range(ge=4, le=512)] = 64, refresh_every: Count = 16,
           refresh_cells: Count = 2**17, decay: Fraction = 0.8, threshold: Positive = 2.0,
           stop_below: Positive = 1e-3, survey: Count | None = None, groups: Count = 1, refine: Count = 1) -> Renderer:
  """Marching through an occupancy grid, with as many samples a batch as the budget holds, whatever their rays.

  In training the first rays of the batch that fit the budget are rendered, each completely; the rest say nothing. So a
  batch should have more pixels than the budget serves once the grid is empty where the scene is. Without a key all rays
  are rendered completely, in rounds, each ending once less than `stop_below` of its light is left.

  Args:
    budget: samples. step: length of a section, in t; with growth, at distance t, max(step, growth * t).
    cascades, resolution: of the grid: the first covers the scene's box (an unbounded scene's cameras), each further one
      doubles its side. Resolution: a power of two.
    survey: samples whose density alone is looked at first, without gradient; those that less than `stop_below` of the light
      reaches are then left out of the budget: early termination in training. None looks at none.
    groups: equal parts of the batch that are packed apart, each into its share of the budget; as many as devices share
      the batch, so that nothing is packed across them. They must divide rays, budget and survey.
    refine: sections that each becomes where rays are rendered completely. Training steps may be coarse, since they start at
      random; a picture from them has thin parts in steps.
    refresh_every: steps between refreshes. refresh_cells: cells looked at in one. decay, threshold: see
      `grid.refresh_grid`; the threshold is a density, 1 / model unit.

  Raises:
    UsageFault: a resolution that is no power of two; groups that do not divide rays, budget and survey.

  Source: Instant-NGP (Müller et al. 2022), appendices C and E.
  """
  if resolution & (resolution - 1):
    raise UsageFault("--config.task.renderer.resolution", f"{resolution} is no power of two", "give 64, 128 or 256")
  for name, samples in {"budget": budget, "survey": survey or groups}.items():
    if samples % groups:
      raise UsageFault(f"--config.task.renderer.{name}", f"{samples} samples do not divide over {groups} groups",
                       f"give a multiple of {groups}")
  require(info, ("ndc", "near", "far", "unbounded", "bounds"), "it is not a scene, there are", "give posed photographs of one")
  half = 1.0 if info["unbounded"] else float(info["bounds"][1][0])
  reach = half * 2.0 ** (cascades - 1)
  near, far = (0.0, 1.0) if info["ndc"] else (info["near"], info["far"])
  marcher, fine = (_Marcher(Steps.covering(near, far, 2 * 3**0.5 * reach, step / k, growth / k), half, reach,
                            samples, stop_below, survey and survey // groups) for k, samples in ((1, budget // groups), (refine, budget)))

  def render(radiances, grid, rays, key, step):
    del step
    (radiance,) = radiances
    if key is None:
      return fine.everything(radiance, grid, rays)
    if len(rays.near) % groups:
      raise UsageFault("--config.task.renderer.groups", f"{len(rays.near)} rays do not divide over {groups} groups",
                       "give a number that divides them")
    parts = jax.tree.map(lambda a: a.reshape(groups, -1, *a.shape[1:]), rays)
    seen = jax.vmap(lambda part, key: marcher.budgeted(radiance, grid, part, key))(parts, jax.random.split(key, groups))
    scalars = {"fill": jnp.mean(seen.scalars["fill"]), "rays": jnp.sum(seen.scalars["rays"]),
               "occupied": share_occupied(grid)}
    whole = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), dataclasses.replace(seen, scalars={}))
    return dataclasses.replace(whole, scalars=scalars)

  def refresh(density, grid, key, step):
    look = lambda grid: refresh_grid(grid, density, key, half=half, cells=refresh_cells, decay=decay, threshold=threshold)
    return jax.lax.cond(step % refresh_every == 0, look, lambda grid: grid, grid)

  return Renderer(lambda: full_grid(cascades, resolution), render, refresh)


@dataclasses.dataclass(frozen=True)
class _Marcher:
  """half, reach: of the grid's first and last cascade."""
  steps: Steps
  half: float
  reach: float
  budget: int
  stop_below: float
  survey: int | None

  def budgeted(self, radiance: Radiance, grid: OccupancyGrid, rays: Rays, key: jax.Array) -> Rendered:
    """As many of the first rays as fit the budget, each completely."""
    found = self._find(grid, rays, jax.random.uniform(key, rays.near.shape))
    take, fits = whole_rays(found.ends[:, -1], self.survey or self.budget)
    p = pack(found, jnp.zeros_like(take), take, self.survey or self.budget, self.steps)
    if self.survey:
      _, section = self._sections(radiance, rays, p)
      light = light_before(jnp.where(p.valid, jax.lax.stop_gradient(section.tau), 0.0), p.first)
      p, complete = thinned(p, light > self.stop_below, self.budget, len(take))
      fits = fits & complete
    section, weights, _, sums = self._samples(radiance, rays, p)
    scalars = {"fill": jnp.mean(p.valid, dtype=jnp.float32), "rays": jnp.sum(fits, dtype=jnp.float32)}
    return Rendered(*_columns(sums), section=section, weights=weights, valid=p.valid, complete=fits, scalars=scalars)

  def everything(self, radiance: Radiance, grid: OccupancyGrid, rays: Rays) -> Rendered:
    """All rays, in rounds of up to `ROUND` samples each."""
    found = self._find(grid, rays, jnp.ones(rays.near.shape))
    total = found.ends[:, -1]
    lay = lambda begin, take: pack(found, begin, take, self.budget, self.steps)

    def turn(carry):
      begin, clear, sums = carry
      take, _ = whole_rays(jnp.minimum(total - begin, ROUND), self.budget)
      p = lay(begin, take)
      _, _, tau, new = self._samples(radiance, rays, p)
      sums, clear = sums + clear[:, None] * new, clear * jnp.exp(-sum_by_ray(tau, p.ray, len(total)))
      return jnp.where(clear < self.stop_below, total, begin + take), clear, sums

    nothing = jnp.zeros_like(total)
    sums = jax.eval_shape(lambda: self._samples(radiance, rays, lay(nothing, nothing))[3])
    carry = nothing, jnp.ones(total.shape), jnp.zeros(sums.shape)
    return Rendered(*_columns(jax.lax.while_loop(lambda carry: jnp.any(carry[0] < total), turn, carry)[2]))

  def _find(self, grid, rays, shift):
    low, high = box_interval(rays.origins, rays.directions, rays.near, rays.far, self.reach)
    return candidates(grid, rays, low, high, self.steps, shift, self.half)

  def _sections(self, radiance, rays, p: Packed):
    """Each sample's ray, and its section."""
    own = jax.tree.map(lambda a: a.at[p.ray].get(mode="promise_in_bounds"), rays)
    x = own.origins + p.t[:, None] * own.directions
    return own, radiance.section(x, own.viewdirs, p.dt * norm(own.directions), own.radii * p.t)

  def _samples(self, radiance, rays, p: Packed):
    """(section, weights (s,), optical depths (s,), sums by ray of weight times [rgb, 1, t, normal])."""
    own, section = self._sections(radiance, rays, p)
    tau = jnp.where(p.valid, section.tau, 0.0)
    weights = packed_weights(tau, p.first)
    values = [radiance.shade(section, own.viewdirs, own.view), jnp.ones_like(tau)[:, None], p.t[:, None]]
    if section.normal is not None:
      values.append(section.normal)
    values = jnp.where(p.valid[:, None], jnp.concatenate(values, axis=1), 0.0)
    return section, weights, tau, sum_by_ray(weights[:, None] * values, p.ray, len(rays.near))


def _columns(sums: jax.Array) -> tuple:
  """rgb, opacity, depth, and the normal where there is one."""
  return sums[:, :3], sums[:, 3], sums[:, 4], sums[:, 5:8] if sums.shape[1] > 5 else None
