"""Figures of occupancy grids: IoU, precision and recall of voxels, and distances between surface voxels. All exact."""

import dataclasses

import numpy as np
import scipy.ndimage

from fields3d.core.errors import UsageFault


def iou(a: np.ndarray, b: np.ndarray) -> float:
  """The share of voxels in both solids among those in either; 1 where neither holds any.

  Args:
    a, b: (x, y, z) bool, of one grid.

  Raises:
    UsageFault: shapes differ.

  >>> a = np.zeros((4, 4, 4), bool); a[:2] = True
  >>> iou(a, np.roll(a, 1, axis=0))
  0.3333333333333333
  """
  _check(a, b)
  both, either = int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b))
  return both / either if either else 1.0


def precision_recall(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
  """The share of predicted voxels that are true, and of true ones that are predicted.

  Where there is nothing to share, 1 if the other grid is empty too, else 0.

  >>> truth = np.ones((2, 2, 2), bool); half = truth.copy(); half[0] = False
  >>> precision_recall(half, truth), precision_recall(np.zeros((2, 2, 2), bool), truth)
  ((1.0, 0.5), (0.0, 0.0))
  """
  _check(prediction, truth)
  both, ours, theirs = (int(np.count_nonzero(grid)) for grid in (prediction & truth, prediction, truth))
  empty = 0.0 if ours or theirs else 1.0
  return both / ours if ours else empty, both / theirs if theirs else empty


def surface(solid: np.ndarray) -> np.ndarray:
  """The solid's voxels (x, y, z) bool that share a face with an empty one or with the grid's outside.

  >>> int(np.count_nonzero(surface(np.ones((3, 3, 3), bool))))
  26
  """
  return solid & ~scipy.ndimage.binary_erosion(solid, border_value=0)


@dataclasses.dataclass(frozen=True)
class SurfaceDistances:
  """Euclidean distances in voxels from the centres of one grid's surface voxels to the nearest of the other's.

  forward (n,): prediction to truth; backward (m,): truth to prediction.
  """
  forward: np.ndarray
  backward: np.ndarray


def surface_distances(prediction: np.ndarray, truth: np.ndarray) -> SurfaceDistances | None:
  """Distances between the surface voxels of two grids, both ways; None where a grid is empty.

  Exact, by the distance transform; memory is 8 bytes a voxel, twice.
  """
  _check(prediction, truth)
  ours, theirs = surface(prediction), surface(truth)
  if not ours.any() or not theirs.any():
    return None
  return SurfaceDistances(scipy.ndimage.distance_transform_edt(~theirs)[ours],
                          scipy.ndimage.distance_transform_edt(~ours)[theirs])


def cube_centres(low: np.ndarray, high: np.ndarray, resolution: int) -> np.ndarray:
  """The centres (resolution^3, 3) of the voxels of the least cube about a box, x slowest.

  Args:
    low, high: (3,) the box's corners.

  >>> cube_centres(np.zeros(3), np.array([2.0, 1, 1]), 2)[0].tolist()
  [0.5, 0.0, 0.0]
  """
  side = float(np.max(high - low))
  start = (low + high) / 2 - side / 2
  axes = [start[k] + (np.arange(resolution) + 0.5) * side / resolution for k in range(3)]
  return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _check(a: np.ndarray, b: np.ndarray) -> None:
  for grid in (a, b):
    if grid.ndim != 3 or grid.dtype != bool:
      raise UsageFault("voxels", f"a grid is (x, y, z) bool, not {grid.shape} {grid.dtype}", "compare with a threshold")
  if a.shape != b.shape:
    raise UsageFault("voxels", f"grids of {_size(a)} and {_size(b)} voxels", "give grids of one size")


def _size(grid: np.ndarray) -> str:
  return " x ".join(map(str, grid.shape))
