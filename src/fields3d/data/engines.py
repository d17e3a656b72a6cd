"""What preparation runs on: processes of this machine, or Ray, here or on a cluster that shares the folder."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Hashable
from typing import Any, Protocol, Self

from fields3d.core.errors import Fault, IOFault, Unavailable


class Engine(Protocol):
  """Runs calls elsewhere. `capacity`: how many may wait or run at a time, so that memory does not grow with the work.

  submit: starts function(*arguments) and names it. wait: the (name, result) of some that are done, at least one; raises
  what a call raised. As a context manager it ends what it started.
  """
  capacity: int

  def submit(self, name: Hashable, function: Callable, *arguments: Any) -> None: ...

  def wait(self) -> list[tuple[Hashable, Any]]: ...

  def __enter__(self) -> Self: ...

  def __exit__(self, *exception: Any) -> None: ...


class Processes:
  """Processes of this machine; they end when the one that started them is gone, however it went."""

  def __init__(self, workers: int):
    context = multiprocessing.get_context("spawn")  # never fork: this process may hold jax's threads
    self._pool = concurrent.futures.ProcessPoolExecutor(workers, context, _die_with_parent)
    self._running: dict[concurrent.futures.Future, Hashable] = {}
    self.capacity = 2 * workers

  def submit(self, name: Hashable, function: Callable, *arguments: Any) -> None:
    try:
      self._running[self._pool.submit(function, *arguments)] = name
    except concurrent.futures.process.BrokenProcessPool:
      raise _dead() from None

  def wait(self) -> list[tuple[Hashable, Any]]:
    done = concurrent.futures.wait(self._running, return_when=concurrent.futures.FIRST_COMPLETED).done
    try:
      return [(self._running.pop(future), future.result()) for future in done]
    except concurrent.futures.process.BrokenProcessPool:
      raise _dead() from None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception: Any) -> None:
    self._pool.shutdown(wait=True, cancel_futures=True)


class Ray:
  """Ray tasks: on the cluster that $RAY_ADDRESS names, else on this machine. All nodes must see the same paths."""

  def __init__(self, workers: int):
    try:
      import ray
    except ImportError:
      raise Unavailable("--engine ray", "Ray is not installed", "pip install 'fields3d[ray]'") from None
    self._ray, self._functions, self._running = ray, {}, {}
    self._started = not ray.is_initialized()
    address = os.environ.get("RAY_ADDRESS")
    if self._started:
      ray.init(address=address or "local", num_cpus=None if address else workers, include_dashboard=False,
               log_to_driver=False, configure_logging=False)
    self.capacity = 2 * max(workers, int(ray.cluster_resources().get("CPU", 1)))

  def submit(self, name: Hashable, function: Callable, *arguments: Any) -> None:
    if function not in self._functions:
      self._functions[function] = self._ray.remote(function)
    self._running[self._functions[function].remote(*arguments)] = name

  def wait(self) -> list[tuple[Hashable, Any]]:
    done, _ = self._ray.wait(list(self._running), num_returns=1)
    try:
      return [(self._running.pop(one), self._ray.get(one)) for one in done]
    except self._ray.exceptions.RayTaskError as error:
      if isinstance(error.cause, Fault):
        raise error.cause from None
      raise
    except self._ray.exceptions.RayError as error:
      raise IOFault("ray", f"a task was lost: {type(error).__name__}", "run the same command again") from error

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception: Any) -> None:
    if self._started:
      self._ray.shutdown()


ENGINES: dict[str, Callable[[int], Engine]] = {"processes": Processes, "ray": Ray}


def _dead() -> IOFault:
  return IOFault("prepare", "a worker process died", "run the same command again with fewer --workers")


def _die_with_parent() -> None:
  """Ends a worker when the process that started it is gone; Ctrl-C is that one's affair."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def watch() -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
