"""A mesh as a binary glTF 2.0 file (GLB): one node, one mesh, one material; the same bytes for the same mesh.

Colours as seen, light included, have an unlit material (KHR_materials_unlit).

Positions are float32 in the mesh's own frame and the node carries the frame, so that a shape far from the origin
keeps its precision.
"""

import json
import struct
from collections.abc import Mapping

import numpy as np

from fields3d.core.types import Frame, Mesh
from fields3d.geometry.meshes import face_cross
from fields3d.geometry.topology import weld
from fields3d.version import __version__

_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_LINEAR, _CLAMP = 9729, 33071
IDENTITY = Frame()

_GREY = [0.6, 0.6, 0.6, 1.0]


def vertex_normals(mesh: Mesh) -> np.ndarray:
  """Unit normals (v, 3) float64: the mean of the faces around a vertex, weighted by area.

  Where they cancel, the normal of the largest face is taken; without any face of positive area, +Y.
  """
  faces = face_cross(mesh)
  sums = np.stack([np.bincount(mesh.faces.reshape(-1), np.repeat(faces[:, i], 3), len(mesh.vertices))
                   for i in range(3)], axis=-1)
  lengths = np.linalg.norm(sums, axis=-1)
  areas = np.linalg.norm(faces, axis=-1)
  by_area = np.argsort(areas, kind="stable")
  largest = np.full(len(mesh.vertices), -1)  # face of each vertex
  largest[mesh.faces[by_area].reshape(-1)] = np.repeat(by_area, 3)
  cancelled = np.flatnonzero(largest >= 0)
  cancelled = cancelled[lengths[cancelled] <= 1e-6 * areas[largest[cancelled]]]
  sums[cancelled] = faces[largest[cancelled]]
  lengths = np.linalg.norm(sums, axis=-1, keepdims=True)
  return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), [0.0, 1.0, 0.0])


def _shared_normals(mesh: Mesh) -> np.ndarray:
  """`vertex_normals` with the vertices at one place taken as one."""
  first, group = weld(mesh.vertices)
  return vertex_normals(Mesh(mesh.vertices[first], group[mesh.faces]))[group]


def linear_color(srgb: np.ndarray) -> np.ndarray:
  """Linear RGB in [0, 1] of sRGB bytes. Source: IEC 61966-2-1.

  >>> linear_color(np.array([0, 128, 255], np.uint8)).round(4)
  array([0.    , 0.2159, 1.    ])
  """
  c = np.asarray(srgb, np.float64) / 255
  return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def glb_bytes(mesh: Mesh, name: str, frame: Frame = IDENTITY, extras: Mapping | None = None,
              uv: np.ndarray | None = None, png: bytes = b"", unlit: bool = False) -> bytes:
  """The GLB of a mesh of one face or more; y is up, as in the mesh.

  Colours become COLOR_0, linear as glTF wants them, in 16 bits, so that dark sRGB bytes stay apart.

  Args:
    name: of the node, the mesh and the material.
    extras: JSON-able facts, kept in `asset.extras`.
    uv: (v, 2) coordinates of the texture `png`, from its upper left corner; vertices at one place, as charts' borders
      have them, then share a normal. Colours of vertices, which would be multiplied with it, are left out.
    unlit: whether colours hold the light.
  """
  buffers = _Buffers()
  normals = vertex_normals(mesh) if uv is None else _shared_normals(mesh)
  attributes = {
      "POSITION": buffers.add(mesh.vertices.astype(np.float32), _FLOAT, "VEC3", _ARRAY_BUFFER, bounds=True),
      "NORMAL": buffers.add(normals.astype(np.float32), _FLOAT, "VEC3", _ARRAY_BUFFER),
  }
  if mesh.colors is not None and uv is None:
    colors = np.full((len(mesh.vertices), 4), 65535, np.uint16)  # four, since rows must be multiples of 4 bytes
    colors[:, :3] = np.rint(65535 * linear_color(mesh.colors))
    attributes["COLOR_0"] = buffers.add(colors, _USHORT, "VEC4", _ARRAY_BUFFER, normalized=True)
  kind = (np.uint16, _USHORT) if len(mesh.vertices) < 65535 else (np.uint32, _UINT)
  indices = buffers.add(mesh.faces.reshape(-1).astype(kind[0]), kind[1], "SCALAR", _ELEMENT_ARRAY_BUFFER)
  material = {"name": name, "pbrMetallicRoughness": {
      "baseColorFactor": _GREY if mesh.colors is None and uv is None else [1.0] * 4, "metallicFactor": 0.0,
      "roughnessFactor": 0.6}}
  picture = {}
  if uv is not None:
    attributes["TEXCOORD_0"] = buffers.add(uv.astype(np.float32), _FLOAT, "VEC2", _ARRAY_BUFFER)
    picture = {"textures": [{"sampler": 0, "source": 0}],
               "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP}],
               "images": [{"bufferView": buffers.add_raw(png), "mimeType": "image/png"}]}
    material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
  if unlit:
    material["extensions"], picture["extensionsUsed"] = {"KHR_materials_unlit": {}}, ["KHR_materials_unlit"]
  asset = {"version": "2.0", "generator": f"fields3d {__version__}"}
  return _container({
      "asset": asset | ({"extras": dict(extras)} if extras else {}),
      "scene": 0,
      "scenes": [{"name": name, "nodes": [0]}],
      "nodes": [{"name": name, "mesh": 0} | _transform(frame)],
      "meshes": [{"name": name, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
      "materials": [material],
      "accessors": buffers.accessors,
      "bufferViews": buffers.views,
      "buffers": [{"byteLength": len(buffers.data)}],
  } | picture, bytes(buffers.data))


def _transform(frame: Frame) -> dict:
  """A node's transform from the normalised frame to the world: what is not the identity."""
  out = {} if frame.offset == (0.0, 0.0, 0.0) else {"translation": [float(v) for v in frame.offset]}
  return out if frame.scale == 1.0 else out | {"scale": [float(frame.scale)] * 3}


class _Buffers:
  """The one binary buffer of a GLB, with its views and accessors."""

  def __init__(self):
    self.data, self.views, self.accessors = bytearray(), [], []

  def add(self, array: np.ndarray, kind: int, shape: str, target: int, normalized=False, bounds=False) -> int:
    """Appends an array and returns its accessor's index."""
    view = self.add_raw(np.ascontiguousarray(array).tobytes())
    self.views[view]["target"] = target
    accessor = {"bufferView": view, "componentType": kind, "count": len(array), "type": shape}
    if normalized:
      accessor["normalized"] = True
    if bounds:
      accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
    self.accessors.append(accessor)
    return len(self.accessors) - 1

  def add_raw(self, raw: bytes) -> int:
    """Appends bytes and returns their view's index."""
    self.data += b"\0" * (-len(self.data) % 4)
    self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)})
    self.data += raw
    return len(self.views) - 1


def _container(document: dict, binary: bytes) -> bytes:
  text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
  text += b" " * (-len(text) % 4)
  binary += b"\0" * (-len(binary) % 4)
  chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
  return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
