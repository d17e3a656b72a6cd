"""The few types in which shapes leave a task, and in which data reaches one.

Frame: right-handed, +Y up, lengths in the normalised model frame unless a `Frame` says otherwise.
A signed distance is negative inside.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Mesh:
  """Triangles, counter-clockwise seen from outside.

  vertices (v, 3) float64, faces (f, 3) int64, colors (v, 3) uint8 sRGB per vertex or None.
  """
  vertices: np.ndarray
  faces: np.ndarray
  colors: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class PointCloud:
  """points (n, 3), unit normals (n, 3) or None, colors (n, 3) uint8 sRGB or None."""
  points: np.ndarray
  normals: np.ndarray | None = None
  colors: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class VoxelGrid:
  """values (rx, ry, rz) at the nodes of a regular grid that spans `bounds` (2, 3), ends included."""
  values: np.ndarray
  bounds: np.ndarray


@dataclasses.dataclass(frozen=True)
class Field:
  """A field as a callable: points (n, 3) float32 -> values (n,), with the box in which it means something.

  color: points (n, 3) -> (n, 3) in [0, 1] sRGB, or None.
  """
  fn: Callable
  bounds: np.ndarray
  color: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Frame:
  """normalised = (world - offset) / scale."""
  offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
  scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Shape:
  """One ground-truth shape, in the normalised frame.

  sdf: points (n, 3) -> signed distance (n,), numpy; `exact` says whether it is the Euclidean distance everywhere.
  mesh: the true surface as triangles (a procedural shape's is extracted at high resolution on demand).
  samples: () -> {"x" (n, 3), "sdf" (n,)}: what test-time reconstruction may see.
  """
  name: str
  label: str
  sdf: Callable
  mesh: Callable[[], Mesh]
  samples: Callable[[], Mapping[str, np.ndarray]]
  exact: bool = True
  frame: Frame = Frame()
  color: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What training and evaluation see of data.

  info: facts that a task's factory may use (num_shapes, ...), JSON-able.
  batch: (position, shard, num_shards) -> {name: array}; a pure function, so that the data position is one integer.
    Rows are the leading axis; shard i of n holds rows [i*rows/n, (i+1)*rows/n) of the global batch.
  shapes: split ("train", "val", "test") -> the ground truth, in the order of the batches' "shape" index.
  """
  info: Mapping[str, Any]
  batch: Callable[[int, int, int], Mapping[str, np.ndarray]]
  shapes: Callable[[str], Sequence[Shape]]
