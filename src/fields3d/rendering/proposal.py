"""Proposals: cheap densities, learned along with the field, that say where it is asked."""

from collections.abc import Mapping
from typing import Annotated, Any

from fields3d.core.config import Given, Index, NonNegative, Range
from fields3d.rendering.renderer import Renderer
from fields3d.rendering.samplers import (
  Spacing,
  anneal_exponent,
  check_spacing,
  distances,
  ray_extent,
  resample,
  stratified,
)
from fields3d.rendering.sections import absorb, rendered, split

Counts = Annotated[tuple[int, ...], Range(ge=1)]


def proposal(info: Annotated[Mapping[str, Any], Given()], samples: Counts = (256, 96, 48),
             spacing: Spacing = "linear", anneal: Index = 1000, padding: NonNegative = 0.01) -> Renderer:
  """Sections in rounds: each proposal's weights place the sections of the next, the last round's are the field's.

  No gradient passes from one round to another: proposals learn from the interlevel loss on `Rendered.levels` alone.

  Args:
    info: the dataset's facts: where space is bounded, rays are cut to the box.
    samples: sections of each round; all but the last are proposals'.
    spacing: of the first round's sections, and of the distances in `levels`.
    anneal: steps in which weights come to count fully. padding: weight that every section has in any case.

  Raises:
    UsageFault: see `check_spacing`.

  Source: mip-NeRF 360 (Barron et al. 2022), section 3; the defaults are nerfacto's (Tancik et al. 2023).

  >>> proposal({"unbounded": True}, samples=(64, 32)).levels
  2
  """
  check_spacing(spacing, info)

  def render(radiances, extra, rays, key, step):
    del extra
    near, far = ray_extent(rays, info)
    power = 1.0 if key is None else anneal_exponent(step, anneal)
    levels = []
    for radiance, count, level_key in zip(radiances, samples, split(key, len(samples)), strict=True):
      if levels:
        s, weights = levels[-1]
        s = resample(s, weights**power, count, level_key, padding)
      else:
        s = stratified(near.shape, count, level_key)
      t = distances(s, near, far, spacing)
      section, weights = absorb(radiance, rays, t)
      levels.append((s, weights))
    return rendered(radiances[-1], rays, t, section, weights, tuple(levels))

  return Renderer(dict, render, lambda density, extra, key, step: extra, levels=len(samples))
