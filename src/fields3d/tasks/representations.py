"""Shapes as they are, for priors and adversaries to learn over: clouds of points, and grids of voxels. Nothing is trained here."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from fields3d.core.config import Count, Given
from fields3d.core.errors import UsageFault
from fields3d.core.task import Task
from fields3d.tasks.codes import between


def point_cloud(points: Count = 2048) -> Task:
  """Latents are clouds (points, 3), the first of batch["surface"], in the model frame. "sample" draws a normal cloud.

  predict: latents, sample, interpolate, points.
  """
  def latents(params, extra, batch, key):
    del params, extra, key
    if "surface" not in batch or batch["surface"].shape[1] < points:
      raise UsageFault("--config.data.surface", f"the batches have not {points} points on surfaces", f"set it to {points}")
    return batch["surface"][:, :points]

  return _untrained((points, 3), {"latents": latents, "points": lambda params, extra, z, key: z})


def voxel_grid(info: Annotated[Mapping[str, Any], Given()]) -> Task:
  """Latents are occupancies (n, n, n, 1) of batch["voxels"], 0 or 1, at the middles of n^3 cells of the data's bounds.

  The field of a grid is linear between the cells' middles, and 0 outside; its surface is where it is 1/2. "sdf" is not a
  distance: half a cell's edge less the edge times the occupancy.

  predict: latents, sample, interpolate, sdf.

  Raises:
    UsageFault: data without voxels.
  """
  if "voxels" not in info:
    raise UsageFault("--config.data", "has no voxels", 'use name="voxels"')
  size, (low, high) = info["voxels"], jnp.asarray(info["bounds"], jnp.float32)

  def sdf(params, extra, x, z):
    del params, extra
    place = (x - low[None]) / (high - low)[None] * size - 0.5  # in cells, from the first one's middle
    return (high[0] - low[0]) / size * (0.5 - map_coordinates(z[..., 0], list(place.T), order=1))

  return _untrained((size, size, size, 1), {"latents": lambda params, extra, batch, key: batch["voxels"][..., None], "sdf": sdf})


def _nothing(key):
  del key
  return {}, {}


def _untrained(shape: tuple[int, ...], predict: Mapping[str, Callable]) -> Task:
  return Task(_nothing, {}, {
      "sample": lambda params, extra, key, num: jax.random.normal(key, (num, *shape)),
      "interpolate": between, **predict})
