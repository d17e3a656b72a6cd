"""The model frame of a photographed scene: +Y up, the cameras around 0, of unit size; and back.

A reconstruction comes in a frame of its own (COLMAP's: any orientation, origin and unit). Here it is turned, moved and
scaled, all of it undone by world = rotation @ model * scale + offset.
"""

from typing import Literal

import numpy as np

from fields3d.core.errors import BadData
from fields3d.core.types import Frame

Mode = Literal["up", "pca", "forward", "none"]
Centre = Literal["cameras", "focus", "none"]
_PARALLEL = 1e-6  # share of the axes' mean squared sine below which they meet nowhere


def normalise(poses: np.ndarray, points: np.ndarray | None = None, mode: Mode = "up", centre: Centre = "cameras",
              scale: Literal["cameras", "points", "none"] | float = "cameras",
              where: object = "poses") -> tuple[np.ndarray, Frame, np.ndarray]:
  """Cameras in the model frame, and the way back. Moving, turning or scaling all of the input changes no pose.

  Args:
    poses: (n, 3, 4) camera to world; the camera looks along its -z, +y up.
    points: (m, 3) of the reconstruction, in the world; needed by `scale="points"` alone.
    mode: what becomes +Y. "up": the mean of the cameras' up directions; the first camera says where +X is. "pca": the
      direction in which the cameras vary least, for cameras around an object. "forward": the mean camera's own axes,
      for cameras that look one way. "none": the world's +Y.
    centre: what becomes 0: the cameras' mean position; the point nearest to all optical axes; or the world's own 0.
    scale: what becomes 1: the largest distance of a camera from the centre; the 98th percentile of the points'
      distances; a length of the world; or nothing.
    where: the file, for messages.

  Returns:
    poses (n, 3, 4) float64 in the model frame, frame, rotation (3, 3).

  Raises:
    BadData: one camera only or all at one point, ups that cancel, axes that meet nowhere, points without extent.

  Source: mode "pca" is Barron et al. 2022 (mip-NeRF 360), the released code's `transform_poses_pca`; "forward" is
    Mildenhall et al. 2020 (NeRF), the released code's `recenter_poses`.

  >>> poses = np.stack([np.c_[np.eye(3), [x, 0, 5.0]] for x in (-1, 1)])
  >>> moved, frame, rotation = normalise(poses)
  >>> moved[:, :, 3].tolist(), frame
  ([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], Frame(offset=(0.0, 0.0, 5.0), scale=1.0))
  """
  poses = np.asarray(poses, np.float64)
  positions = poses[:, :, 3]
  spread = np.abs(positions - positions.mean(axis=0)).max(initial=0.0)
  if not spread > 1e-9 * max(np.abs(positions).max(initial=0.0), 1e-300):
    raise BadData(where, "one camera only" if len(poses) == 1 else f"all {len(poses)} cameras are at one point",
                  "give photographs from several places")
  rotation = _orientation(poses, mode, where)
  offset = {"cameras": lambda: positions.mean(axis=0), "focus": lambda: focus_point(poses, where),
            "none": lambda: np.zeros(3)}[centre]()
  length = _length(scale, positions, points, offset, where)
  frame = Frame(tuple(map(float, offset)), float(length))
  rotated = np.concatenate([rotation.T @ poses[:, :, :3], to_model(positions, frame, rotation)[..., None]], axis=-1)
  return rotated, frame, rotation


def to_model(points: np.ndarray, frame: Frame, rotation: np.ndarray) -> np.ndarray:
  """Points (n, 3) of the world in the model frame: rotation^T (world - offset) / scale."""
  return (points - np.asarray(frame.offset)) @ rotation / frame.scale


def to_world(points: np.ndarray, frame: Frame, rotation: np.ndarray) -> np.ndarray:
  """Points (n, 3) of the model frame in the world: rotation @ model * scale + offset."""
  return points @ rotation.T * frame.scale + np.asarray(frame.offset)


def focus_point(poses: np.ndarray, where: object = "poses") -> np.ndarray:
  """The point (3,) whose squared distances to all optical axes have the least sum.

  Raises:
    BadData: the axes are parallel.
  """
  axes = poses[:, :, 2]
  across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # projections onto the planes across the axes
  if np.linalg.eigvalsh(across.mean(axis=0))[0] < _PARALLEL:
    raise BadData(where, "the cameras look along parallel axes, which meet nowhere", 'use centre="cameras"')
  return np.linalg.solve(across.sum(axis=0), np.einsum("nij,nj->i", across, poses[:, :, 3]))


def _orientation(poses: np.ndarray, mode: Mode, where: object) -> np.ndarray:
  """The rotation whose columns are the model's axes in the world."""
  if mode == "none":
    return np.eye(3)
  mean_up, first = poses[:, :, 1].mean(axis=0), poses[0]
  if np.linalg.norm(mean_up) < 1e-3:
    raise BadData(where, "the cameras' up directions cancel", "check the poses, or leave their orientation as it is")
  if mode == "forward":
    mean_back = poses[:, :, 2].mean(axis=0)
    if np.linalg.norm(np.cross(mean_up, mean_back)) < 1e-3:
      raise BadData(where, "the cameras look all ways", 'use mode="up" for scenes that are not forward-facing')
    return _axes(across=np.cross(mean_up, mean_back), exact=mean_back, place=2)
  if mode == "up":
    upright = abs(first[:, 0] @ mean_up) < 0.9 * np.linalg.norm(mean_up)  # else a photograph on its side
    return _axes(across=first[:, 0] if upright else np.cross(mean_up, first[:, 2]), exact=mean_up, place=1)
  positions = poses[:, :, 3] - poses[:, :, 3].mean(axis=0)
  variances, vectors = np.linalg.eigh(positions.T @ positions)  # ascending
  if variances[1] < 1e-12 * variances[2]:
    raise BadData(where, "the cameras stand in one line, which leaves their plane open", 'use mode="up"')
  up, across = vectors[:, 0], vectors[:, 2]
  return _axes(across=across * _sign(across @ first[:, 0]), exact=up * _sign(up @ mean_up), place=1)


def _axes(across: np.ndarray, exact: np.ndarray, place: int) -> np.ndarray:
  """A right-handed frame, columns x, y, z: `exact` is its y or z (`place`), x as near to `across` as that allows."""
  exact = exact / np.linalg.norm(exact)
  x = across - (across @ exact) * exact
  x /= np.linalg.norm(x)
  return np.stack([x, exact, np.cross(x, exact)] if place == 1 else [x, np.cross(exact, x), exact], axis=1)


def _sign(value: float) -> float:
  return -1.0 if value < 0 else 1.0


def _length(scale: str | float, positions: np.ndarray, points: np.ndarray | None, offset: np.ndarray,
            where: object) -> float:
  """The world's length that becomes 1."""
  if scale == "none":
    return 1.0
  if scale == "cameras":
    return np.linalg.norm(positions - offset, axis=1).max()
  length = np.percentile(np.linalg.norm(points - offset, axis=1), 98) if scale == "points" else scale
  if not np.isfinite(length) or length <= 0:
    raise BadData(where, f"the scene's extent is {length:g}", "check its points")
  return length
