"""`transforms*.json`, as Blender's NeRF-synthetic scenes, instant-ngp and nerfstudio write it: to a list of frames.

Poses are camera to world, cameras look along -z with +y up, and the world's +z is up. Intrinsics stand in a frame or,
for all frames, at the top. Not used: `ply_file_path`, `applied_transform` and `applied_scale` (done to the poses
already), `rotation`, `sharpness`, `colmap_im_id`.

Source: docs.nerf.studio/quickstart/data_conventions; instant-ngp `docs/nerf_dataset_tips.md` and `src/nerf_loader.cu`.
"""

import collections
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fields3d.core import strict_json
from fields3d.core.errors import BadData, nearest
from fields3d.core.types import Camera
from fields3d.data.images import SUFFIXES, ImageFacts, image_facts
from fields3d.geometry.cameras import MODELS, camera_model, spherical_intrinsics
from fields3d.geometry.transforms import rigid_poses

_RENDERED_ONLY = ("ORTHOPHOTO", "OMNIDIRECTIONALSTEREO_L", "OMNIDIRECTIONALSTEREO_R", "VR180_L", "VR180_R")
_OTHER_LENSES = ("ftheta_p0", "latlong", "is_orthographic", "orthographic", "rolling_shutter")
_LARGEST = 1e9  # pixels, and units of length
_SHORTEST = 1e-3  # focal length, pixels
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


@dataclasses.dataclass(frozen=True)
class Posed:
  """A frame: its name (the image's path from the scene's folder), its files, its camera in the file's world and of the
  size that the file says, and what the image's header says."""
  name: str
  image: pathlib.Path
  camera: Camera
  facts: ImageFacts
  mask: pathlib.Path | None = None
  depth: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class TransformsFile:
  """frames in the file's order; content: the file's top level; warnings: what was mended."""
  path: pathlib.Path
  frames: list[Posed]
  content: Mapping[str, Any]
  warnings: list[str]


def read_transforms(path: str | os.PathLike, root: pathlib.Path, skip_missing: bool = False) -> TransformsFile:
  """Reads one file and the headers of its images; no pixels.

  Args:
    path: the JSON file. root: the scene's folder; every file named must lie in it.
    skip_missing: leave out frames whose image is missing, with a warning, instead of refusing.

  Raises:
    MissingInput: no such file.
    BadData: a missing or repeated image, a pose or a camera that cannot be used; naming frame and field.
  """
  path = pathlib.Path(path)
  content = strict_json.read(path)
  entries = content.get("frames") if isinstance(content, dict) else None
  if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
    raise BadData(path, 'has no list "frames" of objects', "give a transforms.json of Blender, instant-ngp or nerfstudio")
  files, names, missing = _images(path, root, entries)
  warnings = _missing(path, missing, len(entries), skip_missing)
  entries = [entry for entry, file in zip(entries, files) if file is not None]
  files = [file for file in files if file is not None]
  poses, mended = rigid_poses([entry.get("transform_matrix") for entry in entries], names, path)
  frames, scaled = [], 0
  for entry, file, name, pose in zip(entries, files, names, poses, strict=True):
    facts = image_facts(file)
    camera = read_camera({**content, **entry}, facts.size, pose, f"{path}: frame {name!r}")
    scaled += camera.size != facts.size
    others = [_other(root, path, entry.get(key), name) for key in ("mask_path", "depth_file_path")]
    frames.append(Posed(name, file, camera, facts, *others))
  if scaled:
    warnings.append(f"{path}: {scaled} images have another size than w and h say; their intrinsics are scaled with it")
  return TransformsFile(path, frames, content, warnings + mended)


def read_camera(fields: Mapping[str, Any], size: tuple[int, int], pose: np.ndarray, where: str) -> Camera:
  """The camera of a frame, `fields` being the file's top level with the frame's own entries over it.

  Its size is the one that the file says (the image's, where it says none).

  Raises:
    BadData: no focal length, a field that is no number, a camera model that is unknown or no photograph's.
  """
  def number(key, default=None):
    value = fields.get(key, default)
    if value is not default and not is_number(value):
      raise BadData(where, f"{key} = {value!r} is no number, or too large", "correct it")
    return value

  width, height = number("w", size[0]), number("h", size[1])
  if not (width >= 1 and height >= 1):
    raise BadData(where, f"w x h = {width} x {height}", "give the image's size")
  width, height = int(width), int(height)
  model, distortion = _lens(fields, number, where)
  if model == "EQUIRECTANGULAR":
    return Camera(model, (width, height), spherical_intrinsics(width, height), (), pose)
  fx = number("fl_x") or _focal(number("camera_angle_x"), width)
  fy = number("fl_y") or _focal(number("camera_angle_y"), height) or fx
  if not (fx or fy):
    raise BadData(where, "no focal length: neither fl_x nor camera_angle_x", "add one")
  intrinsics = (float(fx or fy), float(fy), float(number("cx", width / 2)), float(number("cy", height / 2)))
  if min(intrinsics[:2]) < _SHORTEST:
    raise BadData(where, f"a focal length of {min(intrinsics[:2]):g} pixels", "correct fl_x, fl_y or camera_angle_x")
  return Camera(model, (width, height), intrinsics, distortion, pose)


def is_number(value: object) -> bool:
  """Whether a JSON value is a number that a camera can have.

  >>> is_number(3), is_number(True), is_number("3"), is_number(10**400)
  (True, False, False, False)
  """
  return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _focal(angle: float | None, size: int) -> float | None:
  """Pixels, of a full angle of view in radians."""
  return 0.5 * size / math.tan(0.5 * angle) if angle else None


def _lens(fields: Mapping[str, Any], number, where: str) -> tuple[str, tuple[float, ...]]:
  """The model's name in `MODELS` and its parameters.

  nerfstudio calls everything in perspective OPENCV, with k3 and k4 of the polynomial; COLMAP's order of FULL_OPENCV is
  meant where k5 or k6 are given. A pinhole with distortion is what its numbers say.
  """
  for key in _OTHER_LENSES:
    if fields.get(key):
      raise BadData(where, f"{key}: a lens that is not supported", "undistort the images, to PINHOLE")
  name = str(fields.get("camera_model", "OPENCV")).upper()
  if fields.get("is_fisheye"):
    name = "OPENCV_FISHEYE"
  if fields.get("is_equirectangular") or fields.get("equirectangular"):
    name = "EQUIRECTANGULAR"
  if name in _RENDERED_ONLY:
    raise BadData(where, f"camera model {name}: rays without one centre", "give perspective, fisheye or spherical images")
  values = {key: float(number(key, 0.0)) for key in _DISTORTION}
  if name == "FISHEYE624":
    listed = fields.get("distortion_params", ())
    if not isinstance(listed, list) or len(listed) != 12 or not all(map(is_number, listed)):
      raise BadData(where, "FISHEYE624 without 12 distortion_params", "give k0 to k5, p0, p1, s0 to s3")
    return "RAD_TAN_THIN_PRISM_FISHEYE", tuple(map(float, listed))
  if name in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE"):
    given = {key for key, value in values.items() if value}
    name = ("PINHOLE" if not given else "FULL_OPENCV" if given & {"k5", "k6"} else
            "NERFSTUDIO" if given & {"k3", "k4"} else "OPENCV")
  known = [model for model, entry in MODELS.items() if set(entry.parameters) <= values.keys()]
  if name not in known:
    raise BadData(where, f"unknown camera model {name!r}", nearest(name, known))
  return name, tuple(values[key] for key in camera_model(name).parameters)


def _images(path: pathlib.Path, root: pathlib.Path, entries: list) -> tuple[list, list[str], list[str]]:
  """The image of each frame (None where missing), the names of those that are there, and the missing ones."""
  files, names, missing = [], [], []
  for i, entry in enumerate(entries):
    given = entry.get("file_path")
    if not isinstance(given, str) or not given:
      raise BadData(path, f"frame {i} has no file_path", "name its image")
    file = find_file(root, path, given, SUFFIXES)
    files.append(file)
    if file is None:
      missing.append(given)
    else:
      names.append(file.relative_to(root).as_posix())
  if repeated := [name for name, count in collections.Counter(names).items() if count > 1]:
    raise BadData(path, f"{len(repeated)} images stand in more than one frame, such as {repeated[0]!r}",
                  "keep one frame of each")
  return files, names, missing


def find_file(root: pathlib.Path, json_file: pathlib.Path, given: str, suffixes: tuple[str, ...] = ()) -> (
    pathlib.Path | None):
  """The file that a path in a JSON file means: from that file's folder; without extension, the first that is there.

  Backslashes are taken for slashes. None where there is none.

  Raises:
    BadData: the path leads out of the scene's folder `root`.
  """
  wanted = pathlib.Path(os.path.normpath(json_file.parent / given.replace("\\", "/")))
  if not wanted.is_relative_to(root) or wanted == root:
    raise BadData(json_file, f"the path {given!r} leads out of the scene's folder", f"move the file into {root}")
  candidates = [wanted, *(wanted.with_name(wanted.name + suffix) for suffix in suffixes)]
  return next((file for file in candidates if os.path.isfile(file)), None)  # False where a name is too long


def _other(root: pathlib.Path, path: pathlib.Path, given: object, name: str) -> pathlib.Path | None:
  """A mask or a depth map of a frame."""
  if given is None:
    return None
  file = find_file(root, path, given) if isinstance(given, str) else None
  if file is None:
    raise BadData(path, f"frame {name!r} names {given!r}, which is not there", "add the file or remove the entry")
  return file


def _missing(path: pathlib.Path, missing: list[str], total: int, skip: bool) -> list[str]:
  if not missing:
    return []
  what = f"{len(missing)} of {total} images are missing: {', '.join(missing[:5])}" + (", ..." if missing[5:] else "")
  if not skip or len(missing) == total:
    raise BadData(path, what, "add them, remove their frames, or set skip_missing=True")
  return [f"{path}: {what}; their frames are left out"]
