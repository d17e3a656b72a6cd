"""Camera models: from directions to places on the image, and back.

A model is a projection of directions onto a plane, then a distortion of that plane. In the plane x is right and y down,
the optical axis at 0, and 1 is a focal length: pixel = (fx x + cx, fy y + cy). A direction is in the camera's frame: -z
ahead, +x right, +y up. The names, the parameters and their order are COLMAP's, and nerfstudio's where COLMAP has none.

Distortion is a closed form; its inverse is Newton's iteration, whose Jacobian is exact (derivatives by a complex step).
Where a point of the plane has no pre-image the answer says so instead of being wrong.

Source: COLMAP `src/colmap/sensor/models.h`; nerfstudio `cameras/camera_utils.py`; Kannala and Brandt 2006 (fisheye);
  Devernay and Faugeras 2001 (FOV); Khomutenko et al. 2016 (EUCM); Brown 1966 (radial and tangential).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.core.types import Camera

_STEPS = 30  # of Newton; three to six are the rule
_TOLERANCE = 1e-10  # of the residual, in focal lengths
_STRONG = 1 / 8  # a distortion that moves a point by more of its distance from the centre may turn back on itself
_STRETCHES = 16  # of the way from the centre
_COMPLEX_STEP = 1e-30

Columns = np.ndarray  # (k,), or (k, n) of as many points


@dataclasses.dataclass(frozen=True)
class Projection:
  """How directions lie on the plane, without distortion.

  plane: directions (n, 3), any length, x right, y down, z ahead -> x (n,), y (n,); NaN where they never reach the plane.
  direction: the inverse: x (n,), y (n,) -> unit directions (n, 3).
  area: x (n,), y (n,) -> solid angle of a unit of the plane's area, there (n,); 0 beyond the plane's edge.
  """
  plane: Callable
  direction: Callable
  area: Callable


@dataclasses.dataclass(frozen=True)
class CameraModel:
  """parameters: names of the distortion's. distort: (x, y, columns of parameters) -> (x, y), by analytic functions."""
  parameters: tuple[str, ...]
  projection: Projection
  distort: Callable | None = None


def unproject(model: str, xy: np.ndarray, distortion: np.ndarray | Sequence[float] = ()) -> tuple[
    np.ndarray, np.ndarray, np.ndarray]:
  """The directions that fall on points of the plane.

  Args:
    model: a name of `MODELS`.
    xy: (n, 2) points of the plane, ((column - cx) / fx, (row - cy) / fy).
    distortion: the model's parameters, (k,) or one row per point (n, k).

  Returns:
    unit directions (n, 3) in the camera's frame (-z ahead, +y up); the solid angle of a unit of the plane's area there,
    (n,) steradians; valid (n,) bool, False where no direction falls on the point (the direction is then meaningless).

  >>> directions, area, valid = unproject("PINHOLE", np.zeros((1, 2)))
  >>> directions.tolist(), area.tolist(), valid.tolist()
  ([[0.0, -0.0, -1.0]], [1.0], [True])
  """
  entry = camera_model(model)
  x, y = np.asarray(xy, np.float64).T
  stretch, valid = 1.0, True
  if entry.distort is not None:
    x, y, stretch, valid = _undistort(entry.distort, x, y, _columns(distortion))
  area = entry.projection.area(x, y)
  return entry.projection.direction(x, y) * _FLIP, area / stretch, valid & (area > 0)


def project(model: str, directions: np.ndarray, distortion: np.ndarray | Sequence[float] = ()) -> np.ndarray:
  """The points (n, 2) of the plane on which directions (n, 3) fall, of any length; NaN where they fall on none.

  Beyond the fold of a distortion this is what its formula says, which no lens does.

  >>> project("SIMPLE_RADIAL", np.array([[1.0, 0.0, -1.0]]), (0.1,)).tolist()
  [[1.1, -0.0]]
  """
  entry = camera_model(model)
  x, y = entry.projection.plane(np.asarray(directions, np.float64) * _FLIP)
  if entry.distort is not None:
    with np.errstate(invalid="ignore"):
      x, y = entry.distort(x, y, _columns(distortion))
  return np.stack([x, y], axis=-1)


def pixel_of(camera: Camera, points: np.ndarray) -> np.ndarray:
  """Where points (n, 3) of the model frame fall on a camera's image: (n, 2) columns and rows, NaN where nowhere."""
  directions = (points - camera.pose[:, 3]) @ camera.pose[:, :3]
  fx, fy, cx, cy = camera.intrinsics
  return project(camera.model, directions, camera.distortion) * (fx, fy) + (cx, cy)


def valid_pixels(camera: Camera) -> np.ndarray:
  """(h, w) bool: the pixels whose centre some direction falls on. All, for a camera that is calibrated well.

  All are looked at only where one of a grid of 33 x 33, which has the corners, is not valid.
  """
  width, height = camera.size
  entry = camera_model(camera.model)
  if entry.distort is None and entry.projection is PERSPECTIVE:
    return np.ones((height, width), bool)
  if _valid_at(camera, *(np.unique(np.linspace(0, side - 1, 33).astype(int)) for side in camera.size)).all():
    return np.ones((height, width), bool)
  return _valid_at(camera, np.arange(width), np.arange(height))


def _valid_at(camera: Camera, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
  fx, fy, cx, cy = camera.intrinsics
  x, y = np.meshgrid((columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy)
  return unproject(camera.model, np.stack([x.ravel(), y.ravel()], axis=-1), camera.distortion)[2].reshape(x.shape)


def resized(camera: Camera, width: int, height: int) -> Camera:
  """The same camera with an image of another size.

  >>> resized(Camera("PINHOLE", (8, 4), (6.0, 6.0, 4.0, 2.0), (), np.eye(4)[:3]), 4, 2).intrinsics
  (3.0, 3.0, 2.0, 1.0)
  """
  sx, sy = width / camera.size[0], height / camera.size[1]
  fx, fy, cx, cy = camera.intrinsics
  return dataclasses.replace(camera, size=(width, height), intrinsics=(fx * sx, fy * sy, cx * sx, cy * sy))


def spherical_intrinsics(width: int, height: int) -> tuple[float, float, float, float]:
  """(fx, fy, cx, cy) of a whole sphere on an image: pixels per radian, and the middle."""
  return width / (2 * np.pi), height / np.pi, width / 2, height / 2


def camera_model(name: str) -> CameraModel:
  """The model of that name.

  Raises:
    UsageFault: there is none.
  """
  if name not in MODELS:
    raise UsageFault("camera", f"unknown camera model {name!r}", nearest(name, MODELS))
  return MODELS[name]


_FLIP = np.array([1.0, -1.0, -1.0])  # between +y up, -z ahead and +y down, +z ahead


def _columns(distortion: np.ndarray | Sequence[float]) -> Columns:
  return np.moveaxis(np.asarray(distortion, np.float64), -1, 0)


def _undistort(distort: Callable, x: np.ndarray, y: np.ndarray, k: Columns) -> tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Where points of the distorted plane come from: x, y, the Jacobian's determinant there, and whether that is right.

  Newton's iteration from the distorted point; where it fails, along the way from the centre, a stretch at a time.
  """
  found = [a.copy() for a in _newton(distort, x, y, x, y, k)]
  if len(lost := np.flatnonzero(~found[3])):
    own, at = _of(k, lost), np.zeros((2, len(lost)))
    for share in np.linspace(0, 1, _STRETCHES + 1)[1:]:
      at = _newton(distort, share * x[lost], share * y[lost], *at[:2], own)
    for every, new in zip(found, at):
      every[lost] = new
  there_x, there_y, det, valid = found
  return np.where(valid, there_x, x), np.where(valid, there_y, y), np.where(valid, det, 1.0), valid


def _newton(distort: Callable, target_x: np.ndarray, target_y: np.ndarray, x: np.ndarray, y: np.ndarray, k: Columns) -> tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Newton's iteration from (x, y); where it ends: x, y, the Jacobian's determinant, and whether it is right.

  Right: the residual vanishes and the Jacobian's eigenvalues have positive real parts, as at the centre; where a distortion is
  strong, all the way from the centre to there. A root beyond its fold, where the image turns back on itself, fails that.
  """
  with np.errstate(all="ignore"):
    for step in range(_STEPS + 1):
      value_x, value_y, (xx, xy), (yx, yy) = _differentiated(distort, x, y, k)
      error_x, error_y = value_x - target_x, value_y - target_y
      det = xx * yy - xy * yx
      if step == _STEPS or not (np.abs(error_x) + np.abs(error_y) > _TOLERANCE).any():
        break
      x = x - (yy * error_x - xy * error_y) / det
      y = y - (xx * error_y - yx * error_x) / det
    valid = (np.abs(error_x) + np.abs(error_y) <= _TOLERANCE) & (det > 0) & (xx + yy > 0)
    far = np.flatnonzero(valid & (np.hypot(x - target_x, y - target_y) > _STRONG * np.hypot(target_x, target_y)))
    for share in np.linspace(0, 1, _STRETCHES + 1)[1:-1] if len(far) else ():
      _, _, (xx, xy), (yx, yy) = _differentiated(distort, share * x[far], share * y[far], _of(k, far))
      valid[far] &= (xx * yy > xy * yx) & (xx + yy > 0)
  return x, y, det, valid


def _of(k: Columns, points: np.ndarray) -> Columns:
  """The parameters of some points."""
  return k if k.ndim == 1 else k[:, points]


def _differentiated(distort: Callable, x: np.ndarray, y: np.ndarray, k: Columns) -> tuple:
  """The distorted coordinates, and the rows of their Jacobian.

  Source: Squire and Trapp 1998: f'(x) = Im f(x + ih) / h, without cancellation.
  """
  by_x, by_y = distort(x + 1j * _COMPLEX_STEP, y, k), distort(x, y + 1j * _COMPLEX_STEP, k)
  return by_x[0].real, by_y[1].real, *((a.imag / _COMPLEX_STEP, b.imag / _COMPLEX_STEP) for a, b in zip(by_x, by_y))


def _series(r2: np.ndarray, k: Sequence[np.ndarray]) -> np.ndarray:
  """1 + k[0] r^2 + k[1] r^4 + ..."""
  total = 0.0
  for coefficient in reversed(k):
    total = (total + coefficient) * r2
  return 1.0 + total


def _radial(x, y, k):
  factor = _series(x * x + y * y, k)
  return x * factor, y * factor


def _brown(x, y, factor, p1, p2):
  """Radial by a factor, and tangential."""
  xy, r2 = x * y, x * x + y * y
  return (x * factor + 2 * p1 * xy + p2 * (r2 + 2 * x * x), y * factor + 2 * p2 * xy + p1 * (r2 + 2 * y * y))


def _opencv(x, y, k):
  return _brown(x, y, _series(x * x + y * y, k[:2]), k[2], k[3])


def _nerfstudio(x, y, k):
  return _brown(x, y, _series(x * x + y * y, k[:4]), k[4], k[5])


def _rational(x, y, k):
  r2 = x * x + y * y
  return _brown(x, y, _series(r2, (k[0], k[1], k[4])) / _series(r2, k[5:8]), k[2], k[3])


def _thin_prism(x, y, k):
  r2 = x * x + y * y
  x2, y2 = _brown(x, y, _series(r2, (k[0], k[1], k[4], k[5])), k[2], k[3])
  return x2 + k[6] * r2, y2 + k[7] * r2


def _thin_prism_after(x, y, k):
  """Radial first, then tangential and prism of what that gives (Project Aria's FISHEYE624)."""
  x, y = _radial(x, y, k[:6])
  r2 = x * x + y * y
  x2, y2 = _brown(x, y, 1.0, k[7], k[6])
  return x2 + (k[8] + k[9] * r2) * r2, y2 + (k[10] + k[11] * r2) * r2


def _fov(x, y, k):
  omega = np.where(k[0] == 0, 1e-9, k[0])  # whose limit is no distortion
  r2, tangent = x * x + y * y, 2 * np.tan(omega / 2)
  near = np.abs(r2) * tangent**2 < 1e-8
  r = np.sqrt(np.where(near, 1.0, r2))
  factor = np.where(near, tangent * (1 - r2 * tangent**2 / 3), np.arctan(r * tangent) / r) / omega
  return x * factor, y * factor


def _division(x, y, k):
  factor = 2 / (1 + np.sqrt(1 - 4 * k[0] * (x * x + y * y)))
  return x * factor, y * factor


def _unified(x, y, k):
  factor = 1 / (k[0] * np.sqrt(k[1] * (x * x + y * y) + 1) + 1 - k[0])
  return x * factor, y * factor


def _perspective_plane(d):
  z = np.where(d[:, 2] > 0, d[:, 2], np.nan)
  return d[:, 0] / z, d[:, 1] / z


def _perspective_direction(x, y):
  scale = 1 / np.sqrt(x * x + y * y + 1)
  return np.stack([x * scale, y * scale, scale], axis=-1)


def _equidistant_plane(d):
  across = np.hypot(d[:, 0], d[:, 1])
  factor = np.arctan2(across, d[:, 2]) / np.where(across > 0, across, 1.0)
  return d[:, 0] * factor, d[:, 1] * factor


def _equidistant_direction(x, y):
  theta = np.hypot(x, y)
  factor = np.sinc(theta / np.pi)
  return np.stack([x * factor, y * factor, np.cos(theta)], axis=-1)


def _equidistant_area(x, y):
  theta = np.hypot(x, y)
  return np.where(theta < np.pi, np.sinc(theta / np.pi), 0.0)


def _spherical_plane(d):
  return np.arctan2(d[:, 0], d[:, 2]), np.arctan2(d[:, 1], np.hypot(d[:, 0], d[:, 2]))


def _spherical_direction(x, y):
  return np.stack([np.sin(x) * np.cos(y), np.sin(y), np.cos(x) * np.cos(y)], axis=-1)


PERSPECTIVE = Projection(_perspective_plane, _perspective_direction, lambda x, y: (x * x + y * y + 1) ** -1.5)
EQUIDISTANT = Projection(_equidistant_plane, _equidistant_direction, _equidistant_area)
SPHERICAL = Projection(_spherical_plane, _spherical_direction, lambda x, y: np.maximum(np.cos(y), 0.0) + 0 * x)

MODELS = {
    "SIMPLE_PINHOLE": CameraModel((), PERSPECTIVE),
    "PINHOLE": CameraModel((), PERSPECTIVE),
    "SIMPLE_RADIAL": CameraModel(("k1",), PERSPECTIVE, _radial),
    "RADIAL": CameraModel(("k1", "k2"), PERSPECTIVE, _radial),
    "OPENCV": CameraModel(("k1", "k2", "p1", "p2"), PERSPECTIVE, _opencv),
    "NERFSTUDIO": CameraModel(("k1", "k2", "k3", "k4", "p1", "p2"), PERSPECTIVE, _nerfstudio),
    "FULL_OPENCV": CameraModel(("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), PERSPECTIVE, _rational),
    "SIMPLE_DIVISION": CameraModel(("k",), PERSPECTIVE, _division),
    "DIVISION": CameraModel(("k",), PERSPECTIVE, _division),
    "FOV": CameraModel(("omega",), PERSPECTIVE, _fov),
    "EUCM": CameraModel(("alpha", "beta"), PERSPECTIVE, _unified),
    "SIMPLE_FISHEYE": CameraModel((), EQUIDISTANT),
    "FISHEYE": CameraModel((), EQUIDISTANT),
    "SIMPLE_RADIAL_FISHEYE": CameraModel(("k1",), EQUIDISTANT, _radial),
    "RADIAL_FISHEYE": CameraModel(("k1", "k2"), EQUIDISTANT, _radial),
    "OPENCV_FISHEYE": CameraModel(("k1", "k2", "k3", "k4"), EQUIDISTANT, _radial),
    "THIN_PRISM_FISHEYE": CameraModel(("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"), EQUIDISTANT, _thin_prism),
    "RAD_TAN_THIN_PRISM_FISHEYE": CameraModel(
        ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3"), EQUIDISTANT, _thin_prism_after),
    "EQUIRECTANGULAR": CameraModel((), SPHERICAL),
}
