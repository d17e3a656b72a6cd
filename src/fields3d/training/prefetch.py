"""Batches made ahead by threads of the host, and the share of time in which the device waits for them all the same."""

import collections
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

MOST_IDLE = 0.05  # of the time, above which a run says so
READINGS = 3  # in a row, before it does
_POLL = 0.002  # seconds between two looks at the device while a batch is late


class Prefetch:
  """Yields make(position), make(position + 1), ... made ahead, `threads` at a time, in order.

  `make` must be a pure function; threads + 2 batches at most are made and not yet taken. An exception in `make` is
  raised by `next`, at its place in the order. Close it, or use it as a context manager.

  >>> with Prefetch(lambda position: position * 2, position=3) as batches:
  ...   [batches.next(), batches.next()]
  [6, 8]
  """

  def __init__(self, make: Callable[[int], Any], position: int, threads: int = 1):
    self._make, self._position = make, position
    self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    self._ahead: collections.deque[concurrent.futures.Future] = collections.deque()
    for _ in range(threads + 2):
      self._submit()

  def _submit(self) -> None:
    self._ahead.append(self._pool.submit(self._make, self._position))
    self._position += 1

  def ready(self, seconds: float = 0.0) -> bool:
    """Whether the next batch is there, now or within so many seconds."""
    return bool(concurrent.futures.wait([self._ahead[0]], seconds).done)

  def next(self) -> Any:
    item = self._ahead.popleft().result()
    self._submit()
    return item

  def close(self) -> None:
    self._pool.shutdown(wait=True, cancel_futures=True)

  def __enter__(self) -> "Prefetch":
    return self

  def __exit__(self, *exception) -> None:
    self.close()


class Idle:
  """Measures the share of time in which the device has nothing to do because the host's next batch is late.

  A late batch costs nothing while the step before it still runs, so only the time after that step's end counts, to
  within 2 ms a batch. The first batch after `start`, for which nothing can run yet, does not count.

  Args:
    clock: seconds, from any start.
  """

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    self._clock = clock
    self._high = 0
    self._said = False
    self.start()

  def start(self) -> None:
    """Steps begin, or begin again."""
    self._since: float | None = None
    self._waited = 0.0

  def take(self, batches: Prefetch, busy: Callable[[], bool]) -> Any:
    """The next batch. busy: () -> whether the device still works on the step before."""
    if self._since is None:
      item, self._since = batches.next(), self._clock()
      return item
    late = not batches.ready()
    while late and busy():
      late = not batches.ready(_POLL)
    if not late:
      return batches.next()
    begin = self._clock()
    item = batches.next()
    self._waited += self._clock() - begin
    return item

  def read(self) -> tuple[float, bool]:
    """(the share since the last reading in [0, 1], whether it is time to warn: once, after three high ones in a row)."""
    now = self._clock()
    spent = 0.0 if self._since is None else now - self._since
    share = self._waited / spent if spent > 0 else 0.0
    self._since, self._waited = None if self._since is None else now, 0.0
    self._high = self._high + 1 if share > MOST_IDLE else 0
    warn = self._high >= READINGS and not self._said
    self._said |= warn
    return share, warn
