"""Views of a scene rendered and held against their photographs: PSNR, SSIM, LPIPS, and pictures with error maps."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.core.progress import progress
from fields3d.core.task import lookup
from fields3d.core.types import View
from fields3d.evaluation.image_set import FIGURES, choose_figures, landmarks, measure, summarise_images, warnings_of
from fields3d.evaluation.reconstruction import file_stem
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Row
from fields3d.rendering.images import TILE, render_camera

NAMED = ("scene", "resolution", "background", "colors")  # Words of a dataset's protocol that stand in names.
BACKGROUNDS = {"white": 1.0, "black": 0.0}
ERROR_SCALE = 0.1  # The mean absolute error of a pixel's channels that an error map shows brightest.


def views(split: Literal["train", "val", "test"] = "test",
          metrics: tuple[Literal["psnr", "ssim", "lpips"], ...] = FIGURES, supersample: Count = 1, shrink: Count = 1,
          max_views: Count | None = None, background: Literal["white", "black"] | None = None, tile: Count = TILE,
          pictures: Index = 8, lpips_weights: str | None = None, seed: Index = 0) -> Evaluator:
  """Evaluates the images that the task's predict function "render" makes of a split's cameras.

  The rendered image, in floating point and clipped to [0, 1], is held against the photograph composited on the same
  background. Neither is rounded to 8 bits.

  Args:
    split: whose views. max_views: so many of them, evenly spread; all when None.
    metrics: which figures. lpips_weights: see `lpips.find_weights`; LPIPS is left out, with a warning, where the
      weights are in none of the usual places.
    supersample: k x k rays a pixel. tile: rays a call.
    shrink: photographs and renderings are judged at 1/shrink of their size, each new pixel the mean of shrink^2.
    background: of photograph and prediction; the dataset's own when None.
    pictures: comparisons (prediction, truth, error) of so many first views and of the worst, median and best; 0 writes
      no files, and else every view's prediction is written too.
    seed: of the intervals; `EvaluationInput.seed` replaces it.
  """
  settings = dict(locals())

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    every, info = inputs.dataset.views(split), inputs.dataset.info
    if not len(every):
      raise UsageFault("evals.views.split", f"the dataset has no {split!r} views", "name a split that it has")
    render, pair = lookup(inputs.predict, "render", "evals.views"), Compositor(info, background, shrink)
    figures, warnings = choose_figures(metrics, lpips_weights)
    index, rows = spread(len(every), max_views), []
    with progress() as show:
      for done, i in enumerate(index, 1):
        view, begin = every[i], time.perf_counter()
        out = render_camera(render, view.camera, info, supersample=supersample, tile=tile)
        seconds = time.perf_counter() - begin
        prediction = pair.prediction(out)
        mask = None if view.mask is None else block_mean(view.mask(), shrink) == 1
        status, found = measure(prediction, pair.truth(view), mask, figures, chosen)
        rows.append(Row(view.name, f"{prediction.shape[1]}x{prediction.shape[0]}", int(i), status, found, (),
                        {"render_ms": round(1000 * seconds, 1)}, _write_prediction(prediction, inputs.out_dir, view, i)
                        if pictures else {}))
        show("views", done, len(index))
    if pictures:
      rows = _with_comparisons(rows, every, pair, pictures, inputs.out_dir)
    protocol = describe(info, split, every, index, pair.background, supersample, shrink)
    more = "; ".join(f"{key}: {text}" for key, text in info["protocol"].items() if key not in NAMED)
    return Evaluation("views", summarise_images(rows, protocol, chosen, more), rows, warnings + warnings_of(rows),
                      settings | {"seed": chosen}, "view")

  return run


def spread(num: int, most: int | None) -> np.ndarray:
  """The indices of at most `most` of `num` views, evenly spread, the first among them.

  >>> spread(200, 4).tolist(), spread(3, None).tolist()
  ([0, 50, 100, 150], [0, 1, 2])
  """
  kept = num if most is None else min(most, num)
  return np.arange(kept) * num // kept


class Compositor:
  """Photographs and renderings as (h, w, 3) float32 images in [0, 1] on one background.

  Args:
    info: the dataset's facts. Renderings stand on "background", "white" or "black"; where it is "none", on white if
      photographs are transparent, and on nothing if all are "opaque".
    background: to put both on instead.
    shrink: both become smaller by it, each pixel the mean of shrink^2.

  Raises:
    UsageFault: the dataset's photographs have no background to replace.
  """

  def __init__(self, info: Mapping[str, Any], background: str | None = None, shrink: int = 1):
    self._shrink = shrink
    own = "white" if info["background"] == "none" and not info["opaque"] else info["background"]
    self.background = background or own
    if self.background != own and own not in BACKGROUNDS:
      raise UsageFault("evals.views.background", "the dataset's photographs have none to replace", "leave it out")
    self._change = BACKGROUNDS.get(self.background, 0.0) - BACKGROUNDS.get(own, 0.0)

  def prediction(self, out: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of `render_camera`'s output; NaN where it is not finite."""
    return block_mean(clipped(out["rgb"] + (1 - out["opacity"][..., None]) * np.float32(self._change)), self._shrink)

  def truth(self, view: View) -> np.ndarray:
    """Of the photograph."""
    return block_mean(composite(view.pixels(), self.background), self._shrink)


def clipped(image: np.ndarray) -> np.ndarray:
  """The image cut to [0, 1]; NaN where it is not finite, infinities too.

  >>> clipped(np.array([-1, 0.5, 2, np.inf])).tolist()
  [0.0, 0.5, 1.0, nan]
  """
  return np.where(np.isfinite(image), np.clip(image, 0, 1), image.dtype.type(np.nan))


def block_mean(image: np.ndarray, k: int) -> np.ndarray:
  """The means of k x k pixels of (h, w, ...), as float32.

  Raises:
    UsageFault: k does not divide the image's sides.

  >>> block_mean(np.array([[0, 1, 4, 4], [1, 2, 4, 4]]), 2).tolist()
  [[1.0, 4.0]]
  """
  height, width = image.shape[:2]
  if height % k or width % k:
    raise UsageFault("evals.views.shrink", f"{k} does not divide {width} x {height} pixels", "choose one that does")
  return image.reshape(height // k, k, width // k, k, *image.shape[2:]).mean(axis=(1, 3), dtype=np.float32)


def composite(pixels: np.ndarray, background: str) -> np.ndarray:
  """Premultiplied pixels (h, w, 4) uint16 on "white" or "black" ("none": black) -> (h, w, 3) float32 in [0, 1]."""
  pixels = pixels.astype(np.float32) / np.float32(65535)
  return pixels[..., :3] + (1 - pixels[..., 3:]) * np.float32(BACKGROUNDS.get(background, 0.0))


def describe(info: Mapping[str, Any], split: str, every: Sequence[View], index: np.ndarray, background: str,
             supersample: int, shrink: int = 1) -> str:
  """The words that belong in every figure's name: scene, split, resolution, background, colour space..."""
  said = {"scene": "", "resolution": "", "colors": "sRGB", **info["protocol"]}
  sizes = {"{}x{}".format(*every[i].camera.size) for i in index}
  own = sizes.pop() if len(sizes) == 1 else "mixed sizes"
  resolution = said["resolution"] if own in said["resolution"] else f"{own} {said['resolution']}".strip()
  if shrink > 1:
    resolution += f" averaged to 1/{shrink}"
  words = [" ".join(filter(None, (said["scene"], split, resolution))),
           "opaque" if background == "none" else background, said["colors"],
           *[f"{supersample}x{supersample} rays a pixel rendered"] * (supersample > 1),
           *[f"{len(index)} of {len(every)} views"] * (len(index) < len(every))]
  return ", ".join(words)


def _write_prediction(prediction: np.ndarray, out_dir: pathlib.Path, view: View, index: int) -> dict[str, str]:
  name = f"{file_stem(index, view.name)}.png"
  Image.fromarray(eight_bits(prediction)).save(out_dir / name)
  return {"prediction": name}


def _with_comparisons(rows: Sequence[Row], every: Sequence[View], pair: Compositor, num: int,
                      out_dir: pathlib.Path) -> list[Row]:
  """The rows, the first `num` and the landmarks with a comparison written."""
  shown = {row.index for row in (*rows[:num], *landmarks(rows).values())}
  out = []
  for row in rows:
    if row.index in shown:
      with Image.open(out_dir / row.files["prediction"]) as picture:
        prediction = np.asarray(picture)
      name = row.files["prediction"].removesuffix(".png") + ".comparison.png"
      truth = eight_bits(pair.truth(every[row.index]))
      Image.fromarray(np.concatenate([prediction, truth, error_map(prediction, truth)], axis=1)).save(out_dir / name)
      row = dataclasses.replace(row, files={**row.files, "comparison": name})
    out.append(row)
  return out


def eight_bits(image: np.ndarray) -> np.ndarray:
  """An image in [0, 1] as uint8, rounded; black where it is not finite.

  >>> eight_bits(np.array([0.0, 0.5, 1.0, np.nan])).tolist()
  [0, 128, 255, 0]
  """
  return np.rint(255 * np.where(np.isfinite(image), image, 0)).astype(np.uint8)


def error_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """The mean absolute error over channels (h, w, 3) uint8 -> colours (h, w, 3) uint8, yellow at `ERROR_SCALE`."""
  from matplotlib import colormaps
  error = np.abs(image.astype(np.float32) - truth).mean(-1) / (255 * ERROR_SCALE)
  return colormaps["inferno"](np.clip(error, 0, 1), bytes=True)[..., :3]
