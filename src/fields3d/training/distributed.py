"""Many processes, one run: how they start together, and how they end together when one of them dies.

jax's own service ends the others with an abort (and, with gloo, some with an exception of a collective), none naming
who died. So process 0 holds one connection to each other process. A connection that closes without a farewell, or
is silent for SILENCE seconds, is a death: process 0 tells the others, and all end with one line and exit 75. What is
durable is the last committed checkpoint; the same command goes on from it.
"""

import atexit
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from fields3d.core.errors import Diverged, Fault, IOFault, TryAgain, Unavailable, UsageFault, from_os_error

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
BEAT, SILENCE, GRACE = 5.0, 60.0, 20.0  # seconds: between signs of life; until a silent process is dead; to end by oneself


def settings(environment: dict[str, str]) -> tuple[str, int, int] | None:
  """(coordinator's host:port, processes, this process) that the environment names, or None where it names none.

  Raises:
    UsageFault: some of the three variables are missing or ill-formed.

  >>> settings({"JAX_COORDINATOR_ADDRESS": "h:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"})
  ('h:1234', 4, 3)
  >>> settings({})
  """
  given = [name for name in VARIABLES if environment.get(name)]
  if not given:
    return None
  if missing := [name for name in VARIABLES if name not in given]:
    raise UsageFault(missing[0], f"is not set, but {given[0]} is", f"set all of {', '.join(VARIABLES)}, or none")
  address, count, process = (environment[name] for name in VARIABLES)
  host, _, port = address.rpartition(":")
  if not (host and port.isdecimal()):
    raise UsageFault(VARIABLES[0], f"{address!r} is not host:port", "give the address of process 0, as node1:8476")
  if not (count.isdecimal() and process.isdecimal() and int(process) < int(count)):
    raise UsageFault(VARIABLES[2], f"{process!r} of {VARIABLES[1]}={count!r} is no process",
                     "number the processes 0, 1, ... below their number")
  return address, int(count), int(process)


@contextlib.contextmanager
def session(mode: str | None = None, environment: dict[str, str] | None = None) -> Iterator[int]:
  """Joins the other processes of the run, before jax makes any array; yields their number.

  Args:
    mode: None as the variables say (none set: one process); "auto" as jax finds out (SLURM, TPU pods, GKE, Open MPI);
      "off" one process, whatever is set.
    environment: os.environ unless given.

  Raises:
    UsageFault: the variables contradict each other. Unavailable: the processes do not find each other.
  """
  environment = dict(os.environ) if environment is None else environment
  found = settings(environment) if mode is None else None
  if mode == "off" or (mode is None and (found is None or found[1] == 1)):
    yield 1
    return
  try:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(*(found or ()))
  except (ValueError, RuntimeError) as e:
    raise Unavailable("jax.distributed", str(e).splitlines()[0][:300],
                      "check the address and that all processes start, or give --distributed off") from e
  if jax.process_count() == 1:
    yield 1
    return
  watch = _connect(found[0].rpartition(":")[0] if found else None)
  try:
    yield jax.process_count()
  except BaseException as error:
    watch.leave(error)
    raise
  watch.leave(None)


def agree(work: Callable[[], None]) -> None:
  """Does `work` on process 0 alone; where it fails, every process raises the same fault.

  Raises:
    Fault: that of process 0.
  """
  fault = None
  if jax.process_index() == 0:
    try:
      work()
    except Fault as e:
      fault = e
    except OSError as e:
      fault = from_os_error(e)
  if jax.process_count() > 1:
    known = {kind.exit_code: kind for kind in Fault.__subclasses__()}
    words = (fault.exit_code, fault.where, fault.what, fault.remedy) if fault else ()
    words = _broadcast(words)
    if words and fault is None:
      fault = known.get(words[0], IOFault)(*words[1:])
  if fault is not None:
    raise fault


class Watch:
  """Signs of life between this process and its peers (process 0: all; the others: process 0).

  Args:
    peers: {process: (connection, who it is in words)}.
    end: called with one line when a process has died; it must not return.
  """

  def __init__(self, peers: dict[int, tuple[socket.socket, str]], end: Callable[[str], None] | None = None):
    self._peers, self._end = peers, end or _end
    self._lines, self._sending = {process: b"" for process in peers}, threading.Lock()
    self._ended, self._left, self._closing = set(), None, threading.Event()
    threading.Thread(target=self._work, daemon=True, name="watch").start()

  def leave(self, error: BaseException | None) -> None:
    """This process ends: by itself, with all others (stopped, diverged), or with an error that is its own alone.

    An error of a collective is often another's death, so this waits for its news first.
    """
    line = None
    if error is not None and not isinstance(error, (TryAgain, Diverged)):
      time.sleep(2.0 if isinstance(error, (Fault, KeyboardInterrupt)) else SILENCE + BEAT)
      line = " ".join(f"{error or type(error).__name__}".split())[:300]
      code = error.exit_code if isinstance(error, Fault) else 130 if isinstance(error, KeyboardInterrupt) else 70
      atexit.register(_leave_at_once, code)  # jax would wait for processes that will not come
    self._closing.set()
    self._tell({"left": line})
    until = time.monotonic() + 5.0
    while line and jax.process_index() == 0 and self._ended != set(self._peers) and time.monotonic() < until:
      time.sleep(0.1)  # jax's service, whose loss aborts the others, ends with this process

  def _work(self) -> None:
    now = time.monotonic()
    seen, beat, woke = dict.fromkeys(self._peers, now), now, now
    while self._left or self._ended != set(self._peers):
      live = {self._peers[p][0]: p for p in self._peers if p not in self._ended}
      ready, _, _ = select.select(list(live), [], [], 0.5)
      now = time.monotonic()
      if now - woke > 2 * BEAT:  # this process was itself suspended: its peers' silence means nothing
        seen = dict.fromkeys(seen, now)
      woke = now
      for connection in ready:
        seen[live[connection]] = now
        self._read(live[connection], connection)
      if now - beat > BEAT:
        beat = now
        self._tell({})
      for process in live.values():
        if process not in self._ended and now - seen[process] > SILENCE:
          self._died(process, f"gave no sign of life for {SILENCE:.0f} s")
      if self._left and now > self._left[1] and not self._closing.is_set():
        self._end(self._left[0])

  def _read(self, process: int, connection: socket.socket) -> None:
    try:
      content = connection.recv(1 << 16)
    except OSError:
      content = b""
    if not content:
      return self._ended.add(process) if self._closing.is_set() else self._died(process, "has died")
    *lines, self._lines[process] = (self._lines[process] + content).split(b"\n")
    for message in map(json.loads, lines):
      if "died" in message:
        self._end(message["died"])
      if "left" in message:
        self._ended.add(process)
        self._heard(self._say(process, f"stopped: {message['left']}") if message["left"] else None)
      if "heard" in message:
        self._heard(message["heard"])

  def _heard(self, line: str | None) -> None:
    """Another process has left with an error; this one has a while to end by itself."""
    if line and not self._left:
      self._left = (line, time.monotonic() + GRACE)
      self._tell({"heard": line})

  def _died(self, process: int, how: str) -> None:
    line = self._say(process, how)
    self._tell({"died": line})
    if jax.process_index() == 0:
      time.sleep(1.0)  # the others end first, as in `leave`
    self._end(line)

  def _say(self, process: int, what: str) -> str:
    return str(TryAgain(f"process {process} ({self._peers[process][1]})", f"{what}, so all processes of the run end",
                        "run the same command again: it goes on from the last checkpoint"))

  def _tell(self, message: dict) -> None:
    for process, (connection, _) in self._peers.items():
      if process not in self._ended:
        with contextlib.suppress(OSError), self._sending:
          connection.sendall(json.dumps(message).encode() + b"\n")


def _connect(host: str | None) -> Watch:
  """Connections between process 0 and the others. `host`: where process 0 listens, if known."""
  me = f"host {socket.gethostname()}, pid {os.getpid()}"
  _hold_aborts()
  if jax.process_index() == 0:
    server = socket.create_server(("", 0), backlog=jax.process_count())
    server.settimeout(120)
    secret = os.urandom(16).hex()
    _broadcast((host or _own_address(), server.getsockname()[1], secret, me))
    peers = {}
    while len(peers) < jax.process_count() - 1:
      connection, _ = server.accept()
      connection.settimeout(10)
      with contextlib.suppress(ValueError, OSError):  # a stranger's connection
        hello = json.loads(connection.makefile("rb").readline(4096))
        if hello.get("secret") == secret:
          peers[int(hello["process"])] = (connection, hello["name"])
    server.close()
    return Watch(peers)
  address, port, secret, name = _broadcast(())
  connection = socket.create_connection((address, port), timeout=120)
  connection.settimeout(10)
  connection.sendall(json.dumps({"secret": secret, "process": jax.process_index(), "name": me}).encode() + b"\n")
  return Watch({0: (connection, name)})


def _broadcast(words: tuple) -> list:
  """Process 0's words, to all."""
  content = np.zeros(4096, np.uint8)
  text = json.dumps(words).encode()[:4096]
  content[:len(text)] = np.frombuffer(text, np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(content)).astype(np.uint8).tobytes().rstrip(b"\0"))


def _own_address() -> str:
  """The address under which other machines reach this one (no packet is sent)."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
      probe.connect(("10.255.255.255", 1))
      return probe.getsockname()[0]
    except OSError:
      return socket.gethostbyname(socket.gethostname())


def _hold_aborts() -> None:
  """Lets an aborting thread sleep six seconds first: jax aborts at once when process 0 is lost, before it is named.

  The handler is C's own sleep, called with the signal's number 6; it is safe in a signal handler.
  """
  library = ctypes.CDLL(None)
  library.signal.argtypes, library.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
  library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def _end(line: str) -> None:
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()
  os.write(2, f"fields3d: {line}\n".encode())
  os._exit(TryAgain.exit_code)


def _leave_at_once(code: int) -> None:
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush(), sys.stderr.flush()
  os._exit(code)
