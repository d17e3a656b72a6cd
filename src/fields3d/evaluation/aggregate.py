"""From one row per shape or view to figures over the set: means, medians, intervals, paired comparisons."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fields3d.evaluation.results import Metric, Row, Subject
from fields3d.metrics.statistics import bootstrap_interval

STATISTICS = {"mean": np.mean, "median": np.median}


def summarise(rows: Sequence[Row], seed: int, unit: str = "shape") -> list[Metric]:
  """Every metric over the rows: "<metric>/mean" and "/median", of the prediction, the baseline, the improvement.

  A row without a value (a failed shape has no distances) is left out of that metric, and n says so. A set of one row
  gives that row's own metrics (a shape's have intervals over its points). unit: what a row is.
  """
  if len(rows) == 1:
    return [*rows[0].metrics, *(dataclasses.replace(m, subject="nearest_training_shape") for m in rows[0].baseline)]
  out = []
  for k, metric in enumerate(rows[0].metrics):
    floors = [row.metrics[k].floor for row in rows]
    ours = _values([row.metrics[k] for row in rows])
    out += _over_rows(metric, ours, floors, "prediction", seed, unit)
    if all(row.baseline for row in rows):
      theirs = _values([row.baseline[k] for row in rows])
      out += _over_rows(metric, theirs, floors, "nearest_training_shape", seed, unit)
      gain = theirs - ours if metric.better == "lower" else ours - theirs
      out += _over_rows(dataclasses.replace(metric, better="higher"), gain, [], "improvement", seed, unit)
  return out


def _values(metrics: Sequence[Metric]) -> np.ndarray:
  """The values (rows,), NaN where there is none."""
  return np.array([np.nan if metric.value is None else metric.value for metric in metrics], np.float64)


def _over_rows(metric: Metric, values: np.ndarray, floors: Sequence[float | None], subject: Subject, seed: int,
               unit: str) -> list[Metric]:
  floors = [floor for floor in floors if floor is not None]
  known = values[~np.isnan(values)]
  out = []
  for name, statistic in STATISTICS.items():
    interval = bootstrap_interval(known, statistic, seed=seed)
    low, high = interval or (None, None)
    out.append(dataclasses.replace(
        metric, name=f"{metric.name}/{name}", value=float(statistic(known)) if len(known) else None, low=low, high=high,
        n=len(known), seed=seed, floor=float(statistic(floors)) if len(floors) else None, subject=subject,
        protocol=f"{metric.protocol}; over {len(known)} of {len(values)} {unit}s, BCa bootstrap over {unit}s"))
  return out
