"""Unseen shapes from one or a few pictures: a code fitted to them, the other views rendered and held against the truth.

Beside every figure stands the same of the mean code (what the decoder knows without any picture) and of the training shape
whose rendered colours are nearest to the given pictures (retrieval). Differences are paired by shape.
"""

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fields3d.core.config import Count, Index, Range
from fields3d.core.errors import BadData, Diverged, UsageFault
from fields3d.core.progress import progress
from fields3d.core.task import field_of, lookup
from fields3d.core.types import Rays, Shape, View
from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.geometry import MEASURES, evaluate, match
from fields3d.evaluation.image_set import NOT_FINITE, Figure, choose_figures
from fields3d.evaluation.reconstruction import file_stem
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Metric, Row
from fields3d.evaluation.views import clipped, composite, eight_bits, spread
from fields3d.extraction.export import export
from fields3d.extraction.sparse import extract
from fields3d.geometry.meshes import sample_surface
from fields3d.geometry.rays import CameraRig

CLOUD = 10_000  # points of a surface, for chamfer


def novel_views(split: Literal["train", "val", "test"] = "test",
                pictures: tuple[Annotated[int, Range(ge=1, le=64)], ...] = (1, 2, 3), targets: Count = 8,
                max_shapes: Count | None = None, metrics: tuple[Literal["psnr", "ssim", "lpips"], ...] = ("psnr", "ssim", "lpips"),
                probes: Count = 256, resolution: Count | None = None, sheets: Index = 8, lpips_weights: str | None = None,
                seed: Index = 0) -> Evaluator:
  """Evaluates views that were not given, of shapes that were not trained on.

  Needs the predict functions "image_code", "image", "render_code" and "code", and a dataset whose views are named
  "<shape>/<view>". Which views are given is random by shape; more pictures contain fewer, and the views that are judged are
  the same for every number, none of them given.

  Args:
    split: whose shapes; max_shapes: so many, evenly spread.
    pictures: numbers of given pictures. targets: views of a shape that are judged, at most.
    metrics, lpips_weights: as in `views`.
    probes: pixels of the given pictures by which the nearest training shape is chosen.
    resolution: also extracts the surface of each fitted code with so many nodes an axis, writes it and, where the true
      shape is known, measures its chamfer distance; None for no surfaces. Needs the predict function "sdf".
    sheets: shapes of which a sheet is written: given pictures; below, a column for each judged view, the truth on top,
      then the predictions from more and more pictures, the nearest training shape and the mean code.
    seed: of every random choice; `EvaluationInput.seed` replaces it.
  """
  settings, numbers = dict(locals()), sorted(set(pictures))

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    figures, warnings = choose_figures(metrics, lpips_weights)
    groups = views_by_shape(inputs.dataset.views(split), numbers[-1] + 1, split)
    case = _Case(inputs, figures, numbers, targets, probes, resolution, chosen)
    truths = {shape.name: shape for shape in inputs.dataset.shapes(split)}
    index, rows = spread(len(groups), max_shapes), []
    with progress() as watch:
      for i in index:
        name = list(groups)[i]
        rows.append(case.row(name, groups[name], truths.get(name), int(i), len(rows) < sheets))
        watch("shapes fitted", len(rows), len(index))
    failed = [row.name for row, _, _ in rows if row.status != "ok"]
    warnings += [f"{len(failed)} of {len(rows)} shapes have a picture that is not finite: {', '.join(failed[:5])}"] * bool(failed)
    return Evaluation("novel_views", _over_shapes(rows, chosen, _words(inputs, split)), [row for row, _, _ in rows], warnings,
                      settings | {"seed": chosen})

  return run


def views_by_shape(views: Sequence[View], least: int, split: str) -> dict[str, list[View]]:
  """The views of each shape, by its name, in their order.

  Raises:
    UsageFault: there are none, or fewer than `least` of some shape.
  """
  groups = collections.defaultdict(list)
  for view in views:
    groups[view.name.rpartition("/")[0]].append(view)
  if not groups:
    raise UsageFault("evals.novel_views.split", f"the dataset has no {split!r} views", "name a split that it has")
  name, fewest = min(groups.items(), key=lambda item: len(item[1]))
  if len(fewest) < least:
    raise UsageFault("evals.novel_views.pictures", f"shape {name!r} has {len(fewest)} views, too few to give {least - 1} and "
                     "judge another", "give fewer")
  return dict(groups)


class _Case:
  """One evaluation's predict functions and settings; `row` measures a shape."""

  def __init__(self, inputs: EvaluationInput, figures: Sequence[Figure], numbers: Sequence[int], targets: int, probes: int,
               resolution: int | None, seed: int):
    predict, info = inputs.predict, inputs.dataset.info
    self.fit, self.image, self.ask, code = (lookup(predict, name, "evals.novel_views")
                                            for name in ("image_code", "image", "render_code", "code"))
    if resolution is not None:
      lookup(predict, "sdf", "evals.novel_views.resolution")
    self.inputs, self.figures, self.numbers, self.targets = inputs, figures, numbers, targets
    self.probes, self.resolution, self.seed = probes, resolution, seed
    self.codes = np.stack([np.asarray(code(i)) for i in range(info["num_shapes"])])
    self.mean = jnp.asarray(self.codes.mean(axis=0))

  def row(self, name: str, views: Sequence[View], shape: Shape | None, index: int,
          sheet: bool) -> tuple[Row, list[Metric], list[Metric]]:
    """A shape's row, and the same metrics of the nearest training shape and of the mean code."""
    rng = np.random.default_rng((self.seed, index))
    order = rng.permutation(len(views))
    most = self.numbers[-1]
    judged = [views[i] for i in order[most:most + self.targets]]
    given = [views[i] for i in order[:most]]
    truth = [composite(view.pixels(), "white") for view in judged]
    seen = [pixels_of(view, self.inputs.dataset.info["camera"]) for view in given]
    ours, nearest, base, shown, facts = [], [], [], [truth], {}
    unlearned = self._pictures(self.mean, judged)
    for k in self.numbers:
      begin = time.perf_counter()
      rays, rgb, alpha = jax.tree.map(lambda *parts: np.concatenate(parts), *seen[:k])
      z = self.fit(rays, rgb, alpha, jax.random.fold_in(jax.random.key(self.seed), 64 * index + k))
      z = jax.block_until_ready(z)
      facts[f"seconds@{k}"] = round(time.perf_counter() - begin, 3)
      best = self._nearest(rays, rgb + (1 - alpha)[:, None], rng)
      facts[f"nearest_training_shape@{k}"] = int(best)
      made, retrieved = self._pictures(z, judged), self._pictures(jnp.asarray(self.codes[best]), judged)
      for found, images in ((ours, made), (nearest, retrieved), (base, unlearned)):
        found += self._measured(images, truth, k)
      shown.append(made)
      if self.resolution is not None:
        ours += (own := self._surface(z, k, name, shape, index, facts))
        nearest += [dataclasses.replace(m, value=None) for m in own]
        base += [dataclasses.replace(m, value=None) for m in own]
    files = {f"mesh@{k}": facts.pop(f"mesh@{k}") for k in self.numbers if f"mesh@{k}" in facts}
    if sheet:
      files["sheet"] = self._sheet(name, index, [composite(view.pixels(), "white") for view in given],
                                   [*shown, retrieved, unlearned])
    ok = all(np.isfinite(image).all() for images in shown for image in images)
    row = Row(name, shape.label if shape else "", index, "ok" if ok else NOT_FINITE, tuple(ours), tuple(base), facts, files)
    return row, nearest, base

  def _pictures(self, z: jax.Array, views: Sequence[View]) -> list[np.ndarray]:
    return [clipped(np.asarray(self.image(z, jnp.asarray(view.camera.pose, jnp.float32))["rgb"])) for view in views]

  def _measured(self, images: Sequence[np.ndarray], truth: Sequence[np.ndarray], k: int) -> list[Metric]:
    """The mean of each figure over the judged views of a shape."""
    out = []
    for figure in self.figures:
      finite = all(np.isfinite(image).all() for image in images)
      values = [figure.fn(image, true, None) for image, true in zip(images, truth, strict=True)] if finite else [None]
      value = None if None in values else float(np.mean(values))
      out.append(Metric(f"{figure.name}@{k}", value, None, None, len(truth), self.seed, None, figure.better, figure.protocol))
    return out

  def _nearest(self, rays: Rays, rgb: np.ndarray, rng: np.random.Generator) -> int:
    """The training shape whose rendered colours at some of the given pixels are nearest."""
    pick = rng.choice(len(rgb), self.probes, replace=len(rgb) < self.probes)
    few = jax.tree.map(lambda a: a[pick], rays)
    errors = [float(np.mean((np.asarray(self.ask(z, few)["rgb"]) - rgb[pick]) ** 2)) for z in self.codes]
    return int(np.argmin(errors))

  def _surface(self, z: jax.Array, k: int, name: str, shape: Shape | None, index: int, facts: dict) -> list[Metric]:
    """Writes the surface of a code; its chamfer distance where the truth is known."""
    try:
      mesh = extract(field_of(self.inputs.predict, z, self.inputs.dataset.info), self.resolution)[0]
    except (BadData, Diverged) as fault:
      mesh, facts[f"surface@{k}"] = None, fault.what
    if mesh is not None:
      facts[f"mesh@{k}"] = f"{file_stem(index, name)}_{k}.glb"
      export(mesh, self.inputs.out_dir / facts[f"mesh@{k}"], name=name)
    if shape is None:
      return []
    value, kind = None, MEASURES["chamfer_mean_unsquared"]
    if mesh is not None:
      clouds = [sample_surface(m, CLOUD, np.random.default_rng((self.seed, index, i))) for i, m in enumerate((mesh, shape.mesh()))]
      value = float(evaluate(kind, match(*clouds)))
    return [Metric(f"chamfer_mean_unsquared@{k}", value, None, None, CLOUD, self.seed, None, "lower",
                   f"half the sum of the two mean distances, {CLOUD:,} points of each surface")]

  def _sheet(self, name: str, index: int, given: Sequence[np.ndarray], rows: Sequence[Sequence[np.ndarray]]) -> str:
    columns, side = max(len(given), len(rows[0])), given[0].shape[0]
    blank = np.ones((side, side, 3), np.float32)
    lines = [np.concatenate([*line, *[blank] * (columns - len(line))], axis=1) for line in (given, *rows)]
    file = f"{file_stem(index, name)}.png"
    Image.fromarray(eight_bits(np.concatenate(lines))).save(self.inputs.out_dir / file)
    return file


def pixels_of(view: View, camera: Mapping) -> tuple[Rays, np.ndarray, np.ndarray]:
  """Every pixel of a picture: rays (n,) through the middles, rgb (n, 3) premultiplied and alpha (n,), float32.

  camera: "near" and "far".
  """
  width, height = view.camera.size
  place = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2) + 0.5
  rays = CameraRig([view.camera], camera).rays(np.zeros(len(place), np.int32), place, label=False)
  pixels = view.pixels().reshape(-1, 4).astype(np.float32) / np.float32(65535)
  return rays, pixels[:, :3], pixels[:, 3]


def _words(inputs: EvaluationInput, split: str) -> str:
  width = inputs.dataset.info["camera"]["width"]
  return f"{split} {width}x{width}, white, sRGB"


def _over_shapes(rows: Sequence[tuple[Row, list[Metric], list[Metric]]], seed: int, words: str) -> list[Metric]:
  """Every figure over the shapes: of the prediction, the mean code, what is gained on it, and the same of the nearest shape."""
  out = []
  for others, subject, gain in ((2, "mean_code", "improvement"), (1, "nearest_training_shape", "improvement_on_nearest")):
    plain = [dataclasses.replace(row[0], baseline=tuple(row[others])) for row in rows]
    for metric in summarise(plain, seed):
      if others == 1 and metric.subject == "prediction":
        continue
      named = {"nearest_training_shape": subject, "improvement": gain}.get(metric.subject, "prediction")
      figure, slash, statistic = metric.name.partition("/")
      out.append(dataclasses.replace(metric, name=f"{figure} [{words}]{slash}{statistic}", subject=named))
  return out
