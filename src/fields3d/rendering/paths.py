"""Where a film's camera goes: orbits, spirals, ways through given cameras, camera-path files of nerfstudio's form.

All poses are in the model frame. Which way is up is read off the training cameras, since scenes differ: +Y, +Z or any.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from fields3d.core import strict_json
from fields3d.core.errors import BadData, UsageFault
from fields3d.core.types import Camera
from fields3d.geometry.transforms import look_at, rigid_poses

SNAP = math.cos(math.radians(20))  # a mean up within 20 degrees of an axis of the frame is that axis


def up_of(cameras: Sequence[Camera]) -> np.ndarray:
  """The unit direction (3,) that is up: the mean of the cameras', or the frame's axis within 20 degrees of it."""
  mean = np.mean([camera.pose[:, 1] for camera in cameras], axis=0)
  length = np.linalg.norm(mean)
  up = mean / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
  axis = np.eye(3)[np.argmax(np.abs(up))] * np.sign(up[np.argmax(np.abs(up))])
  return axis if up @ axis > SNAP else up


def centre_of(cameras: Sequence[Camera], bounds: np.ndarray) -> np.ndarray:
  """The point (3,) nearest to all optical axes (least squares), in the box `bounds` (2, 3); parallel axes: its middle."""
  middle = np.mean(bounds, axis=0)
  along = np.array([camera.pose[:, 2] for camera in cameras])
  across = np.eye(3) - along[:, :, None] * along[:, None, :]
  eyes = np.array([camera.pose[:, 3] for camera in cameras]) - middle
  normal = across.mean(0)
  if np.linalg.eigvalsh(normal)[0] < 1e-3:
    return middle
  point = np.linalg.solve(normal, np.einsum("nij,nj->i", across, eyes) / len(cameras))
  return np.clip(middle + point, *bounds)


def orbit(cameras: Sequence[Camera], bounds: np.ndarray, num: int, elevation: float | None = None) -> list[Camera]:
  """A circle around the object, closed: at the training cameras' median distance, looking at their centre.

  Args:
    cameras: one or more, of the training views. bounds: (2, 3), the object's box. num: frames.
    elevation: above the horizon, radians; None for the cameras' median.

  Raises:
    UsageFault: the cameras stand where their axes meet.
  """
  up, centre = up_of(cameras), centre_of(cameras, np.asarray(bounds, np.float64))
  eyes = np.array([camera.pose[:, 3] for camera in cameras]) - centre
  radius = float(np.median(np.linalg.norm(eyes, axis=1)))
  if radius < 1e-6:
    raise UsageFault("cameras", "they look out from one point: there is nothing to go around", "use render --path train, test or FILE.json")
  if elevation is None:
    elevation = float(np.arcsin(np.clip(np.median(eyes @ up) / radius, -0.99, 0.99)))
  start = eyes[0] - up * (eyes[0] @ up)
  start = start if np.linalg.norm(start) > 1e-6 else np.cross(np.roll(np.abs(up), 1) + 0.1, up)
  start /= np.linalg.norm(start)
  side = np.cross(up, start)
  lens = pinhole_of(cameras)
  poses = []
  for angle in 2 * np.pi * np.arange(num) / num:
    level = math.cos(angle) * start + math.sin(angle) * side
    poses.append(look_at(centre + radius * (math.cos(elevation) * level + math.sin(elevation) * up), centre, up))
  return [dataclasses.replace(lens, pose=pose) for pose in poses]


def spiral(cameras: Sequence[Camera], near: float, far: float, num: int, turns: int = 2) -> list[Camera]:
  """A closed spiral about the mean of forward-facing cameras, all frames looking at one point ahead.

  Source: Mildenhall et al. 2019, LLFF, render_path_spiral of the published code.
  """
  angle = 2 * np.pi * turns * np.arange(num) / num
  return shifted(cameras, near, far, np.stack([np.cos(angle), -np.sin(angle), -np.sin(0.5 * angle)], axis=1))


def shifted(cameras: Sequence[Camera], near: float, far: float, offsets: np.ndarray) -> list[Camera]:
  """Cameras beside the mean of forward-facing ones, all looking at one point ahead.

  Args:
    near, far: depths of the scene's content (far may be infinite): the point's is 1 / ((1 - 0.75) / (0.9 near) + 0.75 /
      (5 far)), as in LLFF's code.
    offsets: (n, 3) right, up and back, in units of the 90th percentile of the cameras' own.

  Raises:
    UsageFault: the cameras look all ways.
  """
  eyes = np.array([camera.pose[:, 3] for camera in cameras])
  middle, back = eyes.mean(0), np.mean([camera.pose[:, 2] for camera in cameras], axis=0)
  up = np.mean([camera.pose[:, 1] for camera in cameras], axis=0)
  if np.linalg.norm(back) < 1e-6:
    raise UsageFault("--path", "the cameras look all ways: a spiral is for scenes seen from one side", "use orbit")
  frame = look_at(middle + back / np.linalg.norm(back), middle, up)[:, :3]
  radii = np.percentile(np.abs((eyes - middle) @ frame), 90, axis=0)
  target = middle - frame[:, 2] / (0.25 / (0.9 * near) + 0.75 / (5 * far))
  lens = pinhole_of(cameras)
  return [dataclasses.replace(lens, pose=look_at(middle + frame @ (radii * offset), target, frame[:, 1]))
          for offset in offsets]


def through(cameras: Sequence[Camera], num: int) -> list[Camera]:
  """`num` frames from the first camera to the last by way of all: cubic splines of position and rotation.

  Every camera is met where num - 1 is a multiple of their number less one. Lens and size are the first camera's.
  """
  if len(cameras) < 2:
    return [cameras[0]] * num
  times, poses = np.arange(len(cameras)), np.array([camera.pose for camera in cameras])
  at = np.linspace(0, len(cameras) - 1, num)
  eyes = CubicSpline(times, poses[:, :, 3])(at)
  turned = RotationSpline(times, Rotation.from_matrix(poses[:, :, :3]))(at).as_matrix()
  return [dataclasses.replace(cameras[0], pose=np.concatenate([r, x[:, None]], axis=1)) for r, x in zip(turned, eyes)]


def pinhole_of(cameras: Sequence[Camera]) -> Camera:
  """A camera without distortion: the first one's size, the median focal length, the middle as principal point."""
  width, height = cameras[0].size
  focal = float(np.median([camera.intrinsics[1] * height / camera.size[1] for camera in cameras]))
  return Camera("PINHOLE", (width, height), (focal, focal, width / 2, height / 2), (), np.eye(3, 4))


def reframed(camera: Camera, size: tuple[int, int]) -> Camera:
  """The camera with an image of `size` (width, height): the vertical field of view stays, sides are added or cut off."""
  width, height = camera.size
  s = size[1] / height
  fx, fy, cx, cy = camera.intrinsics
  lens = (fx * s, fy * s, size[0] / 2 + (cx - width / 2) * s, cy * s)
  return dataclasses.replace(camera, size=size, intrinsics=lens)


def read_path(path: pathlib.Path) -> tuple[list[Camera], float]:
  """The cameras and frames a second of a camera-path file, as nerfstudio's viewer writes it; poses in the model frame.

  {"render_width", "render_height", "fps", "camera_type": "perspective", "camera_path": [{"camera_to_world": 16 numbers
  by rows, "fov": vertical, degrees}, ...]}; other entries are the editor's own and are not read.

  Raises:
    MissingInput: no such file. BadData: an entry is missing or wrong, named with its frame.
  """
  document = strict_json.read(path)
  if not isinstance(document, dict) or not isinstance(document.get("camera_path"), list) or not document["camera_path"]:
    raise BadData(path, "holds no list camera_path with frames", "export a camera path of nerfstudio's form")
  kind = document.get("camera_type", "perspective")
  if kind != "perspective":
    raise BadData(path, f"camera_type {kind!r} is not perspective", "export the path with perspective cameras")
  size = tuple(int(_number(path, document, name, 1, 65536)) for name in ("render_width", "render_height"))
  fps = _number(path, document, "fps", 1e-3, 1000) if "fps" in document else 24.0
  return [_camera(f"{path}: frame {i}", frame, size) for i, frame in enumerate(document["camera_path"])], fps


def _camera(where: str, frame: Any, size: tuple[int, int]) -> Camera:
  """One frame's camera, checked: a rigid, right-handed pose."""
  if not isinstance(frame, Mapping):
    raise BadData(where, "is not an object", "give camera_to_world and fov")
  rows = frame.get("camera_to_world")
  rows = sum(rows, []) if isinstance(rows, list) and all(isinstance(row, list) for row in rows) else rows
  if not (isinstance(rows, list) and len(rows) == 16 and all(isinstance(v, int | float) for v in rows)):
    raise BadData(where, "camera_to_world is not 16 numbers", "give a 4 x 4 matrix by rows")
  (pose,), _ = rigid_poses([[rows[i:i + 4] for i in range(0, 16, 4)]], ["camera_to_world"], where)
  focal = size[1] / 2 / math.tan(math.radians(_number(where, frame, "fov", 1e-2, 179)) / 2)
  return Camera("PINHOLE", size, (focal, focal, size[0] / 2, size[1] / 2), (), pose)


def _number(where: object, values: Mapping[str, Any], name: str, low: float, high: float) -> float:
  value = values.get(name)
  if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
    raise BadData(where, f"{name} is {value!r:.40}, not a number from {low:g} to {high:g}", "correct the file")
  return value
