"""Bars on a terminal for what an evaluator counts; nothing in a log."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
  """Yields (what, done, total) -> None, a bar on a terminal for each thing that is counted."""
  console = Console(stderr=True)
  columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
  with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
    tasks: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
      if what not in tasks:
        tasks[what] = bar.add_task(what, total=total)
      bar.update(tasks[what], completed=done)

    yield show
