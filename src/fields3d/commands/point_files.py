"""Point clouds, and sets of them, from files and folders."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from fields3d.core.errors import BadData, UsageFault, from_os_error, require_memory

SUFFIXES = (".ply", ".npz", ".npy", ".obj")
_FARTHEST = 1e100  # Beyond it squares overflow.


@dataclasses.dataclass(frozen=True)
class PointFiles:
  """What a path holds. clouds: one for a point file, which is no set. warnings: name the file."""
  path: pathlib.Path
  clouds: Sequence[np.ndarray]
  is_set: bool
  warnings: Sequence[str] = ()

  @property
  def least(self) -> int:
    """Points of the smallest cloud."""
    return min(len(cloud) for cloud in self.clouds)


def read_points(path: pathlib.Path) -> PointFiles:
  """A point file (PLY, OBJ, NPZ, NPY: points (n, 3)), a folder of them, or a set (n, p, 3) as NPZ or NPY.

  A folder's files are read in the order of their names, all that have one of the suffixes; others are counted.

  Raises:
    BadData, MissingInput: naming the file.
  """
  if not path.is_dir():
    return _read_set(path) if _is_set(path) else _read_clouds(path, [path], False)
  try:
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
  except OSError as error:
    raise from_os_error(error, path) from None
  chosen = [file for file in files if file.suffix.lower() in SUFFIXES]
  if not chosen:
    raise BadData(path, f"holds no point files among its {len(files)}", "known: " + ", ".join(SUFFIXES))
  found = _read_clouds(path, chosen, True)
  passed = [f"{path}: {len(files) - len(chosen)} other files passed over"] * (len(files) > len(chosen))
  return dataclasses.replace(found, warnings=[*passed, *found.warnings])


def _read_clouds(path: pathlib.Path, files: Sequence[pathlib.Path], is_set: bool) -> PointFiles:
  from fields3d.data.meshes import read_point_cloud
  clouds, warnings = [], []
  for file in files:
    cloud, told = read_point_cloud(file)
    _check_spread(file, cloud.points[None])
    clouds.append(cloud.points)
    warnings += [f"{file}: {line}" for line in told]
  return PointFiles(path, clouds, is_set, warnings)


def _is_set(path: pathlib.Path) -> bool:
  return any(array.ndim == 3 for array in _arrays(path).values())


def _read_set(path: pathlib.Path) -> PointFiles:
  sets = {name: array for name, array in _arrays(path).items() if array.ndim == 3}
  if len(sets) > 1:
    raise BadData(path, f"holds several sets of clouds: {', '.join(sets)}", "keep one array (n, p, 3)")
  clouds = next(iter(sets.values()))
  if clouds.shape[2] != 3 or not clouds.size:
    raise BadData(path, f"the array has the shape {clouds.shape}, expected (n, p, 3)", "give points in the last axis")
  clouds = clouds.astype(np.float64)
  _check_spread(path, clouds)
  return PointFiles(path, clouds, True)


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of an .npy or .npz; none of other files."""
  from fields3d.data.npz import read_npy, read_npz
  suffix = path.suffix.lower()
  if suffix == ".npy":
    return {"array": read_npy(path)}
  return read_npz(path) if suffix == ".npz" else {}


def _check_spread(path: pathlib.Path, clouds: np.ndarray) -> None:
  """Refuses points (n, p, 3) that are not finite, and clouds whose points are all the same."""
  bad = ~(np.abs(clouds) < _FARTHEST).all(axis=2)
  if bad.any():
    cloud, point = np.argwhere(bad)[0]
    raise BadData(path, f"point {point} of cloud {cloud} (from 0) is not finite ({int(bad.sum())} in all)", "remove it")
  flat = np.flatnonzero(np.ptp(clouds, axis=1).max(axis=1) == 0)
  if len(flat):
    raise BadData(path, f"all {clouds.shape[1]} points of cloud {flat[0]} (from 0) are identical ({len(flat)} such "
                        "clouds)", "export it again")


def resampled(clouds: Sequence[np.ndarray], points: int, seed: int, stream: int) -> np.ndarray:
  """So many points of each cloud, at random without replacement -> (n, points, 3) float64; all of them in their order.

  Raises:
    UsageFault: a cloud has fewer.
  """
  require_memory(len(clouds) * points * 24, "--points", "lower it")
  out = np.empty((len(clouds), points, 3))
  for i, cloud in enumerate(clouds):
    if len(cloud) < points:
      raise UsageFault("--points", f"{points} are asked for, cloud {i} has {len(cloud)}", "lower it")
    rng = np.random.default_rng((seed, stream, i))
    out[i] = cloud if len(cloud) == points else cloud[rng.choice(len(cloud), points, replace=False)]
  return out
