"""Tensors of torch's weight files, without torch and without unpickling (see `pickled_arrays`).

Both formats: the zip of torch 1.6 and later, and the chain of pickles before it, in which the published FID Inception
(pytorch-fid, January 2019) and EfficientNet-Lite0 weights are. Also plain pickles of numpy arrays (flax's old .ckpt).

Source: torch/serialization.py (`_save`, `_legacy_save`) and docs/source/notes/serialization.rst of PyTorch.
"""

import errno
import hashlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from fields3d.core.errors import BadData, Fault, from_os_error
from fields3d.metrics.pickled_arrays import REMEDY, Storage, Tensor, flatten, read_pickle

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_BYTES = 2 << 30
MAX_MEMBERS = 20_000

Weights = Mapping[str, np.ndarray]


def read_torch(path: str | os.PathLike, sha256: str | None = None) -> dict[str, np.ndarray]:
  """The tensors of a state dict, as read-only arrays; tensors that share a storage share memory.

  Args:
    path: a file of `torch.save`, either format. Names within nested dicts are joined by dots.
    sha256: of the whole file, or its first digits (torch hub puts eight into file names); not checked when None.

  Raises:
    BadData: another sha256; anything but tensors within dicts, named; a truncated or damaged file, or one over 2 GiB.
    MissingInput: no such file.
  """
  def read(f: BinaryIO, where: pathlib.Path) -> dict[str, np.ndarray]:
    load = _zip if f.read(4) == b"PK\x03\x04" else _legacy
    f.seek(0)
    return load(f, where)

  return _read(path, sha256, read)


def read_pickled_arrays(path: str | os.PathLike, sha256: str | None = None) -> dict[str, np.ndarray]:
  """The numpy arrays of a pickle of nested dicts, as `read_torch`."""
  def read(f: BinaryIO, where: pathlib.Path) -> dict[str, np.ndarray]:
    return {name: _of_numpy(value, where) for name, value in flatten(read_pickle(f, where), where)}

  return _read(path, sha256, read)


def _read(path: str | os.PathLike, sha256: str | None, read: Callable) -> dict[str, np.ndarray]:
  path = pathlib.Path(path)
  try:
    with open(path, "rb") as f:
      size = os.fstat(f.fileno()).st_size
      if not 0 < size <= MAX_BYTES:
        raise BadData(path, f"has {size} bytes" if size else "empty file", REMEDY)
      found = hashlib.file_digest(f, "sha256").hexdigest()
      if sha256 is not None and not found.startswith(sha256):
        raise BadData(path, f"has sha256 {found[:12]}..., the published file has {sha256[:12]}...",
                      "copy or download it again")
      f.seek(0)
      return read(f, path)
  except Fault:
    raise
  except OSError as error:
    if error.errno != errno.EINVAL:  # What a zip's directory that points before the file's start ends in.
      raise from_os_error(error, path) from None
    raise BadData(path, "truncated or damaged (an offset outside it)", "copy or download it again") from None
  except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
    raise BadData(path, f"truncated or damaged ({error})", "copy or download it again") from None


def _zip(f: BinaryIO, where: pathlib.Path) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(f) as archive:
    infos = {info.filename: info for info in archive.infolist()}
    tops = [name.removesuffix("data.pkl") for name in infos if name.split("/")[1:] == ["data.pkl"]]
    if len(infos) > MAX_MEMBERS or len(infos) < len(archive.infolist()) or len(tops) != 1:
      raise BadData(where, "a zip, but not of torch.save", REMEDY)
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos.values()):
      raise BadData(where, "compressed or encrypted, which torch's own files are not", REMEDY)
    with archive.open(infos[tops[0] + "data.pkl"]) as program:
      value = read_pickle(program, where)
    if f"{tops[0]}byteorder" in infos and archive.read(f"{tops[0]}byteorder") != b"little":
      raise BadData(where, "its numbers are big-endian", "write it on a little-endian machine")

    def raw(storage: Storage) -> bytes:
      info = infos.get(f"{tops[0]}data/{storage.key}")
      if info is None or info.file_size != storage.numel * storage.dtype.itemsize:
        raise BadData(where, f"storage {storage.key[:40]!r} is missing or not of {storage.numel} elements", REMEDY)
      return archive.read(info)  # To its end, so that the checksum is verified.

    return _tensors(value, raw, where)


def _legacy(f: BinaryIO, where: pathlib.Path) -> dict[str, np.ndarray]:
  """Five pickles (magic, protocol, machine, value, keys), then each key's storage: its length and its elements."""
  if read_pickle(f, where) != MAGIC or read_pickle(f, where) != PROTOCOL:
    raise BadData(where, "not a file of torch.save", REMEDY)
  machine, value, keys = (read_pickle(f, where) for _ in range(3))
  if not isinstance(machine, dict) or machine.get("little_endian") is not True or not isinstance(keys, list):
    raise BadData(where, "its numbers are big-endian, or it is not a file of torch.save", REMEDY)
  wanted = {item.storage.key: item.storage for _, item in flatten(value, where) if isinstance(item, Tensor)}
  if sorted(map(str, keys)) != sorted(wanted):
    raise BadData(where, "the storages that it lists are not those of its tensors", REMEDY)
  found = {}
  for key in map(str, keys):
    storage = wanted[key]
    count, size = int.from_bytes(f.read(8), "little"), storage.numel * storage.dtype.itemsize
    if count != storage.numel or len(data := f.read(size)) != size:
      raise BadData(where, f"truncated: storage {key[:40]!r} is not of {storage.numel} elements", REMEDY)
    found[key] = data
  if f.read(1):
    raise BadData(where, "has bytes after its last storage", REMEDY)
  return _tensors(value, lambda storage: found[storage.key], where)


def _tensors(value: Any, raw: Callable[[Storage], bytes], where: pathlib.Path) -> dict[str, np.ndarray]:
  """Every tensor as a window on its storage's bytes, each storage read once."""
  whole: dict[str, tuple[Storage, np.ndarray]] = {}
  out = {}
  for name, item in flatten(value, where):
    if not isinstance(item, Tensor):
      raise BadData(where, f"{name} is not a tensor", REMEDY)
    storage = item.storage
    if storage.key not in whole:
      whole[storage.key] = storage, np.frombuffer(raw(storage), storage.dtype)
    known, elements = whole[storage.key]
    if known != storage:
      raise BadData(where, f"storage {storage.key[:40]!r} has two types or sizes", REMEDY)
    strides = [step * storage.dtype.itemsize for step in item.strides]
    out[name] = np.lib.stride_tricks.as_strided(elements[item.offset:], item.shape, strides, writeable=False)
  return out


def _of_numpy(value: Any, where: pathlib.Path) -> np.ndarray:
  if isinstance(value, Tensor):
    raise BadData(where, "holds a torch tensor, not numpy arrays", REMEDY)
  return value
