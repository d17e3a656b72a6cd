"""Geometry of reconstructed shapes: field, mesh, quality, metrics against the truth, an optional baseline."""

import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import jax
import numpy as np

from fields3d.core.config import Count, Index, Positive, Range
from fields3d.core.errors import BadData, Diverged, UsageFault
from fields3d.core.task import field_of, lookup
from fields3d.core.types import Field, Mesh, Shape
from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.geometry import DEFAULT_GROUPS, MEASURES, check_groups, compare, evaluate, match
from fields3d.evaluation.preview import write_previews
from fields3d.evaluation.protocols import measure_meshes, mesh_protocol
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Row
from fields3d.extraction.export import export
from fields3d.extraction.sparse import extract
from fields3d.geometry.meshes import inspect_mesh, sample_surface

HALVES = {"left": (0, -1), "front": (2, 1), "bottom": (1, -1)}  # Axis and sign of the half that is observed.
SELECTION_POINTS = 2048
PREVIEW_FACES = 300_000  # Over all previews of an evaluation: what a report can hold.


def geometry(pred: str = "sdf", split: Literal["train", "val", "test"] = "train",
             codes: Literal["code", "reconstruct", "encode"] = "code", resolution: Count = 128, points: Count = 30_000,
             iou_points: Count = 100_000, thresholds: Annotated[tuple[float, ...], Range(gt=0)] = (0.01, 0.02),
             max_shapes: Count | None = None, baseline: Literal["none", "nearest_training_shape"] = "none",
             observe: Literal["all", "left", "front", "bottom"] = "all", observations: Count = 16_384,
             frame: Literal["normalised", "world"] = "normalised", picture: Count = 256, seed: Index = 0,
             metrics: tuple[str, ...] = DEFAULT_GROUPS, max_distance: Positive | None = None,
             protocol: str | None = None) -> Evaluator:
  """Evaluates the surfaces of a split's first shapes against their truth.

  Args:
    pred: the predict function that is the field. split: whose shapes.
    codes: "code" asks for the fitted codes (training shapes), "reconstruct" fits new ones to each shape's samples of
      distances, "encode" encodes points on each shape's true surface, uniform by area.
    resolution: grid nodes per axis of the extraction.
    points, iou_points, thresholds: see `geometry.compare`. frame: in which distances are given.
    max_shapes: how many; all when None.
    baseline: "nearest_training_shape" also measures the best of the training shapes' true surfaces, chosen for each
      shape by its chamfer distance to the truth: what perfect retrieval would score.
    observe: which half of the samples, or of the surface, is seen; a half makes it completion. observations: how many
      samples or points.
    picture: pixels of a picture's side.
    seed: of every random choice; `EvaluationInput.seed` replaces it.
    metrics: groups of metrics, of `geometry.ALL_GROUPS`; may be empty. max_distance: see `geometry.compare`.
    protocol: a name of `protocols.MESH_PROTOCOLS`, whose figures are added, "[name]" behind theirs.
  """
  settings = dict(locals())
  check_groups(metrics, "evals.geometry.metrics")
  if protocol is not None:
    mesh_protocol(protocol, "evals.geometry.protocol")
  elif not metrics:
    raise UsageFault("evals.geometry.metrics", "no metrics are asked for", "name a group or a protocol")
  if codes == "code" and observe != "all":
    raise UsageFault("evals.geometry.observe", "a fitted code has seen the whole shape", "set codes=reconstruct or encode")
  if baseline != "none" and split == "train":
    raise UsageFault("evals.geometry.baseline", "would find each training shape itself",
                     "choose split val or test, or baseline none")

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    shapes = list(inputs.dataset.shapes(split))[:max_shapes]
    if not shapes:
      raise UsageFault("evals.geometry.split", f"the dataset has no {split!r} shapes", "name a split that it has")
    if codes == "code" and [s.name for s in shapes] != [s.name for s in list(inputs.dataset.shapes("train"))[:len(shapes)]]:
      raise UsageFault("evals.geometry.codes", f"the shapes of split {split!r} have no fitted codes", 'set codes="reconstruct"')
    make_field = field_maker(inputs.predict, inputs.dataset.info, pred, codes, observe, observations, chosen)
    nearest = Retrieval(inputs.dataset.shapes("train"), chosen) if baseline != "none" else None

    def measure(truth_mesh, mesh, shape, index):
      def truth_inside(x):
        return np.asarray(shape.sdf(x)) < 0

      world = frame == "world"
      found = compare(mesh, truth_mesh, points=points, iou_points=iou_points, thresholds=thresholds, seed=chosen,
                      index=index, truth_inside=truth_inside, frame=shape.frame if world else None, groups=metrics,
                      max_distance=max_distance and max_distance / (shape.frame.scale if world else 1.0))
      if protocol is not None:
        found += measure_meshes(mesh, truth_mesh, protocol, seed=chosen, index=index, truth_inside=truth_inside)
      return found

    rows = []
    for index, shape in enumerate(shapes):
      begin = time.perf_counter()
      mesh, status = _extract(make_field(shape, index), resolution)
      rows.append(_row(shape, index, mesh, status, inputs.out_dir, time.perf_counter() - begin, measure, nearest,
                       picture, max(2000, min(20_000, PREVIEW_FACES // (2 * len(shapes))))))
    return Evaluation("geometry", summarise(rows, chosen), rows, _warnings(rows), settings | {"seed": chosen})

  return run


def _extract(field: Field, resolution: int) -> tuple[Mesh | None, str]:
  """The field's mesh, or None and the reason."""
  try:
    return extract(field, resolution)[0], "ok"
  except (BadData, Diverged) as fault:
    return None, fault.what


def field_maker(predict: Mapping[str, Callable], info: Mapping, pred: str, codes: str, observe: str,
                observations: int, seed: int) -> Callable[[Shape, int], Field]:
  """(shape, index) -> the task's field for that shape, by its fitted code or by one found from samples or a surface."""
  code = lookup(predict, codes, "evals.geometry.codes")

  def make(shape: Shape, index: int) -> Field:
    rng = np.random.default_rng((seed, index))
    if codes == "code":
      z = code(index)
    elif codes == "encode":
      z = code(observed_surface(shape, observe, observations, rng), jax.random.fold_in(jax.random.key(seed), index))
    else:
      x, distance = observed(shape, observe, observations, rng)
      z = code(x, distance, jax.random.fold_in(jax.random.key(seed), index))
    return field_of(predict, z, info, pred, "evals.geometry.pred")

  return make


def observed(shape: Shape, observe: str, num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """`num` of a shape's samples, x (num, 3) and sdf (num,), float32; of one half of space unless `observe` is "all".

  Drawn without replacement where there are enough. A fixed number, so that one compiled program fits every shape.

  Raises:
    UsageFault: no sample lies in that half.
  """
  samples = shape.samples()
  x, sdf = np.asarray(samples["x"], np.float32), np.asarray(samples["sdf"], np.float32)
  kept = np.arange(len(x))
  if observe != "all":
    axis, side = HALVES[observe]
    kept = np.flatnonzero(side * x[:, axis] > 0)
  if not len(kept):
    raise UsageFault("evals.geometry.observe", f"shape {shape.name!r} has no samples in its {observe} half",
                     "observe another")
  pick = rng.choice(kept, num, replace=len(kept) < num)
  return x[pick], sdf[pick]


def observed_surface(shape: Shape, observe: str, num: int, rng: np.random.Generator) -> np.ndarray:
  """`num` points (num, 3) float32 on a shape's true surface, uniform by area; on one half of it unless `observe` is "all".

  Raises:
    UsageFault: none of 8 * num points on the whole surface lies in that half.
  """
  if observe == "all":
    return sample_surface(shape.mesh(), num, rng).points.astype(np.float32)
  axis, side = HALVES[observe]
  points = sample_surface(shape.mesh(), 8 * num, rng).points.astype(np.float32)
  kept = points[side * points[:, axis] > 0]
  if not len(kept):
    raise UsageFault("evals.geometry.observe", f"shape {shape.name!r} has no surface in its {observe} half", "observe another")
  return kept[:num] if len(kept) >= num else kept[rng.integers(len(kept), size=num)]


class Retrieval:
  """The training shape whose true surface is nearest to a given one, by the mean-unsquared chamfer distance."""

  def __init__(self, shapes: Sequence[Shape], seed: int):
    self.shapes, self.seed = list(shapes), seed
    self.clouds = [self._cloud(shape.mesh(), i + 1) for i, shape in enumerate(self.shapes)]

  def __call__(self, truth: Mesh) -> Shape:
    cloud = self._cloud(truth, 0)
    measure = MEASURES["chamfer_mean_unsquared"]
    return self.shapes[int(np.argmin([evaluate(measure, match(other, cloud)) for other in self.clouds]))]

  def _cloud(self, mesh: Mesh, stream: int):
    return sample_surface(mesh, SELECTION_POINTS, np.random.default_rng((self.seed, stream)))


def _row(shape: Shape, index: int, mesh: Mesh | None, status: str, out_dir: pathlib.Path, seconds: float,
         measure: Callable, nearest: Retrieval | None, picture: int, preview_faces: int) -> Row:
  stem = file_stem(index, shape.name)
  truth = shape.mesh()
  facts = {"seconds": round(seconds, 3), "truth_watertight": inspect_mesh(truth).watertight}
  baseline = ()
  if nearest is not None:
    retrieved = nearest(truth)
    facts["nearest_training_shape"] = retrieved.name
    baseline = measure(truth, retrieved.mesh(), shape, index)
  if mesh is None:
    files = write_previews(None, truth, out_dir, stem, picture, preview_faces)
    return Row(shape.name, shape.label, index, status, measure(truth, None, shape, index), baseline, facts, files)
  report = inspect_mesh(mesh)
  facts |= {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "watertight": report.watertight,
            "components": report.components}
  export(mesh, out_dir / f"{stem}.glb", name=shape.name, frame=shape.frame)
  files = {"mesh": f"{stem}.glb"} | write_previews(mesh, truth, out_dir, stem, picture, preview_faces)
  return Row(shape.name, shape.label, index, status, measure(truth, mesh, shape, index), baseline, facts, files)


def file_stem(index: int, name: str) -> str:
  """A file name that is unique by its index and safe whatever the shape is called.

  >>> file_stem(3, "../a chair<b>"), file_stem(4, "椅子")
  ('0003_a_chair_b', '0004_')
  """
  return f"{index:04d}_{re.sub(r'[^A-Za-z0-9-]+', '_', name).strip('_')[:60]}"


def _warnings(rows: Sequence[Row]) -> list[str]:
  def told(what, found):
    names = ", ".join(row.name for row in found[:5]) + (", ..." if len(found) > 5 else "")
    return [f"{len(found)} of {len(rows)} shapes {what}: {names}"] if found else []

  ok = [row for row in rows if row.status == "ok"]
  return (told("failed: scored 0 where higher is better, left out of distances", [r for r in rows if r.status != "ok"])
          + told("have a mesh that is not watertight", [r for r in ok if not r.facts["watertight"]])
          + told("have more than one component", [r for r in ok if r.facts["components"] > 1])
          + told("have a true mesh that is not watertight (their volume is the true signed distance's)",
                 [r for r in rows if not r.facts["truth_watertight"]]))
