"""Faults: what goes wrong for a user, as one line and a documented exit code.

Every fault names the file or key, what is wrong with it, and the remedy. The command line prints the
line and exits with the class's code; a library user catches `Fault`. A traceback means a bug of ours.
"""

import difflib
import errno
import os
from collections.abc import Iterable

OK = 0


class Fault(Exception):
  """A fault with an exit code; its text is one line: where, what, remedy.

  >>> raise BadData("a.obj", "vertex 3 is NaN (1 in all)", "remove it or re-export the mesh")
  Traceback (most recent call last):
  ...
  fields3d.core.errors.BadData: a.obj: vertex 3 is NaN (1 in all); remove it or re-export the mesh
  """

  exit_code = 1

  def __init__(self, where: object, what: str, remedy: str = ""):
    self.where, self.what, self.remedy = str(where), what, remedy
    text = f"{where}: {what}" + (f"; {remedy}" if remedy else "")
    super().__init__(" ".join(text.split()))

  def __reduce__(self):
    return type(self), (self.where, self.what, self.remedy)


class UsageFault(Fault):
  """The command line or the config is wrong: exit 2."""
  exit_code = 2


class BadData(Fault):
  """A file is there but its content is not acceptable: exit 65."""
  exit_code = 65


class MissingInput(Fault):
  """A file or directory is not there or cannot be read: exit 66."""
  exit_code = 66


class Unavailable(Fault):
  """An optional library, a device or a service is not there: exit 69."""
  exit_code = 69


class CannotWrite(Fault):
  """The output cannot be created: exit 73."""
  exit_code = 73


class IOFault(Fault):
  """Reading or writing broke off (disk full, I/O error): exit 74."""
  exit_code = 74


class TryAgain(Fault):
  """Stopped on request after saving; the same command resumes: exit 75."""
  exit_code = 75


class Diverged(Fault):
  """Training met non-finite values that rolling back did not cure: exit 76."""
  exit_code = 76


def from_os_error(error: OSError, where: object = "") -> Fault:
  """The fault that an operating-system error means.

  >>> from_os_error(FileNotFoundError(2, "No such file", "a.obj")).exit_code
  66
  """
  name = error.filename or where
  reason = error.strerror or str(error)
  if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
    return MissingInput(name, reason.lower(), "give a path that exists")
  if isinstance(error, FileExistsError):
    return CannotWrite(name, "is there and is no directory", "give another path")
  if isinstance(error, PermissionError) or error.errno == errno.EROFS:
    if name and os.path.isfile(name) and not os.access(name, os.R_OK):
      return MissingInput(name, "permission denied", "make the file readable")
    return CannotWrite(name, reason.lower(), "give a directory you may write to")
  if error.errno == errno.ENOSPC:
    return IOFault(name, "no space left on the device", "free some space and run the same command again")
  if error.errno == errno.ELOOP:
    return MissingInput(name, "is a link that leads to itself", "give a path that exists")
  if error.errno == errno.ENAMETOOLONG:
    return CannotWrite(name, "file name too long", "give a shorter path")
  return IOFault(name, reason, "check the disk and run the same command again")


def nearest(word: str, known: Iterable[str]) -> str:
  """The remedy for an unknown word: the nearest known one, or all of them.

  >>> nearest("widht", ["width", "depth"])
  "did you mean 'width'?"
  >>> nearest("q", ["width", "depth"])
  'known: depth, width'
  """
  known = sorted(known)
  close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
  return f"did you mean {close[0]!r}?" if close else "known: " + (", ".join(known) or "none")


def available_cores() -> int:
  """Processor cores that this process may use; at least 1."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
  """Bytes of memory that this process may still take (Linux; elsewhere the physical total)."""
  try:
    with open("/proc/meminfo") as f:
      for line in f:
        if line.startswith("MemAvailable:"):
          return int(line.split()[1]) * 1024
  except OSError:
    pass
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(num_bytes: int, where: object, remedy: str) -> None:
  """Refuses, before allocating, what cannot fit: `UsageFault` naming the bytes computed.

  >>> require_memory(1, "--resolution", "lower it")
  """
  have = available_memory()
  if num_bytes > have:
    raise UsageFault(where, f"needs {num_bytes / 2**30:.1f} GiB, {have / 2**30:.1f} GiB are free", remedy)
