"""glTF's typed views of buffers: every offset, stride, count and encoded size is checked before it is used."""

import base64
import binascii
from typing import Any

import numpy as np

from fields3d.core.errors import from_os_error
from fields3d.data.mesh_file import MAX_FILE_BYTES, MeshFile

_MOST_DECODED_BYTES = 2**28  # of data URIs and other files together
_MOST_EMPTY = 2**22  # items of an accessor that has no data of its own (sparse values over zeros)
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_UNSIGNED = (5121, 5123, 5125)
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Accessors:
  """The JSON tree of one glTF file and its buffers.

  Every method raises BadData, naming the field, where the tree or the data is not what the specification allows, and
  MissingInput where a buffer's file cannot be read.
  """

  def __init__(self, file: MeshFile, tree: dict, binary: memoryview | None):
    self.file, self.tree, self.binary = file, tree, binary
    self._tables: dict[str, list[dict]] = {}
    self._buffers: dict[int, Any] = {}
    self._decoded = 0

  def item(self, table: str, index: Any) -> dict:
    """tree[table][index]; the whole table is checked at the first look into it alone."""
    if table not in self._tables:
      self._tables[table] = self.listed(self.tree, table, "")
    items = self._tables[table]
    if not _is_index(index) or index >= len(items):
      raise self.file.fault(f"{table}[{index!r}] does not exist ({len(items)} there are)")
    return items[index]

  def listed(self, parent: dict, key: str, where: str) -> list[dict]:
    """A list of objects, empty where the key is missing."""
    items = parent.get(key, [])
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
      raise self.file.fault(f"{where}.{key}".lstrip(".") + " is not a list of objects")
    return items

  def indices(self, parent: dict, key: str, where: str, limit: int) -> list[int]:
    """A list of indices below `limit`."""
    items = parent.get(key, [])
    if not isinstance(items, list) or not all(_is_index(i) and i < limit for i in items):
      raise self.file.fault(f"{where}.{key} must list indices below {limit}")
    return items

  def numbers(self, parent: dict, key: str, where: str, count: int) -> np.ndarray:
    """A list of `count` finite numbers, float64."""
    items = parent.get(key)
    if (isinstance(items, list) and len(items) == count
        and all(isinstance(i, (int, float)) and not isinstance(i, bool) and abs(i) < 1e300 for i in items)):
      return np.asarray(items, np.float64)
    raise self.file.fault(f"{where}.{key} must be {count} finite numbers")

  def natural(self, parent: dict, key: str, where: str, default: int | None = None) -> int:
    """An integer, 0 or more."""
    value = parent.get(key, default)
    if not _is_index(value):
      raise self.file.fault(f"{where}.{key} is {value!r}, not an integer of 0 or more")
    return value

  def read(self, index: Any, where: str, kinds: tuple[str, ...], integers: bool = False) -> np.ndarray:
    """The values of an accessor (n, width): int64 for indices, else float64 with normalised integers scaled."""
    accessor = self.item("accessors", index)
    at = f"accessors[{index}]"
    component, kind = accessor.get("componentType"), accessor.get("type")
    if kind not in kinds or component not in tuple(_UNSIGNED if integers else _COMPONENTS):
      raise self.file.fault(f"{where}: {at} is of type {kind!r} and componentType {component!r}")
    count = self.natural(accessor, "count", at)
    self.file.check_count(count, f"{at}")
    dtype, width = np.dtype(_COMPONENTS[component]), _WIDTHS[kind]
    if "bufferView" in accessor:
      values = self._strided(accessor, at, dtype, count, width)
    elif "sparse" in accessor and count <= _MOST_EMPTY:
      values = np.zeros((count, width), dtype)
    else:
      raise self.file.fault(f"{where}: {at} of {count} items has no bufferView", "its data are missing or compressed")
    if "sparse" in accessor:
      values = self._sparse(accessor["sparse"], f"{at}.sparse", values)
    if integers:
      return values.astype(np.int64)
    wide = values.astype(np.float64)
    if accessor.get("normalized") is True and dtype.kind != "f":
      wide = np.maximum(wide / np.iinfo(dtype).max, -1.0)
    return wide

  def view(self, number: Any) -> bytes:
    """The bytes of a buffer view, unstrided."""
    view, where = self.item("bufferViews", number), f"bufferViews[{number}]"
    buffer = self._buffer(self.natural(view, "buffer", where))
    start, length = self.natural(view, "byteOffset", where, 0), self.natural(view, "byteLength", where)
    if start + length > len(buffer):
      raise self.file.fault(f"{where} ends at byte {start + length}, its buffer has {len(buffer)}")
    return bytes(buffer[start:start + length])

  def _sparse(self, sparse: Any, at: str, values: np.ndarray) -> np.ndarray:
    """Values with some rows replaced."""
    if not isinstance(sparse, dict) or not all(isinstance(sparse.get(k), dict) for k in ("indices", "values")):
      raise self.file.fault(f"{at} must hold the objects indices and values")
    count = self.natural(sparse, "count", at)
    if count > len(values) or sparse["indices"].get("componentType") not in _UNSIGNED:
      raise self.file.fault(f"{at}: {count} of {len(values)} items, index componentType "
                            f"{sparse['indices'].get('componentType')!r}")
    dtype = np.dtype(_COMPONENTS[sparse["indices"]["componentType"]])
    rows = self._strided(sparse["indices"], f"{at}.indices", dtype, count, 1)[:, 0].astype(np.int64)
    if len(rows) and (rows[-1] >= len(values) or (np.diff(rows) <= 0).any()):
      raise self.file.fault(f"{at}.indices must rise strictly and stay below {len(values)}")
    values = values.copy()
    values[rows] = self._strided(sparse["values"], f"{at}.values", values.dtype, count, values.shape[1])
    return values

  def _strided(self, parent: dict, at: str, dtype: np.dtype, count: int, width: int) -> np.ndarray:
    """`count` rows of `width` items at parent's offset in its buffer view, rows byteStride apart."""
    number = self.natural(parent, "bufferView", at)
    view, where = self.item("bufferViews", number), f"bufferViews[{number}]"
    buffer = self._buffer(self.natural(view, "buffer", where))
    start, length = self.natural(view, "byteOffset", where, 0), self.natural(view, "byteLength", where)
    if start + length > len(buffer):
      raise self.file.fault(f"{where} ends at byte {start + length}, its buffer has {len(buffer)}")
    row = dtype.itemsize * width
    stride = self.natural(view, "byteStride", where, row)
    offset = self.natural(parent, "byteOffset", at, 0)
    if stride < row or stride > max(row, 252):
      raise self.file.fault(f"{where}.byteStride is {stride}, an item has {row} bytes")
    if count and offset + stride * (count - 1) + row > length:
      raise self.file.fault(f"{at} needs bytes up to {offset + stride * (count - 1) + row}, {where} has {length}")
    if count == 0:
      return np.zeros((0, width), dtype)
    return np.ndarray((count, width), dtype, buffer, start + offset, (stride, dtype.itemsize))

  def _buffer(self, index: int) -> Any:
    if index not in self._buffers:
      buffer = self.item("buffers", index)
      where = f"buffers[{index}]"
      length = self.natural(buffer, "byteLength", where)
      if "uri" in buffer:
        data = self.fetch(buffer["uri"], where)
      elif index == 0 and self.binary is not None:
        data = self.binary
      else:
        raise self.file.fault(f"{where} has neither a uri nor a binary chunk")
      if length > len(data):
        raise self.file.fault(f"{where}.byteLength is {length}, its data have {len(data)} bytes",
                              "the file is cut off: fetch or export it again")
      self._buffers[index] = memoryview(data)[:length]
    return self._buffers[index]

  def fetch(self, uri: Any, where: str) -> bytes:
    """A data URI, or a file of the mesh's own folder. Nothing is fetched from elsewhere."""
    if not isinstance(uri, str):
      raise self.file.fault(f"{where}.uri is no text")
    if uri.startswith("data:"):
      head, comma, body = uri.partition(",")
      if not comma or not head.endswith(";base64"):
        raise self.file.fault(f"{where}.uri: a data URI that is not base64")
      self._count_bytes(len(body) * 3 // 4, where)
      try:
        return base64.b64decode(body, validate=True)
      except (binascii.Error, ValueError) as error:
        raise self.file.fault(f"{where}.uri: {error}") from None
    path = self.file.named(uri)
    if path is None:
      raise self.file.fault(f"{where}.uri {uri[:80]!r} is no file of the mesh's folder",
                            "put the buffer beside the mesh")
    try:
      self._count_bytes(path.stat().st_size, where)
      return path.read_bytes()
    except OSError as error:
      raise from_os_error(error, path) from None

  def _count_bytes(self, size: int, where: str) -> None:
    self._decoded += size
    if self._decoded > min(_MOST_DECODED_BYTES, MAX_FILE_BYTES):
      raise self.file.fault(f"{where}: {self._decoded} bytes of buffers outside the file, the cap is "
                            f"{_MOST_DECODED_BYTES}", "keep buffers in binary: export as GLB")


def _is_index(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0
