"""glTF 2.0 meshes, as GLB or as .gltf with its buffers: the scene's triangles with every transform baked in.

Node trees are walked without recursion; a mirrored node's triangles are flipped so that they stay counter-clockwise
from outside. Skins stay in their bind pose and morph targets at rest. Textures are not read.
"""

import numpy as np

from fields3d.core import strict_json
from fields3d.core.types import Mesh
from fields3d.data.mesh_accessors import Accessors
from fields3d.data.mesh_file import MeshFile

_MOST_JSON_BYTES = 2**27
_JSON, _BIN = 0x4E4F534A, 0x004E4942
# Extensions that may be required and still leave the triangles as they are, or are read (quantisation).
_HARMLESS = frozenset([
    "KHR_mesh_quantization", "KHR_texture_transform", "KHR_texture_basisu", "EXT_texture_webp", "EXT_texture_avif",
    "KHR_lights_punctual", "KHR_xmp_json_ld"])
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def read_glb(file: MeshFile) -> Mesh:
  """Reads a binary glTF file; see `read_gltf`.

  Raises:
    BadData: also a wrong magic, version or length field, or a chunk that does not fit.
  """
  return _read(file, open_glb(file))


def open_glb(file: MeshFile) -> Accessors:
  """The tree and the binary chunk of a binary glTF file; faults as `read_glb`."""
  data = file.data
  if data[:4] != b"glTF" or len(data) < 20:
    raise file.fault(f"does not begin with a GLB header but {data[:4]!r} ({len(data)} bytes)",
                     "check that it is a GLB file")
  version, length = (int.from_bytes(data[i:i + 4], "little") for i in (4, 8))
  if version != 2:
    raise file.fault(f"glTF version {version} at offset 4", "export it as glTF 2.0")
  if length != len(data):
    raise file.fault(f"length field {length} at offset 8, the file has {len(data)} bytes",
                     "the file is cut off or patched: fetch or export it again")
  chunks, at = [], 12
  while at < length and len(chunks) < 2:  # the others are not read
    size, kind = (int.from_bytes(data[i:i + 4], "little") for i in (at, at + 4))
    if at + 8 + size > length:
      raise file.fault(f"chunk of {size} bytes at offset {at} goes beyond the end ({length})")
    chunks.append((kind, at + 8, size))
    at += 8 + size
  if chunks[0][0] != _JSON:
    raise file.fault(f"the first chunk (offset 12) is of type {chunks[0][0]:#x}, not JSON")
  _, start, size = chunks[0]
  binary = next((memoryview(data)[b:b + n] for kind, b, n in chunks[1:] if kind == _BIN), None)
  return _checked(file, _parse(file, data, start, size), binary)


def read_gltf(file: MeshFile) -> Mesh:
  """Reads a glTF file with buffers in data URIs or in files of its folder, as it stands.

  COLOR_0 times baseColorFactor (both linear by the specification) comes out as sRGB.

  Raises:
    BadData: malformed JSON or structure (by field), unknown required extensions (by name), ranges that leave their
      buffer, indices out of range, node cycles, data beyond the caps (before it is decoded), no triangles.
  """
  return _read(file, open_gltf(file))


def open_gltf(file: MeshFile) -> Accessors:
  """The tree of a glTF file; faults as `read_gltf`."""
  return _checked(file, _parse(file, file.data, 0, len(file.data)), None)


def _parse(file: MeshFile, data: bytes, start: int, size: int) -> dict:
  if size > _MOST_JSON_BYTES:
    raise file.fault(f"{size} bytes of JSON, the cap is {_MOST_JSON_BYTES}", "keep buffers in binary: export as GLB")

  try:
    text = data[start:start + size].decode("utf-8")
  except UnicodeDecodeError as error:
    raise file.fault(f"JSON: byte {start + error.start} is not UTF-8") from None
  tree = strict_json.loads(text, f"{file.path}: JSON")
  if not isinstance(tree, dict) or not isinstance(tree.get("asset"), dict):
    raise file.fault("JSON has no object 'asset'", "check that it is a glTF file")
  if not str(tree["asset"].get("version", "")).startswith("2."):
    raise file.fault(f"asset.version is {tree['asset'].get('version')!r}", "export it as glTF 2.0")
  return tree


def _checked(file: MeshFile, tree: dict, binary: memoryview | None) -> Accessors:
  """The tree, if it requires no extension that changes the triangles and is not read."""
  required = tree.get("extensionsRequired", [])
  if not isinstance(required, list):
    raise file.fault("extensionsRequired is not a list")
  unknown = [str(e) for e in required if str(e) not in _HARMLESS and not str(e).startswith("KHR_materials_")]
  if unknown:
    raise file.fault(f"requires the extension {', '.join(unknown)}, which is not read", "export it without compression")
  return Accessors(file, tree, binary)


def _read(file: MeshFile, tables: Accessors) -> Mesh:
  parts = [part for part, _ in drawn(tables)]
  if missing := _missing_images(file, tables):
    file.warn(f"{missing} texture files missing: geometry kept")
  return bake(file, parts)


def drawn(tables: Accessors) -> list[tuple[tuple, dict]]:
  """What the scene draws, once for every node that shows it: ((positions, faces, colours, world matrix), primitive).

  Raises:
    BadData: see `read_gltf`.
  """
  file, found, cache = tables.file, [], {}
  total = triangles = other = 0
  for mesh, matrix in _instances(tables):
    for number, primitive in enumerate(tables.listed(tables.item("meshes", mesh), "primitives", f"meshes[{mesh}]")):
      if primitive.get("mode", _TRIANGLES) not in (_TRIANGLES, _STRIP, _FAN):
        other += 1
        continue
      if (mesh, number) not in cache:
        cache[mesh, number] = _primitive(tables, primitive, f"meshes[{mesh}].primitives[{number}]")
      x, faces, color = cache[mesh, number]
      total, triangles = total + len(x), triangles + len(faces)
      file.check_count(total, "vertex")
      file.check_count(triangles, "face")
      found.append(((x, faces, color, matrix), primitive))
  if other:
    file.warn(f"{other} primitives of points or lines left out")
  if not triangles:
    raise file.fault("no faces found in the scene", "give a mesh with triangles")
  return found


def bake(file: MeshFile, parts: list) -> Mesh:
  """One mesh of all (x, faces, colour, matrix), transforms applied; white where only some parts have colours."""
  vertices, faces, offset = [], [], 0
  for x, f, _, matrix in parts:
    with np.errstate(over="ignore", invalid="ignore"):
      vertices.append(x @ matrix[:3, :3].T + matrix[:3, 3])
      flip = np.linalg.det(matrix[:3, :3]) < 0
    faces.append((f[:, ::-1] if flip else f) + offset)
    offset += len(x)
  colors = None
  if any(color is not None for _, _, color, _ in parts):
    colors = np.concatenate([np.full((len(x), 3), 255, np.uint8) if c is None else c for x, _, c, _ in parts])
  vertices = np.concatenate(vertices)
  file.check_finite(vertices)
  return Mesh(vertices, np.concatenate(faces), colors)


def _instances(tables: Accessors) -> list[tuple[int, np.ndarray]]:
  """(mesh, world matrix) of every node of the scene that shows one; of all root nodes where no scene is given."""
  file, nodes = tables.file, tables.listed(tables.tree, "nodes", "")
  if not nodes:
    return [(i, np.eye(4)) for i in range(len(tables.listed(tables.tree, "meshes", "")))]
  children = [tables.indices(node, "children", f"nodes[{i}]", len(nodes)) for i, node in enumerate(nodes)]
  if tables.listed(tables.tree, "scenes", ""):
    scene = tables.tree.get("scene", 0)
    roots = tables.indices(tables.item("scenes", scene), "nodes", f"scenes[{scene}]", len(nodes))
  else:
    below = {child for c in children for child in c}
    roots = [i for i in range(len(nodes)) if i not in below]
  found, seen = [], set()
  stack = [(root, np.eye(4)) for root in reversed(roots)]
  deformed = 0
  while stack:
    index, above = stack.pop()
    if index in seen:
      raise file.fault(f"nodes[{index}] is reached twice: a node cycle, or a node with two parents")
    seen.add(index)
    node = nodes[index]
    with np.errstate(over="ignore", invalid="ignore"):
      matrix = above @ _local(tables, node, f"nodes[{index}]")
    if "mesh" in node:
      weights = node.get("weights", tables.item("meshes", node["mesh"]).get("weights"))
      deformed += "skin" in node or (isinstance(weights, list) and any(weights))
      found.append((node["mesh"], matrix))
    stack += [(child, matrix) for child in reversed(children[index])]
  if len(seen) < len(nodes) and not roots:
    raise file.fault("no root node: a node cycle")
  if deformed:
    file.warn(f"{deformed} skinned or morphed nodes: their bind pose is read")
  return found


def _local(tables: Accessors, node: dict, where: str) -> np.ndarray:
  """A node's own 4x4 matrix: given, or from translation, rotation (x, y, z, w) and scale."""
  if "matrix" in node:
    return tables.numbers(node, "matrix", where, 16).reshape(4, 4).T
  matrix = np.eye(4)
  if "rotation" in node:
    q = tables.numbers(node, "rotation", where, 4)
    if not (length := np.linalg.norm(q)):
      raise tables.file.fault(f"{where}.rotation is zero")
    x, y, z, w = q / length
    matrix[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                      [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                      [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
  if "scale" in node:
    matrix[:3, :3] *= tables.numbers(node, "scale", where, 3)
  if "translation" in node:
    matrix[:3, 3] = tables.numbers(node, "translation", where, 3)
  return matrix


def _primitive(tables: Accessors, primitive: dict, where: str):
  """Positions (v, 3), triangles (f, 3), colours (v, 3) uint8 or None of one primitive, in its own frame."""
  file, attributes = tables.file, primitive.get("attributes")
  if not isinstance(attributes, dict) or "POSITION" not in attributes:
    raise file.fault(f"{where} has no POSITION")
  x = tables.read(attributes["POSITION"], f"{where}.attributes.POSITION", ("VEC3",))
  indices = np.arange(len(x))
  if "indices" in primitive:
    at = f"{where}.indices"
    indices = tables.read(primitive["indices"], at, ("SCALAR",), integers=True)[:, 0]
    file.check_indices(indices, len(x), lambda corner: f"{at} (accessors[{primitive['indices']}]) item {corner}")
  mode = primitive.get("mode", _TRIANGLES)
  if mode == _TRIANGLES and len(indices) % 3:
    raise file.fault(f"{where}: {len(indices)} indices do not make whole triangles")
  return x, _triangles(indices, mode), _color(tables, primitive, attributes, len(x), where)


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
  """Triangles (f, 3) of a list, strip or fan, as glTF 2.0 section 3.7.2.1 orders them."""
  if mode == _TRIANGLES:
    return indices.reshape(-1, 3)
  i = np.arange(max(len(indices) - 2, 0))
  if mode == _FAN:
    return np.stack([indices[i + 1], indices[i + 2], np.broadcast_to(indices[:1], i.shape)], 1) if len(i) else \
        np.zeros((0, 3), np.int64)
  return np.stack([indices[i], indices[i + 1 + i % 2], indices[i + 2 - i % 2]], 1)


def _color(tables: Accessors, primitive: dict, attributes: dict, num: int, where: str) -> np.ndarray | None:
  """COLOR_0 times the material's baseColorFactor as sRGB (v, 3) uint8; None where neither is given, and where a texture, which is
  not read, has the colours."""
  linear = None
  if "COLOR_0" in attributes:
    linear = tables.read(attributes["COLOR_0"], f"{where}.attributes.COLOR_0", ("VEC3", "VEC4"))[:, :3]
    if len(linear) != num:
      raise tables.file.fault(f"{where}: {len(linear)} colours for {num} vertices")
  if "material" in primitive:
    material = tables.item("materials", primitive["material"])
    metallic = material.get("pbrMetallicRoughness", {})
    if isinstance(metallic, dict) and "baseColorTexture" in metallic and linear is None:
      return None
    if isinstance(metallic, dict) and "baseColorFactor" in metallic:
      factor = tables.numbers(metallic, "baseColorFactor", f"materials[{primitive['material']}]", 4)[:3]
      linear = np.broadcast_to(factor, (num, 3)) if linear is None else linear * factor
  if linear is None:
    return None
  bad = int((~((linear >= 0) & (linear <= 1))).any(1).sum())
  if bad:
    tables.file.warn(f"{where}: {bad} vertex colours are outside 0..1: colours left out")
    return None
  srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
  return np.rint(255 * srgb).astype(np.uint8)


def _missing_images(file: MeshFile, tables: Accessors) -> int:
  """Textures named by files that are not in the folder (or below it)."""
  uris = [image.get("uri") for image in tables.listed(tables.tree, "images", "")]
  return sum(isinstance(u, str) and not u.startswith("data:") and file.named(u) is None for u in uris)
