"""Folders of photographs beside calibrated cameras: which copies to read, at which size, and which to hold out."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Camera, View
from fields3d.data.images import SUFFIXES, area_average, image_facts, read_image
from fields3d.geometry.cameras import resized, valid_pixels


@dataclasses.dataclass(frozen=True)
class Folder:
  """photographs: paths in the order of their names. reduction: by what their sides are still to be divided."""
  path: pathlib.Path
  photographs: tuple[pathlib.Path, ...]
  reduction: int = 1


def list_photographs(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
  """The photographs below a folder, in the order of their names."""
  kinds = {suffix.lower() for suffix in SUFFIXES}
  paths = [path for path in folder.rglob("*") if path.suffix.lower() in kinds and path.is_file()]
  return tuple(sorted(paths, key=lambda path: path.relative_to(folder).as_posix()))


def find_folder(root: pathlib.Path, factor: int | None) -> Folder:
  """The photographs of a scene at 1 / factor of their size: images_<factor>/ if there is one, else images/ averaged.

  Raises:
    MissingInput: neither folder holds a photograph.
  """
  tried = ([(root / f"images_{factor}", 1)] if factor else []) + [(root / "images", factor or 1)]
  for path, reduction in tried:
    if photographs := list_photographs(path):
      return Folder(path, photographs, reduction)
  raise MissingInput(root, "holds no photographs in " + " or ".join(f"{path.name}/" for path, _ in tried),
                     "put them there, or give another factor")


def make_view(name: str, path: pathlib.Path, camera: Camera, reduction: int) -> tuple[View, bool]:
  """A posed photograph, and whether its pixels may be transparent.

  Args:
    camera: as calibrated, on an image of any size; its intrinsics are scaled per axis to the photograph's true size.

  Raises:
    BadData: the photograph's shape is not the calibrated image's (within a pixel of rounding).
  """
  facts = image_facts(path)
  width, height = facts.size
  if min(abs(width * camera.size[1] / camera.size[0] - height), abs(height * camera.size[0] / camera.size[1] - width)) > 1:
    raise BadData(path, f"is of {width} x {height} pixels, its camera of {camera.size[0]} x {camera.size[1]}",
                  "give the photographs that were calibrated, with their EXIF orientation applied")
  width, height = (max(1, round(side / reduction)) for side in facts.size)
  camera = resized(camera, width, height)
  valid = valid_pixels(camera)
  mask = None if valid.all() else lambda: valid
  return View(name, camera, functools.partial(_read, path, width, height), mask), facts.alpha


def hold_out(views: Sequence[View], every: int) -> Mapping[str, Sequence[View]]:
  """The first of every `every` photographs is for testing, as in NeRF's LLFF scenes; the others are for training.

  Source: Mildenhall et al. 2020, the released code's `llffhold=8`.
  """
  held = range(0, len(views), every)
  return {"train": tuple(view for i, view in enumerate(views) if i not in held),
          "test": tuple(views[i] for i in held)}


def resolution_of(views: Sequence[View]) -> str:
  """The photographs' size in words: the commonest, and how many differ.

  >>> camera = Camera("PINHOLE", (8, 6), (6.0, 6.0, 4.0, 3.0), (), np.eye(4)[:3])
  >>> resolution_of([View("a", camera, lambda: None)])
  '8x6'
  """
  sizes = [view.camera.size for view in views]
  width, height = max(sorted(set(sizes)), key=sizes.count)
  others = len(sizes) - sizes.count((width, height))
  return f"{width}x{height}" + (f" and {others} of other sizes" if others else "")


def _read(path: pathlib.Path, width: int, height: int) -> np.ndarray:
  return area_average(read_image(path), width, height)
