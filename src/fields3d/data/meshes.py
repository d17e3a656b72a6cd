"""Mesh files: OBJ, PLY, STL, OFF, GLB and glTF, each rejected in one line or read with counted warnings.

`parse_mesh` gives a file as it stands; `read_mesh` also mends it. Neither fetches, unpickles or leaves the mesh's
folder; memory is bounded by the caps of `mesh_file` before anything is allocated.
"""

import os
import pathlib
import stat
from collections.abc import Callable

import numpy as np

from fields3d.core.errors import BadData, MissingInput, from_os_error
from fields3d.core.types import Mesh, PointCloud
from fields3d.data.mesh_file import (
  MAX_FILE_BYTES,
  MeshFile,
  colors_to_uint8,
  unit_normals,
)
from fields3d.data.mesh_gltf import read_glb, read_gltf
from fields3d.data.mesh_obj import read_obj, read_obj_points
from fields3d.data.mesh_off import read_off
from fields3d.data.mesh_ply import read_ply, read_ply_points
from fields3d.data.mesh_stl import read_stl
from fields3d.data.npz import read_npy, read_npz
from fields3d.geometry.meshes import inspect_mesh
from fields3d.geometry.repair import repair

READERS: dict[str, Callable[[MeshFile], Mesh]] = {
    ".obj": read_obj,
    ".ply": read_ply,
    ".stl": read_stl,
    ".off": read_off,
    ".glb": read_glb,
    ".gltf": read_gltf,
}
_POINT_ARRAYS = ("points", "coords", "normals", "colors", "R", "G", "B")


def read_mesh(path: str | os.PathLike, *, strict: bool = False) -> tuple[Mesh, list[str]]:
  """Reads a mesh and mends it: degenerate and duplicate faces dropped, mixed and inverted orientation set right.

  Args:
    path: the suffix, in either case, names the format.
    strict: reject where there is anything to warn of, the findings of `inspect_mesh` included.

  Returns:
    the mesh, float64 in the file's own frame, and warnings, each with its count.

  Raises:
    MissingInput: no such readable file. BadData: unacceptable content; one line with field or offset, and remedy.
  """
  mesh, warnings = parse_mesh(path)
  mesh, notes = repair(mesh)
  warnings += notes
  if not len(mesh.faces):
    raise BadData(path, "every face is degenerate", "give a mesh with an area")
  if strict:
    warnings += inspect_mesh(mesh, crossings=True).warnings()
    if warnings:
      raise BadData(path, "rejected as strict: " + ", ".join(warnings), "mend the mesh, or read it without strict")
  return mesh, warnings


def parse_mesh(path: str | os.PathLike) -> tuple[Mesh, list[str]]:
  """Reads a mesh as the file has it: every face, vertex and orientation kept, polygons triangulated.

  Raises:
    MissingInput, BadData: as `read_mesh`.
  """
  path = pathlib.Path(path)
  reader = READERS.get(path.suffix.lower())
  if reader is None:
    if not path.is_file():
      raise MissingInput(path, "is not a file" if path.exists() else "no such file", "give a mesh")
    if path.suffix.lower() in (".pkl", ".pickle", ".pth", ".pt"):
      raise BadData(path, "pickles are never read", "export the mesh as PLY or GLB")
    raise BadData(path, f"unknown mesh format {path.suffix!r}", "known: " + ", ".join(READERS))
  file = open_file(path)
  return reader(file), file.warnings


def read_point_cloud(path: str | os.PathLike) -> tuple[PointCloud, list[str]]:
  """Reads points from a PLY or OBJ file's vertices, an npy (n, 3), or an npz with `points` or `coords` (n, 3).

  An npz may hold `normals` (n, 3), and `colors` (n, 3) or `R`, `G`, `B` (n,), in 0..1 or 0..255.

  Returns:
    the cloud, float64 points in the file's own frame, and warnings, each with its count.

  Raises:
    MissingInput: no such readable file. BadData: unacceptable content.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() == ".ply":
    file = open_file(path)
    return read_ply_points(file), file.warnings
  if path.suffix.lower() == ".obj":
    file = open_file(path)
    return read_obj_points(file), file.warnings
  if path.suffix.lower() == ".npy":
    return _npy_points(MeshFile(_check_file(path), b"")), []
  if path.suffix.lower() == ".npz":
    file = MeshFile(_check_file(path), b"")
    return _npz_points(file), file.warnings
  raise BadData(path, f"unknown point format {path.suffix!r}", "known: .ply, .npz, .npy, .obj")


def _check_file(path: pathlib.Path) -> pathlib.Path:
  """A readable regular file that is neither empty nor above the cap, before it is opened."""
  try:
    status = path.stat()
  except OSError as error:
    raise from_os_error(error, path) from None
  if not stat.S_ISREG(status.st_mode):
    raise MissingInput(path, "not a regular file", "give the path of a file")
  if status.st_size == 0:
    raise BadData(path, "empty file", "fetch or export it again")
  if status.st_size > MAX_FILE_BYTES:
    raise BadData(path, f"{status.st_size} bytes, the cap is {MAX_FILE_BYTES}", "simplify or split the mesh")
  return path


def open_file(path: str | os.PathLike) -> MeshFile:
  """A mesh file's bytes; faults as `parse_mesh`."""
  path = pathlib.Path(path)
  try:
    return MeshFile(path, _check_file(path).read_bytes())
  except OSError as error:
    raise from_os_error(error, path) from None


def _npy_points(file: MeshFile) -> PointCloud:
  points = read_npy(file.path, max_bytes=MAX_FILE_BYTES).astype(np.float64)
  if points.ndim != 2 or points.shape[1] != 3 or not len(points):
    raise file.fault(f"the array has the shape {points.shape}, expected (n, 3)", "give points in rows")
  file.check_finite(points)
  return PointCloud(points)


def _npz_points(file: MeshFile) -> PointCloud:
  arrays = {k: v for k, v in read_npz(file.path, max_bytes=MAX_FILE_BYTES).items() if k in _POINT_ARRAYS}
  for name, array in arrays.items():
    if array.ndim != (1 if name in "RGB" else 2) or array.shape[1:] not in ((), (3,)):
      raise file.fault(f"array {name} has the shape {array.shape}, expected {'(n,)' if name in 'RGB' else '(n, 3)'}")
  points = arrays.get("points", arrays.get("coords"))
  if points is None or not len(points):
    raise file.fault("no points found", "give an npz with points or coords (n, 3)")
  if any(len(a) != len(points) for a in arrays.values()):
    raise file.fault("arrays of different lengths: " + ", ".join(f"{k} {len(a)}" for k, a in arrays.items()))
  points = points.astype(np.float64)
  file.check_finite(points)
  colors = arrays.get("colors")
  if colors is None and all(c in arrays for c in "RGB"):
    colors = np.stack([arrays[c] for c in "RGB"], 1)
  if colors is not None:
    colors = colors_to_uint8(file, colors.astype(np.float64), "point", 255.0 if colors.dtype == np.uint8 else None)
  normals = arrays.get("normals")
  return PointCloud(points, None if normals is None else unit_normals(file, normals), colors)
