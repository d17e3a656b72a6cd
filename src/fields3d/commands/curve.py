"""Quality against training time: every kept checkpoint of a run measured on a few views."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core.errors import MissingInput, UsageFault


def measure_curve(workdir: pathlib.Path, sections: Mapping[str, Mapping], num_views: int,
                  seed: int | None, overrides: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
  """The mean PSNR of `num_views` views at every checkpoint that is kept, but the untrained one of step 0.

  Args:
    sections: the config's `evals`; the first evaluator of views says which split, background and supersampling.
    overrides: of `open_run`.

  Returns:
    {"name": the figure with its protocol, "points": [{"step", "seconds" (of training), "value", "low", "high", "n"}]}.

  Raises:
    UsageFault: no evaluator is one of views. MissingInput: no checkpoint, or no record of times.
  """
  from fields3d.commands.rundir import open_steps
  from fields3d.core.config import build
  from fields3d.evaluation import EVALUATORS
  from fields3d.evaluation.results import EvaluationInput
  from fields3d.training.manifest import steps
  section = next((s for s in sections.values() if s.get("name") == "views"), None)
  if section is None:
    raise UsageFault("--curve", "the config has no evaluator of views", "add one to evals, or leave --curve out")
  evaluator = build(EVALUATORS, {**section, "max_views": num_views, "metrics": ("psnr",), "pictures": 0}, "evals")
  found, name, points = training_seconds(workdir), "", []
  for opened in open_steps(workdir, [step for step in steps(workdir / "checkpoints") if step], overrides):
    metric = evaluator(EvaluationInput(opened.predict, opened.dataset, workdir, opened.step, seed)).metrics[0]
    name = metric.name
    points.append({"step": opened.step, "seconds": round(float(np.interp(opened.step, *found)), 1),
                   "value": metric.value, "low": metric.low, "high": metric.high, "n": metric.n})
  if not points:
    raise MissingInput(workdir / "checkpoints", "holds no finished checkpoint", "let the train command reach its first")
  return {"name": f"{name} against training seconds", "points": points}


def training_seconds(workdir: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Steps (n,), from 0, and the wall-clock seconds (n,) that training had taken when each was recorded.

  A start is told by its TensorBoard file; compiling counts, and pauses between an interrupted start's last record and
  the next start do not. Seconds are whole at starts.

  Raises:
    MissingInput: metrics.jsonl or tb/ is missing or empty.
  """
  from fields3d.training.logging import read_metrics
  columns = read_metrics(workdir)
  starts = sorted(int(path.name.split(".")[3]) for path in (workdir / "tb").glob("events.out.tfevents.*"))
  if not starts:
    raise MissingInput(workdir / "tb", "no record of when training started", "keep the run directory whole")
  if not len(columns["step"]):
    raise MissingInput(workdir / "metrics.jsonl", "holds no step yet", "let the training log its first (train.log_every)")
  start = np.maximum(np.searchsorted(starts, columns["time"], side="right") - 1, 0)  # which one a record belongs to
  since, before = columns["time"] - np.array(starts)[start], 0.0
  seconds = np.zeros(len(since))
  for k in np.unique(start):
    seconds[start == k] = before + since[start == k]
    before = seconds[start == k].max()
  return np.concatenate([[0], columns["step"]]), np.concatenate([[0.0], seconds])


def print_curve(record: Mapping[str, Any]) -> None:
  """The table: step, training seconds, value with its interval."""
  from rich.console import Console
  from rich.table import Table

  from fields3d.evaluation.report_tables import number
  table = Table("step", "training seconds", "value", "95% interval")
  for column in table.columns:
    column.justify = "right"
  for p in record["points"]:
    interval = "" if p["low"] is None else f"\\[{number(p['low'])}, {number(p['high'])}]"
    table.add_row(f"{p['step']:,}", f"{p['seconds']:,.0f}", number(p["value"]), interval)
  console = Console()
  console.print(record["name"], markup=False, highlight=False, soft_wrap=True)
  console.print(table, highlight=False)
