"""Voxels of shapes: which cells of a grid are inside, or hold the surface; and datasets with them in every batch."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np

from fields3d.core.config import Count, From, build
from fields3d.core.errors import UsageFault, require_memory
from fields3d.core.progress import progress
from fields3d.core.types import Dataset
from fields3d.data.named_sets import SHAPE_SETS

Kind = Literal["solid", "surface"]
_BLOCK = 4  # cells of a side that one distance may decide


def voxels(source: Annotated[Dataset, From(SHAPE_SETS)], resolution: Count = 32, kind: Kind = "solid") -> Dataset:
  """The dataset `source` with "voxels" (r, n, n, n) float32, 0 or 1, in every batch: of each row's shape, in the cells of
  the data's bounds. The voxels of all training shapes are made at the start and held in memory, a bit each.

  Args:
    source: section of a set of shapes; its `points` and `surface` may be 0.
    resolution: n, cells along each axis, a multiple of 4. kind: see `voxelise`.

  Raises:
    UsageFault: a resolution that is no multiple of 4; what memory does not hold; shapes without distances.
  """
  if resolution % _BLOCK:
    raise UsageFault("--config.data.resolution", f"{resolution} cells are no multiple of {_BLOCK}", "give 16, 32, 64 ...")
  source = build(SHAPE_SETS, source, "data.source") if isinstance(source, Mapping) else source
  shapes, bounds = source.shapes("train"), np.asarray(source.info["bounds"], np.float64)
  require_memory(len(shapes) * resolution**3 // 8, "--config.data.resolution", "lower it, or the number of shapes")
  packed = np.empty((len(shapes), resolution**3 // 8), np.uint8)
  with progress() as show:
    for i, shape in enumerate(shapes):
      packed[i] = np.packbits(voxelise(shape.sdf, bounds, resolution, kind))
      show("shapes voxelised", i + 1, len(shapes))

  def batch(position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, Any]:
    found = dict(source.batch(position, shard, num_shards))
    grids = np.unpackbits(packed[found["shape"]], axis=1).reshape(-1, *3 * (resolution,))
    return {**found, "voxels": grids.astype(np.float32)}

  return dataclasses.replace(source, info={**source.info, "voxels": resolution, "kind": kind}, batch=batch)


def voxelise(sdf: Callable, bounds: np.ndarray, resolution: int, kind: Kind = "solid") -> np.ndarray:
  """The cells of a box that belong to a shape, (n, n, n) bool, axes x, y, z.

  "solid": whose middle is inside. "surface": whose middle is within half an edge of the surface, so that a flat wall is one
  cell thick. Blocks of cells that one distance decides are decided by it: exact for a distance that is nowhere too long.

  Args:
    sdf: points (n, 3) -> signed distance (n,), negative inside. bounds: (2, 3), of a cube.

  >>> ball = voxelise(lambda x: np.linalg.norm(x, axis=1) - 0.8, np.array([[-1.0] * 3, [1.0] * 3]), 32)
  >>> round(float(ball.mean() * 8 / (4 / 3 * np.pi * 0.8**3)), 2)
  1.0
  """
  edge = float(bounds[1, 0] - bounds[0, 0]) / resolution
  beyond = edge / 2 if kind == "surface" else 0.0
  side = resolution // _BLOCK
  corners = np.stack(np.meshgrid(*3 * (np.arange(side),), indexing="ij"), axis=-1).reshape(-1, 3) * _BLOCK
  at = lambda place: np.asarray(sdf((bounds[0] + edge * (place + 0.5)).astype(np.float32)))
  middle = at(corners + (_BLOCK - 1) / 2)
  out = np.broadcast_to(((middle < 0) & (kind == "solid"))[:, None], (len(corners), _BLOCK**3)).copy()
  within = np.array(list(itertools.product(range(_BLOCK), repeat=3)))
  reach = edge * np.sqrt(3.0) * (_BLOCK - 1) / 2  # from a block's middle to its farthest cell's
  open_ = np.flatnonzero(np.abs(middle) <= reach + beyond + 1e-6)
  found = at((corners[open_][:, None] + within).reshape(-1, 3)).reshape(len(open_), -1)
  out[open_] = np.abs(found) <= beyond if kind == "surface" else found < 0
  grid = out.reshape(side, side, side, _BLOCK, _BLOCK, _BLOCK).transpose(0, 3, 1, 4, 2, 5)
  return grid.reshape(resolution, resolution, resolution)
