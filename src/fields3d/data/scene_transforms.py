"""Scenes from `transforms*.json`: Blender's NeRF-synthetic, instant-ngp's and nerfstudio's.

The file's world has +z up, the model frame +y. Where the object's box is known (Blender: +-1.5; instant-ngp:
`aabb_scale`; or given) it becomes [-1, 1]^3; elsewhere the cameras are normalised and space is unbounded.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np

from fields3d.core.config import Count, Positive, Range
from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Camera, Frame, View
from fields3d.data.images import nearest_sample, read_depth
from fields3d.data.photographs import make_views
from fields3d.data.scene import Scene
from fields3d.data.scene_frame import Centre, Mode, normalise, to_model
from fields3d.data.transforms_json import Posed, TransformsFile, find_file, is_number, read_transforms
from fields3d.geometry.cameras import valid_pixels

HoldEvery = Annotated[int, Range(ge=2)]
SPLITS = ("train", "val", "test")
Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # the model's axes (columns) in a world with +z up
_SMALLEST = 1e-9  # of scales
_NEAR, _FAR = 0.05, 1e3  # nerfacto's, in a frame whose cameras are in the unit ball


def load_blender(path: str | os.PathLike, width: Count | None = None, box: Positive = 1.5, near: Positive = 2.0,
                 far: Positive = 6.0, background: Literal["white", "black", "none"] = "white") -> Scene:
  """A scene of Blender's kind: transforms_train.json and its like, one for each split, RGBA images.

  Args:
    path: the folder. width: of the images that are learned from (area average); None keeps their own.
    box: half the side of the cube around 0 that holds the object, in the file's unit. near, far: in the file's unit.
    background: what the images are composited on; a fact for whoever does so, not done here.

  Raises:
    MissingInput, BadData: see `read_transforms`.

  Source: Mildenhall et al. 2020 (NeRF), the released data and `load_blender.py`; near, far and box as there and in
    instant-ngp.
  """
  root = _folder(path)
  files = _split_files(root)
  if not files:
    raise MissingInput(root, "no transforms_train.json there", "give the folder of a NeRF-synthetic scene")
  read = {split: read_transforms(file, root) for split, file in files.items()}
  frames = {split: read[split].frames if split in read else [] for split in SPLITS}
  return _scene(root, frames, _boxed(Frame((0.0, 0.0, 0.0), box)), width, background, "the files' own",
                _warnings(read.values()), (near / box, far / box))


def load_transforms(path: str | os.PathLike, width: Count | None = None, box: Positive | None = None,
                    orientation: Mode = "up", centre: Centre = "cameras", hold_every: HoldEvery = 8,
                    background: Literal["white", "black", "none"] = "none", skip_missing: bool = False,
                    depth_unit: Positive | None = None) -> Scene:
  """A scene of instant-ngp's or nerfstudio's kind.

  The split is the file's own: one file per split, or `train_filenames`, `val_filenames` and `test_filenames`; otherwise
  every `hold_every`-th image by name, from the first, is held out.

  Args:
    path: the folder, or its transforms.json. width: of the images that are learned from (area average); None keeps
      their own, which may differ; with it, heights follow.
    box: half the side of the object's cube around the world's 0, in the file's unit; None takes `aabb_scale` with
      `scale` and `offset` where the file has it, and an unbounded scene where it has not.
    orientation, centre: how an unbounded scene is turned and centred (`scene_frame.normalise`).
    skip_missing: leave out frames without an image.
    depth_unit: length of one step of the depth maps, in the file's unit; None takes the file's
      `depth_unit_scale_factor`, or 0.001.

  Raises:
    MissingInput, BadData: see `read_transforms`.
  """
  root = _folder(path)
  given = pathlib.Path(os.path.abspath(path))
  files = _split_files(root) if given.is_dir() and not (root / "transforms.json").is_file() else {}
  if files:
    read = {split: read_transforms(file, root, skip_missing) for split, file in files.items()}
    frames, word = {split: read[split].frames if split in read else [] for split in SPLITS}, "the files' own"
  else:
    file = read_transforms(root / "transforms.json" if given.is_dir() else given, root, skip_missing)
    read = {"all": file}
    frames, word = _split(file, root, hold_every)
  first = next(iter(read.values()))
  content, warnings = first.content, _warnings(read.values())
  everything = list(itertools.chain(*frames.values()))
  poses = np.stack([frame.camera.pose for frame in everything])
  frame = Frame((0.0, 0.0, 0.0), box) if box else _ngp_box(content, first.path)
  placed = _boxed(frame) if frame else _around_cameras(poses, orientation, centre, first.path)
  if depth_unit is None:
    depth_unit = _number(content, "depth_unit_scale_factor", 1e-3, first.path)
  return _scene(root, frames, placed, width, background, word, warnings, None, depth_unit)


def _folder(path: str | os.PathLike) -> pathlib.Path:
  path = pathlib.Path(os.path.abspath(path))
  if not path.exists():
    raise MissingInput(path, "no such file or folder", "give the scene's folder or its transforms.json")
  return path if path.is_dir() else path.parent


def _split_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
  files = {split: root / f"transforms_{split}.json" for split in SPLITS}
  return {split: file for split, file in files.items() if file.is_file()} if files["train"].is_file() else {}


def _warnings(read) -> list[str]:
  return [warning for file in read for warning in file.warnings]


def _number(content: Mapping, key: str, default: float, where: pathlib.Path) -> float:
  value = content.get(key, default)
  if not is_number(value) or value < _SMALLEST:
    raise BadData(where, f"{key} = {value!r} is no positive number, or no such scale", "correct it")
  return float(value)


def _split(file: TransformsFile, root: pathlib.Path, every: int) -> tuple[dict[str, list[Posed]], str]:
  """The frames of each split, and in words how they were chosen."""
  listed = {split: file.content[f"{split}_filenames"] for split in SPLITS if f"{split}_filenames" in file.content}
  if not listed:
    ordered = sorted(file.frames, key=lambda frame: frame.name)
    kept = [frame for i, frame in enumerate(ordered) if i % every]
    return {"train": kept, "val": [], "test": ordered[::every]}, f"every {every}th held out"
  by_path, frames = {frame.image: frame for frame in file.frames}, {split: [] for split in SPLITS}
  for split, names in listed.items():
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
      raise BadData(file.path, f"{split}_filenames is no list of names", "correct it")
    for name in names:
      frame = by_path.get(find_file(root, file.path, name))
      if frame is None:
        raise BadData(file.path, f"{split}_filenames has {name!r}, which no frame has", "correct the list")
      frames[split].append(frame)
  if not frames["train"]:
    raise BadData(file.path, "no train_filenames", "list the training images too")
  return frames, "the file's own"


def _ngp_box(content: Mapping, where: pathlib.Path) -> Frame | None:
  """instant-ngp's box in the file's world: its own space is world * scale + offset, the box around (0.5, 0.5, 0.5).

  `offset` is in the file's axes: instant-ngp adds it before it turns them into its own, (y, z, x).

  Source: instant-ngp `nerf_loader.h`, `nerf_position_to_ngp`; the defaults are 0.33 and 0.5.
  """
  if "aabb_scale" not in content:
    return None
  side, scale = _number(content, "aabb_scale", 1.0, where), _number(content, "scale", 0.33, where)
  offset = content.get("offset", [0.5, 0.5, 0.5])
  if not isinstance(offset, list) or len(offset) != 3 or not all(map(is_number, offset)):
    raise BadData(where, f"offset = {offset!r} is not three numbers", "correct it")
  x, y, z = ((0.5 - v) / scale for v in offset)
  return Frame((x, y, z), 0.5 * side / scale)


class _Placed:
  """Where the model frame lies in the file's world; `bounded`: its cube holds the object."""

  def __init__(self, frame: Frame, rotation: np.ndarray, bounded: bool):
    self.frame, self.rotation, self.bounded = frame, rotation, bounded

  def pose(self, pose: np.ndarray) -> np.ndarray:
    position = to_model(pose[None, :, 3], self.frame, self.rotation)
    return np.concatenate([self.rotation.T @ pose[:, :3], position.T], axis=1)


def _boxed(frame: Frame) -> _Placed:
  return _Placed(frame, Z_UP, True)


def _around_cameras(poses: np.ndarray, orientation: Mode, centre: Centre, where: pathlib.Path) -> _Placed:
  upright = Z_UP.T @ poses
  _, frame, rotation = normalise(upright, mode=orientation, centre=centre, where=where)
  return _Placed(Frame(tuple(map(float, Z_UP @ frame.offset)), frame.scale), Z_UP @ rotation, False)


def _scene(root: pathlib.Path, frames: Mapping[str, Sequence[Posed]], placed: _Placed, width: int | None,
           background: str, split: str, warnings: list[str], reach: tuple[float, float] | None,
           depth_unit: float = 1e-3) -> Scene:
  """The scene in the model frame. reach: near and far there; None takes what the box and the cameras allow."""
  everything = list(itertools.chain(*frames.values()))
  normalise(np.stack([frame.camera.pose for frame in everything]), mode="none", where=root)  # refuses a single place
  views = {name: [_view(frame, placed, width, depth_unit, warnings) for frame in group]
           for name, group in frames.items()}
  cameras = [view.camera for group in views.values() for view in group]
  if reach is None:
    farthest = max(float(np.linalg.norm(camera.pose[:, 3])) for camera in cameras) + 3**0.5
    reach = (_NEAR, farthest if placed.bounded else _FAR)
  if both := {frame.image for frame in frames["train"]} & {frame.image for s in ("val", "test") for frame in frames[s]}:
    warnings.append(f"{len(both)} images are of the training and of another split: figures of that are not of unseen views")
  warnings += _depth_doubts(views, placed.bounded)
  opaque = not any(frame.facts.alpha for frame in everything)
  protocol = {"scene": root.name, "split": f"{split}: " + ", ".join(f"{len(views[s])} {s}" for s in SPLITS if views[s]),
              "resolution": _resolution(cameras, everything), "background": background, "colors": "sRGB"}
  return Scene(root.name, views, *reach, placed.frame, tuple(map(tuple, placed.rotation.tolist())),
               1.0 if placed.bounded else None, opaque=opaque, protocol=protocol, warnings=tuple(warnings))


def _depth_doubts(views: Mapping[str, Sequence[View]], bounded: bool) -> list[str]:
  """A warning if the first depth map's median lies where the scene is not: most likely its unit is another."""
  view = next((view for group in views.values() for view in group if view.depth), None)
  if view is None:
    return []
  depth, distance = view.depth(), float(np.linalg.norm(view.camera.pose[:, 3]))
  median = float(np.median(depth[depth > 0])) if (depth > 0).any() else 0.0
  low, high = (max(0.0, distance - 3**0.5), distance + 3**0.5) if bounded else (0.01, 100.0)
  return [] if low < median < high else [
      f"{view.name}: the median depth is {median:.3g}, the scene lies at {low:.3g} to {high:.3g} of the model frame; "
      "check depth_unit"]


def _resolution(cameras: Sequence[Camera], frames: Sequence[Posed]) -> str:
  def sizes(found):
    (low, high) = min(found), max(found)
    return f"{low[0]}x{low[1]}" + (f" to {high[0]}x{high[1]}" if high != low else "")
  now, own = [camera.size for camera in cameras], [frame.facts.size for frame in frames]
  return sizes(now) if now == own else f"{sizes(now)}, area average of {sizes(own)}"


def _view(frame: Posed, placed: _Placed, width: int | None, depth_unit: float, warnings: list[str]) -> View:
  own = frame.facts.size
  camera = dataclasses.replace(frame.camera, pose=placed.pose(frame.camera.pose))
  (view,), _ = make_views([frame.name], [frame.image], [camera], own[0] / width if width else 1, [frame.mask])
  if not (valid := valid_pixels(view.camera)).all():
    warnings.append(f"{frame.name}: no direction falls on {1 - valid.mean():.1%} of its pixels, by its distortion; "
                    "they are left out")
  if not frame.depth:
    return view
  size, unit = view.camera.size, depth_unit / placed.frame.scale
  return dataclasses.replace(view, depth=functools.partial(_depth, frame.depth, own, size, unit))


def _depth(path: pathlib.Path, own: tuple[int, int], size: tuple[int, int], unit: float) -> np.ndarray:
  depth = read_depth(path, unit)
  if depth.shape[::-1] != own:
    raise BadData(path, f"{depth.shape[1]} x {depth.shape[0]} pixels, the photograph has {own[0]} x {own[1]}",
                  "give a depth map of the photograph's size")
  return nearest_sample(depth, *size)
