"""Rays through pixels, of many cameras at once, on the host: float64 inside, float32 out.

A pixel's footprint is a disc of its own area: its solid angle is exact (the projection's, divided by the distortion's
Jacobian), so the radius at t = 1 is sqrt(solid angle / pi). mip-NeRF's 2 / sqrt(12) |dx| is 2.3% wider.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core.types import Camera, Rays
from fields3d.geometry.cameras import camera_model, unproject


class CameraRig:
  """Cameras stacked once, so that a batch of rays costs a few array operations for each camera model among them."""

  def __init__(self, cameras: Sequence[Camera], facts: Mapping[str, Any]):
    """facts: "near" and "far", along unit directions; "ndc": None, or {"width", "height", "fx", "fy", "near"}.

    Raises:
      UsageFault: a camera's model is unknown.
    """
    self._near, self._far, self._ndc = facts["near"], facts["far"], facts.get("ndc")
    self._models = sorted({camera.model for camera in cameras})
    self._model = np.array([self._models.index(camera.model) for camera in cameras], np.int32)
    widths = [len(camera_model(name).parameters) for name in self._models]
    self._distortion = np.zeros((len(cameras), max(widths, default=0)))
    for row, camera in zip(self._distortion, cameras):
      row[:len(camera.distortion)] = camera.distortion
    self._widths = widths
    self._intrinsics = np.array([camera.intrinsics for camera in cameras], np.float64).reshape(-1, 4)
    self._poses = np.array([camera.pose for camera in cameras], np.float64).reshape(-1, 3, 4)

  def rays(self, view: np.ndarray, pixel: np.ndarray, label: bool = True) -> Rays:
    """The rays through places on the image.

    Args:
      view: (n,) which camera.
      pixel: (n, 2) column and row; a pixel's centre is at +0.5.
      label: whether the rays say which camera is theirs (they are training views), or -1.

    Returns:
      rays, float32. A place that no direction falls on has far = near: it sees nothing.
    """
    directions, area, valid = self._directions(view, pixel)
    poses = self._poses[view]
    viewdirs = np.einsum("nij,nj->ni", poses[:, :, :3], directions)
    origins, near, far = poses[:, :, 3], self._near, self._far
    radii, directions = np.sqrt(area / np.pi), viewdirs
    if self._ndc is not None:
      origins, directions, radii, ahead = warp_to_ndc(origins, viewdirs, radii, self._ndc)
      near, far, valid = 0.0, 1.0, valid & ahead
    near = np.full(len(view), near, np.float32)
    index = view if label else np.full(len(view), -1)
    return Rays(*(np.asarray(a, np.float32) for a in (origins, directions, viewdirs, radii)), near,
                np.where(valid, np.float32(far), near), np.asarray(index, np.int32))

  def _directions(self, view: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the cameras' frames: unit directions (n, 3), a pixel's solid angle (n,), whether the place is seen (n,)."""
    fx, fy, cx, cy = self._intrinsics[view].T
    xy = np.stack([(pixel[:, 0] - cx) / fx, (pixel[:, 1] - cy) / fy], axis=-1)
    if len(self._models) == 1:
      directions, area, valid = unproject(self._models[0], xy, self._distortion[view])
      return directions, area / (fx * fy), valid
    directions, area, valid = np.zeros((len(view), 3)), np.zeros(len(view)), np.zeros(len(view), bool)
    for i, name in enumerate(self._models):
      chosen = np.flatnonzero(self._model[view] == i)
      distortion = self._distortion[view[chosen], :self._widths[i]]
      directions[chosen], area[chosen], valid[chosen] = unproject(name, xy[chosen], distortion)
    return directions, area / (fx * fy), valid


def camera_rays(cameras: Sequence[Camera], view: np.ndarray, pixel: np.ndarray, facts: Mapping[str, Any],
                label: bool = True) -> Rays:
  """`CameraRig(cameras, facts).rays(view, pixel, label)`, for one batch.

  >>> camera = Camera("PINHOLE", (8, 8), (8.0, 8.0, 4.0, 4.0), (), np.eye(4)[:3])
  >>> rays = camera_rays([camera], np.array([0]), np.array([[4.0, 4.0]]), {"near": 2.0, "far": 6.0})
  >>> rays.directions.tolist(), rays.near.tolist(), rays.far.tolist()
  ([[0.0, 0.0, -1.0]], [2.0], [6.0])
  """
  return CameraRig(cameras, facts).rays(view, pixel, label)


def warp_to_ndc(origins: np.ndarray, viewdirs: np.ndarray, radii: np.ndarray, ndc: Mapping[str, float]) -> tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Rays of a forward-facing scene in normalised device coordinates, where t = 0 is the near plane and t = 1 infinity.

  The frustum of a camera at 0 that looks along -z becomes the cube [-1, 1]^3. Directions are not of unit length.
  Straight lines stay straight, but a cone does not stay one: the radius given is the footprint at t = 1, exact there.
  Places of one pixel are equally large all along a ray of a camera at 0, so that before t = 1 a cone is too thin.

  Args:
    origins, viewdirs: (n, 3), unit directions. radii: (n,) at unit distance.
    ndc: "width", "height", "fx", "fy" of that camera, pixels; "near", the distance of the near plane.

  Returns:
    origins (n, 3), directions (n, 3), radii (n,), and whether the ray goes ahead at all (n,); it must, to be seen.

  Source: Mildenhall et al. 2020 (NeRF), appendix C, equations 22 to 26.
  """
  ahead = viewdirs[:, 2] < -1e-6
  d = np.where(ahead[:, None], viewdirs, (0.0, 0.0, -1.0))
  near, (ax, ay) = ndc["near"], _slopes(ndc)
  o = origins - ((near + origins[:, 2]) / d[:, 2])[:, None] * d
  slope, place = d[:, :2] / d[:, 2:], o[:, :2] / o[:, 2:]
  start = np.concatenate([-place * (ax, ay), (1 + 2 * near / o[:, 2])[:, None]], axis=-1)
  along = np.concatenate([(place - slope) * (ax, ay), (-2 * near / o[:, 2])[:, None]], axis=-1)
  return start, along, radii * np.sqrt(ax * ay / np.abs(d[:, 2]) ** 3), ahead


def to_ndc(points: np.ndarray, ndc: Mapping[str, float]) -> np.ndarray:
  """Points (n, 3) ahead of the camera at 0 in normalised device coordinates; `ndc`: see `warp_to_ndc`.

  >>> facts = {"width": 8, "height": 8, "fx": 8.0, "fy": 8.0, "near": 1.0}
  >>> to_ndc(np.array([[1.0, 0.0, -2.0]]), facts).tolist(), from_ndc(np.array([[1.0, 0.0, 0.0]]), facts).tolist()
  ([[1.0, 0.0, 0.0]], [[1.0, 0.0, -2.0]])
  """
  ahead = -points[:, 2:]
  return np.concatenate([points[:, :2] / ahead * _slopes(ndc), 1 - 2 * ndc["near"] / ahead], axis=-1)


def from_ndc(points: np.ndarray, ndc: Mapping[str, float]) -> np.ndarray:
  """The points (n, 3) of the model frame that `to_ndc` takes to these, whose last coordinate is below 1."""
  ahead = 2 * ndc["near"] / (1 - points[:, 2:])
  return np.concatenate([points[:, :2] * ahead / _slopes(ndc), -ahead], axis=-1)


def length_in_ndc(t: np.ndarray, origin: np.ndarray, viewdirs: np.ndarray, ndc: Mapping[str, float]) -> np.ndarray:
  """How far from their eye the points of rays are that `warp_to_ndc` has at t (n,) in [0, 1); 10,000 near planes at most.

  Args:
    origin: (3,), the eye. viewdirs: (n, 3), unit directions.

  >>> facts = {"width": 8, "height": 8, "fx": 8.0, "fy": 8.0, "near": 1.0}
  >>> length_in_ndc(np.array([0.0, 0.75]), np.array([0.0, 0.0, 1.0]), np.array([[0.0, 0.0, -1.0]] * 2), facts).tolist()
  [2.0, 5.0]
  """
  ahead = ndc["near"] / np.maximum(1 - t, 1e-4)  # of the camera at 0
  return (ahead + origin[2]) / np.maximum(-viewdirs[:, 2], 1e-6)


def _slopes(ndc: Mapping[str, float]) -> np.ndarray:
  return np.array([2 * ndc["fx"] / ndc["width"], 2 * ndc["fy"] / ndc["height"]])
