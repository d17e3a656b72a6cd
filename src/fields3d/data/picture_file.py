"""Pictures of many shapes in one mapped file: a record a shape, made in parallel, checked, and never made twice.

<root>/views/<key>.bin: records of (key (32,), sum, pixels (views, h, w, 4) uint8), the key a hash of what the pictures are
made from, the sum their CRC-32. A record is finished when both fit, so that a killed run goes on where it was, more shapes
or fewer are the same file with other records behind, and a damaged record is made again with a warning. What a record
holds depends on its key alone.
"""

import contextlib
import fcntl
import hashlib
import itertools
import logging
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from fields3d.core.errors import CannotWrite, available_cores, from_os_error
from fields3d.core.progress import progress
from fields3d.core.strict_json import make_directory
from fields3d.data.engines import Processes, results
from fields3d.data.shape_subjects import Subject

VERSION = 1  # of everything that decides a picture besides its subject, camera and size
_ALONE = 400  # pictures of 64 x 64 pixels: fewer are made sooner than processes start


def picture_file(root: pathlib.Path, name: str, subjects: Sequence[Subject], poses: np.ndarray, width: int,
                 supersample: int, workers: int | None = None) -> np.ndarray:
  """The pictures (s, v, width, width, 4) uint8 of subjects from poses (s, v, 3, 4), mapped read-only.

  Args:
    root: the cache folder. name: of the file, with all settings in it that its records do not say.
    workers: processes; the cores of this process by default.

  Raises:
    CannotWrite, IOFault: the folder refuses, the disk has no room or fills up, or a worker died.
  """
  kind = np.dtype([("key", np.uint8, 32), ("sum", "<u4"), ("pad", "<u4", 7), ("pixels", np.uint8, (*poses.shape[1:2], width, width, 4))])
  if not len(subjects):
    return np.zeros((0, *kind["pixels"].shape), np.uint8)
  path = root / "views" / f"{name}.bin"
  keys = [_key(subject, p, width, supersample) for subject, p in zip(subjects, poses, strict=True)]
  make_directory(path.parent)
  try:
    with _locked(path.with_suffix(".lock")):
      records = _opened(path, kind, len(subjects))
      missing = _missing(path, records, keys)
      if len(missing):
        _make(path, records, missing, keys, subjects, poses, width, supersample, workers)
  except OSError as error:
    raise from_os_error(error, path) from None
  return np.memmap(path, kind, "r", shape=(len(subjects),))["pixels"]


def _key(subject: Subject, poses: np.ndarray, width: int, supersample: int) -> np.ndarray:
  text = f"{VERSION} {subject.digest()} {width} {supersample} ".encode() + np.ascontiguousarray(poses, "<f8").tobytes()
  return np.frombuffer(hashlib.sha256(text).digest(), np.uint8)


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
  """One process at a time makes pictures; the others wait and find them made."""
  with open(path, "a") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    yield


def _opened(path: pathlib.Path, kind: np.dtype, num: int) -> np.memmap:
  """The file's first records, for writing; it grows where it has fewer."""
  have = path.stat().st_size if path.exists() else 0
  more = num * kind.itemsize - have
  if more > shutil.disk_usage(path.parent).free:
    raise CannotWrite(path, f"the pictures take {num * kind.itemsize / 2**30:.1f} GiB, the disk has no room",
                      "give fewer shapes, views or pixels, or a cache_dir on another disk")
  with open(path, "ab") as f:
    if more > 0:
      os.posix_fallocate(f.fileno(), have, more)  # lengthens it; a mapped write into a hole would on a full disk be a signal
  return np.memmap(path, kind, "r+", shape=(num,))


def _missing(path: pathlib.Path, records: np.memmap, keys: Sequence[np.ndarray]) -> list[int]:
  """The records that are still to be made; warns of those that were made and are damaged."""
  out, damaged = [], 0
  for i, key in enumerate(keys):
    if not np.array_equal(records["key"][i], key):
      out.append(i)
    elif zlib.crc32(records["pixels"][i]) != records["sum"][i]:
      out.append(i)
      damaged += 1
  if damaged:
    logging.getLogger(__name__).warning("%s: %d of %d records are damaged; they are made again", path, damaged, len(keys))
  return out


def _make(path: pathlib.Path, records: np.memmap, missing: Sequence[int], keys: Sequence[np.ndarray],
          subjects: Sequence[Subject], poses: np.ndarray, width: int, supersample: int, workers: int | None) -> None:
  workers = min(workers or available_cores(), len(missing))
  if len(missing) * poses.shape[1] * width**2 < _ALONE * 64**2:
    workers = 1
  ticks = itertools.count(1)
  with progress() as show, contextlib.ExitStack() as stack:
    def write(i: int, pixels: np.ndarray) -> None:
      records["key"][i] = 0  # a record is never half new under its old key
      records["pixels"][i] = pixels
      records["sum"][i] = zlib.crc32(pixels)
      records["key"][i] = keys[i]
      show("shapes pictured", next(ticks), len(missing))

    arguments = lambda i: (subjects[i], poses[i], width, supersample)
    if workers == 1:
      for i in missing:
        write(i, take(*arguments(i)))
    else:
      pool, running = stack.enter_context(Processes(workers)), 0
      for i in missing:
        while running >= pool.capacity:
          done = results(pool, path)
          running -= len(done)
          for one in done:
            write(*one)
        pool.submit(i, take, *arguments(i))
        running += 1
      while running:
        done = results(pool, path)
        running -= len(done)
        for one in done:
          write(*one)
    records.flush()


def take(subject: Subject, poses: np.ndarray, width: int, supersample: int) -> np.ndarray:
  """The pictures of a subject, contiguous: what a worker process makes."""
  return np.ascontiguousarray(subject.pictures(poses, width, supersample))
