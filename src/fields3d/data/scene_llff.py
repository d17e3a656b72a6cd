"""LLFF scenes: photographs in images/ (or images_<factor>/) and poses_bounds.npy, as NeRF's forward-facing ones."""

import pathlib
from collections.abc import Sequence

import numpy as np

from fields3d.core.config import Count, Positive
from fields3d.core.errors import BadData
from fields3d.core.types import Camera
from fields3d.data.npz import read_npy
from fields3d.data.photographs import find_folder, hold_out, make_views, resolution_of
from fields3d.data.scene import Scene
from fields3d.data.scene_colmap import HoldEvery
from fields3d.data.scene_frame import normalise
from fields3d.geometry.rays import camera_rays
from fields3d.geometry.transforms import rigid_poses

_NEAR = 0.9  # of the nearest bound, as NeRF


def load_llff(path: str, factor: Count | None = 8, ndc: bool = True, hold_every: HoldEvery = 8,
              bd_factor: Positive = 0.75) -> Scene:
  """A scene from LLFF's poses_bounds.npy.

  Args:
    path: the folder with poses_bounds.npy and images/ or images_<factor>/.
    factor: read the photographs at 1 / factor of their size, from images_<factor>/ where there is such a folder.
    ndc: for forward-facing scenes: the mean camera's frame, the nearest bound at depth 1 / bd_factor, so that the near
      plane of normalised device coordinates, at depth 1, lies before everything. Else the scene is unbounded, its
      farthest camera at distance 1 from the cameras' mean.
    hold_every: the first of every so many photographs is held out.

  Raises:
    MissingInput: poses_bounds.npy or the photographs are not there.
    BadData: not (n, 17), not finite, bounds out of order, mirrored or scaled rotations, another number of photographs.

  Source: Mildenhall et al. 2019 (LLFF) for the file; Mildenhall et al. 2020 (NeRF), the released code's
    `load_llff_data` for recentring, `bd_factor` and the held-out photographs.
  """
  root = pathlib.Path(path)
  poses, hwf, bounds, warnings = read_poses_bounds(root / "poses_bounds.npy")
  folder = find_folder(root, factor)
  if len(folder.photographs) != len(poses):
    raise BadData(root / "poses_bounds.npy", f"{len(poses)} rows, {folder.path.name}/ holds {len(folder.photographs)} "
                  "photographs", "give one photograph for each row, in the order of their names")
  poses, frame, rotation = normalise(poses, mode="forward" if ndc else "up",
                                     scale=bounds.min() * bd_factor if ndc else "cameras", where=root)
  cameras = [_camera(pose, *shape) for pose, shape in zip(poses, hwf, strict=True)]
  views, opaque = make_views([path.name for path in folder.photographs], folder.photographs, cameras, folder.reduction)
  split = hold_out(views, hold_every)
  return Scene(
      name=root.resolve().name, views=split,
      near=0.0 if ndc else _NEAR * bounds.min() / frame.scale, far=1.0 if ndc else bounds.max() / frame.scale,
      frame=frame, rotation=tuple(map(tuple, rotation.tolist())), ndc=ndc,
      bounds=ndc_bounds([view.camera for view in (*split["train"], *split["test"])]) if ndc else None,
      opaque=opaque,
      protocol={"scene": root.resolve().name, "split": f"every {hold_every}th held out",
                "resolution": resolution_of(views), "colors": "sRGB"},
      warnings=tuple(warnings))


def read_poses_bounds(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
  """Poses (n, 3, 4) camera to world, -z ahead; (height, width, focal) (n, 3); near and far (n, 2); warnings.

  A row holds a 3x5 matrix, its columns [down, right, back, position, (height, width, focal)], then the two bounds:
  right, up, back are columns 1, -0, 2.

  Raises:
    MissingInput: no such file. BadData: see `load_llff`.
  """
  table = read_npy(path)
  if table.ndim != 2 or table.shape[1] != 17 or len(table) == 0:
    raise BadData(path, f"an array of shape {table.shape}, not (n, 17)", "write it with LLFF's imgs2poses.py")
  table = table.astype(np.float64)
  _refuse(path, ~np.isfinite(table).all(axis=1), "holds a number that is not finite")
  matrix, bounds = table[:, :15].reshape(-1, 3, 5), table[:, 15:]
  _refuse(path, (bounds[:, 0] <= 0) | (bounds[:, 0] >= bounds[:, 1]), "bounds are not 0 < near < far")
  _refuse(path, (matrix[:, :, 4] <= 0).any(axis=1), "height, width and focal length are not all above 0")
  turns = np.stack([matrix[:, :, 1], -matrix[:, :, 0], matrix[:, :, 2]], axis=2)
  rigid, warnings = rigid_poses(np.concatenate([turns, matrix[:, :, 3:4]], axis=2),
                                [f"row {i}" for i in range(len(table))], path)
  return rigid, matrix[:, :, 4], bounds, warnings


def ndc_bounds(cameras: Sequence[Camera]) -> float:
  """Half the side of the smallest cube around 0 that holds all that cameras see, in normalised device coordinates.

  These are of the first camera's frustum, seen from 0 along -z, which alone fills [-1, 1]^3: cameras that stand aside
  or are turned see beyond it. Rays are straight there, so the ends of those through the corners decide.
  """
  width, height = cameras[0].size
  fx, fy = cameras[0].intrinsics[:2]
  facts = {"near": 0.0, "far": 1.0, "ndc": {"width": width, "height": height, "fx": fx, "fy": fy, "near": 1.0}}
  corners = np.concatenate([np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * camera.size for camera in cameras])
  rays = camera_rays(cameras, np.repeat(np.arange(len(cameras)), 4), corners, facts)
  return float(max(1.0, np.abs(rays.origins).max(), np.abs(rays.origins + rays.directions).max()))


def _refuse(path: pathlib.Path, bad: np.ndarray, what: str) -> None:
  if bad.any():
    raise BadData(path, f"row {int(bad.argmax())}: {what} ({int(bad.sum())} rows in all)",
                  "run LLFF's imgs2poses.py again")


def _camera(pose: np.ndarray, height: float, width: float, focal: float) -> Camera:
  """LLFF's camera: no distortion, the principal point in the middle."""
  return Camera("PINHOLE", (round(width), round(height)), (focal, focal, width / 2, height / 2), (), pose)
