"""Types of command-line options: each turns a word into a checked value, or says in one line what it should be."""

import argparse
import errno
import math
import os
import pathlib
from collections.abc import Callable

from fields3d.core.config import Range
from fields3d.core.errors import MissingInput


def whole(ge: int, le: int | None = None) -> Callable[[str], int]:
  """The type of a whole number from `ge` to `le` (None: no upper end).

  >>> whole(1)("12")
  12
  >>> whole(1, 9)("12")
  Traceback (most recent call last):
  ...
  argparse.ArgumentTypeError: '12' is not a whole number of at least 1 and at most 9
  """
  bounds = Range(ge=ge, le=le)

  def convert(text: str) -> int:
    try:
      value = int(text)
    except ValueError:
      value = None
    if value is None or not bounds.holds(value):
      upper = "" if le is None else f" and at most {le}"
      raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number of at least {ge}{upper}")
    return value

  return convert


def real(gt: float | None = None, ge: float | None = None, lt: float | None = None,
         le: float | None = None) -> Callable[[str], float]:
  """The type of a finite number within bounds, exclusive (gt, lt) or inclusive (ge, le).

  >>> real(gt=0)("1e-3")
  0.001
  >>> real(gt=0)("nan")
  Traceback (most recent call last):
  ...
  argparse.ArgumentTypeError: 'nan' is not a finite number above 0
  """
  bounds = Range(gt=gt, ge=ge, lt=lt, le=le)

  def convert(text: str) -> float:
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not math.isfinite(value) or not bounds.holds(value):
      raise argparse.ArgumentTypeError(f"{_short(text)} is not a finite number {bounds.describe()}".rstrip())
    return value

  return convert


positive_int = whole(1)
non_negative_int = whole(0)
seed = whole(0, 2**32 - 1)
finite_float = real()
positive_float = real(gt=0)
fraction = real(ge=0, le=1)


def indices(text: str) -> tuple[int, ...]:
  """A list of indices "I,J,...", each once.

  >>> indices("0,3,0")
  (0, 3)
  """
  try:
    return tuple(dict.fromkeys(non_negative_int(part) for part in text.split(",")))
  except argparse.ArgumentTypeError as e:
    raise argparse.ArgumentTypeError(f"{_short(text)} is not a list of indices such as 0,3") from e


def existing_dir(text: str) -> pathlib.Path:
  """A directory that is there, else `MissingInput`."""
  path = _path(text)
  if not path.is_dir():
    raise MissingInput(text, "is not a directory" if path.exists() else "no such directory", "give one that exists")
  return path


def existing_file(text: str) -> pathlib.Path:
  """A file that is there, else `MissingInput`."""
  path = _path(text)
  if not path.is_file():
    raise MissingInput(text, "is not a file" if path.exists() else "no such file", "give one that exists")
  return path


def existing_path(text: str) -> pathlib.Path:
  """A file or directory that is there, else `MissingInput`."""
  path = _path(text)
  if not path.exists():
    raise MissingInput(text, "no such file or directory", "give one that exists")
  return path


def _path(text: str) -> pathlib.Path:
  """The path, if any file can have it."""
  try:
    os.stat(text)
  except (OSError, ValueError) as error:
    if isinstance(error, ValueError) or error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
      raise MissingInput(text, getattr(error, "strerror", None) or str(error), "give one that exists") from error
  return pathlib.Path(text)


def _short(text: str) -> str:
  return repr(text if len(text) <= 40 else text[:37] + "...")
