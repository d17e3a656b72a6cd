"""A background thread that keeps the next batches ready on the device."""

import queue
import threading
from collections.abc import Callable
from typing import Any


class Prefetch:
  """Yields make(position), make(position + 1), ... computed ahead by one thread.

  An exception in `make` is raised by `next`. Close it, or use it as a context manager.

  >>> with Prefetch(lambda position: position * 2, position=3) as batches:
  ...   [batches.next(), batches.next()]
  [6, 8]
  """

  def __init__(self, make: Callable[[int], Any], position: int, depth: int = 2):
    self._queue = queue.Queue(maxsize=depth)
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._work, args=(make, position), daemon=True, name="prefetch")
    self._thread.start()

  def _work(self, make: Callable[[int], Any], position: int) -> None:
    while not self._stop.is_set():
      try:
        item = (make(position), None)
      except Exception as error:  # handed to the consumer, which raises it
        item = (None, error)
      while not self._stop.is_set():
        try:
          self._queue.put(item, timeout=0.1)
          break
        except queue.Full:
          continue
      if item[1] is not None:
        return
      position += 1

  def next(self) -> Any:
    item, error = self._queue.get()
    if error is not None:
      raise error
    return item

  def close(self) -> None:
    self._stop.set()
    self._thread.join()

  def __enter__(self) -> "Prefetch":
    return self

  def __exit__(self, *exception) -> None:
    self.close()
