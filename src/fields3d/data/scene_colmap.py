"""COLMAP reconstructions as scenes: photographs in images/ (or images_<factor>/), models in sparse/0, sparse/1, ...

Masks, where there are any, are in masks/, named as COLMAP has it: a.jpg's is a.jpg.png (or a.png).
"""

import pathlib
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from fields3d.core.config import Count, Range
from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Camera
from fields3d.data.colmap_files import MODELS, ColmapCamera, ColmapImage, ColmapModel, missing_files, read_model
from fields3d.data.photographs import Folder, find_folder, hold_out, make_views, resolution_of
from fields3d.data.scene import Scene
from fields3d.data.scene_frame import Centre, Mode, normalise, to_model
from fields3d.geometry.cameras import camera_model, pixel_of, spherical_intrinsics

HoldEvery = Annotated[int, Range(ge=2)]
_LEAST_REGISTERED = 0.5
_PERCENTILES = (0.1, 99.9)  # of the distances of points that a camera sees, as LLFF takes its bounds
_NEAR, _FAR = 0.9, 4.0  # room before the nearest points, and for backgrounds behind the farthest


def load_colmap(path: str, factor: Count | None = None, hold_every: HoldEvery = 8, orientation: Mode = "up",
                centre: Centre = "cameras") -> Scene:
  """A scene from COLMAP's output: unbounded, in a frame whose farthest camera is at distance 1 from the centre.

  Args:
    path: the folder with images/ and sparse/.
    factor: read the photographs at 1 / factor of their size, from images_<factor>/ where there is such a folder.
    hold_every: the first of every so many photographs is held out.
    orientation, centre: what becomes +Y and 0; see `scene_frame.normalise`.

  Raises:
    MissingInput: no model, a file of it, or photographs that it names are not there.
    BadData: a damaged model, less than half of the photographs registered, photographs of another shape.
  """
  root = pathlib.Path(path)
  model, warnings = _largest_model(root)
  folder = find_folder(root, factor)
  paths = _paths_of(model.images, folder)
  warnings += _check_registered(model, folder)
  poses, frame, rotation = normalise(np.stack([pose_of(image) for image in model.images]), model.points, orientation,
                                     centre, where=model.path)
  cameras = [camera_of(model.cameras[image.camera], pose, model.path)
             for image, pose in zip(model.images, poses, strict=True)]
  views, opaque = make_views([image.name for image in model.images], paths, cameras, folder.reduction,
                             [_mask_of(root / "masks", image.name) for image in model.images])
  scaled = sum(view.camera.size != camera.size for view, camera in zip(views, cameras, strict=True))
  if scaled and factor is None:
    warnings.append(f"intrinsics scaled to the size of {scaled} photographs, which is not the calibrated one")
  near, far = _seen_range([view.camera for view in views], to_model(model.points, frame, rotation), model.path)
  return Scene(
      name=root.resolve().name, views=hold_out(views, hold_every), near=_NEAR * near, far=_FAR * far, frame=frame,
      rotation=tuple(map(tuple, rotation.tolist())), bounds=None, opaque=opaque,
      protocol={"scene": root.resolve().name, "split": f"every {hold_every}th held out",
                "resolution": resolution_of(views), "colors": "sRGB"},
      warnings=(*model.warnings, *warnings))


def pose_of(image: ColmapImage) -> np.ndarray:
  """The pose (3, 4), camera to world: COLMAP's inverse, with its +y down, +z ahead turned into +y up, -z ahead."""
  rotation = image.rotation.T
  return np.concatenate([rotation * [1.0, -1.0, -1.0], -rotation @ image.translation[:, None]], axis=1)


def camera_of(camera: ColmapCamera, pose: np.ndarray, where: object = "camera") -> Camera:
  """COLMAP's camera at a pose (3, 4), -z ahead.

  Raises:
    BadData: a focal length that is not positive.

  >>> camera_of(ColmapCamera("SIMPLE_RADIAL", (64, 48), (60.0, 32.0, 24.0, 0.1)), np.eye(4)[:3]).intrinsics
  (60.0, 60.0, 32.0, 24.0)
  """
  if camera.model == "EQUIRECTANGULAR":  # whose two parameters are the size again
    return Camera(camera.model, camera.size, spherical_intrinsics(*camera.size), (), pose)
  start = dict(MODELS.values())[camera.model] - len(camera_model(camera.model).parameters)
  focal, (cx, cy) = camera.params[:start - 2], camera.params[start - 2:start]
  if min(focal) <= 0:
    raise BadData(where, f"a {camera.model} camera has focal length {min(focal):g}", "reconstruct the scene again")
  return Camera(camera.model, camera.size, (focal[0], focal[-1], cx, cy), camera.params[start:], pose)


def _largest_model(root: pathlib.Path) -> tuple[ColmapModel, list[str]]:
  """The model of most photographs, and words about the others."""
  base = next((base for base in (root / "sparse", root / "colmap" / "sparse") if base.is_dir()), None)
  if base is None:
    raise MissingInput(root, "has no sparse/ folder" if root.is_dir() else "no such folder",
                       "give COLMAP's project folder, or run `fields3d prepare` on the photographs")
  numbered = [path for path in base.iterdir() if path.name.isdecimal() and path.is_dir()]
  folders = sorted(numbered, key=lambda path: int(path.name)) or [base]
  whole = [folder for folder in folders if not missing_files(folder)] or folders[:1]
  models = [read_model(folder) for folder in whole]
  best = max(models, key=lambda model: len(model.images))
  if not best.images:
    raise BadData(best.path, "no photograph is registered", "reconstruct the scene again")
  if len(folders) == 1:
    return best, []
  counts = ", ".join(f"{model.path.name}: {len(model.images)}" for model in models)
  return best, [f"{len(folders)} models (photographs of {counts}): {best.path.name} is used"]


def _paths_of(images: Sequence[ColmapImage], folder: Folder) -> list[pathlib.Path]:
  """The file of each image: of its name, or of that name with another suffix, as downscaled copies may have."""
  there = {path.relative_to(folder.path).as_posix(): path for path in folder.photographs}
  stems = {name.rpartition(".")[0]: path for name, path in there.items()}
  names = [image.name.replace("\\", "/") for image in images]
  found = [there.get(name) or stems.get(name.rpartition(".")[0]) for name in names]
  if missing := [name for name, path in zip(names, found, strict=True) if path is None]:
    raise MissingInput(folder.path, f"{len(missing)} of {len(names)} registered photographs are not there: "
                       + ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else ""), "copy them there")
  return found


def _mask_of(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """The mask of a photograph, if it lies in the folder."""
  named = (folder / f"{name}.png", folder / f"{name.rpartition('.')[0]}.png")
  return next((path for path in named if path.is_file()), None)


def _check_registered(model: ColmapModel, folder: Folder) -> list[str]:
  registered, total = len(model.images), len(folder.photographs)
  if registered >= total:
    return []
  text = f"{registered} of {total} photographs are registered"
  if registered < _LEAST_REGISTERED * total:
    raise BadData(model.path, f"only {text}",
                  f"reconstruct the scene again, or remove the others from {folder.path.name}/")
  return [text]


def _seen_range(cameras: Sequence[Camera], points: np.ndarray, where: object) -> tuple[float, float]:
  """The distances between which cameras see points (m, 3), by percentiles that no stray point moves."""
  ranges = []
  for camera in cameras:
    pixels = pixel_of(camera, points)
    seen = points[((pixels >= 0) & (pixels <= camera.size)).all(axis=1)]
    if len(seen):
      ranges.append(np.percentile(np.linalg.norm(seen - camera.pose[:, 3], axis=1), _PERCENTILES))
  if not ranges:
    raise BadData(where, "no camera sees any of its points", "copy the whole model, or reconstruct the scene again")
  near, far = np.stack(ranges).T
  return float(near.min()), float(far.max())
