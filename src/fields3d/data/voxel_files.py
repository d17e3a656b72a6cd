"""Occupancy grids from files: .binvox, .npy and .npz, each refused in one line or read whole, within a cap.

Source of binvox: Patrick Min's specification, https://www.patrickmin.com/binvox/binvox.html (versions 1 and 2).
"""

import os
import pathlib

import numpy as np

from fields3d.core.errors import BadData, UsageFault, from_os_error
from fields3d.data.npz import read_npy, read_npz

SUFFIXES = (".binvox", ".npy", ".npz")
MAX_SIDE = 1024
MAX_HEADER = 1024  # bytes
MAX_FILE_BYTES = 2**29
REMEDY = "write it again with binvox"


def read_voxels(path: str | os.PathLike, threshold: float = 0.5) -> np.ndarray:
  """The occupancy of a grid, (x, y, z) bool.

  Args:
    path: .binvox; .npy or .npz of one array with three axes (those of length 1 do not count), booleans or numbers.
    threshold: a voxel of numbers is occupied above it.

  Raises:
    UsageFault: another suffix. MissingInput: no such file. BadData: damaged content, not three axes, more than 1,024
      voxels along one, or a value that is not finite; .npz: no array or several, none of them called "voxels".
  """
  path = pathlib.Path(path)
  suffix = path.suffix.lower()
  if suffix == ".binvox":
    return read_binvox(path)
  if suffix == ".npy":
    return _occupied(path, read_npy(path, max_bytes=8 * MAX_SIDE**3), threshold)
  if suffix == ".npz":
    arrays = read_npz(path, max_bytes=8 * MAX_SIDE**3)
    if len(arrays) != 1 and "voxels" not in arrays:
      raise BadData(path, f"holds the arrays {', '.join(sorted(arrays)) or 'none'}", "give one, or call it voxels")
    return _occupied(path, arrays["voxels"] if "voxels" in arrays else next(iter(arrays.values())), threshold)
  raise UsageFault(path, "is not a file of voxels", f"give one of {' '.join(SUFFIXES)}")


def _occupied(path: pathlib.Path, values: np.ndarray, threshold: float) -> np.ndarray:
  shape = tuple(n for n in values.shape if n != 1) if values.ndim > 3 else values.shape
  if len(shape) != 3:
    raise BadData(path, f"has shape {values.shape}", "give three axes")
  _check_shape(path, shape)
  values = values.reshape(shape)
  if values.dtype.kind == "f" and not np.isfinite(values).all():
    bad = np.argwhere(~np.isfinite(values))
    raise BadData(path, f"voxel {bad[0].tolist()} is not finite ({len(bad)} in all)", "write the grid again")
  return values if values.dtype == bool else values > threshold


def read_binvox(path: str | os.PathLike) -> np.ndarray:
  """The occupancy (x, y, z) bool of a .binvox file; the grid's place and scale in its header are not used.

  In the file x runs slowest, then z, then y, in runs of (value, length) bytes; any value but 0 is occupied.

  Raises:
    MissingInput: no such file. BadData: not a binvox header, axes out of bounds, runs that do not fill the grid.
  """
  path = pathlib.Path(path)
  try:
    with open(path, "rb") as f:
      size = os.fstat(f.fileno()).st_size
      if size == 0:
        raise BadData(path, "empty file", REMEDY)
      if size > MAX_FILE_BYTES:
        raise BadData(path, f"{size} bytes, the cap is {MAX_FILE_BYTES}", "lower the resolution")
      data = f.read(MAX_FILE_BYTES)
  except OSError as error:
    raise from_os_error(error, path) from None
  (depth, width, height), start = _header(path, data)
  runs = np.frombuffer(data, np.uint8, offset=start)
  if len(runs) % 2:
    raise BadData(path, f"a value without its count at byte {len(data) - 1}", "copy or write it again")
  counts = runs[1::2].astype(np.int64)
  total = int(counts.sum())
  if total != depth * width * height:
    raise BadData(path, f"{total} voxels in its runs, {depth} x {width} x {height} are {depth * width * height}",
                  "copy or write it again")
  solid = np.repeat(runs[::2] > 0, counts)
  return np.ascontiguousarray(solid.reshape(depth, width, height).swapaxes(1, 2))  # from x, z, y


def _header(path: pathlib.Path, data: bytes) -> tuple[tuple[int, int, int], int]:
  """The lengths of the axes x, z, y, and where the runs begin."""
  end = data[:MAX_HEADER].find(b"\ndata\n")
  if not data.startswith(b"#binvox ") or end < 0:
    raise BadData(path, "has no binvox header (#binvox ... data)", REMEDY)
  lines = data[:end].decode("latin-1").split("\n")
  if lines[0].split() not in (["#binvox", "1"], ["#binvox", "2"]):
    raise BadData(path, f"first line is {lines[0][:40]!r}", "give binvox version 1 or 2")
  words = [line.split() for line in lines[1:]]
  sizes = [line[1:] for line in words if line and line[0] == "dim"]
  if len(sizes) != 1 or len(sizes[0]) != 3 or not all(n.isdecimal() and len(n) < 10 for n in sizes[0]):
    raise BadData(path, "header has not one line 'dim' with three whole numbers", REMEDY)
  for line in words:
    if line and line[0] not in ("dim", "translate", "scale") and not line[0].startswith("#"):
      raise BadData(path, f"header has an unknown line {' '.join(line)[:40]!r}", REMEDY)
  shape = tuple(int(n) for n in sizes[0])
  _check_shape(path, shape)
  return shape, end + len(b"\ndata\n")


def _check_shape(path: pathlib.Path, shape: tuple[int, ...]) -> None:
  if not all(1 <= n <= MAX_SIDE for n in shape):
    raise BadData(path, f"has {' x '.join(map(str, shape))} voxels", f"give 1 to {MAX_SIDE} along each axis")
