"""How far long work is: bars on a terminal, in a log a plain line every ten seconds."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_EVERY = 10.0  # seconds between two lines


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float, int], None]]:
  """Yields (what, done, total) -> None, for each thing that is counted a bar on a terminal, lines elsewhere.

  A thing that takes less than ten seconds leaves no line; one that had a line has a last one when all is done.

  >>> with progress() as show:
  ...   show("draws", 1, 2)
  """
  if not sys.stderr.isatty():
    yield _lines()
    return
  from rich.console import Console
  from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
  columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
  with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
    tasks: dict[str, int] = {}

    def show(what: str, done: float, total: int) -> None:
      if what not in tasks:
        tasks[what] = bar.add_task(what, total=total)
      bar.update(tasks[what], completed=done)

    yield show


def _lines() -> Callable[[str, float, int], None]:
  """Says how far each thing is where its last line, or its beginning, is so long ago."""
  begun: dict[str, tuple[float, float]] = {}
  said: dict[str, float] = {}

  def show(what: str, done: float, total: int) -> None:
    now = time.monotonic()
    start, first = begun.setdefault(what, (now, done))
    since = now - said.get(what, start)
    if since < _EVERY and (done < total or what not in said):
      return
    said[what] = now
    rate = (done - first) / max(now - start, 1e-9)
    pace = "" if not rate else f", {rate:.3g} a second" if rate >= 1 else f", {1 / rate:.3g} s each"
    left = f", {(total - done) / rate:.0f} s to go" if rate and done < total else ""
    print(f"{what}: {int(done):,} of {total:,}{pace}{left}", file=sys.stderr, flush=True)

  return show
