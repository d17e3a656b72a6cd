"""Arrays from .npy and .npz files of unknown origin: strict, bounded, and never unpickled.

`numpy.load` believes what a file says of itself. Here a header is checked before anything is allocated, a zip's
sizes are counted on the bytes that come out of it, and checksums are verified; every fault names the file.
"""

import ast
import dataclasses
import math
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from fields3d.core.errors import BadData, Fault, available_memory, from_os_error

MAX_HEADER = 10_000
MAX_MEMBERS = 1_000
MAX_BYTES = 4 << 30
MAX_RATIO = 100
SMALL = 1 << 20  # bytes that may come out of any archive, whatever the ratio
CHUNK = 1 << 20
KINDS = "fiub"
REMEDY = "write it again with numpy.savez"


@dataclasses.dataclass(frozen=True)
class Header:
  """What a .npy header says, after it has been believed."""
  dtype: np.dtype
  shape: tuple[int, ...]
  fortran: bool
  length: int  # bytes from the magic to the data

  @property
  def num_bytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


def read_npz(path: str | os.PathLike, names: Iterable[str] | None = None,
             max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
  """The arrays of a .npz, in native byte order and C order.

  Args:
    names: which arrays to read; all by default. One that is missing is a fault, others are left unread.
    max_bytes: the most that may come out of the archive.

  Raises:
    BadData: an empty, truncated or damaged file, a member that is not a plain array, an encrypted or nested or
      overlapping one, more than 100 bytes out of one, or more than `max_bytes`.
    MissingInput: no such file.
  """
  path = pathlib.Path(path)
  try:
    with open(path, "rb") as f:
      size = os.fstat(f.fileno()).st_size
      if size == 0:
        raise BadData(path, "empty file", REMEDY)
      with zipfile.ZipFile(f) as archive:
        members = _members(path, archive, size)
        if not members:
          raise BadData(path, "holds no arrays", REMEDY)
        wanted = list(members) if names is None else list(names)
        if missing := [name for name in wanted if name not in members]:
          raise BadData(path, f"has no array {missing[0]!r}, only {', '.join(sorted(members)) or 'none'}", REMEDY)
        left = min(max_bytes, available_memory(), SMALL + MAX_RATIO * size)
        arrays = {}
        for name in wanted:
          arrays[name] = _read_member(path, archive, members[name], left)
          left -= arrays[name].nbytes
        return arrays
  except Fault:
    raise
  except OSError as error:
    raise from_os_error(error, path) from None
  except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
    raise BadData(path, f"truncated or damaged ({error})", "copy or write it again") from None
  except (ValueError, KeyError, IndexError, RuntimeError, OverflowError, NotImplementedError) as error:
    raise BadData(path, f"not a zip archive that can be read ({error})", REMEDY) from None


def read_npy(path: str | os.PathLike, dtype: np.dtype | None = None, mmap: bool = False,
             max_bytes: int = MAX_BYTES) -> np.ndarray:
  """The array of a .npy file.

  Args:
    dtype: the only dtype that is accepted (a record type, say); any of numbers and booleans by default.
    mmap: map the file, read-only, instead of reading it.

  Raises:
    BadData: as `read_npz`; also bytes after the array's end. MissingInput: no such file.
  """
  path = pathlib.Path(path)
  try:
    with open(path, "rb") as f:
      size = os.fstat(f.fileno()).st_size
      if size == 0:
        raise BadData(path, "empty file", REMEDY)
      header = _read_header(path, f, dtype)
      if header.length + header.num_bytes != size:
        raise BadData(path, f"says {header.num_bytes} bytes of array, has {size - header.length}", REMEDY)
      order = "F" if header.fortran else "C"
      if mmap:
        return np.memmap(f, header.dtype, "r", header.length, header.shape, order) if header.num_bytes else np.zeros(
            header.shape, header.dtype)
      limit = min(max_bytes, available_memory())
      if header.num_bytes > limit:
        raise BadData(path, f"{header.num_bytes} bytes exceed the cap of {limit}", "split it")
      return _native(np.fromfile(f, header.dtype).reshape(header.shape, order=order))
  except OSError as error:
    raise from_os_error(error, path) from None


def _members(path: pathlib.Path, archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
  infos = archive.infolist()
  if len(infos) > MAX_MEMBERS:
    raise BadData(path, f"{len(infos)} members, {MAX_MEMBERS} are allowed", REMEDY)
  members = {}
  for info in infos:
    name = info.filename.removesuffix(".npy")
    if not info.filename.endswith(".npy"):
      raise BadData(path, f"member {info.filename!r} is not an array", REMEDY)
    if name in members:
      raise BadData(path, f"two members are named {name!r}", REMEDY)
    if info.flag_bits & 0x1:
      raise BadData(path, f"member {name!r} is encrypted", "write it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      raise BadData(path, f"member {name!r} uses compression method {info.compress_type}", REMEDY)
    members[name] = info
  spans = sorted((info.header_offset, info.header_offset + 30 + info.compress_size) for info in infos)
  ends = [start for start, _ in spans[1:]] + [size]
  if any(start < 0 or end > following for (start, end), following in zip(spans, ends, strict=True)):
    raise BadData(path, "members overlap", REMEDY)
  return members


def _read_member(path: pathlib.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> np.ndarray:
  with archive.open(info) as f:
    header = _read_header(path, f, None, info.filename)
    total = header.length + header.num_bytes
    if total != info.file_size:
      raise BadData(path, f"{info.filename}: says {header.num_bytes} bytes of array, has "
                          f"{info.file_size - header.length}", REMEDY)
    if total > limit:
      raise BadData(path, f"{info.filename}: {total} bytes exceed the cap of {limit} that are left to the archive",
                    f"split it, or write it uncompressed: at most {MAX_RATIO} to 1 is taken out of a file")
    data = np.empty(header.num_bytes, np.uint8)
    done = 0
    while done < len(data) and (chunk := f.read(min(CHUNK, len(data) - done))):
      data[done:done + len(chunk)] = np.frombuffer(chunk, np.uint8)
      done += len(chunk)
    rest = f.read(1)  # reading past the end is what checks the checksum
  if done != len(data) or rest:
    raise BadData(path, f"{info.filename}: says {len(data)} bytes of array, has {'more' if rest else done}", REMEDY)
  return _native(data.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C"))


def _read_header(path: pathlib.Path, f: BinaryIO, dtype: np.dtype | None, member: str = "") -> Header:
  at = f"{member}: " if member else ""
  start = f.read(8)
  if start[:6] != b"\x93NUMPY" or len(start) < 8 or start[6] not in (1, 2, 3):
    raise BadData(path, f"{at}not a .npy array", REMEDY)
  width = 2 if start[6] == 1 else 4
  length = int.from_bytes(f.read(width), "little")
  if length > MAX_HEADER:
    raise BadData(path, f"{at}header of {length} bytes, {MAX_HEADER} are allowed", REMEDY)
  text = f.read(length)
  if len(text) != length:
    raise BadData(path, f"{at}truncated header", "copy or write it again")
  try:
    fields = ast.literal_eval(text.decode("utf-8").strip())
    order, shape, found = fields["fortran_order"], fields["shape"], np.dtype(_description(fields["descr"]))
  except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
    raise BadData(path, f"{at}header is not that of an array", REMEDY) from None
  if found.hasobject or found.kind == "O":
    raise BadData(path, f"{at}holds pickled objects, which are never loaded", "save plain arrays")
  if (found.kind not in KINDS) if dtype is None else (found != dtype):
    raise BadData(path, f"{at}has dtype {found}, not {'numbers' if dtype is None else dtype}", REMEDY)
  if not isinstance(order, bool) or not isinstance(shape, tuple) or len(shape) > 8:
    raise BadData(path, f"{at}header is not that of an array", REMEDY)
  if not all(type(n) is int and n >= 0 for n in shape) or math.prod(filter(None, shape)) * found.itemsize >= 2**63:
    raise BadData(path, f"{at}shape {shape} is not one", REMEDY)
  return Header(found, shape, order, 8 + width + length)


def _description(text):
  """A dtype's description, with the lists and tuples that a record's may hold."""
  if isinstance(text, str) and len(text) <= 16:
    return text
  if isinstance(text, list):
    return [tuple(field) for field in text]
  raise ValueError(text)


def _native(array: np.ndarray) -> np.ndarray:
  if array.dtype.names is None:
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
  return np.ascontiguousarray(array)
