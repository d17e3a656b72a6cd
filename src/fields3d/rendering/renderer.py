"""What a renderer is: rays and a radiance, given as callables, in; colours, opacity and depth out.

A radiance answers for short sections of rays. Its arrays have any leading shape: (rays, sections) where every ray has as
many sections, (samples,) where they are packed.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Section:
  """What a field says of sections of rays, each given by its middle x, its direction and its length.

  tau (*b,): optical depth, so that a share 1 - exp(-tau) of the light is absorbed; density times length where the density
  is constant over the section. features (*b, f): what `shade` needs. Of fields that have a signed distance, sdf (*b,) and
  gradient (*b, 3): it and its gradient, both in the field's own box; normal (*b, 3): the gradient's direction in the frame of x,
  of length 1, or 0 where there is none.
  """
  tau: jax.Array
  features: jax.Array
  sdf: jax.Array | None = None
  gradient: jax.Array | None = None
  normal: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Radiance:
  """A radiance field bound to its parameters.

  section: (x (*b, 3), d (*b, 3) unit view directions, dt (*b,) lengths, radius (*b,) of the pixel's cone) -> Section.
  shade: (section, d (*b, 3), view (*b,) int32) -> colours (*b, 3) in [0, 1].
  """
  section: Callable
  shade: Callable


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rendered:
  """What n rays see.

  rgb (n, 3): premultiplied by opacity, without background. opacity (n,). depth (n,): sum of weight * t (divide by
  opacity for the expected t). normal (n, 3): weighted sum of unit normals, or None.
  levels: for each level of sampling, coarse first, (ends (n, s + 1) in [0, 1] along the ray, weights (n, s)): what losses
  on rays look at; empty where samples are packed. coarse: colours of the coarse levels that have any, (n, 3) each.
  section, weights: the last level's sections and their weights, same leading shape, where they are kept for losses;
  valid: which of them are any, None for all.
  complete (n,): rays that were rendered at all, None for all; the rest did not fit the budget and say nothing.
  scalars: counts and shares to log.
  """
  rgb: jax.Array
  opacity: jax.Array
  depth: jax.Array
  normal: jax.Array | None = None
  section: Section | None = None
  weights: jax.Array | None = None
  levels: tuple = ()
  coarse: tuple = ()
  valid: jax.Array | None = None
  complete: jax.Array | None = None
  scalars: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Renderer:
  """A way of placing samples on rays; entries of `rendering.RENDERERS` make one.

  init: () -> extra, a pytree without gradients (an occupancy grid; {} where there is none).
  render: (radiances, extra, rays, key, step) -> Rendered. radiances: one per level of sampling, the last one's colours
    count; `key` None renders without randomness, and then completely: nothing is left out for lack of budget.
  refresh: (density, extra, key, step) -> extra; density: (x (n, 3)) -> (n,).
  levels: how many radiances `render` wants: proposals (or NeRF's coarse network) first, the field last.
  shades_all: whether it asks all of them for colours, not the last alone.
  """
  init: Callable
  render: Callable
  refresh: Callable
  levels: int = 1
  shades_all: bool = False
