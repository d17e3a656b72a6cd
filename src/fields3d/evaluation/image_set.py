"""Figures of a set of images against their truths, one row an image, the protocol in every name."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np

from fields3d.core.errors import MissingInput
from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.results import Metric, Row
from fields3d.metrics import image
from fields3d.metrics.lpips import lpips
from fields3d.networks.alexnet import SHA256, Weights, find_weights

FIGURES = ("psnr", "ssim", "lpips")
NOT_FINITE = "the image is not finite"


@dataclasses.dataclass(frozen=True)
class Figure:
  """How a figure is computed: `fn` (image, truth, mask) -> value or None; its full name, direction and convention."""
  fn: Callable
  name: str
  better: str
  protocol: str


def choose_figures(names: Sequence[str],
                   lpips_weights: str | os.PathLike | None = None) -> tuple[list[Figure], list[str]]:
  """The figures of those names, and what there is to know before reading them.

  LPIPS is left out, with one line, where its weights are in none of the usual places.

  Raises:
    MissingInput: `lpips_weights` is given and not there. BadData: the weights are not LPIPS's.
  """
  weights, warnings = None, []
  if "lpips" in names:
    try:
      weights = find_weights(lpips_weights)
    except MissingInput as fault:
      if lpips_weights is not None:
        raise
      warnings = [f"LPIPS is left out: {fault}"]
  found = {figure.name.partition("_")[0]: figure for figure in _figures(weights)}
  return [found[name] for name in names if name in found], warnings


def _figures(weights: Weights | None) -> list[Figure]:
  """Every figure that can be computed."""
  known = [Figure(image.psnr, "psnr", "higher", "dB; range 1, mean squared error over pixels and channels, at most "
                  f"{image.PSNR_LIMIT:g}"),
           Figure(image.ssim, "ssim_gauss11_range1", "higher", "Gaussian window 11 x 11, sigma 1.5, windows inside the "
                  "image (and mask) only, K1 0.01, K2 0.03, dynamic range 1, mean over channels")]
  if weights is not None:
    known.append(Figure(functools.partial(lpips, jax.device_put(weights)), "lpips_alex_v0.1", "lower",
                        f"AlexNet, weights' sha256 {SHA256[:12]}, inputs in [-1, 1]; masked pixels are the truth's"))
  return known


def measure(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray | None, chosen: Sequence[Figure],
            seed: int) -> tuple[str, tuple[Metric, ...]]:
  """One image's status and figures; an image with a NaN or Inf has none.

  Args:
    predicted, truth: (h, w, 3) sRGB in [0, 1]. mask: (h, w) bool, the pixels that count; None: all.
    seed: for the record; the figures use none.
  """
  finite = bool(np.isfinite(predicted).all())
  found = tuple(Metric(figure.name, figure.fn(predicted, truth, mask) if finite else None, None, None, 1, seed, None,
                       figure.better, figure.protocol) for figure in chosen)
  return "ok" if finite else NOT_FINITE, found


def summarise_images(rows: Sequence[Row], protocol: str, seed: int, more: str = "") -> list[Metric]:
  """Means and medians over the images, named "<figure> [<protocol>]/mean" and "/median"; `more` ends their protocol."""
  out = []
  for metric in summarise(rows, seed, "view"):
    kind, slash, statistic = metric.name.partition("/")
    out.append(dataclasses.replace(metric, name=f"{kind} [{protocol.replace('/', ':')}]{slash}{statistic}",
                                   protocol=f"{metric.protocol}; {more}" if more else metric.protocol))
  return out


def warnings_of(rows: Sequence[Row]) -> list[str]:
  """Which images have no figures."""
  failed = [row.name for row in rows if row.status != "ok"]
  names = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
  return [f"{len(failed)} of {len(rows)} images are not finite and left out: {names}"] if failed else []


def landmarks(rows: Sequence[Row]) -> dict[str, Row]:
  """The rows with the worst, the median and the best first figure, by those words; empty where none has one.

  >>> made = lambda i, value: Row(str(i), "", i, "ok", (Metric("psnr", value, None, None, 1, 0, None, "higher", ""),))
  >>> {word: row.name for word, row in landmarks([made(0, 30.0), made(1, 20.0), made(2, 25.0)]).items()}
  {'worst': '1', 'median': '2', 'best': '0'}
  """
  known = [row for row in rows if row.metrics and row.metrics[0].value is not None]
  if not known:
    return {}
  known.sort(key=lambda row: row.metrics[0].value, reverse=known[0].metrics[0].better == "lower")
  return {"worst": known[0], "median": known[len(known) // 2], "best": known[-1]}
