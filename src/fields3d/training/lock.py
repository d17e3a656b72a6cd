"""One run at a time in a run directory: a file that names its holder and shows that it lives.

No wall clock is asked: a holder on this machine lives if its process does (its number and the moment of its start, in
this boot and this namespace of process numbers); a holder elsewhere lives if its counter moves while we watch. The
file is made exclusively, so that of two runs that start at once one gets it. Object stores (gs://) cannot do that;
`training/storage.py` does there what can be done.
"""

import contextlib
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator

from fields3d.core import strict_json
from fields3d.core.errors import CannotWrite, UsageFault, from_os_error

NAME = "run.lock"
BEAT, PATIENCE = 5.0, 30.0  # seconds between a holder's signs of life; how long one elsewhere is watched


@contextlib.contextmanager
def locked(workdir: pathlib.Path, patience: float = PATIENCE) -> Iterator[None]:
  """Holds the lock of a run directory; a dead holder's lock is taken over.

  Raises:
    UsageFault: another run lives there; it is named.
    CannotWrite, IOFault: the file cannot be made.

  >>> import tempfile
  >>> with tempfile.TemporaryDirectory() as d, locked(pathlib.Path(d)):
  ...   os.listdir(d)
  ['run.lock']
  """
  path, mine = workdir / NAME, identity()
  try:
    _take(path, mine, patience)
  except IsADirectoryError:
    raise CannotWrite(path, "is a directory, where the lock of the run is to be", "remove it, or give another --workdir") from None
  except OSError as e:
    raise from_os_error(e, path) from e
  stop = threading.Event()
  thread = threading.Thread(target=_show_life, args=(path, mine, stop), daemon=True, name="lock")
  thread.start()
  try:
    yield
  finally:
    stop.set()
    thread.join()
    if same(read(path), mine):
      with contextlib.suppress(OSError):
        path.unlink()


def _take(path: pathlib.Path, mine: dict, patience: float) -> None:
  for _ in range(3):
    holder = read(path)
    if holder is not None and lives(path, holder, patience):
      who = f"process {holder.get('pid', '?')} on host {holder.get('host', '?')}"
      raise UsageFault(path.parent, f"is in use by another run ({who})",
                       f"wait for it, give another --workdir, or remove {path.name} if that run has ended")
    with strict_json.one_at_a_time(path.parent):
      now = read(path)
      if now is not None and (holder is None or not same(now, holder)):
        continue  # someone was faster
      if now is not None:
        path.unlink()
      with contextlib.suppress(FileExistsError):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
          file.write(text(mine, 0))
        return
  raise CannotWrite(path, "other runs take it at the same time", "start one run per --workdir")


def lives(path: pathlib.Path, holder: dict, patience: float) -> bool:
  mine = identity()
  if holder.get("host") == mine["host"] and "boot" in holder:
    if holder["boot"] != mine["boot"]:
      return False
    if holder.get("pids") == mine["pids"] and {"pid", "started"} <= set(holder):
      return _started(holder["pid"]) == holder["started"]
  first, until = holder.get("beats"), time.monotonic() + patience
  while time.monotonic() < until:
    time.sleep(min(1.0, patience / 10))
    now = read(path)
    if now is None or not same(now, holder):
      return now is not None
    if now.get("beats") != first:
      return True
  return False


def _show_life(path: pathlib.Path, mine: dict, stop: threading.Event) -> None:
  """Counts up in the file, as long as it is ours; a full disk does not matter, since its length stays."""
  beats = 0
  while not stop.wait(BEAT):
    beats += 1
    with contextlib.suppress(OSError):
      if same(read(path), mine):
        with open(path, "r+") as file:
          file.write(text(mine, beats))


def text(mine: dict, beats: int) -> str:
  return json.dumps({**mine, "beats": f"{beats:012d}"}) + "\n"


def read(path: pathlib.Path) -> dict | None:
  """Who holds it, {} where the file is unreadable (its writer died, or is just writing), None where nobody."""
  try:
    found = json.loads(path.read_bytes())
  except FileNotFoundError:
    return None
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}


def same(one: dict | None, other: dict) -> bool:
  return one is not None and {**one, "beats": 0} == {**other, "beats": 0}


def identity() -> dict:
  return {"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname(),
          "boot": _content("/proc/sys/kernel/random/boot_id"), "pids": _link("/proc/self/ns/pid")}


def _started(pid: int) -> str | None:
  """When a process started, in ticks since boot; None where there is no such process."""
  text = _content(f"/proc/{pid}/stat")
  if text:
    fields = text.rpartition(")")[2].split()
    return fields[19] if fields[0] not in "ZX" else None  # a zombie has ended
  if os.path.exists("/proc/self/stat"):
    return None
  try:  # no /proc: the number alone has to do
    os.kill(pid, 0)
  except ProcessLookupError:
    return None
  except PermissionError:
    pass
  return "?"


def _content(path: str) -> str:
  try:
    return pathlib.Path(path).read_text().strip()
  except OSError:
    return ""


def _link(path: str) -> str:
  try:
    return os.readlink(path)
  except OSError:
    return ""
