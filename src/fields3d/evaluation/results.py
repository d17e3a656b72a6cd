"""What an evaluator is given and what it hands back; all of it is plain data that strict JSON holds."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from fields3d.core.types import Dataset

Subject = Literal["prediction", "nearest_training_shape", "improvement", "mean_code", "improvement_on_nearest"]


@dataclasses.dataclass(frozen=True)
class Metric:
  """One figure with what is needed to judge it.

  name: the convention is part of it, of images the protocol in brackets too; over a set it ends in "/mean" or
    "/median".
  value: None where it is undefined (no distance leads to an empty prediction).
  low, high: its 95% bootstrap interval; None where there is none (see the protocol).
  n: how many independent things the interval rests on: shapes or views of a set, or points of one shape.
  floor: the same metric of the truth against itself, sampled anew: no method measures better than this, on average;
    None where the truth is not sampled.
  better: which way is better.
  protocol: everything else that somebody needs to measure the same.
  subject: what was measured: the prediction, a baseline, or the prediction's improvement on it (positive is better).
    Where there are two baselines, "improvement" is on the other than the nearest training shape.
  """
  name: str
  value: float | None
  low: float | None
  high: float | None
  n: int
  seed: int
  floor: float | None
  better: Literal["lower", "higher"]
  protocol: str
  subject: Subject = "prediction"


def bare(name: str) -> str:
  """A metric's name without the protocol in brackets.

  >>> bare("psnr [mic test 200x200, white, sRGB]/mean")
  'psnr/mean'
  """
  return re.sub(r" \[.*\]", "", name)


@dataclasses.dataclass(frozen=True)
class Row:
  """One shape's or one view's results.

  status: "ok", or why there is no mesh or no image.
  metrics: over the shape's points or the view's pixels, the same for every row. baseline: of the baseline, empty
    without one.
  facts: of the extracted mesh and the work (vertices, faces, watertight, components, seconds, baseline's name...).
  files: kind -> path relative to `out_dir`. Of shapes: "mesh", "picture", "truth_picture", "preview",
    "truth_preview"; of views: "prediction", "comparison".
  """
  name: str
  label: str
  index: int
  status: str
  metrics: tuple[Metric, ...] = ()
  baseline: tuple[Metric, ...] = ()
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  files: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EvaluationInput:
  """What an evaluator may use.

  predict: name -> function, the task's, with parameters bound. out_dir: an existing directory for its files.
  seed: replaces the evaluator's own; None leaves it. update: () -> (the training step, its arguments), to be compiled and
  not run; None where there is none.
  """
  predict: Mapping[str, Callable]
  dataset: Dataset
  out_dir: pathlib.Path
  step: int
  seed: int | None = None
  update: Callable[[], tuple[Callable, tuple]] | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What an evaluator found.

  settings: its own arguments, for the record. unit: what a row is ("shape", "view", "sample", ...).
  control: what every metric's `floor` is, in a word or a few for the head of a column ("floor", "real control").
  """
  name: str
  metrics: Sequence[Metric]
  rows: Sequence[Row]
  warnings: Sequence[str] = ()
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  unit: str = "shape"
  control: str = "floor"

  def to_json(self) -> dict[str, Any]:
    """As plain values. A row's metrics leave out what they share with the set's: protocol and seed."""
    def brief(metrics):
      return {m.name: {"value": m.value, "low": m.low, "high": m.high, "floor": m.floor, "n": m.n, "better": m.better}
              for m in metrics}

    rows = [{**vars(row), "metrics": brief(row.metrics), "baseline": brief(row.baseline)} for row in self.rows]
    return {"name": self.name, "unit": self.unit, "control": self.control, "settings": dict(self.settings),
            "warnings": list(self.warnings), "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
            "rows": rows}


Evaluator = Callable[[EvaluationInput], Evaluation]
