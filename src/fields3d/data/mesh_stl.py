"""STL, binary and text. Facet normals are not used, nor attribute bytes (colours of two incompatible conventions)."""

import numpy as np

from fields3d.core.types import Mesh
from fields3d.data.mesh_file import MeshFile

_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES = 84


def read_stl(file: MeshFile) -> Mesh:
  """Reads an STL file as it stands: three vertices for every facet (equal ones are merged by `repair`).

  A file is binary where its size is that of its facet count, or where it does not begin like text.

  Raises:
    BadData: a facet count that the size contradicts, text that breaks off, no facets, vertices that are not finite.
  """
  size = len(file.data)
  count = int.from_bytes(file.data[80:84], "little") if size >= _HEADER_BYTES else -1
  is_text = file.data.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() == b"solid" and b"\0" not in file.data[:80]
  if size == _HEADER_BYTES + count * _FACET.itemsize or not is_text:
    vertices = _read_binary(file, count)
  else:
    vertices = _read_text(file)
  file.check_finite(vertices)
  return Mesh(vertices, np.arange(len(vertices)).reshape(-1, 3))


def _read_binary(file: MeshFile, count: int) -> np.ndarray:
  if count < 0:
    raise file.fault(f"{len(file.data)} bytes, a binary STL has {_HEADER_BYTES} and more",
                     "check that it is an STL file")
  have = len(file.data) - _HEADER_BYTES
  if count * _FACET.itemsize > have:
    raise file.fault(f"facet count {count} at offset 80 needs {count * _FACET.itemsize} bytes, {have} follow",
                     "the file is cut off or no STL: fetch or export it again")
  file.check_count(3 * count, "vertex")
  if count == 0:
    raise file.fault("no faces found: facet count 0 at offset 80", "give a mesh with faces")
  if count * _FACET.itemsize < have:
    file.warn(f"{have - count * _FACET.itemsize} bytes after the last facet passed over")
  facets = np.frombuffer(file.data, _FACET, count, _HEADER_BYTES)
  return facets["corners"].reshape(-1, 3).astype(np.float64)


def _read_text(file: MeshFile) -> np.ndarray:
  """Vertices (3f, 3); each `outer loop` must hold exactly three and each solid must be closed."""
  rows, lines, loop_starts = [], [], []
  opened = closed = 0
  for number, raw in enumerate(file.text().split("\n"), 1):
    line = raw.strip()
    word = line[:9].lower()
    if word.startswith("vertex"):
      rows.append(line[6:])
      lines.append(number)
    elif word.startswith("outer"):
      loop_starts.append(len(rows))
    elif word.startswith("endsolid"):
      closed += 1
    elif word.startswith("solid"):
      opened += 1
    elif word and not word.startswith(("facet", "endfacet", "endloop", "color")):
      raise file.fault(f"line {number}: {line[:40]!r} is no STL keyword", "check that it is an STL file")
  if not rows:
    raise file.fault("no faces found", "give a mesh with faces; check that it is an STL file")
  if closed < opened:
    raise file.fault(f"{opened} solid, {closed} endsolid", "the file is cut off: fetch or export it again")
  if len(rows) % 3 or loop_starts != list(range(0, len(rows), 3)):
    raise file.fault(f"{len(loop_starts)} facets and {len(rows)} vertices: every facet has three",
                     "the file is cut off or holds polygons: export it again as triangles")
  file.check_count(len(rows), "vertex")
  for row, line in zip(rows, lines, strict=True):
    if len(row.split()) != 3:
      raise file.fault(f"line {line}: a vertex of {len(row.split())} numbers, expected 3")
  return file.numbers(rows, np.float64, lines).reshape(-1, 3)
