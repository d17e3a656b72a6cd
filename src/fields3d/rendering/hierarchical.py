"""NeRF's two networks: a coarse one says where the fine one is asked."""

from collections.abc import Mapping
from typing import Annotated, Any

import jax.numpy as jnp

from fields3d.core.config import Count, Given
from fields3d.rendering.renderer import Renderer
from fields3d.rendering.samplers import Spacing, check_spacing, distances, importance, ray_extent, stratified
from fields3d.rendering.sections import absorb, colors, rendered, split


def hierarchical(info: Annotated[Mapping[str, Any], Given()], coarse: Count = 64, fine: Count = 128,
                 spacing: Spacing = "linear") -> Renderer:
  """The coarse radiance in `coarse` sections; the fine one in those and `fine` more, drawn by the coarse one's weights.

  Both are seen, so that both learn from colours. Sections here are asked at their middles; the paper asks at the
  samples themselves and lets each reach to the next, the last to infinity.

  Args:
    info: the dataset's facts: where space is bounded, rays are cut to the box.
    spacing: of the coarse sections.

  Raises:
    UsageFault: see `check_spacing`.

  Source: NeRF (Mildenhall et al. 2020), section 5.2.

  >>> hierarchical({"unbounded": True}).levels
  2
  """
  check_spacing(spacing, info)

  def render(radiances, extra, rays, key, step):
    del extra, step
    near, far = ray_extent(rays, info)
    first, second = split(key, 2)
    s = stratified(near.shape, coarse, first)
    t = distances(s, near, far, spacing)
    section, weights = absorb(radiances[0], rays, t)
    seen = colors(radiances[0], rays, section, weights)
    more = importance(s, weights, fine, second)
    s_fine = jnp.sort(jnp.concatenate([s, more], axis=-1), axis=-1)
    t = distances(s_fine, near, far, spacing)
    section, fine_weights = absorb(radiances[1], rays, t)
    return rendered(radiances[1], rays, t, section, fine_weights, ((s, weights), (s_fine, fine_weights)), (seen,))

  return Renderer(dict, render, lambda density, extra, key, step: extra, levels=2, shades_all=True)
