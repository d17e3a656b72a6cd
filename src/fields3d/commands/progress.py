"""How far a long command is: a bar on a terminal, a plain line every few seconds in a log."""

import sys
import time
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fields3d.training.logging import duration


class Counter:
  """Counts finished things, fractions included, with their rate and the time left.

  Args:
    what: the things' name. total: how many there are.
    stream: where to; a terminal gets a bar. every: seconds between lines elsewhere.
  """

  def __init__(self, what: str, total: int, stream: TextIO | None = None, every: float = 10.0):
    self._what, self._total, self._every, self._stream = what, total, every, stream or sys.stderr
    self._begin = self._said = time.monotonic()
    self._bar = None
    if self._stream.isatty():
      self._bar = Progress(TextColumn(what), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
                           console=Console(file=self._stream))
      self._task = self._bar.add_task("", total=total)

  def __enter__(self) -> Self:
    if self._bar:
      self._bar.start()
    return self

  def __exit__(self, *error) -> None:
    if self._bar:
      self._bar.stop()

  def at(self, done: float) -> None:
    """So many are done."""
    now = time.monotonic()
    rate = done / max(now - self._begin, 1e-9)
    pace = f"{rate:.3g}/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.3g} s each"
    if self._bar:
      self._bar.update(self._task, completed=done, description=f"{done:.0f}/{self._total} {pace}")
    elif done >= self._total or now - self._said >= self._every:
      self._said = now
      left = duration((self._total - done) / max(rate, 1e-9))
      print(f"{self._what} {done:.0f}/{self._total} {pace} ETA {left}", file=self._stream, flush=True)
