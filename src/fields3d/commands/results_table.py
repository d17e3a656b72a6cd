"""Metrics as a table on the console."""

from collections.abc import Sequence

from fields3d.evaluation.report_tables import interval, number
from fields3d.evaluation.results import Metric

_WIDTH = 128  # Where there is no terminal to ask.


def print_metrics(title: str, metrics: Sequence[Metric], protocols: bool = False) -> None:
  """Prints one row a metric: value, interval, floor, n; a baseline and the improvement where there are any.

  Args:
    protocols: whether to print each metric's protocol below.
  """
  from rich.console import Console
  from rich.markup import escape
  from rich.table import Table
  rows = {}
  for metric in metrics:
    rows.setdefault(metric.name, {})[metric.subject] = metric
  compared = any(len(row) > 1 for row in rows.values())
  table = Table("metric")
  for column in ("value", "95% interval", "floor", "n", *["nearest training shape", "improvement"] * compared):
    table.add_column(column, justify="right", no_wrap=True)
  for name, row in rows.items():
    own = row["prediction"]
    cells = [number(own.value), escape(interval(own)), number(own.floor), f"{own.n:,}"]
    if compared:
      cells += [_cell(row.get("nearest_training_shape")), _cell(row.get("improvement"))]
    table.add_row(escape(name), *cells)
  console = Console()
  console = console if console.is_terminal else Console(width=_WIDTH)
  console.print(title, markup=False, highlight=False, soft_wrap=True)
  console.print(table, highlight=False)
  if protocols:
    for name, row in rows.items():
      console.print(f"{name} (seed {row['prediction'].seed}): {row['prediction'].protocol}", markup=False,
                    highlight=False, soft_wrap=True)


def _cell(metric: Metric | None) -> str:
  from rich.markup import escape
  return "" if metric is None else escape(f"{number(metric.value)} {interval(metric)}")
