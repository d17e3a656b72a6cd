"""JSON without its loopholes: no NaN or Infinity, no overflow to infinity, no duplicate keys; errors of one line."""

import contextlib
import fcntl
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from fields3d.core.errors import BadData, CannotWrite, from_os_error


def loads(text: str, where: object) -> Any:
  """The value that a JSON text holds; a byte-order mark is skipped.

  Args:
    text: one JSON value.
    where: the file (and line) that the text came from, for the message.

  Raises:
    BadData: malformed (with line and column), a key twice in one object, or a number that is not finite.

  >>> loads('{"a": [1, 2.5]}', "x.json")
  {'a': [1, 2.5]}
  >>> loads('{"a": 1, "a": 2}', "x.json")
  Traceback (most recent call last):
  ...
  fields3d.core.errors.BadData: x.json: key 'a' stands twice in one object; keep one of them
  """
  def pairs(items):
    out = {}
    for key, value in items:
      if key in out:
        raise BadData(where, f"key {key!r} stands twice in one object", "keep one of them")
      out[key] = value
    return out

  def number(token):
    value = float(token)
    if not math.isfinite(value):
      raise BadData(where, f"{token} is not a finite number", "correct the value")
    return value

  try:
    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=pairs, parse_float=number, parse_constant=number)
  except json.JSONDecodeError as e:
    raise BadData(where, f"not JSON: {e.msg} at line {e.lineno} column {e.colno}", "correct the file") from e
  except RecursionError as e:
    raise BadData(where, "is nested too deeply", "give a file of the expected form") from e
  except ValueError as e:
    raise BadData(where, f"not JSON: {e}", "correct the file") from e


def read(path: str | os.PathLike) -> Any:
  """The value of a JSON file in UTF-8.

  Raises:
    MissingInput: it is not there or cannot be read.
    BadData: as `loads`, or it is not UTF-8.
  """
  try:
    text = pathlib.Path(path).read_bytes().decode("utf-8")
  except OSError as e:
    raise from_os_error(e, path) from e
  except UnicodeDecodeError as e:
    raise BadData(path, f"byte {e.start} is not UTF-8", "save the file as UTF-8") from e
  return loads(text, path)


def write(path: str | os.PathLike, value: Any) -> None:
  """Writes a JSON file whole or not at all: to a temporary name, flushed to the disk, then renamed.

  Raises:
    ValueError: the value holds a NaN or an infinity.
    CannotWrite, IOFault: the directory refuses or the disk is full.
  """
  path = pathlib.Path(path)
  text = json.dumps(value, indent=2, allow_nan=False) + "\n"
  try:
    replace(path, text.encode())
  except OSError as e:
    raise from_os_error(e, path) from e


def replace(path: pathlib.Path, content: bytes | Iterable[bytes]) -> None:
  """Puts `content`, whole or in pieces, at `path` atomically and durably: after a power cut it is the old or the new one.

  Raises:
    CannotWrite: something is there that is no file. OSError: of `path`; what was written of it is gone.
  """
  path = pathlib.Path(os.path.realpath(path))  # a link stays one
  _check_file(path)
  temporary = path.with_name(path.name + ".tmp")
  try:
    with open(temporary, "wb") as f:
      f.writelines([content] if isinstance(content, bytes) else content)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except OSError as e:
    with contextlib.suppress(OSError):
      temporary.unlink()
    e.filename = str(path) if str(e.filename) == str(temporary) else e.filename
    raise
  sync_directory(path.parent)


def make_directory(path: pathlib.Path) -> None:
  """Makes a directory to write into, and those above it.

  Raises:
    CannotWrite, IOFault: a file stands in its way, or the disk refuses.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
  except NotADirectoryError as e:
    raise CannotWrite(path, "lies below a file", "give another path") from e
  except FileNotFoundError as e:
    raise CannotWrite(path, "cannot be made there", "give another path") from e
  except OSError as e:
    raise from_os_error(e, path) from e


@contextlib.contextmanager
def one_at_a_time(directory: pathlib.Path) -> Iterator[None]:
  """Lets one process after the other do what stands in the block, where the file system can; not for long work."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def make_place(path: pathlib.Path) -> None:
  """Makes the directory of a file that is to be written, before there is its content.

  Raises:
    CannotWrite, IOFault: as `make_directory`; or a directory stands in the file's place.
  """
  make_directory(path.parent)
  _check_file(path)


def _check_file(path: pathlib.Path) -> None:
  if os.path.isdir(path):
    raise CannotWrite(path, "is a directory", "give the path of a file")
  if os.path.exists(path) and not os.path.isfile(path):
    raise CannotWrite(path, "is a device or a pipe", "give the path of a file")


def sync_directory(path: pathlib.Path) -> None:
  """Makes the names in a directory durable."""
  descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
