"""Meshes as files: GLB (the default), PLY and OBJ, each written whole or not at all; textures with GLB and OBJ."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from fields3d.core.errors import BadData, UsageFault, from_os_error, nearest
from fields3d.core.strict_json import make_place, replace
from fields3d.core.types import Frame, Mesh
from fields3d.extraction.gltf import IDENTITY, glb_bytes, vertex_normals
from fields3d.extraction.texture import Texture
from fields3d.geometry.topology import weld
from fields3d.version import __version__


def ply_bytes(mesh: Mesh, name: str, frame: Frame = IDENTITY, extras: Mapping | None = None) -> bytes:
  """The binary PLY of a mesh: float64 positions in the world frame, normals, sRGB bytes; extras as a comment."""
  columns = [(axis, "<f8") for axis in "xyz"] + [(axis, "<f4") for axis in ("nx", "ny", "nz")]
  if mesh.colors is not None:
    columns += [(channel, "u1") for channel in ("red", "green", "blue")]
  rows = np.empty(len(mesh.vertices), columns)
  parts = [_world(mesh, frame), vertex_normals(mesh)] + ([] if mesh.colors is None else [mesh.colors])
  for (column, _), values in zip(columns, np.concatenate([p.T for p in parts]), strict=True):
    rows[column] = values
  faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
  faces["count"], faces["corners"] = 3, mesh.faces
  words = {"<f8": "double", "<f4": "float", "u1": "uchar"}
  header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in _remarks(name, extras)),
            f"element vertex {len(rows)}", *(f"property {words[kind]} {column}" for column, kind in columns),
            f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
  return "\n".join(header).encode() + rows.tobytes() + faces.tobytes()


def obj_bytes(mesh: Mesh, name: str, frame: Frame = IDENTITY, extras: Mapping | None = None,
              uv: np.ndarray | None = None, material: str = "") -> bytes:
  """The OBJ of a mesh in the world frame; colours as three more numbers a vertex, in [0, 1] sRGB, as viewers read.

  Vertices of one place and colour are one, with one normal, so that only the texture is cut along the charts' borders.

  Args:
    uv: (v, 2) coordinates of the texture of `material`.mtl, from its upper left corner (OBJ counts from the lower left).
  """
  first, corners = _welded(mesh)
  whole = Mesh(mesh.vertices[first], corners)
  rows = _world(whole, frame)
  extent = np.ptp(rows, axis=0).max()
  far = np.log10(np.abs(rows).max() / extent) if extent > 0 else 0  # digits that only say where the mesh is
  line = "v {0} {0} {0}".format(f"%.{min(12 + max(0, int(far)), 17)}g")
  if mesh.colors is not None:
    rows, line = np.concatenate([rows, mesh.colors[first] / 255], axis=1), line + " %.4f %.4f %.4f"
  title, indices, face = json.dumps(name)[1:-1].replace(" ", "_"), [corners, corners], "f %d//%d %d//%d %d//%d"
  text = [*(f"# {line}" for line in _remarks(name, extras)), *([] if uv is None else [f"mtllib {material}.mtl"]),
          f"o {title}", _lines(line, rows), _lines("vn %.6f %.6f %.6f", vertex_normals(whole))]
  if uv is not None:
    text += [_lines("vt %.7f %.7f", uv * (1, -1) + (0, 1)), "usemtl field"]
    indices, face = [corners, mesh.faces, corners], face.replace("//", "/%d/")
  text += [_lines(face, np.stack(indices, axis=-1) + 1), ""]
  return "\n".join(text).encode()


FORMATS: Mapping[str, Callable] = {"glb": glb_bytes, "ply": ply_bytes, "obj": obj_bytes}


def export(mesh: Mesh, path: str | os.PathLike, format: str = "glb", name: str = "", *, frame: Frame = IDENTITY,
           extras: Mapping | None = None, texture: Texture | None = None, unlit: bool = False) -> pathlib.Path:
  """Writes a mesh in the world frame, +Y up, and returns the file's path, which gets the format's ending.

  The same mesh gives the same bytes. The file appears complete or not at all.

  Args:
    name: of the object in the file; the file's stem if empty.
    frame: takes the mesh to the world: world = normalised * scale + offset.
    extras: JSON-able facts to keep with the mesh, such as where it comes from.
    unlit: whether colours hold the light, so that a GLB's or an MTL's material has none of its own.
    texture: goes into a GLB; beside an OBJ as a PNG and an MTL of its name; a PLY has none.

  Raises:
    UsageFault: an unknown format, or a texture for a PLY. BadData: a mesh without faces, or not finite, or extras that are not JSON.
    CannotWrite, IOFault: the file cannot be written.
  """
  if format not in FORMATS:
    raise UsageFault("--format", f"unknown format {format!r}", nearest(format, FORMATS))
  if texture is not None and format == "ply":
    raise UsageFault("--format", "a ply file holds no texture", "use glb or obj")
  path = pathlib.Path(path)
  path = path if path.suffix == f".{format}" else path.with_name(f"{path.name}.{format}")
  if not len(mesh.faces):
    raise BadData(path, "the mesh has no faces: nothing is written", "extract it from a field with a zero crossing")
  if not np.all(np.isfinite(mesh.vertices)):
    count = int(np.sum(~np.isfinite(mesh.vertices)))
    raise BadData(path, f"{count} vertex coordinates are not finite: nothing is written")
  if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
    raise BadData(path, f"face indices reach beyond the {len(mesh.vertices)} vertices: nothing is written")
  beside = {}
  try:
    material = {"unlit": unlit} if format == "glb" else {}
    data = FORMATS[format](mesh, name or path.stem, frame, extras, *_textured(texture, format, path.stem, unlit, beside), **material)
  except (TypeError, ValueError) as error:
    raise BadData(path, f"its extras are no JSON: {error}", "give finite numbers, strings, lists, dicts") from error
  make_place(path)
  try:
    for ending, content in beside.items():
      replace(path.with_suffix(ending), content)
    replace(path, data)
  except OSError as error:
    raise from_os_error(error, path) from error
  return path


def _textured(texture: Texture | None, format: str, stem: str, unlit: bool, beside: dict[str, bytes]) -> tuple:
  """What a format's function is told of a texture; files that go beside the mesh are added to `beside`, by ending."""
  if texture is None:
    return ()
  if format == "glb":
    return texture.uv, texture.png()
  beside[".png"] = texture.png()
  beside[".mtl"] = f"newmtl field\nKa 0 0 0\nKd 1 1 1\nillum {0 if unlit else 1}\nmap_Kd {stem}.png\n".encode()
  return texture.uv, stem


def _world(mesh: Mesh, frame: Frame) -> np.ndarray:
  return mesh.vertices * frame.scale + np.asarray(frame.offset)


def _welded(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
  """The first vertex of each place and colour (w,), and the faces (f, 3) of these."""
  first, group = weld(mesh.vertices if mesh.colors is None else np.concatenate([mesh.vertices, mesh.colors], axis=1))
  return first, group[mesh.faces]


def _lines(line: str, rows: np.ndarray) -> str:
  """One line a row."""
  return "\n".join([line] * len(rows)) % tuple(rows.reshape(-1).tolist())


def _remarks(name: str, extras: Mapping | None) -> list[str]:
  """Comment lines, ASCII only."""
  lines = [f"fields3d {__version__}", f"name {json.dumps(name)}"]
  return lines + ([f"extras {json.dumps(dict(extras), allow_nan=False)}"] if extras else [])
