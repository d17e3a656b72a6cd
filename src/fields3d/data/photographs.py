"""Folders of photographs beside calibrated cameras: which copies to read, at which size, and which to hold out."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Camera, View
from fields3d.data.images import SUFFIXES, area_average, image_facts, read_image, read_mask
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


def make_views(names: Sequence[str], paths: Sequence[pathlib.Path], cameras: Sequence[Camera],
               reduction: float, masks: Sequence[pathlib.Path | None] | None = None) -> tuple[tuple[View, ...], bool]:
  """Posed photographs, and whether all are opaque. Headers are read here, pixels when a view is asked for them.

  Args:
    cameras: as calibrated, on images of any size; intrinsics are scaled per axis to the photographs' true sizes.
    reduction: by what the sides are to be divided in reading, by area average.
    masks: images of the photographs' shapes and any size, black where pixels do not count; None for a photograph without one, or for all.

  Raises:
    BadData: a photograph's shape is not the calibrated image's, or a mask's not the photograph's (within a pixel of rounding), or
      both ways round are, of one that EXIF turns: some programs that find cameras read its pixels as they are stored.
  """
  views, opaque = [], True
  for name, path, calibrated, mask_path in zip(names, paths, cameras, masks or [None] * len(names), strict=True):
    facts = image_facts(path)
    if not _same_shape(facts.size, calibrated.size):
      raise BadData(path, "is of {} x {} pixels, its camera of {} x {}".format(*facts.size, *calibrated.size),
                    "give the photographs that were calibrated, with their EXIF orientation applied")
    if facts.turned and _same_shape(facts.stored, calibrated.size):
      raise BadData(path, "is turned by its EXIF orientation, and its camera fits the pixels turned and as they are stored",
                    "store the pixels that were calibrated, without the tag")
    size = image_facts(mask_path).size if mask_path else facts.size
    if not _same_shape(*sorted((size, facts.size))):
      raise BadData(mask_path, "is of {} x {} pixels, its photograph of {} x {}".format(*size, *facts.size),
                    "give a mask of the photograph's shape, turned as it is")
    camera = resized(calibrated, *(max(1, round(side / reduction)) for side in facts.size))
    mask = functools.partial(_mask, mask_path, camera) if mask_path or not valid_pixels(camera).all() else None
    views.append(View(name, camera, functools.partial(_read, path, *camera.size), mask))
    opaque &= not facts.alpha
  return tuple(views), opaque


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
  """Whether an image of that size is another one made smaller or larger, within a pixel of rounding."""
  (width, height), (w, h) = size, other
  return min(abs(width * h / w - height), abs(height * w / h - width)) <= 1


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


def _mask(path: pathlib.Path | None, camera: Camera) -> np.ndarray:
  """(h, w) bool: pixels that directions fall on and, where there is a mask, of which all the area counts."""
  valid = valid_pixels(camera)
  if path is None:
    return valid
  return valid & (area_average(read_mask(path)[..., None].astype(np.float32), *camera.size)[..., 0] > 1 - 1e-6)
