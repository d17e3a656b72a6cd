"""How far an evaluator is with what it counts: bars on a terminal, in a log a plain line every ten seconds."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 10.0  # seconds between lines


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
  """Yields (what, done, total) -> None, a bar on a terminal for each thing that is counted, lines elsewhere.

  >>> with progress() as show:
  ...   show("draws", 1, 2)
  """
  console = Console(stderr=True)
  if not console.is_terminal:
    yield _lines()
    return
  columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
  with Progress(*columns, console=console, transient=True) as bar:
    tasks: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
      if what not in tasks:
        tasks[what] = bar.add_task(what, total=total)
      bar.update(tasks[what], completed=done)

    yield show


def _lines() -> Callable[[str, int, int], None]:
  """Says how far each thing is where its last line, or its beginning, is so long ago."""
  begun: dict[str, tuple[float, int]] = {}
  said: dict[str, float] = {}

  def show(what: str, done: int, total: int) -> None:
    now = time.monotonic()
    start, first = begun.setdefault(what, (now, done))
    if now - said.setdefault(what, now) < _EVERY:
      return
    said[what] = now
    rate = (done - first) / (now - start)
    left = f", {(total - done) / rate:.0f} s to go" if rate else ""
    print(f"{what}: {done:,} of {total:,}, {rate:.3g} a second{left}", file=sys.stderr, flush=True)

  return show
