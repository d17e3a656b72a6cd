"""What a glTF file draws, part by part: triangles, material, texture coordinates, the size of the texture.

A part is a primitive of a node: what an engine draws at once. Texture transforms (KHR_texture_transform) are not applied.
"""

import dataclasses
import io
import os
import pathlib
import warnings

import numpy as np
from PIL import Image

from fields3d.core.types import Mesh
from fields3d.data.mesh_accessors import Accessors
from fields3d.data.mesh_file import MeshFile
from fields3d.data.mesh_gltf import bake, drawn, open_glb, open_gltf
from fields3d.data.meshes import open_file

OPENERS = {".glb": open_glb, ".gltf": open_gltf}


@dataclasses.dataclass(frozen=True)
class GltfPart:
  """mesh: in the scene's frame. material: its index, -1 for none. uv: (f, 3, 2) of the faces' corners, v downward, or
  None. texture: (width, height) of the base colour's image, or None where there is none or its size cannot be read."""
  mesh: Mesh
  material: int
  uv: np.ndarray | None
  texture: tuple[int, int] | None


def read_parts(path: str | os.PathLike) -> tuple[list[GltfPart], list[str]]:
  """The parts of a GLB or glTF file, and warnings.

  Raises:
    MissingInput, BadData: as `meshes.parse_mesh`.
  """
  file = open_file(path)
  tables = OPENERS[pathlib.Path(path).suffix.lower()](file)
  return [_part(tables, content, primitive) for content, primitive in drawn(tables)], file.warnings


def _part(tables: Accessors, content: tuple, primitive: dict) -> GltfPart:
  mesh, faces = bake(tables.file, [content]), content[1]
  material = primitive.get("material", -1)
  texture, channel = (None, 0) if material == -1 else _base_texture(tables, tables.item("materials", material))
  name, uv = f"TEXCOORD_{channel}", None
  if name in primitive["attributes"]:
    values = tables.read(primitive["attributes"][name], f"attributes.{name}", ("VEC2",))
    if len(values) != len(content[0]):
      raise tables.file.fault(f"{name} has {len(values)} rows for {len(content[0])} vertices")
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
      raise tables.file.fault(f"attributes.{name} (accessors[{primitive['attributes'][name]}]) item {bad[0]} is not finite: "
                              f"{values[bad[0]].tolist()} ({len(bad)} in all)")
    corners = faces[:, ::-1] if np.linalg.det(content[3][:3, :3]) < 0 else faces  # as `bake` turns mirrored faces
    uv = values[corners]
  return GltfPart(mesh, material, uv, texture)


def _base_texture(tables: Accessors, material: dict) -> tuple[tuple[int, int] | None, int]:
  """The size of a material's base colour texture, and the number of its coordinates."""
  metallic = material.get("pbrMetallicRoughness")
  info = metallic.get("baseColorTexture") if isinstance(metallic, dict) else None
  if not isinstance(info, dict):
    return None, 0
  channel = tables.natural(info, "texCoord", "baseColorTexture", 0)
  texture = tables.item("textures", info.get("index"))
  if "source" not in texture:
    tables.file.warn("a texture in a format of an extension: its size is not read")
    return None, channel
  return _image_size(tables.file, tables, tables.item("images", texture["source"])), channel


def _image_size(file: MeshFile, tables: Accessors, image: dict) -> tuple[int, int] | None:
  """(width, height), from the image's header alone; None, with a warning, where it is not to be had."""
  source = io.BytesIO()
  if "bufferView" in image:
    source = io.BytesIO(tables.view(image["bufferView"]))
  elif isinstance(image.get("uri"), str):
    if image["uri"].startswith("data:"):
      source = io.BytesIO(tables.fetch(image["uri"], "images"))
    else:
      source = file.named(image["uri"]) or source
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is decoded
      with Image.open(source) as picture:
        return picture.size
  except (OSError, ValueError, Image.DecompressionBombError):
    file.warn("the size of a texture cannot be read")
    return None
