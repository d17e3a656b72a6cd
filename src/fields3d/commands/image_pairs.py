"""Images of one folder against those of another, matched by name."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fields3d.core.errors import BadData, MissingInput, UsageFault
from fields3d.data.images import SUFFIXES, read_image, read_mask
from fields3d.evaluation.image_set import FIGURES, choose_figures, measure, summarise_images, warnings_of
from fields3d.evaluation.results import Metric, Row
from fields3d.evaluation.views import composite


class Pair(NamedTuple):
  """The files of one comparison; mask may be None."""
  name: str
  prediction: pathlib.Path
  truth: pathlib.Path
  mask: pathlib.Path | None


def pairs(prediction: pathlib.Path, truth: pathlib.Path, mask: pathlib.Path | None = None) -> list[Pair]:
  """What is to be compared: two files, or two folders' images by their names without ending.

  Raises:
    UsageFault: one is a file and the other a folder. BadData: the folders' names differ, or a name stands twice.
    MissingInput: a folder has no images.
  """
  if prediction.is_dir() != truth.is_dir():
    raise UsageFault(truth, "one is a folder and the other a file", "give two files or two folders")
  if not truth.is_dir():
    if mask is not None and mask.is_dir():
      raise UsageFault("--mask", "is a folder, for two files", "give a file")
    return [Pair(truth.stem, prediction, truth, mask)]
  ours, theirs = _by_name(prediction), _by_name(truth)
  for here, folder, there in ((ours, prediction, theirs), (theirs, truth, ours)):
    if missing := sorted(set(there) - set(here)):
      raise BadData(folder, f"has no image named {', '.join(missing[:3])} ({len(missing)} missing)",
                    "give folders with the same names")
  masks = _by_name(mask) if mask is not None and mask.is_dir() else {}
  if masks and (missing := sorted(set(ours) - set(masks))):
    raise BadData(mask, f"has no mask named {', '.join(missing[:3])} ({len(missing)} missing)", "add them")
  return [Pair(name, ours[name], theirs[name], masks.get(name, mask)) for name in sorted(theirs)]


def _by_name(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  found = {}
  for path in sorted(folder.iterdir()):
    if path.suffix in SUFFIXES:
      if path.stem in found:
        raise BadData(path, f"has the name of {found[path.stem].name}", "keep one of them")
      found[path.stem] = path
  if not found:
    raise MissingInput(folder, "holds no images", f"give a folder of {' '.join(SUFFIXES)}")
  return found


def compare_images(chosen: Sequence[Pair], background: str, lpips_weights: pathlib.Path | None,
                   seed: int) -> tuple[list[Row], str, list[Metric], list[str]]:
  """One row a pair, the protocol's words, the figures over the set, and what there is to know before reading them.

  Raises:
    BadData: an image cannot be read, or two that are compared differ in size.
  """
  figures, warnings = choose_figures(FIGURES, lpips_weights)
  rows, sizes = [], set()
  for i, pair in enumerate(chosen):
    image, truth = (composite(read_image(path), background) for path in (pair.prediction, pair.truth))
    mask = None if pair.mask is None else read_mask(pair.mask)
    for path, other in ((pair.prediction, image), *[(pair.mask, mask)] * (mask is not None)):
      if other.shape[:2] != truth.shape[:2]:
        raise BadData(path, f"is {_size(other)}, {pair.truth.name} is {_size(truth)}", "give images of one size")
    if mask is not None and not mask.any():
      raise BadData(pair.mask, "leaves no pixel", "give a mask with some white")
    status, found = measure(image, truth, mask, figures, seed)
    rows.append(Row(pair.name, _size(truth), i, status, found))
    sizes.add(_size(truth))
  masked = [f"masked by {chosen[0].mask.name}"] if chosen[0].mask else []
  protocol = ", ".join([sizes.pop() if len(sizes) == 1 else "mixed sizes", background, "sRGB", *masked])
  return rows, protocol, summarise_images(rows, protocol, seed), warnings + warnings_of(rows)


def _size(image: np.ndarray) -> str:
  return f"{image.shape[1]}x{image.shape[0]}"


def print_rows(rows: Sequence[Row]) -> None:
  """A table with one line an image."""
  from rich.console import Console
  from rich.table import Table

  from fields3d.evaluation.report_tables import number
  table = Table("image", *(metric.name for metric in rows[0].metrics))
  for row in rows:
    table.add_row(row.name, *(number(metric.value) for metric in row.metrics))
  Console().print(table, markup=False, highlight=False)
