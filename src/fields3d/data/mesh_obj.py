"""Wavefront OBJ: `v` with optional colours, `f` polygons with relative indices, line continuations, objects merged.

Texture coordinates, normals, materials and groups do not change the surface and are passed over. Free-form geometry,
lines and points are counted in a warning. Material files are only looked at to say what is missing, never followed
out of the mesh's folder.
"""

import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from fields3d.core.types import Mesh, PointCloud
from fields3d.data.mesh_file import MeshFile, colors_to_uint8
from fields3d.data.mesh_polygons import triangulate

_PASSED_OVER = frozenset([
    "vt", "vn", "vp", "o", "g", "s", "mg", "usemtl", "mtllib", "usemap", "maplib", "shadow_obj", "trace_obj", "bevel",
    "c_interp", "d_interp", "lod", "call", "csh", "cstype", "deg", "bmat", "step", "parm", "trim", "hole", "scrv", "sp",
    "end", "con", "stech", "ctech"])
_LEFT_OUT = frozenset(["l", "p", "curv", "curv2", "surf"])
_MOST_MTL_BYTES = 2**20
_TEXTURE = re.compile(  # and the options before its name: -o, -s and -t have up to three numbers, -mm two values, others one
    rb"^[ \t]*(?:map_\w+|bump|disp|decal|refl)[ \t]+"
    rb"(?:-(?:[ost](?:[ \t]+[-+.\deE]+){1,3}|mm[ \t]+\S+[ \t]+\S+|\w+[ \t]+\S+)[ \t]+)*(.+)", re.MULTILINE)


def read_obj(file: MeshFile) -> Mesh:
  """Reads an OBJ file as it stands: every face kept, polygons triangulated.

  Raises:
    BadData: no faces, a malformed line (by number), an index out of range, a vertex that is not finite.

  >>> file = MeshFile("a.obj", b"v 0 0 0\\nv 1 0 0\\nv 0 1 0\\nf -3 -2 -1\\n")
  >>> read_obj(file).faces.tolist()
  [[0, 1, 2]]
  """
  rows = _Rows(file)
  if not rows.faces:
    raise file.fault(f"no faces found ({len(rows.vertices)} vertices)",
                     "give a mesh with faces; check that it is an OBJ file")
  if not rows.vertices:
    raise file.fault("faces but no vertices")
  file.check_count(len(rows.vertices), "vertex")
  vertices, colors = _vertices(file, rows)
  file.check_finite(vertices)
  corners, sizes = _corners(file, rows)
  file.check_count(int((sizes - 2).sum()), "face")
  faces, _, folded = triangulate(vertices, corners, sizes)
  if folded:
    file.warn(f"{folded} polygons fold over however they are split")
  if missing := material_files(file, rows.libraries)[1]:
    file.warn(f"{missing} material or texture files missing: geometry kept")
  return Mesh(vertices, faces, colors)


def read_obj_points(file: MeshFile) -> PointCloud:
  """Reads an OBJ file's vertices alone, colours included; it need not have faces.

  Raises:
    BadData: no vertices, a malformed line (by number), a vertex that is not finite.

  >>> read_obj_points(MeshFile("a.obj", b"v 0 0 0\\nv 1 0 0\\n")).points.shape
  (2, 3)
  """
  rows = _Rows(file)
  if not rows.vertices:
    raise file.fault("no points found", "give an OBJ file with `v` lines")
  file.check_count(len(rows.vertices), "vertex")
  points, colors = _vertices(file, rows)
  file.check_finite(points)
  return PointCloud(points, None, colors)


class _Rows:
  """The lines that matter, sorted by keyword, with their numbers from 1."""

  def __init__(self, file: MeshFile):
    self.vertices, self.vertex_lines = [], []
    self.faces, self.face_lines = [], []
    self.libraries = []
    left_out = unknown = 0
    for number, line in _logical_lines(file.text()):
      if line.startswith("v "):
        self.vertices.append(line[2:])
        self.vertex_lines.append(number)
      elif line.startswith("f "):
        self.faces.append(line[2:])
        self.face_lines.append(number)
      else:
        word, _, rest = line.strip().replace("\t", " ").partition(" ")
        if word == "v":
          self.vertices.append(rest)
          self.vertex_lines.append(number)
        elif word in ("f", "fo"):
          self.faces.append(rest)
          self.face_lines.append(number)
        elif word == "mtllib":
          self.libraries.append(rest.strip().encode("latin-1"))
        elif word in _LEFT_OUT:
          left_out += 1
        elif word and word[0] != "#" and word not in _PASSED_OVER:
          unknown += 1
    if left_out:
      file.warn(f"{left_out} lines, points or free-form elements left out")
    if unknown:
      file.warn(f"{unknown} lines not understood and passed over")


def _logical_lines(text: str):
  """(number, line) with continuations joined, comments at line ends dropped."""
  lines = text.split("\n")
  if "\\\n" not in text and text.count("#") == text.count("\n#") + text.startswith("#"):
    return enumerate(lines, 1)
  return _joined(lines)


def _joined(lines: list[str]):
  held, start = [], 0
  for number, line in enumerate(lines, 1):
    start = start if held else number
    if line.endswith("\\") and not line.lstrip().startswith("#"):
      held.append(line[:-1])
      continue
    whole = " ".join((*held, line)) if held else line
    held = []
    yield start, whole.partition("#")[0] if whole.lstrip()[:2] in ("v ", "f ", "v\t", "f\t") else whole
  if held:
    yield start, " ".join(held)


def _vertices(file: MeshFile, rows: _Rows) -> tuple[np.ndarray, np.ndarray | None]:
  """Positions (v, 3) and, where every `v` line has them, colours. x y z [w] or x y z r g b [a]."""
  widths = np.fromiter((len(row.split()) for row in rows.vertices), np.int64, len(rows.vertices))
  wrong = np.flatnonzero((widths < 3) | (widths == 5) | (widths > 7))
  if len(wrong):
    at = wrong[0]
    raise file.fault(f"line {rows.vertex_lines[at]}: a vertex of {widths[at]} numbers ({len(wrong)} in all)",
                     "a vertex is x y z, x y z w or x y z r g b")
  numbers = file.numbers(rows.vertices, np.float64, rows.vertex_lines)
  starts = np.cumsum(widths) - widths
  vertices = numbers[starts[:, None] + np.arange(3)]
  colored = widths >= 6
  if colored.all():
    return vertices, colors_to_uint8(file, numbers[starts[:, None] + np.arange(3, 6)])
  if colored.any():
    file.warn(f"{int((~colored).sum())} of {len(vertices)} vertices have no colour: colours left out")
  return vertices, None


def _corners(file: MeshFile, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
  """Vertex indices from 0 of all faces (c,) and corners per face (p,)."""
  rows.faces = [re.sub(r"(?<=\d)/\S*", "", row) if "/" in row else row for row in rows.faces]
  sizes = np.fromiter((len(row.split()) for row in rows.faces), np.int64, len(rows.faces))
  short = np.flatnonzero(sizes < 3)
  if len(short):
    raise file.fault(f"line {rows.face_lines[short[0]]}: a face of {sizes[short[0]]} corners ({len(short)} in all)")
  numbers = file.numbers(rows.faces, np.int64, rows.face_lines)
  face = np.repeat(np.arange(len(sizes)), sizes)

  def line(corner: int) -> str:
    return f"line {rows.face_lines[face[corner]]}"

  zero = np.flatnonzero(numbers == 0)
  if len(zero):
    raise file.fault(f"{line(zero[0])}: vertex index 0 ({len(zero)} in all)", "OBJ indices start at 1")
  corners = numbers - 1
  relative = numbers < 0
  if relative.any():
    before = np.searchsorted(rows.vertex_lines, np.asarray(rows.face_lines)[face[relative]])
    corners[relative] = np.where(numbers[relative] < -before, -1, numbers[relative] + before)
    wrong = np.flatnonzero(relative & (corners < 0))
    if len(wrong):
      raise file.fault(f"{line(wrong[0])}: relative index {numbers[wrong[0]]} is out of range ({len(wrong)} in all)")
  file.check_indices(corners, len(rows.vertices), line)
  return corners, sizes


def material_files(file: MeshFile, libraries: Sequence[bytes]) -> tuple[list[pathlib.Path], int]:
  """The material files of an OBJ file and the textures they name, and how many more are not in its folder or not readable.

  Args:
    libraries: what follows each `mtllib`: one name with spaces, or several without.
  """
  names = []
  for library in dict.fromkeys(libraries):
    names += [library] if _beside(file, library) else library.split()
  found, missing = {}, 0
  for name in dict.fromkeys(names):
    path, text = _beside(file, name), b""
    try:
      if path is not None:
        with open(path, "rb") as f:
          text = f.read(_MOST_MTL_BYTES).replace(b"\r", b"\n")
    except OSError:
      path = None
    named = [path, *(_beside(file, texture) for texture in dict.fromkeys(_TEXTURE.findall(text)))]
    found |= dict.fromkeys(p for p in named if p is not None)
    missing += named.count(None)
  return list(found), missing


def _beside(file: MeshFile, name: bytes) -> pathlib.Path | None:
  """The file of that name in the mesh's folder, the name in UTF-8 or as the disk has it, else in Latin-1."""
  return file.inside(os.fsdecode(name.strip())) or file.inside(name.strip().decode("latin-1"))
