"""Posed pictures of many shapes, made here: what generative models of shapes from pictures are trained and judged on."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from fields3d.core.config import Count, From, Index, Range, build
from fields3d.core.errors import UsageFault, available_cores, nearest, require_memory
from fields3d.core.types import Camera, Dataset, Shape, View
from fields3d.data import cache
from fields3d.data.picture_file import picture_file
from fields3d.data.pipeline import generator
from fields3d.data.procedural import SPLITS
from fields3d.data.rendered import DISTANCE, FAR, HALF_VIEW, NEAR, ORIGIN, UP
from fields3d.data.shape_pictures import AT_ONCE, Grid
from fields3d.data.shape_subjects import SOURCES, Families, Pack, Subject, with_copies
from fields3d.data.variants import Augment, Augments
from fields3d.geometry.transforms import look_at

_LEVEL = 65535 // 255  # from the file's uint8 to a view's uint16


@dataclasses.dataclass(frozen=True)
class PixelRows:
  """Rays of `rows` shapes, `pixels` each, from all views of a shape alike."""
  rows: Count = 16
  pixels: Count = 256


@dataclasses.dataclass(frozen=True)
class ImageRows:
  """`rows` whole pictures, each of any training shape and view, averaged down to `size` pixels a side."""
  rows: Count = 16
  size: Count = 32


DRAWS = {"pixels": PixelRows, "images": ImageRows}
_FAMILIES, _PIXELS = types.MappingProxyType({"name": "families"}), types.MappingProxyType({"name": "pixels"})


def shape_views(source: Annotated[Families | Pack, From(SOURCES)] = _FAMILIES,
                views: Count = 24, width: Annotated[int, Range(ge=8)] = 64, supersample: Count = 3,
                elevation: tuple[Annotated[float, Range(ge=-90, le=90)], ...] = (-90.0, 90.0),
                draws: Annotated[PixelRows | ImageRows, From(DRAWS)] = _PIXELS,
                augment: Augments = types.MappingProxyType({}), cache_dir: str | None = None,
                workers: Count | None = None, seed: Index = 0) -> Dataset:
  """The dataset of pictures of many shapes. They are made once, in parallel, into the cache, as 8-bit sRGB premultiplied
  by coverage; a batch is {"label" (r,) int32 and, of pixels, "shape" (r,), "origins", "directions", "viewdirs" (r, p, 3),
  "radii", "near", "far", "alpha" (r, p), "view" (r, p) int32, "rgb" (r, p, 3); of images, "rgb" (r, s, s, 3), "alpha"
  (r, s, s), "pose" (r, 3, 4)}. "view" counts the views of `Dataset.views("train")`.

  Cameras stand on the sphere of radius 3, uniform by area between two elevations, and look at the origin; where depends
  on (seed, shape's name, view) alone. Shapes are divided over train, val and test, views are not.

  Args:
    source: section "families" or "pack". views: of each shape. width: of a picture, pixels.
    supersample: rays along the side of a pixel. elevation: the least and the greatest, degrees above the xz-plane.
    draws: section "pixels" or "images". augment: copies that join the training shapes, see `variants.Augment`.
    cache_dir: `cache.default_root()` by default.
    workers: processes that make pictures; all cores by default. seed: of shapes, cameras and batches.

  Raises:
    UsageFault: settings that do not fit each other, or what does not fit in memory.
  """
  source = build(SOURCES, source, "data.source") if isinstance(source, Mapping) else source
  draws = build(DRAWS, draws, "data.draws") if isinstance(draws, Mapping) else draws
  augment = augment if isinstance(augment, Augment) else Augment(**augment)
  if len(elevation) != 2 or elevation[0] > elevation[1]:
    raise UsageFault("--config.data.elevation", f"{elevation!r} is no range", "give the least and the greatest, as (-90, 90)")
  if isinstance(draws, ImageRows) and width % draws.size:
    raise UsageFault("--config.data.draws.size", f"{draws.size} does not divide width {width}", "give a divisor of it")
  rays = (width * supersample)**2
  require_memory((workers or available_cores()) * max(rays, min(views * rays, AT_ONCE)) * 160,
                 "--config.data.width", "lower it, supersample or workers")
  groups = dict(source.subjects(seed))
  groups["train"] = with_copies(groups["train"], augment, seed)
  settings = {"views": views, "width": width, "supersample": supersample, "elevation": elevation, "seed": seed,
              "augment": dataclasses.asdict(augment)}
  root = pathlib.Path(cache_dir) if cache_dir else cache.default_root()

  @functools.cache
  def made(split: str) -> Pictures:
    text = json.dumps([split, source.identity(groups[split]), settings], sort_keys=True)
    name = f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    poses = np.array([camera_poses(seed, subject.name, views, elevation) for subject in groups[split]])
    return Pictures(groups[split], poses.reshape(-1, views, 3, 4), width,
                    lambda p: picture_file(root, name, groups[split], p, width, supersample, workers))

  train = made("train")
  classes = sorted({subject.label for subject in groups["train"]})
  labels = np.array([classes.index(subject.label) for subject in groups["train"]], np.int32)
  batch = {PixelRows: pixel_batches, ImageRows: image_batches}[type(draws)](train, labels, draws, seed)

  def chosen(split: str) -> str:
    if split not in SPLITS:
      raise UsageFault("split", f"no split {split!r}", nearest(split, SPLITS))
    return split

  @functools.cache
  def shapes(split: str) -> Sequence[Shape]:
    return tuple(subject.shape() for subject in groups[chosen(split)])

  return Dataset(_facts(groups, classes, views, width, supersample), batch, shapes, lambda split: made(chosen(split)).views())


def _facts(groups: Mapping[str, Sequence[Subject]], classes: Sequence[str], views: int, width: int,
           supersample: int) -> dict[str, Any]:
  train = groups["train"]
  camera = {"distance": DISTANCE, "half_view": HALF_VIEW, "near": NEAR, "far": FAR, "width": width}
  protocol = {"scene": f"{len(train)} shapes", "resolution": f"{width}x{width}", "colors": "sRGB", "background": "white",
              "antialiasing": f"{supersample}x{supersample} rays a pixel", "split": "by shape"}
  return {"num_shapes": len(train), "classes": list(classes), "labels": [s.label for s in train],
          "names": [s.name for s in train], "num_views": views * len(train), "views_per_shape": views,
          "camera": camera, "near": NEAR, "far": FAR, "ndc": None,
          "bounds": [[-1.0] * 3, [1.0] * 3], "background": "white", "unbounded": False, "opaque": False,
          "protocol": protocol, "splits": {split: len(groups[split]) for split in SPLITS}}


class Pictures:
  """The pictures of a split's shapes and their cameras. poses (s, v, 3, 4) float64; pixels (s, v, w, w, 4) uint8, mapped,
  made from the poses when first asked for."""

  def __init__(self, subjects: Sequence[Subject], poses: np.ndarray, width: int, make: Callable):
    self.subjects, self.poses, self.width, self.num, self._make = subjects, poses, width, poses.shape[1], make

  @functools.cached_property
  def pixels(self) -> np.ndarray:
    return self._make(self.poses)

  def views(self) -> "ShapeViews":
    return ShapeViews(self)


class ShapeViews(Sequence):
  """All views of a split's shapes, one shape's after another's, made as they are asked for."""

  def __init__(self, pictures: Pictures, index: range | None = None):
    self._pictures = pictures
    self._index = range(len(pictures.subjects) * pictures.num) if index is None else index

  def __len__(self) -> int:
    return len(self._index)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return ShapeViews(self._pictures, self._index[index])
    source, (i, j) = self._pictures, divmod(self._index[index], self._pictures.num)
    focal = source.width / 2 / math.tan(HALF_VIEW)
    camera = Camera("PINHOLE", (source.width, source.width), (focal, focal, source.width / 2, source.width / 2), (),
                    source.poses[i, j])
    return View(f"{source.subjects[i].name}/{j:03d}", camera, lambda: source.pixels[i, j].astype(np.uint16) * _LEVEL)


def camera_poses(seed: int, name: str, num: int, elevation: Sequence[float]) -> np.ndarray:
  """Poses (num, 3, 4) of a shape's cameras, uniform by area between two elevations (degrees), looking at the origin.

  >>> low, high = camera_poses(0, "a", 50, (30.0, 60.0))[:, 1, 3].min(), camera_poses(0, "a", 50, (30.0, 60.0))[:, 1, 3].max()
  >>> bool(1.5 <= low < high <= 3 * math.sin(math.radians(60)))
  True
  """
  u, turn = generator(seed, 2, zlib.crc32(name.encode())).random((num, 2)).T
  low, high = (math.sin(math.radians(e)) for e in elevation)
  y, angle = low + (high - low) * u, 2 * math.pi * turn
  ring = np.sqrt(1 - y**2)
  eyes = DISTANCE * np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)
  return np.stack([look_at(eye, ORIGIN, UP) for eye in eyes])


def _own_rows(rows: int, shard: int, num_shards: int) -> range:
  if rows % num_shards:
    raise UsageFault("--config.data.draws.rows", f"{rows} rows do not divide over {num_shards} processes",
                     f"give a multiple of {num_shards}")
  return range(shard * rows // num_shards, (shard + 1) * rows // num_shards)


def image_batches(source: Pictures, labels: np.ndarray, draws: ImageRows, seed: int) -> Callable:
  """The batch function of whole pictures."""
  step = source.width // draws.size
  require_memory(4 * draws.rows * source.width**2 * 16, "--config.data.draws.rows", "lower it, or the pictures' width")

  def batch(position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, np.ndarray]:
    own = _own_rows(draws.rows, shard, num_shards)
    picks = np.array([generator(seed, 3, position, r).integers(len(labels) * source.num) for r in own])
    shape, view = np.divmod(picks, source.num)
    pixels = source.pixels[shape, view].reshape(len(own), draws.size, step, draws.size, step, 4)
    rgba = pixels.mean((2, 4), dtype=np.float32) / np.float32(255)
    return {"rgb": rgba[..., :3], "alpha": rgba[..., 3], "pose": source.poses[shape, view].astype(np.float32),
            "label": labels[shape]}

  return batch


def pixel_batches(source: Pictures, labels: np.ndarray, draws: PixelRows, seed: int) -> Callable:
  """The batch function of pixels: each row is one shape, in epochs of new order, its pixels from any of its views."""
  num, width = len(labels), source.width
  require_memory(4 * draws.rows * draws.pixels * 128, "--config.data.draws.rows", "lower it, or draws.pixels")
  grid = Grid(source.poses.reshape(-1, 3, 4), width)

  @functools.lru_cache(maxsize=2)  # a batch lies in two epochs at most, but for fewer shapes than rows
  def order(epoch: int) -> np.ndarray:
    return generator(seed, 4, epoch).permutation(num)

  def batch(position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, np.ndarray]:
    own = _own_rows(draws.rows, shard, num_shards)
    shape = np.array([order((position * draws.rows + r) // num)[(position * draws.rows + r) % num] for r in own])
    picks = np.stack([generator(seed, 5, position, r).integers(source.num * width * width, size=draws.pixels) for r in own])
    view, place = np.divmod(picks, width * width)
    row, column = np.divmod(place, width)
    rgba = source.pixels[shape[:, None], view, row, column].astype(np.float32) / np.float32(255)
    flat = (shape[:, None] * source.num + view).astype(np.int32)
    d = grid.directions(flat.ravel(), np.stack([column, row], -1).reshape(-1, 2) + 0.5)
    ahead = -np.einsum("ni,ni->n", d, grid.poses[flat.ravel(), :, 2])
    full = lambda value: np.full(flat.shape, value, np.float32)
    d = d.reshape(*flat.shape, 3).astype(np.float32)
    # a pixel's solid angle is cos^3 / focal^2, and its disc's radius at t = 1 that over pi, squared
    radii = np.sqrt(ahead**3 / math.pi) / grid.focal
    return {"shape": shape.astype(np.int32), "label": labels[shape], "view": flat,
            "origins": grid.poses[flat, :, 3].astype(np.float32), "directions": d, "viewdirs": d,
            "radii": radii.reshape(flat.shape).astype(np.float32), "near": full(NEAR), "far": full(FAR),
            "rgb": rgba[..., :3], "alpha": rgba[..., 3]}

  return batch
