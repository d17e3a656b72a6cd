"""Rigid transforms: made by where a camera looks, or as files give them, checked, mended or refused by name."""

from collections.abc import Sequence

import numpy as np

from fields3d.core.errors import BadData

_ROUNDING = 1e-3  # largest departure from a rotation that is taken for rounding
_LARGEST = 1e12  # beyond it float64 has no room for the rest of the scene
_EXACT = 1e-5  # departures below this are not worth a warning: float32 has them


def rigid_poses(matrices: Sequence, names: Sequence[str], where: object) -> tuple[np.ndarray, list[str]]:
  """Poses with exact rotations, from 3x4 or 4x4 matrices.

  Args:
    matrices: n lists or arrays of numbers, camera to world.
    names: n, for messages. where: the file.

  Returns:
    (n, 3, 4) float64, and warnings: rotations off by up to 1e-3 are replaced by the nearest ones.

  Raises:
    BadData: a matrix of another shape, a value that is not finite, a last row that is not 0 0 0 1, a left-handed or
      scaled or sheared rotation.

  >>> rigid_poses([np.eye(4)], ["a"], "x.json")[0].shape
  (1, 3, 4)
  """
  poses, worst = np.empty((len(matrices), 3, 4)), 0.0
  mended = 0
  for i, (matrix, name) in enumerate(zip(matrices, names, strict=True)):
    pose = _matrix(matrix, name, where)
    rotation, error = _nearest_rotation(pose[:, :3], name, where)
    mended, worst = mended + (error > _EXACT), max(worst, error)
    poses[i] = np.concatenate([rotation, pose[:, 3:]], axis=1)
  warning = f"{where}: {mended} rotations are off by up to {worst:.1e}; the nearest exact ones are used"
  return poses, [warning] if mended else []


def _matrix(matrix: object, name: str, where: object) -> np.ndarray:
  try:
    pose = np.asarray(matrix, np.float64)
  except (TypeError, ValueError, OverflowError) as e:
    raise BadData(where, f"the pose of {name!r} is no matrix of numbers", "give 4 rows of 4 numbers") from e
  if pose.shape not in ((3, 4), (4, 4)):
    raise BadData(where, f"the pose of {name!r} has shape {pose.shape}", "give 4 rows of 4 numbers")
  if not (np.abs(pose) < _LARGEST).all():
    raise BadData(where, f"the pose of {name!r} is not finite, or as large", "correct it or leave the frame out")
  if pose.shape == (4, 4) and np.abs(pose[3] - (0, 0, 0, 1)).max() > _ROUNDING:
    raise BadData(where, f"the pose of {name!r} ends with the row {pose[3].tolist()}, not 0 0 0 1",
                  "give camera-to-world matrices, by rows")
  return pose[:3]


def _nearest_rotation(matrix: np.ndarray, name: str, where: object) -> tuple[np.ndarray, float]:
  """The rotation nearest to a 3x3 matrix (Frobenius norm), and the largest difference of an entry."""
  u, singular, vt = np.linalg.svd(matrix)
  if np.linalg.det(matrix) < 0:
    raise BadData(where, f"the pose of {name!r} is left-handed (determinant {np.linalg.det(matrix):.3g})",
                  "negate one axis of the camera, as its convention says (here +x right, +y up, -z ahead)")
  error = np.abs(u @ vt - matrix).max()
  if error > _ROUNDING:
    what = f"scaled by {singular.mean():.4g}" if np.ptp(singular) <= _ROUNDING * singular[0] else "scaled or sheared"
    raise BadData(where, f"the rotation of {name!r} is {what}", "divide the scale out: columns of unit length, orthogonal")
  return u @ vt, float(error)


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
  """The pose (3, 4) of a camera at `eye` that looks at `target`, its +y as near to `up` as may be.

  >>> look_at(np.array([0, 0, 2.0]), np.zeros(3), np.array([0, 1.0, 0])).tolist()
  [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]]
  """
  back = (eye - target) / np.linalg.norm(eye - target)
  right = np.cross(up, back)
  if np.linalg.norm(right) < 1e-6:  # it looks along `up`: any right will do
    right = np.cross(np.roll(np.abs(up), 1) + 0.1, back)
  right /= np.linalg.norm(right)
  return np.stack([right, np.cross(back, right), back, eye], axis=1)
