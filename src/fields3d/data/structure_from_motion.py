"""From photographs to cameras: COLMAP's incremental structure from motion, through pycolmap, on the CPU."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from fields3d.core.errors import BadData, CannotWrite, MissingInput, Unavailable, from_os_error
from fields3d.core.strict_json import make_directory
from fields3d.data.colmap_files import ColmapModel, read_model
from fields3d.data.images import area_average, image_facts, read_image
from fields3d.data.photographs import list_photographs

_ORIENTATION = 0x0112  # EXIF
_LOG_ERRORS = 2  # glog's level


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """model: the largest, as written to sparse/0. num_photographs: that were given. num_models: disconnected parts."""
  model: ColmapModel
  num_photographs: int
  num_models: int


def reconstruct(source: pathlib.Path, out: pathlib.Path, *,
                matching: Literal["exhaustive", "sequential"] = "exhaustive", camera_model: str = "SIMPLE_RADIAL",
                reductions: Sequence[int] = (), threads: int | None = None, seed: int = 0,
                progress: Callable[[str], None] = lambda stage: None) -> Reconstruction:
  """Makes a scene of a folder of photographs: out/images (upright), out/images_<k>, out/sparse/0, out/sparse/1, ...

  Photographs of one size share one camera. Models are numbered from the largest on.

  Args:
    source: the folder; photographs in folders below it keep their paths.
    matching: every photograph with every other, or with the next ones by name (a film's frames).
    camera_model: a name of `colmap_files.MODELS`.
    reductions: write copies at 1/k of the size too, as PNG, area-averaged.
    progress: called with the name of each stage.

  Raises:
    Unavailable: pycolmap is not installed. MissingInput: no photographs. CannotWrite: `out` holds a scene already.
    BadData: a photograph cannot be read, two differ in their suffix alone, or no two of them fit together.
  """
  pycolmap = _pycolmap()
  photographs = list_photographs(source)
  if len(photographs) < 2:
    raise MissingInput(source, f"holds {len(photographs)} photographs", "give a folder of at least two")
  names = [path.relative_to(source).as_posix() for path in photographs]
  stems = [name.rpartition(".")[0] for name in names]
  if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
    raise BadData(source, f"two photographs are named {twice!r}", "rename one of them")
  if (out / "sparse").exists():
    raise CannotWrite(out, "holds a reconstruction already", "give another folder")
  if (out / "images").resolve() == source.resolve():
    raise CannotWrite(out, "its images/ are the source itself", "give another folder")
  there = list_photographs(out / "images")
  if left := next((path for path in there if path.relative_to(out / "images").as_posix() not in names), None):
    raise CannotWrite(left, "is none of the source's photographs, and would count as one", "remove it, or give another folder")
  make_directory(out)
  progress("copying photographs")
  sizes = set()
  try:
    for path, name in zip(photographs, names, strict=True):
      sizes.add(image_facts(path).size)
      _copy_upright(path, out / "images" / name)
      for k in reductions:
        _write_reduced(path, k, (out / f"images_{k}" / name).with_suffix(".png"))
    num_models = _run_colmap(pycolmap, out, matching, camera_model, len(sizes) == 1, threads or -1, seed, progress)
  except OSError as error:
    raise from_os_error(error, out) from None
  if not num_models:
    raise BadData(source, "no two photographs fit together",
                  "take them with more overlap and texture, from several places")
  return Reconstruction(read_model(out / "sparse" / "0"), len(photographs), num_models)


def _pycolmap():
  try:
    import pycolmap
  except ImportError:
    raise Unavailable("pycolmap", "is not installed, and cameras are found with it",
                      "pip install 'fields3d[colmap]'") from None
  return pycolmap


def _copy_upright(path: pathlib.Path, to: pathlib.Path) -> None:
  """The file itself where it is upright, else turned as its EXIF says; COLMAP itself does not look there."""
  to.parent.mkdir(parents=True, exist_ok=True)
  with Image.open(path) as image:
    if image.getexif().get(_ORIENTATION, 1) == 1:
      shutil.copyfile(path, to)
      return
    upright = ImageOps.exif_transpose(image)
    upright.save(to, format=image.format, quality=95, exif=upright.getexif(), icc_profile=image.info.get("icc_profile"))


def _write_reduced(path: pathlib.Path, k: int, to: pathlib.Path) -> None:
  """A copy at 1/k of the size, 8 bits; coverage is stored straight, as PNG has it."""
  pixels = read_image(path)
  height, width = (max(1, round(side / k)) for side in pixels.shape[:2])
  pixels = area_average(pixels, width, height).astype(np.float64)
  coverage = pixels[..., 3:] / 65535
  straight = np.divide(pixels[..., :3], coverage, out=np.zeros_like(pixels[..., :3]), where=coverage > 0)
  image = np.rint(np.concatenate([straight, pixels[..., 3:]], axis=-1) / 257).astype(np.uint8)
  to.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image if (coverage < 1).any() else image[..., :3]).save(to)


def _run_colmap(pycolmap, out: pathlib.Path, matching: str, camera_model: str, single: bool, threads: int, seed: int,
                progress: Callable[[str], None]) -> int:
  """Features, matches, models; returns how many models there are in out/sparse, the largest first."""
  database, mapped = out / "database.db", out / ".mapped"
  database.unlink(missing_ok=True)
  shutil.rmtree(mapped, ignore_errors=True)
  mapped.mkdir()
  level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, _LOG_ERRORS
  pycolmap.set_random_seed(seed)
  try:
    progress("extracting features")
    extraction = pycolmap.FeatureExtractionOptions(num_threads=threads)
    reader = pycolmap.ImageReaderOptions(camera_model=camera_model)
    mode = pycolmap.CameraMode.SINGLE if single else pycolmap.CameraMode.AUTO
    pycolmap.extract_features(database, out / "images", camera_mode=mode, reader_options=reader,
                              extraction_options=extraction, device=pycolmap.Device.cpu)
    progress("matching photographs")
    match = {"exhaustive": pycolmap.match_exhaustive, "sequential": pycolmap.match_sequential}[matching]
    match(database, matching_options=pycolmap.FeatureMatchingOptions(num_threads=threads), device=pycolmap.Device.cpu)
    progress("finding cameras")
    options = pycolmap.IncrementalPipelineOptions(num_threads=threads, random_seed=seed)
    models = pycolmap.incremental_mapping(database, out / "images", mapped, options)
  finally:
    pycolmap.logging.minloglevel = level
  ranked = sorted(models, key=lambda i: -models[i].num_reg_images())
  for place, i in enumerate(ranked):
    (out / "sparse").mkdir(exist_ok=True)
    os.rename(mapped / str(i), out / "sparse" / str(place))
  shutil.rmtree(mapped)
  return len(ranked)
