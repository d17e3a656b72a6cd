"""Of what use a run's shapes are: shares of sound, printable and standing meshes, beside those of real shapes."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from fields3d.core.config import Count, Fraction, Index, Positive, Range
from fields3d.core.errors import BadData, Diverged, UsageFault
from fields3d.core.progress import progress
from fields3d.core.task import field_of, lookup
from fields3d.core.types import Mesh
from fields3d.evaluation.results import Evaluation, EvaluationInput, Evaluator, Metric, Row
from fields3d.evaluation.samples import LazyMeshes, cleaned, draw_meshes, reference_meshes
from fields3d.extraction.sparse import extract
from fields3d.metrics.printability import ANGLE, printability
from fields3d.metrics.quality import CHECKS, Census, census
from fields3d.metrics.stability import TOLERANCE, stability
from fields3d.metrics.statistics import bootstrap_interval, wilson_interval

Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Figure:
  """A number of every mesh, and how a set is summarised. meaning: may name settings of `Measures` in braces."""
  statistic: Literal["mean", "median"]
  better: Literal["lower", "higher"]
  meaning: str


FIGURES: Mapping[str, Figure] = {
    "faces": Figure("median", "lower", "faces"),
    "components": Figure("mean", "lower", "sets of faces joined by edges"),
    "wall": Figure("median", "higher", "percentile {percentile:g} of the inner distance (along the inward normal, of "
                   "{points} points uniform by area)"),
    "smallest_feature": Figure("median", "higher", "the least inner distance of {points} points"),
    "overhang": Figure("mean", "lower", "share of the area that leans by more than {angle:g} degrees from the vertical, "
                       "off the build plate, built along +Y"),
    "margin": Figure("median", "higher", "signed distance of the centre of mass to the support polygon's border, y up, "
                     "contact within {tolerance:g} of the height"),
}
STANDS = "the centre of mass (solid and uniform where closed, else a sheet) is over the support polygon, y up"


@dataclasses.dataclass(frozen=True)
class Measures:
  """How meshes are judged: points and percentile of the wall thickness, angle of overhangs, contact tolerance."""
  crossings: bool = True
  points: int = 2000
  percentile: float = 5.0
  angle: float = ANGLE
  tolerance: float = TOLERANCE
  seed: int = 0
  up: int = 1


def judge(mesh: Mesh, how: Measures) -> dict[str, Any]:
  """Everything that one mesh is told by, as plain values: its census, printability and stability.

  Raises:
    BadData: it has no faces or no area.
  """
  found = census(mesh, how.crossings)
  printed = printability(mesh, found, how.points, how.seed, how.percentile, how.up, how.angle)
  rests = stability(mesh, found.closed, how.up, how.tolerance)
  return {**dataclasses.asdict(found), "wall": printed.wall, "smallest_feature": printed.smallest_feature,
          "wall_seen": printed.seen, "overhang": printed.overhang, "stands": rests.stands, "margin": rests.margin,
          "tilt": rests.angle, "mass": rests.mass}


def checks(facts: Facts | None) -> dict[str, bool | None]:
  """The answers to all yes-or-no questions; to a mesh that is missing (None), the bad ones."""
  if facts is None:
    return {name: not check.good for name, check in CHECKS.items()} | {"stands": False}
  found = Census(**{field.name: facts[field.name] for field in dataclasses.fields(Census)})
  return {**{name: check.of(found) for name, check in CHECKS.items()}, "stands": facts["stands"]}


def set_metrics(found: Sequence[Facts | None], control: Sequence[Facts | None], how: Measures,
                words: str) -> list[Metric]:
  """Shares with Wilson intervals and figures with BCa intervals over a set, the same of a control beside.

  Args:
    found, control: facts of each mesh, None where there is none; no control where it is empty.
    words: what was measured and what the control is, for the protocol.
  """
  mine, theirs = [checks(one) for one in found], [checks(one) for one in control]
  out = []
  for name in mine[0] if mine else ():
    answers, real = ([row[name] for row in rows if row[name] is not None] for rows in (mine, theirs))
    if not answers or (name == "self_intersecting" and not how.crossings):
      continue
    low, high = wilson_interval(sum(answers), len(answers))
    check = CHECKS.get(name)
    better = "higher" if check is None or check.good else "lower"
    meaning = STANDS if check is None else check.meaning
    out.append(Metric(f"{name}/share", sum(answers) / len(answers), low, high, len(answers), how.seed,
                      sum(real) / len(real) if real else None, better,
                      f"share of meshes of which: {meaning}; Wilson interval; {words}"))
  for name, figure in FIGURES.items():
    values, real = (np.array([row[name] for row in rows if row is not None and row[name] is not None], np.float64)
                    for rows in (found, control))
    statistic = getattr(np, figure.statistic)
    low, high = bootstrap_interval(values, statistic, seed=how.seed) or (None, None)
    out.append(Metric(f"{name}/{figure.statistic}", float(statistic(values)) if len(values) else None, low, high,
                      len(values), how.seed, float(statistic(real)) if len(real) else None, figure.better,
                      f"{figure.meaning.format(**vars(how))}; over {len(values)} of {len(found)} meshes, BCa bootstrap; "
                      f"{words}"))
  return out


def quality(num: Count = 64, resolution: Count = 128, split: Literal["train", "val", "test"] = "train",
            references: Count = 64, crossings: bool = True, points: Count = 2000, percentile: Annotated[float, Range(ge=0, le=100)] = 5.0,
            angle: Positive = ANGLE, tolerance: Positive = TOLERANCE, pred: str = "sdf", specks: Fraction = 0.0,
            seed: Index = 0) -> Evaluator:
  """Judges the shapes that a run draws, or, of a task that cannot be sampled, its reconstructed training shapes.

  The model's frame has +Y up; lengths are in that frame.

  Args:
    num: shapes drawn or, at most, reconstructed. resolution: grid nodes per axis of their extraction.
    split: whose true surfaces are the control; references: at most so many of them.
    crossings: also look for self-intersections, which takes most of the time.
    points, percentile: of the wall thickness. angle: of overhangs, degrees. tolerance: of contacts, of the height.
    specks: pieces of a draw below this share of its largest piece's area are taken away.
    seed: of draws, points and intervals; `EvaluationInput.seed` replaces it.
  """
  settings = dict(locals())

  def run(inputs: EvaluationInput) -> Evaluation:
    chosen = seed if inputs.seed is None else inputs.seed
    how = Measures(crossings, points, percentile, angle, tolerance, chosen)
    sampled = "sample" in inputs.predict
    meshes = draw_meshes(inputs, num, resolution, chosen, pred) if sampled else _reconstructed(inputs, num, resolution, pred)
    meshes, done = cleaned(meshes, specks)
    facts = [None if mesh is None else facts for mesh, facts in _judged(meshes, how, "meshes judged")]
    total = len(inputs.dataset.shapes(split))
    real = reference_meshes(inputs.dataset, split, min(references, total) if total else None, chosen)
    control = [facts for _, facts in _judged(real, how, "real meshes judged")]
    what = "drawn shapes" if sampled else "reconstructed training shapes (the task cannot be sampled)"
    words = (f"{len(facts)} {what}, {resolution} nodes an axis, one without a surface counting against every share; "
             f"control: {len(control)} true surfaces of split {split!r}")
    rows = [Row(f"{'sample' if sampled else 'train'} {i}", "", i, meshes.problems.get(i, "ok"), facts=one or {})
            for i, one in enumerate(facts)]
    return Evaluation("quality", set_metrics(facts, control, how, words), rows, done + _warnings(facts, control),
                      settings | {"seed": chosen}, "sample" if sampled else "shape", "real shapes")

  return run


def _judged(meshes: Sequence[Mesh | None], how: Measures, what: str) -> Iterator[tuple]:
  """Yields (mesh, its facts or None)."""
  with progress() as show:
    for i in range(len(meshes)):
      mesh = meshes[i]
      yield mesh, None if mesh is None else judge(mesh, how)
      show(what, i + 1, len(meshes))


def _reconstructed(inputs: EvaluationInput, num: int, resolution: int, pred: str) -> LazyMeshes:
  """The surfaces of the first training shapes' fitted codes."""
  code = lookup(inputs.predict, "code", "evals.quality: the task predicts neither 'sample' nor")
  total = min(num, len(inputs.dataset.shapes("train")))
  if not total:
    raise UsageFault("evals.quality", "the task cannot be sampled, and the data have no training shapes",
                     "leave this evaluator out")

  def read(index: int) -> Mesh | None:
    try:
      return extract(field_of(inputs.predict, code(index), inputs.dataset.info, pred, "evals.quality.pred"),
                     resolution)[0]
    except (BadData, Diverged) as fault:
      meshes.problems[index] = fault.what
      return None

  meshes = LazyMeshes(total, read)
  return meshes


def _warnings(facts: Sequence[Facts | None], control: Sequence[Facts]) -> list[str]:
  found = [one for one in facts if one is not None]
  counts = [(len(facts) - len(found), len(facts), "shapes have no surface"),
            (sum(not one["closed"] for one in found), len(found),
             "shapes do not close: their walls are of the rays that end, their mass is a sheet's"),
            (sum(not one["closed"] for one in control), len(control),
             "real shapes do not close: likewise")]
  return [f"{count} of {total} {what}" for count, total, what in counts if count]
