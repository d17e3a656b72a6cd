"""Metrics and other tables on the console."""

from collections.abc import Sequence

from fields3d.evaluation.report_tables import interval, number
from fields3d.evaluation.results import Metric
from fields3d.evaluation.tables import Table, by_name, other_subjects

_WIDTH = 128  # Where there is no terminal to ask.


def print_metrics(title: str, metrics: Sequence[Metric], protocols: bool = False, control: str = "floor") -> None:
  """Prints one row a metric: value, interval, control, n; a baseline and the improvement where there are any.

  Args:
    protocols: whether to print each metric's protocol below. control: what the metrics' floor is called.
  """
  from rich.markup import escape
  from rich.table import Table as Grid
  rows = by_name(metrics)
  others = other_subjects(rows)
  grid = Grid("metric")
  for column in ("value", "95% interval", control, "n", *(other.replace("_", " ") for other in others)):
    grid.add_column(escape(column), justify="right", no_wrap=True)
  for name, row in rows.items():
    shown, own = row.get("prediction"), row.get("prediction") or next(iter(row.values()))
    cells = [number(shown.value), interval(shown)] if shown else ["", ""]
    cells += [number(own.floor), f"{own.n:,}", *(_cell(row.get(other)) for other in others)]
    grid.add_row(escape(name), *map(escape, cells))
  console = _console()
  console.print(title, markup=False, highlight=False, soft_wrap=True)
  console.print(grid, highlight=False)
  if protocols:
    for name, row in rows.items():
      own = row.get("prediction") or next(iter(row.values()))
      console.print(f"{name} (seed {own.seed}): {own.protocol}", markup=False, highlight=False, soft_wrap=True)


def print_table(table: Table) -> None:
  """Prints a table with its notes below."""
  from rich.markup import escape
  from rich.table import Table as Grid
  grid, console = Grid(escape(table.columns[0])), _console()
  for column in table.columns[1:]:
    grid.add_column(escape(column), justify="right")
  for line in table.lines:
    grid.add_row(escape(line.head), *map(escape, line.cells))
  console.print(table.caption, markup=False, highlight=False, soft_wrap=True)
  console.print(grid, highlight=False)
  for note in table.footer:
    console.print(note, markup=False, highlight=False, soft_wrap=True)


def _console():
  from rich.console import Console
  console = Console()
  return console if console.is_terminal else Console(width=_WIDTH)


def _cell(metric: Metric | None) -> str:
  return "" if metric is None else f"{number(metric.value)} {interval(metric)}".strip()
