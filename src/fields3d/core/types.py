"""The few types in which shapes leave a task, and in which data reaches one.

Frame: right-handed, +Y up, lengths in the normalised model frame unless a `Frame` says otherwise.
A signed distance is negative inside.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
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
class Camera:
  """A calibrated camera.

  model: a name of `geometry.cameras.MODELS`. size: (width, height), pixels.
  intrinsics: (fx, fy, cx, cy), pixels; column i and row j cover [i, i + 1) x [j, j + 1), so a pixel's centre is at +0.5.
  distortion: the model's own parameters, in its own order.
  pose: (3, 4) float64, camera to model frame; the camera looks along its -z, +x right, +y up (OpenGL, Blender).
  """
  model: str
  size: tuple[int, int]
  intrinsics: tuple[float, float, float, float]
  distortion: tuple[float, ...]
  pose: np.ndarray


@dataclasses.dataclass(frozen=True)
class View:
  """A posed photograph.

  pixels: () -> (h, w, 4) uint16, sRGB colours premultiplied by the coverage in the fourth channel (65535 where the
    photograph has none), so that colour + (1 - coverage) * background composites it and averages stay exact.
  mask: () -> (h, w) bool, True where the pixel counts; None where all do.
  depth: () -> (h, w) float32, distance along the camera's axis in the model frame, 0 where unknown; or None.
  """
  name: str
  camera: Camera
  pixels: Callable[[], np.ndarray]
  mask: Callable[[], np.ndarray] | None = None
  depth: Callable[[], np.ndarray] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rays:
  """Rays x(t) = origins + t * directions, t from near to far.

  origins, directions (*b, 3): unit directions in the model frame, not so in NDC. viewdirs (*b, 3): unit, in the model
  frame always. radii (*b,): a pixel's footprint at t = 1, as the radius of a disc of the pixel's area. near, far (*b,).
  view (*b,) int32: the training view that the ray belongs to, -1 for none.
  """
  origins: jax.Array
  directions: jax.Array
  viewdirs: jax.Array
  radii: jax.Array
  near: jax.Array
  far: jax.Array
  view: jax.Array


def no_views(split: str) -> Sequence[View]:
  """The views of a dataset without photographs."""
  del split
  return ()


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What training and evaluation see of data.

  info: facts that a task's factory may use (num_shapes, ...), JSON-able.
  batch: (position, shard, num_shards) -> {name: array}; a pure function, so that the data position is one integer.
    Rows are the leading axis; shard i of n holds rows [i*rows/n, (i+1)*rows/n) of the global batch.
  shapes: split ("train", "val", "test") -> the ground truth, in the order of the batches' "shape" index.
  views: split -> the photographs, in the order of the batches' "view" index.
  """
  info: Mapping[str, Any]
  batch: Callable[[int, int, int], Mapping[str, np.ndarray]]
  shapes: Callable[[str], Sequence[Shape]]
  views: Callable[[str], Sequence[View]] = no_views
