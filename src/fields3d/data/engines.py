"""What preparation runs on: processes of this machine, or Ray, here or on a cluster that shares the folder."""

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import pathlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from typing import Any, Protocol, Self

from fields3d.core.errors import Fault, IOFault, Unavailable, UsageFault

_TIMEOUT, _START = 3600.0, 600.0  # seconds for a call, and for the start of a process


@dataclasses.dataclass(frozen=True)
class Lost:
  """In a result's place: the call gave none, and why."""
  reason: str


class Engine(Protocol):
  """Runs calls elsewhere. `capacity`: how many may wait or run at a time, so that memory does not grow with the work.

  submit: takes function(*arguments) and names it. wait: the (name, result) of some that are done, at least one, a `Lost`
  where the call took its process with it or too long; raises what a call raised. As a context manager it ends what it
  started.
  """
  capacity: int

  def submit(self, name: Hashable, function: Callable, *arguments: Any) -> None: ...

  def wait(self) -> list[tuple[Hashable, Any]]: ...

  def __enter__(self) -> Self: ...

  def __exit__(self, *exception: Any) -> None: ...


@dataclasses.dataclass
class _Call:
  name: Hashable
  function: Callable
  arguments: tuple
  deaths: int = 0


@dataclasses.dataclass
class _Worker:
  process: multiprocessing.process.BaseProcess
  connection: multiprocessing.connection.Connection
  call: _Call | None = None
  ready: bool = False
  begin: float = 0.0


class Processes:
  """Processes of this machine; they end when the one that started them is gone, however it went.

  A call whose process dies is made once more, since it may have died for another's memory; then it is lost. Only that
  call: a new process takes the dead one's place.

  Args:
    workers: how many. timeout: seconds a call may take; 3600 by default.
  """

  def __init__(self, workers: int, timeout: float | None = None):
    self._context = multiprocessing.get_context("spawn")  # never fork: this process may hold jax's threads
    self._num, self._timeout = workers, timeout or _TIMEOUT
    self._waiting: collections.deque[_Call] = collections.deque()
    self._workers: list[_Worker] = []
    self.capacity = 2 * workers

  def submit(self, name: Hashable, function: Callable, *arguments: Any) -> None:
    self._waiting.append(_Call(name, function, arguments))
    self._hand_out()

  def wait(self) -> list[tuple[Hashable, Any]]:
    done: list[tuple[Hashable, Any]] = []
    while not done:
      self._hand_out()
      busy = {worker.connection: worker for worker in self._workers if worker.call}
      left = min(self._deadline(worker) for worker in busy.values()) - time.monotonic()
      for connection in multiprocessing.connection.wait(busy, max(left, 0)):
        done += self._receive(busy.pop(connection))
      done += [self._end_late(worker) for worker in busy.values() if self._deadline(worker) <= time.monotonic()]
    return done

  def _deadline(self, worker: _Worker) -> float:
    return worker.begin + (self._timeout if worker.ready else max(self._timeout, _START))

  def _hand_out(self) -> None:
    for worker in self._workers:
      if self._waiting and worker.call is None:
        self._give(worker, self._waiting.popleft())
    while self._waiting and len(self._workers) < self._num:
      here, there = self._context.Pipe()
      process = self._context.Process(target=_serve, args=(there,), daemon=True)
      process.start()
      there.close()  # so that the end of the process is the end of what it sends
      self._workers.append(_Worker(process, here))
      self._give(self._workers[-1], self._waiting.popleft())

  def _give(self, worker: _Worker, call: _Call) -> None:
    worker.call, worker.begin = call, time.monotonic()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: `_receive` will see that
      worker.connection.send((call.function, call.arguments))

  def _receive(self, worker: _Worker) -> list[tuple[Hashable, Any]]:
    """What a worker has to say: that it is there, a result, or that it is dead."""
    try:
      message = worker.connection.recv()
    except (EOFError, OSError):
      return self._bury(worker)
    if not worker.ready:
      worker.ready, worker.begin = True, time.monotonic()
      return []
    call, worker.call = worker.call, None
    result, error = message
    if error is not None:
      raise error
    return [(call.name, result)]

  def _bury(self, worker: _Worker) -> list[tuple[Hashable, Any]]:
    code = self._remove(worker)
    if not worker.ready:
      raise IOFault("prepare", f"a worker process did not start ({_how(code)})", "run the same command again")
    worker.call.deaths += 1
    if worker.call.deaths == 1:
      self._waiting.append(worker.call)
      return []
    return [(worker.call.name, Lost(f"took its worker process with it twice ({_how(code)})"))]

  def _end_late(self, worker: _Worker) -> tuple[Hashable, Any]:
    self._remove(worker)
    if not worker.ready:
      raise IOFault("prepare", f"a worker process did not start in {_START:g} s", "run the same command again")
    return worker.call.name, Lost(f"took longer than {self._timeout:g} s; --timeout gives it longer")

  def _remove(self, worker: _Worker) -> int | None:
    self._workers.remove(worker)
    worker.process.kill()  # where it is dead already, nothing happens
    worker.process.join()
    worker.connection.close()
    return worker.process.exitcode

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception: Any) -> None:
    for worker in list(self._workers):
      self._remove(worker)


class Ray:
  """Ray tasks: on the cluster that $RAY_ADDRESS names, else on this machine. All nodes must see the same paths."""

  def __init__(self, workers: int, timeout: float | None = None):
    if timeout is not None:
      raise UsageFault("--timeout", "is of --engine processes alone", "leave it out")
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
    (done,), _ = self._ray.wait(list(self._running), num_returns=1)
    name = self._running.pop(done)
    try:
      return [(name, self._ray.get(done))]
    except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError) as error:
      return [(name, Lost(f"took its Ray worker with it ({type(error).__name__})"))]  # after Ray's own further tries
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


ENGINES: dict[str, Callable[[int, float | None], Engine]] = {"processes": Processes, "ray": Ray}


def results(engine: Engine, where: object) -> list[tuple[Hashable, Any]]:
  """What `engine.wait` gives, where no call may be lost. Raises IOFault: one was; `where` is what it was to be written to."""
  found = engine.wait()
  if lost := next((result for _, result in found if isinstance(result, Lost)), None):
    raise IOFault(where, f"a shape {lost.reason}", "run the same command again, with fewer workers if memory is short")
  return found


def _how(code: int | None) -> str:
  """How a process ended."""
  if code is None or code >= 0:
    return f"exit code {code}"
  name = signal.Signals(-code).name
  return f"{name}: out of memory?" if name == "SIGKILL" else name


def _serve(connection: multiprocessing.connection.Connection) -> None:
  """A worker: says that it is there, then makes calls until it is not wanted any more."""
  _die_with_parent()
  with contextlib.suppress(OSError):  # where memory runs out, let a worker go rather than the one that keeps the list
    pathlib.Path("/proc/self/oom_score_adj").write_text("500")
  connection.send(None)
  while True:
    try:
      function, arguments = connection.recv()
    except EOFError:
      return
    try:
      message = function(*arguments), None
    except Fault as fault:
      message = None, fault
    except Exception:
      message = None, RuntimeError(traceback.format_exc())
    connection.send(message)


def _die_with_parent() -> None:
  """Ends a worker when the process that started it is gone; Ctrl-C is that one's affair."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def watch() -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
