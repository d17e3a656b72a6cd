"""Runs side by side: whether their evaluations may be compared, and metric by metric their paired differences."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core.errors import UsageFault
from fields3d.evaluation.records import row_name
from fields3d.evaluation.report_tables import number
from fields3d.evaluation.results import Evaluation, Metric, Row
from fields3d.evaluation.tables import ARROWS, Line, Table
from fields3d.metrics.paired import PairedTest, holm, paired_bootstrap
from fields3d.metrics.statistics import RESAMPLES, bootstrap_interval

# Settings that do not change what a metric measures, or that its protocol says; every other must be the same.
NEUTRAL = ("pred", "baseline", "metrics", "max_shapes", "max_views", "picture", "pictures", "sheets", "tile", "lpips_weights", "weights",
           "emd", "trivial", "crossings", "tpu")
_ELSEWHERE = {"novel_views": {"pictures"}}  # evaluators that mean another thing by a neutral name: there, which views are judged
PAIRED_UNITS = ("shape", "view")  # Rows of these are of the same things in every run; a run's own samples are not.
_COUNTED = re.compile(r"; over [\d,]+ of [\d,]+ \w+, BCa bootstrap over \w+|, [\d,]+ of [\d,]+ \w+(?=\])")
ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Figure:
  """A run's value over the things that all runs share, with its 95% interval; `test` is against the first run."""
  value: float | None
  low: float | None
  high: float | None
  n: int
  test: PairedTest | None = None
  p_holm: float | None = None


@dataclasses.dataclass(frozen=True)
class Compared:
  """One metric of all runs. paired: whether it is of rows that the runs share, else as each run found it."""
  name: str
  better: str
  protocol: str
  paired: bool
  figures: tuple[Figure, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One section of all runs. notes: what to know before reading."""
  section: str
  unit: str
  labels: tuple[str, ...]
  metrics: tuple[Compared, ...]
  notes: tuple[str, ...]

  def to_json(self) -> dict[str, Any]:
    """As plain values."""
    return dataclasses.asdict(self)


def compare_evaluations(section: str, found: Mapping[str, Evaluation], seed: int = 0) -> Comparison:
  """Every metric of several runs' evaluations over the shapes or views that all share, each against the first run.

  A mean over a run's rows is taken again over the shared ones; what a run found of a whole set, without rows, stands as
  it is and has no test. p values are corrected over all tests of the section.

  Args:
    found: the run's label -> its evaluation, the first being the one to compare with. seed: of the resampling.

  Raises:
    UsageFault: they were not measured alike, or share no row.
  """
  labels, evaluations = tuple(found), tuple(found.values())
  notes = [note for label, evaluation in list(found.items())[1:]
           for note in check_alike(section, labels[0], evaluations[0], label, evaluation)]
  rows, counted = shared_rows(section, labels, evaluations) if has_pairs(evaluations) else ([], [])
  notes += counted
  metrics = _paired_metrics(section, labels, evaluations, rows, seed, notes)
  metrics += _set_metrics(evaluations, {m.name for m in metrics}, notes)
  if not metrics:
    raise UsageFault(section, "the runs share no metric", "evaluate them with the same evaluator and metrics")
  return Comparison(section, evaluations[0].unit, labels, tuple(_corrected(metrics)), tuple(notes))


def has_pairs(evaluations: Sequence[Evaluation]) -> bool:
  """Whether every run has rows of things that the others' rows are of too, with metrics."""
  return all(e.unit in PAIRED_UNITS and any(row.metrics for row in e.rows) for e in evaluations)


def check_alike(section: str, first: str, a: Evaluation, second: str, b: Evaluation) -> list[str]:
  """Whether two evaluations measure the same by the same protocol.

  A setting that one of them does not know (another version made it) is noted and left to the protocols. Of figures of
  whole sets, the numbers in protocols may differ: some say what was met while measuring.

  Returns:
    What to know of the difference.

  Raises:
    UsageFault: they do not; it names what differs.
  """
  def refuse(what, x, y):
    raise UsageFault(f"{section} of {first} and {second}", f"{what} differ: {' and '.join(_brief(str(x), str(y)))}",
                     "evaluate both alike, or choose another --evaluator")

  for what, x, y in (("evaluators", a.name, b.name), ("units", a.unit, b.unit)):
    if x != y:
      refuse(what, x, y)
  neutral = set(NEUTRAL) - _ELSEWHERE.get(a.name, set())
  for name in a.settings:
    if name not in neutral and name in b.settings and a.settings[name] != b.settings[name]:
      refuse({"seed": "seeds of points", "split": "splits"}.get(name, f"settings {name}"), a.settings[name],
             b.settings[name])
  unknown = sorted((set(a.settings) ^ set(b.settings)) - set(NEUTRAL))
  notes = [f"only one of {first} and {second} knows the settings {', '.join(unknown)}"] * bool(unknown)
  ours, theirs = protocols(a), protocols(b)
  for name in (name for name in ours if name in theirs):
    if not has_pairs((a, b)) and ours[name] != theirs[name] and _wordless(ours[name]) == _wordless(theirs[name]):
      notes.append(f"{name}: the protocols of {first} and {second} differ in numbers; the first's is shown")
    elif ours[name] != theirs[name]:
      refuse(f"protocols of {name}", *("; ".join(sorted(x - y)) or "no other" for x, y in
                                       ((ours[name], theirs[name]), (theirs[name], ours[name]))))
  return notes


def _wordless(protocols: set[str]) -> set[str]:
  """The protocols without their numbers, and without how many samples failed: of none nothing is said."""
  return {re.sub(r"\d[\d.,]*(e[+-]?\d+)?", "#", re.sub(r" \(\d+ of them failed\)", "", text)) for text in protocols}


def protocols(evaluation: Evaluation) -> dict[str, set[str]]:
  """row's name of a metric -> what its names in brackets and its protocols say, without how many rows there were."""
  found: dict[str, set[str]] = {}
  names = _names(evaluation)
  for metric in evaluation.metrics:
    words = " ".join([*re.findall(r"\[.*\]", _COUNTED.sub("", metric.name)), _COUNTED.sub("", metric.protocol)])
    found.setdefault(row_name(metric.name, names), set()).add(words)
  return found


def _names(evaluation: Evaluation) -> set[str]:
  """Of the rows' metrics."""
  return {metric.name for row in evaluation.rows for metric in row.metrics}


def _brief(*texts: str) -> list[str]:
  """Texts of one line together, each from a little before where they begin to differ.

  >>> _brief("a" * 200 + "b", "a" * 200 + "c") == ["..." + "a" * 40 + "b", "..." + "a" * 40 + "c"], _brief("a", "b")
  (True, ['a', 'b'])
  """
  start = max(len(os.path.commonprefix(texts)) - 40, 0) if max(map(len, texts)) > 160 else 0
  shown = ["..." * (start > 0) + text[start:] for text in texts]
  return [text if len(text) <= 160 else text[:157] + "..." for text in shown]


def shared_rows(section: str, labels: Sequence[str],
                evaluations: Sequence[Evaluation]) -> tuple[list[tuple[Row, ...]], list[str]]:
  """The rows of the same thing in every run, in the first run's order, and what was left out.

  Rows go together by name, or by name and index where a name stands twice in a run.

  Raises:
    UsageFault: the runs have rows but share none, or a shared shape's truth differs.
  """
  unique = all(len({row.name for row in e.rows}) == len(e.rows) for e in evaluations)
  key: Callable[[Row], Any] = (lambda row: row.name) if unique else (lambda row: (row.name, row.index))
  tables = [{key(row): row for row in e.rows} for e in evaluations]
  shared = [k for k in tables[0] if all(k in table for table in tables)]
  if not shared and all(tables):
    unit = evaluations[0].unit
    raise UsageFault(f"{section} of {' and '.join(labels)}", f"the runs share no {unit} (first: {labels[0]} has "
                     f"{evaluations[0].rows[0].name!r}, {labels[1]} has {evaluations[1].rows[0].name!r})",
                     "compare runs on the same data")
  rows = [tuple(table[k] for table in tables) for k in shared]
  for row in rows:
    _check_truth(section, labels, row)
  counts = [len(table) for table in tables]
  notes = [f"{len(shared)} {evaluations[0].unit}s are shared; " + ", ".join(f"{label} has {n}" for label, n in
                                                                           zip(labels, counts))]
  return rows, notes if shared and set(counts) != {len(shared)} else []


def _check_truth(section: str, labels: Sequence[str], row: Sequence[Row]) -> None:
  """The floor of a shape is a figure of its truth and its points alone, so that it tells whether they are the same."""
  first = {metric.name: metric.floor for metric in row[0].metrics}
  for label, other in zip(labels[1:], row[1:]):
    for metric in other.metrics:
      floor = first.get(metric.name)
      if floor is not None and metric.floor is not None and not math.isclose(floor, metric.floor, rel_tol=1e-6):
        raise UsageFault(f"{section} of {labels[0]} and {label}", f"the truth of {other.name!r} or its points differ: the "
                         f"floor of {metric.name} is {number(floor)} and {number(metric.floor)}",
                         "compare runs on the same data, evaluated with the same seed")


def _paired_metrics(section: str, labels: Sequence[str], evaluations: Sequence[Evaluation],
                    rows: Sequence[tuple[Row, ...]], seed: int, notes: list[str]) -> list[Compared]:
  """The metrics that every run's rows have: means over the rows where every run has a value."""
  if not rows:
    return []
  known, out = protocols(evaluations[0]), []
  by_row = [[{m.name: m for m in row.metrics} for row in together] for together in rows]
  names = [m.name for m in rows[0][0].metrics if all(any(m.name in row[k] for row in by_row) for k in range(len(labels)))]
  for name in names:
    values = np.array([[_value(row.get(name)) for row in together] for together in by_row])
    whole = ~np.isnan(values).any(1)
    if not whole.all():
      missing = ", ".join(f"{np.isnan(values[:, k]).sum()} of {label}" for k, label in enumerate(labels)
                          if np.isnan(values[:, k]).any())
      notes.append(f"{name} is over {whole.sum()} of {len(rows)}: no value in {missing}")
    if not whole.any():
      continue
    values, better = values[whole], next(together[0][name].better for together in by_row if name in together[0])
    figures = tuple(Figure(float(column.mean()), *(bootstrap_interval(column, seed=seed) or (None, None)), len(values),
                           paired_bootstrap(values[:, 0], column, seed) if k else None)
                    for k, column in enumerate(values.T))
    out.append(Compared(name, better, "; ".join(sorted(known.get(name, ()))), True, figures))
  return out


def _value(metric: Metric | None) -> float:
  return np.nan if metric is None or metric.value is None else metric.value


def _set_metrics(evaluations: Sequence[Evaluation], paired: set[str], notes: list[str]) -> list[Compared]:
  """The metrics of whole sets, which no row has: each run's own figure, no test."""
  tables = [{_COUNTED.sub("", m.name): m for m in e.metrics if m.subject == "prediction"
             and row_name(m.name, paired) not in paired} for e in evaluations]
  out = []
  for name, metric in tables[0].items():
    if not all(name in table for table in tables):
      continue
    own = [table[name] for table in tables]
    if len({m.floor for m in own}) > 1:
      notes.append(f"{name}: its {evaluations[0].control} differs ({', '.join(number(m.floor) for m in own)}): were the "
                   "runs measured on the same data?")
    out.append(Compared(name, metric.better, metric.protocol, False,
                        tuple(Figure(m.value, m.low, m.high, m.n) for m in own)))
  return out


def _corrected(metrics: Sequence[Compared]) -> list[Compared]:
  """The metrics with p values corrected over all tests."""
  corrected = iter(holm([f.test.p if f.test else None for m in metrics for f in m.figures]))
  return [dataclasses.replace(m, figures=tuple(dataclasses.replace(f, p_holm=next(corrected)) for f in m.figures))
          for m in metrics]


def comparison_table(comparison: Comparison) -> Table:
  """A table with a line for each metric and run; without columns of tests where there are none."""
  tests = sum(f.test is not None and f.test.p is not None for m in comparison.metrics for f in m.figures)
  columns = ("Metric", "Run", "Value [95%]", "n", *("Difference [95%]", "p", "p (Holm)", "") * bool(tests))
  notes: dict[str, int] = {}
  lines = []
  for metric in comparison.metrics:
    mark = notes.setdefault(metric.protocol, len(notes) + 1)
    for k, (label, figure) in enumerate(zip(comparison.labels, metric.figures)):
      cells = [label, f"{number(figure.value)} {_range(figure.low, figure.high)}".strip(), f"{figure.n:,}"]
      cells += _test_cells(metric, figure) * bool(tests)
      lines.append(Line(f"{metric.name} {ARROWS[metric.better]}" if k == 0 else "", (mark,) if k == 0 else (),
                        tuple(cells)))
  said = (f"Differences are from {comparison.labels[0]}, over the {comparison.unit}s that all runs share; intervals are "
          f"95% BCa bootstrap; p by the paired studentised bootstrap of the mean difference ({RESAMPLES:,} resamples), "
          f"Holm's correction over the {tests} tests of this table.") if tests else (
              "No test: these are figures of whole sets, without rows of the same things that could be paired.")
  return Table(comparison.section, columns, tuple(lines), tuple(notes), (said, *comparison.notes))


def _test_cells(metric: Compared, figure: Figure) -> list[str]:
  test = figure.test
  return [""] * 4 if test is None else [f"{number(test.difference)} {_range(test.low, test.high)}".strip(), _p(test.p),
                                        _p(figure.p_holm), verdict(metric, figure)]


def verdict(metric: Compared, figure: Figure) -> str:
  """Whether a run differs from the first: "better" or "worse" where the corrected p is below 0.05, else nothing."""
  if figure.p_holm is None or figure.p_holm >= ALPHA:
    return ""
  return "better" if (figure.test.difference > 0) == (metric.better == "higher") else "worse"


def _range(low: float | None, high: float | None) -> str:
  return "" if low is None else f"[{number(low)}, {number(high)}]"


def _p(value: float | None) -> str:
  """Three digits.

  >>> _p(0.00025), _p(0.5), _p(None)
  ('0.00025', '0.5', '')
  """
  return "" if value is None else f"{value:.3g}"
