"""Preparation in parts: each part its own append-only list of rows, and the merge that makes one table of them.

<root>/parts/<i>-of-<n>.jsonl: the first line says of what it is a part and with which settings; each other line is one
finished shape. A shape's part follows from its name alone. The merged table equals that of one undivided run, byte for
byte, or the merge is refused.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from fields3d.core import strict_json
from fields3d.core.errors import BadData, MissingInput, TryAgain, UsageFault, from_os_error
from fields3d.data import cache
from fields3d.data.prepare import Done, Recipe, stream
from fields3d.data.quality import Row
from fields3d.data.sources import Source

FOLDER, FORMAT = "parts", "fields3d part 1"


@dataclasses.dataclass(frozen=True)
class Part:
  """The part `index` of `num`, counted from 0."""
  index: int
  num: int

  def __str__(self) -> str:
    return f"{self.index}/{self.num}"

  def path(self, root: pathlib.Path) -> pathlib.Path:
    """Its list of rows."""
    return root / FOLDER / f"{self.index}-of-{self.num}.jsonl"


def part_of(name: str, num: int) -> int:
  """The part of a shape among `num`: a function of its name alone.

  >>> part_of("chair_1", 4), part_of("chair_1", 1)
  (1, 0)
  """
  return int.from_bytes(hashlib.sha256(b"part " + name.encode()).digest()[:8], "big") % num


def describe(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
  """What all parts must share: the settings, and the list of all shapes as a number and a sha256."""
  digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
  return json.loads(json.dumps({**settings, "shapes": len(names), "names": digest, "version": cache.VERSION}))


def require_same(here: Mapping[str, Any], there: Mapping[str, Any], where: object, remedy: str) -> None:
  """Refuses settings that differ, by name."""
  for name in [*here, *(n for n in there if n not in here)]:
    if here.get(name) != there.get(name):
      what = "another list of shapes" if name == "names" else f"{name}={there.get(name)!r}, not {here.get(name)!r}"
      raise UsageFault(where, f"was prepared with {what}", remedy)


class PartFile:
  """The rows of one part as they are finished; what a killed run had finished is `known`.

  Raises:
    UsageFault: the folder holds parts of another division, or this part with other settings. TryAgain: another process
      is at it. CannotWrite, IOFault: the folder refuses or the disk is full.
  """

  def __init__(self, root: pathlib.Path, part: Part, shared: Mapping[str, Any], own: int):
    self.path = part.path(root)
    header = {"format": FORMAT, "part": part.index, "of": part.num, "own": own, "shared": dict(shared)}
    strict_json.make_directory(self.path.parent)
    try:
      for other in sorted(self.path.parent.glob("*-of-*.jsonl")):
        if not other.stem.endswith(f"-of-{part.num}"):
          raise UsageFault(other, f"is a part of another division than {part}", "give another --out, or delete it")
      with contextlib.ExitStack() as stack:
        self._file = stack.enter_context(open(self.path, "a+b"))
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.known = self._resume(header)
        stack.pop_all()  # from here on __exit__ closes it
    except BlockingIOError:
      raise TryAgain(self.path, f"another process prepares part {part}", "wait for it, or end it") from None
    except OSError as error:
      raise from_os_error(error, self.path) from None

  def _resume(self, header: Mapping[str, Any]) -> dict[int, Done]:
    self._file.seek(0)
    content = self._file.read()
    self._file.truncate(content.rfind(b"\n") + 1)  # a row that a kill or a power cut left unfinished
    if b"\n" not in content:
      self._write(header)
    there, rows = read_part(self.path)
    require_same(header["shared"], there["shared"], self.path, "give another --out, or delete it")
    return rows

  def add(self, done: Done) -> None:
    """Appends a finished shape."""
    try:
      self._write({"index": done.index, "digest": done.digest, **dataclasses.asdict(done.row)})
    except OSError as error:
      raise from_os_error(error, self.path) from None

  def _write(self, record: Mapping[str, Any]) -> None:
    self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())
    self._file.flush()

  def __enter__(self) -> "PartFile":
    return self

  def __exit__(self, *exception) -> None:
    with contextlib.suppress(OSError):
      os.fsync(self._file.fileno())
    self._file.close()


def read_part(path: pathlib.Path) -> tuple[dict[str, Any], dict[int, Done]]:
  """The header and the rows by index (the last where a shape was prepared again); an unfinished last line is none.

  Raises:
    BadData: a line that is none of a part.
  """
  header, lines = _lines(path)
  return header, {done.index: done for _, done in lines}


def _lines(path: pathlib.Path) -> tuple[dict[str, Any], Iterator[tuple[int, Done]]]:
  """The header of a part, and its rows as they stand with the places of their lines in the file."""
  everything = _checked(path)
  try:
    _, header = next(everything)
  except StopIteration:
    raise BadData(path, "is empty", "delete the file and prepare the part again") from None
  shared = header.get("shared") if isinstance(header, dict) else None
  if (not isinstance(shared, dict) or header.get("format") != FORMAT
      or not all(type(n) is int for n in (*map(header.get, ("part", "of", "own")), shared.get("shapes")))):
    raise BadData(f"{path}:1", "is not the head of a part", "delete the file and prepare the part again")
  return header, ((place, _done(record, path)) for place, record in everything)


def _checked(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
  try:
    with open(path, "rb") as f:
      place = 0
      for number, line in enumerate(f, 1):
        if not line.endswith(b"\n"):
          return
        yield place, strict_json.loads(line.decode(errors="replace"), f"{path}:{number}")
        place += len(line)
  except OSError as error:
    raise from_os_error(error, path) from None


def _done(record: Any, path: pathlib.Path) -> Done:
  try:
    index, digest = record.pop("index"), record.pop("digest")
    if not re.fullmatch(r"\w*", record["key"]):  # it is to be a folder's name
      raise ValueError
    return Done(index, digest, Row(**{**record, "reasons": tuple(record["reasons"])}))
  except (AttributeError, KeyError, TypeError, ValueError):
    raise BadData(path, "has a line that is not a row of a part", "delete the file and prepare the part again") from None


def prepare_part(sources: Sequence[Source], part: Part, recipe: Recipe, root: pathlib.Path, settings: Mapping[str, Any],
                 workers: int | None = None, engine: str = "processes",
                 progress: Callable[[int, int], None] | None = None, timeout: float | None = None) -> list[Row]:
  """Prepares one part into a cache folder, from where a killed run left it.

  Args:
    sources: all shapes; every part is given the same.
    settings: JSON-able, by name: what all parts must share besides the recipe.
    workers, engine, timeout: as `prepare.prepare`.
    progress: called with how many are done and how many there are.

  Returns:
    The part's rows in the sources' order.

  Raises:
    As `PartFile` and `prepare.prepare`.
  """
  names = [source.name for source in sources]
  own = [index for index, name in enumerate(names) if part_of(name, part.num) == part.index]
  shared = describe(names, {**settings, **_flat(dataclasses.asdict(recipe))})
  rows: dict[int, Row] = {}
  with PartFile(root, part, shared, len(own)) as file:
    known = {place: dataclasses.replace(file.known[index], index=place) for place, index in enumerate(own)
             if index in file.known}
    for done in stream([sources[index] for index in own], recipe, root, workers, engine, known, timeout):
      if done is not known.get(done.index):
        file.add(dataclasses.replace(done, index=own[done.index]))
      rows[done.index] = done.row
      if progress:
        progress(len(rows), len(own))
  return [rows[place] for place in range(len(own))]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  out = {}
  for name, value in settings.items():
    out |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
  return out


class PartRows(Sequence):
  """The rows of all parts in the order of the undivided run, read as they are asked for: 12 bytes each are held.

  paths: the parts' files. part, place: (shapes,) the file of each row, and where its line starts.
  """

  def __init__(self, paths: Sequence[pathlib.Path], part: np.ndarray, place: np.ndarray):
    self._paths, self._part, self._place = paths, part, place

  def __len__(self) -> int:
    return len(self._part)

  def home(self, index: int) -> pathlib.Path:
    """The file that a row stands in."""
    return self._paths[self._part[index]]

  def __iter__(self) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
      files = [stack.enter_context(open(path, "rb")) for path in self._paths]
      for part, place in zip(self._part, self._place, strict=True):
        yield self._read(files[part], place)

  def __getitem__(self, index: int) -> Row:
    with open(self.home(index), "rb") as file:
      return self._read(file, self._place[index])

  def _read(self, file: BinaryIO, place: int) -> Row:
    file.seek(place)
    return _done(json.loads(file.readline()), pathlib.Path(file.name)).row


def merge(folders: Sequence[pathlib.Path], root: pathlib.Path) -> tuple[PartRows, dict[str, Any]]:
  """The rows of all parts in the order of the undivided run, and their settings; entries of other folders come into `root`.

  Raises:
    MissingInput: no part, a part or an entry is missing, or a part is unfinished: named. BadData: a part stands twice.
    UsageFault: parts of different divisions or settings.
  """
  paths = [path for folder in folders for path in sorted((folder / FOLDER).glob("*-of-*.jsonl"))]
  if not paths:
    raise MissingInput(folders[0], "holds no parts", "prepare them first: fields3d prepare MESHES --out DIR --shard 0/N")
  first, _ = _lines(paths[0])
  num = first["shared"]["shapes"]
  home: dict[int, pathlib.Path] = {}
  of, places = np.full(num, -1, np.int32), np.zeros(num, np.int64)
  for number, path in enumerate(paths):
    header, lines = _lines(path)
    part = Part(header["part"], header["of"])
    if part.num != first["of"]:
      raise UsageFault(path, f"is part {part}, {paths[0]} one of {first['of']}", "merge parts of one division")
    require_same(first["shared"], header["shared"], path, f"prepare it again as {paths[0]} was")
    if part.index in home:
      raise BadData(path, f"is part {part}, and so is {home[part.index]}", "merge one of them")
    home[part.index] = path
    for place, done in lines:
      if not (isinstance(done.index, int) and 0 <= done.index < num):
        raise BadData(path, f"shape {done.row.name!r} has the index {done.index!r} of {num}", "prepare the parts again")
      if of[done.index] not in (-1, number):
        raise BadData(path, f"shape {done.row.name!r} stands in {paths[of[done.index]]} too", "prepare the parts again")
      of[done.index], places[done.index] = number, place
    if (found := int((of == number).sum())) != header["own"]:
      raise MissingInput(path, f"has {found} of its {header['own']} shapes", f"run --shard {part} again")
  if missing := [index for index in range(first["of"]) if index not in home]:
    raise MissingInput(folders[0], f"part {missing[0]}/{first['of']} is missing" + (
        f" and {len(missing) - 1} more" if len(missing) > 1 else ""), f"run --shard {missing[0]}/{first['of']}")
  if (of < 0).any():
    raise BadData(folders[0], f"the parts hold {(of >= 0).sum()} of {num} shapes", "prepare the parts again")
  rows = PartRows(paths, of, places)
  for index, row in enumerate(rows):
    if row.key:
      _adopt(rows.home(index).parent.parent, root, row)
  return rows, first["shared"]


def _adopt(folder: pathlib.Path, root: pathlib.Path, row: Row) -> None:
  """Brings an entry into `root`, whole or not at all; as links where the disk is the same."""
  if cache.has_entry(root, row.key):
    return
  if not cache.has_entry(folder, row.key):
    raise MissingInput(folder / row.key, f"the entry of {row.name!r} is missing", "run the same --shard commands again")
  made = root / f".{socket.gethostname()}.{os.getpid()}.{row.key}"
  try:
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(folder / row.key, made, copy_function=_link)
    os.rename(made, root / row.key)
  except (OSError, shutil.Error) as error:
    shutil.rmtree(made, ignore_errors=True)
    raise (from_os_error(error, root) if isinstance(error, OSError) else BadData(folder / row.key, str(error))) from None


def _link(source: str, target: str) -> None:
  try:
    os.link(source, target)
  except OSError as error:
    if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
      raise
    shutil.copy2(source, target)
    with open(target, "rb") as f:
      os.fsync(f.fileno())
