"""Cameras of a scene at a glance: facts in a table, doubts about their convention, a picture of their frusta."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core.errors import UsageFault, from_os_error, nearest
from fields3d.core.strict_json import make_place
from fields3d.core.types import Camera, View
from fields3d.geometry.cameras import unproject

_CONVERGING = 1e-2  # least mean squared sine between axes for which their common point means something
_GOOD, _POOR = 0.85, 0.5  # mean cosines between where a camera looks and where that point lies
_ALIKE = 0.03  # differences of such cosines that decide nothing: then the commoner mistake is named
_COLORS = {"train": "tab:blue", "val": "tab:green", "test": "tab:red"}
_CAVEAT = "right as it is if the cameras look outwards from one place"
_AXES = {"+z": (2, 1, "negate the 2nd and 3rd columns of the matrices (y and z): they are OpenCV's, +z ahead"),
         "+x": (0, 1, "permute the columns of the matrices: the cameras look along their +x"),
         "-x": (0, -1, "permute the columns of the matrices: the cameras look along their -x"),
         "+y": (1, 1, "permute the columns of the matrices: the cameras look along their +y"),
         "-y": (1, -1, "permute the columns of the matrices: the cameras look along their -y")}


@dataclasses.dataclass(frozen=True)
class Gaze:
  """The point (3,) nearest to all optical axes, and how well cameras look at it: their mean cosine, -1 to 1."""
  point: np.ndarray
  cosine: float


def gaze(positions: np.ndarray, axes: np.ndarray) -> Gaze | None:
  """What cameras at positions (n, 3), looking along unit axes (n, 3), look at; None where axes are about parallel."""
  across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
  if np.linalg.eigvalsh(across.mean(axis=0))[0] < _CONVERGING:
    return None
  point = np.linalg.solve(across.sum(axis=0), np.einsum("nij,nj->i", across, positions))
  toward = point - positions
  distance = np.maximum(np.linalg.norm(toward, axis=1), 1e-12)
  return Gaze(point, float(((toward * axes).sum(axis=1) / distance).mean()))


def convention_doubts(poses: np.ndarray) -> list[str]:
  """What makes another convention likelier than the one that poses were read in, with the remedy in words.

  A guess, from cameras that look at something together. The cameras are read anew, as if a matrix were OpenCV's, or
  another axis looked ahead, or it mapped the world to the camera; where one of these makes all of them look at one point
  and the reading given does not, that one is named. Nothing can be said of cameras that all look one way, and on a ring
  of one height their up directions meet as well as their optical axes.

  Args:
    poses: (n, 3, 4) in the file's own world, camera to world, -z ahead as read.

  >>> turn = np.array([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]] for a in range(6)])
  >>> convention_doubts(np.concatenate([turn, 4 * turn[:, :, 2:]], axis=2))
  []
  """
  rotations, positions = poses[:, :, :3], poses[:, :, 3]
  given = gaze(positions, -rotations[:, :, 2])
  if given is not None and given.cosine > _POOR:
    return []
  inverse, centres = rotations.swapaxes(1, 2), -np.einsum("nji,nj->ni", rotations, positions)
  readings = [("OpenCV or another order of axes: they look along their " + axis, remedy,
               gaze(positions, sign * rotations[:, :, column])) for axis, (column, sign, remedy) in _AXES.items()]
  readings += [(f"world-to-camera matrices, {word}", remedy, gaze(centres, sign * inverse[:, :, 2]))
               for word, sign, remedy in (("-z ahead", -1, "invert them"),
                                          ("+z ahead", 1, "invert them and negate their 2nd and 3rd columns"))]
  readings = [(word, remedy, found.cosine) for word, remedy, found in readings if found is not None]
  best = max((cosine for _, _, cosine in readings), default=-1.0)
  if best < _GOOD:
    return []
  word, remedy, cosine = next(reading for reading in readings if reading[2] > best - _ALIKE)
  now = "point nowhere in common" if given is None else f"look at their common point with a mean cosine {given.cosine:.2f}"
  return [f"the cameras {now}; read as {word}, with {cosine:.2f}: {remedy} ({_CAVEAT})"]


def placement_doubts(poses: np.ndarray, bounds: float | None) -> list[str]:
  """Doubts about where cameras (n, 3, 4) of the model frame stand: upside down, lying, looking past the object's box."""
  out, up = [], poses[:, :, 1].mean(axis=0)
  if np.linalg.norm(up) > 0.5:
    axis = int(np.abs(up).argmax())
    if axis == 1 and up[1] < 0:
      out.append("the cameras are upside down: negate the 2nd and 3rd columns of the matrices if they are OpenCV's, else "
                 "the world's +z is down")
    elif axis != 1 and abs(up[axis]) > 0.8 * np.linalg.norm(up):
      out.append(f"the cameras' up is the model frame's {'+-'[int(up[axis] < 0)]}{'xyz'[axis]}, not +y: the world's axes "
                 "are in another order than +z up")
  found = gaze(poses[:, :, 3], -poses[:, :, 2])
  if bounds is not None and found is not None and found.cosine > _POOR and np.abs(found.point).max() > bounds:
    out.append(f"the cameras look at ({', '.join(f'{v:.2f}' for v in found.point)}), outside the object's box of "
               f"+-{bounds:g}: give a larger box, or move the poses")
  return out


def camera_rows(views: Mapping[str, Sequence[View]]) -> list[dict[str, Any]]:
  """One row per photograph: split, name, model, size, focal lengths, position in the model frame; JSON-able."""
  return [{"split": split, "name": view.name, "model": view.camera.model, "size": list(view.camera.size),
           "focal": list(view.camera.intrinsics[:2]), "position": view.camera.pose[:, 3].tolist()}
          for split, group in views.items() for view in group]


def camera_groups(views: Mapping[str, Sequence[View]]) -> list[dict[str, Any]]:
  """One row per split, model, size and focal length (to a tenth of a pixel), with the range of distances from 0."""
  groups = {}
  for row in camera_rows(views):
    key = (row["split"], row["model"], *row["size"], *(round(f, 1) for f in row["focal"]))
    groups.setdefault(key, []).append(float(np.linalg.norm(row["position"])))
  return [{"split": key[0], "views": len(distances), "model": key[1], "size": list(key[2:4]), "focal": list(key[4:6]),
           "distance": [min(distances), max(distances)]} for key, distances in groups.items()]


def frustum(camera: Camera, depth: float) -> np.ndarray:
  """(8, 2, 3) line segments of a camera's pyramid in the model frame: the corners' true directions, `depth` long."""
  fx, fy, cx, cy = camera.intrinsics
  corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * camera.size
  directions = unproject(camera.model, (corners - (cx, cy)) / (fx, fy), camera.distortion)[0]
  ends = camera.pose[:, 3] + depth * directions @ camera.pose[:, :3].T
  sides = [(camera.pose[:, 3], end) for end in ends]
  return np.array(sides + list(zip(ends, np.roll(ends, -1, axis=0), strict=True)))


def draw_cameras(path: str | os.PathLike, views: Mapping[str, Sequence[View]], bounds: float | None) -> None:
  """A picture of the frusta, a colour per split, with the model frame's axes at 0 (red x, green y, blue z) and the object's box.

  Raises:
    UsageFault: the file's suffix is no picture's. CannotWrite, IOFault: it cannot be written.
  """
  from matplotlib.figure import Figure
  from mpl_toolkits.mplot3d.art3d import Line3DCollection
  positions = np.array([view.camera.pose[:, 3] for group in views.values() for view in group])
  depth = 0.12 * float(np.linalg.norm(positions - positions.mean(axis=0), axis=1).max())
  figure = Figure(figsize=(9, 8), layout="constrained")
  axes = figure.add_subplot(projection="3d")
  length = 1.0 if bounds else 2 * depth
  drawn = [positions, length * np.concatenate([np.zeros((1, 3)), np.eye(3)])]
  for split, group in views.items():
    if group:
      color = _COLORS.get(split, "tab:gray")
      lines = np.concatenate([frustum(view.camera, depth) for view in group])
      drawn.append(lines.reshape(-1, 3))
      axes.add_collection3d(Line3DCollection(_upright(lines), colors=color, linewidths=0.6))
      axes.plot([], [], [], color=color, label=f"{split}: {len(group)}")
  for color, direction in zip(("r", "g", "b"), np.eye(3), strict=True):
    axes.plot(*_upright(np.stack([np.zeros(3), length * direction])).T, color=color, linewidth=1.5)
  if bounds:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * bounds
    box = [(a, b) for i, a in enumerate(corners) for b in corners[i + 1:] if (a != b).sum() == 1]
    axes.add_collection3d(Line3DCollection(_upright(np.array(box)), colors="gray", linewidths=0.8))
    drawn.append(corners)
  drawn = _upright(np.concatenate(drawn))
  middle, half = (drawn.max(axis=0) + drawn.min(axis=0)) / 2, np.ptp(drawn, axis=0).max() / 2
  axes.set(**{f"{axis}lim": (m - half, m + half) for axis, m in zip("xyz", middle, strict=True)})
  axes.set(xlabel="x", ylabel="-z", zlabel="y", box_aspect=(1, 1, 1))
  axes.legend(loc="upper left")
  kinds = figure.canvas.get_supported_filetypes()
  if (kind := pathlib.Path(path).suffix[1:].lower()) not in kinds:
    raise UsageFault(path, f"no kind of picture: {kind!r}", nearest(kind, kinds))
  make_place(pathlib.Path(path))
  try:
    figure.savefig(path, dpi=120)
  except OSError as e:
    raise from_os_error(e, path) from e


def _upright(points: np.ndarray) -> np.ndarray:
  """The model frame's (x, y up, z) as (x, -z, y), for axes whose third one is up."""
  return points[..., [0, 2, 1]] * (1.0, -1.0, 1.0)
