"""Learning curves out of a run's metrics.jsonl: one series a scalar, thinned without losing its extremes."""

import dataclasses
import pathlib

import numpy as np

from fields3d.core.errors import BadData
from fields3d.core.strict_json import loads

NUM_POINTS = 400  # Of a series, at most.
_NOT_CURVES = ("step", "time")


@dataclasses.dataclass(frozen=True)
class Series:
  """A scalar over the run: step (n,), in steps or another `unit`, and value (n,), by rising step."""
  name: str
  step: np.ndarray
  value: np.ndarray
  unit: str = "step"

  def to_json(self) -> dict:
    """Plain values; seven digits are enough to look at."""
    return {"name": self.name, "unit": self.unit, "step": self.step.tolist(),
            "value": [float(f"{v:.7g}") for v in self.value]}


@dataclasses.dataclass(frozen=True)
class Curves:
  """The series, losses first; what the training noted; what could not be read."""
  series: list[Series]
  notes: list[str]
  warnings: list[str]


def read_curves(path: pathlib.Path) -> Curves:
  """Every scalar of a metrics.jsonl, whose lines are objects with "step" or "note". A missing file has none.

  A step that stands twice counts by its last line. Lines that are no such object (a killed process may leave half a
  line) are left out and counted.
  """
  if not path.is_file():
    return Curves([], [], [])
  table, notes, broken = {}, [], 0
  for i, line in enumerate(path.read_text("utf-8", errors="replace").splitlines()):
    try:
      row = loads(line, f"{path}:{i + 1}")
      if "note" in row:
        notes.append(str(row["note"]))
        continue
      step = int(row["step"])
    except (BadData, TypeError, KeyError, ValueError):
      broken += 1
      continue
    for name, value in row.items():
      if name not in _NOT_CURVES and isinstance(value, (int, float)) and not isinstance(value, bool):
        table.setdefault(name, {})[step] = value
  names = sorted(table, key=lambda name: ("loss" not in name, name))
  series = [thin(Series(name, *_columns(table[name])), NUM_POINTS) for name in names if len(table[name]) > 1]
  return Curves(series, notes, [f"{broken} lines of {path.name} are not readable and are left out"] if broken else [])


def _columns(values: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
  steps = sorted(values)
  return np.array(steps, np.int64), np.array([values[s] for s in steps], np.float64)


def thin(series: Series, num: int) -> Series:
  """At most `num` points: the lowest and the highest of each of num // 2 - 1 runs of neighbours, and both ends.

  >>> thin(Series("loss", np.arange(1000), np.arange(1000.0)), 10).step.tolist()
  [0, 249, 250, 499, 500, 749, 750, 999]
  """
  n = len(series.step)
  if n <= num:
    return series
  kept = {0, n - 1}
  for part in np.array_split(np.arange(n), num // 2 - 1):
    kept |= {int(part[np.argmin(series.value[part])]), int(part[np.argmax(series.value[part])])}
  index = np.array(sorted(kept))
  return dataclasses.replace(series, step=series.step[index], value=series.value[index])
