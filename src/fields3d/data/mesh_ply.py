"""Stanford PLY: text, little and big endian; any elements in any order; polygons; vertex and face colours."""

import array
import dataclasses
import re

import numpy as np

from fields3d.core.types import Mesh, PointCloud
from fields3d.data.mesh_file import (
  MeshFile,
  colors_to_uint8,
  split_by_face_color,
  unit_normals,
)
from fields3d.data.mesh_polygons import triangulate

_MOST_HEADER_BYTES = 2**16
_TYPES = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
          "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
          "double": "f8", "float64": "f8"}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_FULL = {  # the value of a full colour channel, None to be seen; wide integers hold bytes
    "u1": 255.0, "u2": 65535.0, "i2": 255.0, "i4": 255.0, "u4": 255.0, "f4": None, "f8": None}


@dataclasses.dataclass
class _Property:
  name: str
  kind: str  # numpy's letters of the item type
  length: str | None = None  # and of the list length, None for a scalar


@dataclasses.dataclass
class _Element:
  name: str
  count: int
  properties: list[_Property]

  def property(self, *names: str) -> _Property | None:
    return next((p for p in self.properties if p.name in names), None)


def read_ply(file: MeshFile) -> Mesh:
  """Reads a PLY mesh as it stands: every face kept, polygons triangulated, face colours where vertices have none.

  Raises:
    BadData: a malformed header, counts or list lengths that the file does not hold (before allocating), no faces,
      indices out of range, vertices that are not finite.
  """
  elements, values = _read(file)
  vertices, colors = _vertices(file, elements, values)
  if "face" not in elements or not elements["face"].count:
    extra = ", triangle strips are not read" if "tristrips" in elements else ""
    raise file.fault(f"no faces found ({len(vertices)} vertices{extra})", "give a mesh with faces")
  face = elements["face"]
  listed = face.property("vertex_indices", "vertex_index")
  if listed is None or listed.length is None:
    raise file.fault("element face has no list vertex_indices")
  corners, sizes = values["face"][listed.name]
  short = np.flatnonzero(sizes < 3)
  if len(short):
    raise file.fault(f"face {short[0]} (from 0) has {sizes[short[0]]} corners ({len(short)} in all)")
  if corners.dtype.kind == "f":
    raise file.fault("vertex_indices are not integers")
  corners = corners.astype(np.int64)
  owner = np.repeat(np.arange(len(sizes)), sizes)
  file.check_indices(corners, len(vertices), lambda corner: f"face {owner[corner]} (from 0)")
  file.check_count(int((sizes - 2).sum()), "face")
  faces, owner, folded = triangulate(vertices, corners, sizes)
  if folded:
    file.warn(f"{folded} polygons fold over however they are split")
  face_colors = _colors(file, face, values["face"], "face")
  if colors is None and face_colors is not None:
    vertices, faces, colors = split_by_face_color(vertices, faces, face_colors[owner])
  return Mesh(vertices, faces, colors)


def read_ply_points(file: MeshFile) -> PointCloud:
  """The vertices of a PLY file as points, with unit normals (nx, ny, nz) and colours where it has them."""
  elements, values = _read(file)
  points, colors = _vertices(file, elements, values)
  if not len(points):
    raise file.fault("no points found", "give a cloud with points")
  normals = None
  found = [elements["vertex"].property(n) for n in ("nx", "ny", "nz")]
  if all(p is not None and p.length is None for p in found):
    normals = unit_normals(file, np.stack([values["vertex"][n] for n in ("nx", "ny", "nz")], 1))
  return PointCloud(points, normals, colors)


def _vertices(file: MeshFile, elements: dict, values: dict) -> tuple[np.ndarray, np.ndarray | None]:
  vertex = elements.get("vertex")
  if vertex is None or any(p is None or p.length for p in map(vertex.property, "xyz")):
    raise file.fault("no element vertex with scalars x, y, z")
  points = np.stack([values["vertex"][axis] for axis in "xyz"], 1).astype(np.float64)
  file.check_finite(points)
  return points, _colors(file, vertex, values["vertex"], "vertex")


def _colors(file: MeshFile, element: _Element, values: dict, what: str) -> np.ndarray | None:
  for names in (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")):
    channels = [element.property(n) for n in names]
    if (all(p is not None and p.length is None and p.kind == channels[0].kind for p in channels)
        and channels[0].kind in _FULL):
      rgb = np.stack([values[p.name].astype(np.float64) for p in channels], 1)
      return colors_to_uint8(file, rgb, what, _FULL[channels[0].kind])
  return None


def _read(file: MeshFile) -> tuple[dict[str, _Element], dict[str, dict]]:
  """All elements, and the values of each: {property: (n,) array, or (items, lengths) of a list}."""
  order, elements, offset = _header(file)
  for element in elements.values():
    file.check_count(element.count, f"element {element.name}")
  read = _read_text if order == "" else _read_binary
  return elements, read(file, elements, offset, order)


def _header(file: MeshFile) -> tuple[str, dict[str, _Element], int]:
  """Byte order ("" for text), elements in the file's order, and the offset of the data."""
  head = file.data[:_MOST_HEADER_BYTES]
  if not head.startswith((b"ply\n", b"ply\r")):
    raise file.fault(f"does not begin with 'ply' but {head[:8]!r}", "check that it is a PLY file")
  closing = re.search(rb"[\r\n][ \t]*end_header", head)
  if closing is None:
    raise file.fault(f"no end_header in the first {len(head)} bytes", "the file is cut off: fetch or export it again")
  newline = b"\r\n" if head[3:5] == b"\r\n" else head[3:4]
  end = head.find(newline, closing.end()) + len(newline) if newline in head[closing.end():] else len(file.data)
  order, elements = None, {}
  lines = head[:closing.start()].decode("latin-1").replace("\r\n", "\n").replace("\r", "\n").split("\n")
  for number, line in enumerate(lines[1:], 2):
    words = line.split()
    match words:
      case [] | ["comment", *_] | ["obj_info", *_]:
        pass
      case ["format", name, "1.0"] if name in _ORDERS and order is None:
        order = _ORDERS[name]
      case ["element", name, count] if name not in elements and re.fullmatch(r"-?\d{1,18}", count):
        elements[name] = _Element(name, int(count), [])
      case ["property", "list", length, kind, name] if elements and length in _TYPES and kind in _TYPES:
        list(elements.values())[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[length]))
      case ["property", kind, name] if elements and kind in _TYPES:
        list(elements.values())[-1].properties.append(_Property(name, _TYPES[kind]))
      case _:
        raise file.fault(f"header line {number}: {line.strip()[:60]!r} is not understood")
  for element in elements.values():
    names = [p.name for p in element.properties]
    if not names or len(set(names)) < len(names) or any((p.length or "i")[0] == "f" for p in element.properties):
      raise file.fault(f"header: element {element.name} has no, repeated or ill-typed properties")
  if order is None:
    raise file.fault("header: no format line of version 1.0")
  return order, elements, end


def _read_binary(file: MeshFile, elements: dict, offset: int, order: str) -> dict[str, dict]:
  values = {}
  for element in elements.values():
    if any(p.length for p in element.properties):
      values[element.name], offset = _binary_lists(file, element, offset, order)
    else:
      dtype = np.dtype([(p.name, order + p.kind) for p in element.properties])
      _check_left(file, element, element.count * dtype.itemsize, offset)
      rows = np.frombuffer(file.data, dtype, element.count, offset)
      values[element.name] = {p.name: rows[p.name] for p in element.properties}
      offset += element.count * dtype.itemsize
  if offset < len(file.data):
    file.warn(f"{len(file.data) - offset} bytes after the last element passed over")
  return values


def _check_left(file: MeshFile, element: _Element, needed: int, offset: int) -> None:
  if needed > len(file.data) - offset:
    raise file.fault(f"element {element.name} ({element.count}) needs {needed} bytes at offset {offset}, "
                     f"{len(file.data) - offset} follow", "the file is cut off: fetch or export it again")


def _binary_lists(file: MeshFile, element: _Element, offset: int, order: str) -> tuple[dict, int]:
  """Rows with lists. All of the first row's lengths is the usual case, read at once; else row by row."""
  smallest = sum(np.dtype(p.length or p.kind).itemsize for p in element.properties)
  _check_left(file, element, element.count * smallest, offset)
  first, _ = _binary_rows(file, element, min(element.count, 1), offset, order)
  fields = []
  for p in element.properties:
    if p.length:
      fields += [(p.name + " length", order + p.length), (p.name, order + p.kind, first[p.name][0].shape)]
    else:
      fields.append((p.name, order + p.kind))
  dtype = np.dtype(fields)
  if element.count * dtype.itemsize <= len(file.data) - offset:
    rows = np.frombuffer(file.data, dtype, element.count, offset)
    lists = {p.name: rows[p.name].shape[1] for p in element.properties if p.length}
    if all((rows[name + " length"] == length).all() for name, length in lists.items()):
      values = {p.name: (rows[p.name].reshape(-1), np.full(element.count, lists[p.name])) if p.length else rows[p.name]
                for p in element.properties}
      return values, offset + element.count * dtype.itemsize
  return _binary_rows(file, element, element.count, offset, order)


def _binary_rows(file: MeshFile, element: _Element, num: int, offset: int, order: str) -> tuple[dict, int]:
  """The columns of the next `num` rows, row by row, lists as (items, lengths); and the offset after them."""
  raw = {p.name: bytearray() for p in element.properties}
  lengths = {p.name: array.array("q") for p in element.properties if p.length}
  sizes = [(p, np.dtype(p.length or "i1").itemsize, np.dtype(p.kind).itemsize) for p in element.properties]
  for index in range(num):
    for p, head, size in sizes:
      count = 1
      if p.length:
        told = file.data[offset:offset + head]
        count = int.from_bytes(told, "little" if order == "<" else "big", signed=p.length[0] == "i")
        if len(told) < head or count < 0:
          raise file.fault(f"{element.name} {index} (from 0): list {p.name} of length {count} at offset {offset}")
        lengths[p.name].append(count)
        offset += head
      needed = count * size
      if needed > len(file.data) - offset:
        raise file.fault(f"{element.name} {index} (from 0): {p.name} needs {needed} bytes at offset {offset}, "
                         f"{len(file.data) - offset} follow", "the file is cut off: fetch or export it again")
      raw[p.name] += file.data[offset:offset + needed]
      offset += needed
  items = {p.name: np.frombuffer(raw[p.name], order + p.kind) for p in element.properties}
  return {name: (items[name], np.frombuffer(lengths[name], np.int64)) if name in lengths else items[name] for name in items}, offset


def _read_text(file: MeshFile, elements: dict, offset: int, order: str) -> dict[str, dict]:
  del order
  body = MeshFile(file.path, file.data[offset:], file.warnings).text()
  first = len(re.findall(rb"\r\n|\r|\n", file.data[:offset])) + 1
  kept = [(number, line) for number, line in enumerate(body.split("\n"), first) if line.strip()]
  values, at = {}, 0
  for element in elements.values():
    rows = kept[at:at + element.count]
    if len(rows) < element.count:
      raise file.fault(f"element {element.name} promises {element.count} lines, {len(rows)} are left",
                       "the file is cut off: fetch or export it again")
    at += element.count
    values[element.name] = _text_element(file, element, [line for _, line in rows], [number for number, _ in rows])
  if at < len(kept):
    file.warn(f"{len(kept) - at} lines after the last element passed over")
  return values


def _text_element(file: MeshFile, element: _Element, rows: list[str], lines: list[int]) -> dict:
  """Columns of one element. Where each token stands depends, line by line, on the list lengths before it."""
  widths = np.fromiter((len(row.split()) for row in rows), np.int64, len(rows))
  numbers = file.numbers(rows, np.float64, lines)
  starts = np.cumsum(widths) - widths
  place, values = np.zeros(len(rows), np.int64), {}

  def demand(wrong: np.ndarray, why: str) -> None:
    if wrong.any():
      at = int(np.flatnonzero(wrong)[0])
      raise file.fault(f"line {lines[at]}: {widths[at]} numbers, {why} ({int(wrong.sum())} such lines)")

  for p in element.properties:
    demand(place + 1 > widths, f"{p.name} is missing")
    values[p.name] = head = numbers[starts + place]
    place += 1
    if p.length:
      demand((head < 0) | (head != np.floor(head)) | (place + head > widths), f"list {p.name} is longer")
      lengths = head.astype(np.int64)
      within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
      items = numbers[np.repeat(starts + place, lengths) + within]
      if p.kind[0] != "f":
        broken = ~(np.abs(items) < 2**53) | (items != np.floor(items))
        owner = np.repeat(np.arange(len(rows)), lengths)
        demand(np.bincount(owner[broken], minlength=len(rows)) > 0, f"{p.name} must be integers")
        items = items.astype(np.int64)
      values[p.name] = (items, lengths)
      place += lengths
  demand(place != widths, f"element {element.name} takes {place[0] if len(place) else 0}")
  return values
