"""What every mesh reader gets and uses: the file's bytes, its faults and warnings, strict numbers, polygons.

The readers are ours because no kept library passed the bad files: trimesh 5.2 (kept as the tests' oracle) read NaN
vertices, OBJ index 0, GLBs with a wrong length, node cycles and unknown required extensions without a word, and its
other refusals name neither the line nor the offset.
"""

import dataclasses
import pathlib
import re
import urllib.parse
import warnings
from collections.abc import Sequence

import numpy as np

from fields3d.core.errors import BadData

MAX_FILE_BYTES = 2**29  # 512 MiB of any file; text takes about five times its size while it is parsed
MAX_TEXT_BYTES = 2**28
MAX_ELEMENTS = 2**24  # vertices, and faces
FARTHEST = 1e75  # areas are roots of fourth powers of coordinates

_CHUNK = 2**16  # rows of text parsed at a time
_MOST_NAME = 4096  # letters of a path that a file names: no system takes more
_ROUNDED = 1.01  # no channel of a scale of 1 is higher, however it was computed


@dataclasses.dataclass
class MeshFile:
  """One file while it is read: its path, its bytes, and the warnings so far, each with its count."""
  path: pathlib.Path
  data: bytes
  warnings: list[str] = dataclasses.field(default_factory=list)

  def fault(self, what: str, remedy: str = "re-export the mesh") -> BadData:
    """The one-line rejection of this file."""
    return BadData(self.path, what, remedy)

  def warn(self, text: str) -> None:
    self.warnings.append(text)

  def check_count(self, count: int, name: str) -> None:
    """Refuses, before anything is allocated, a count below zero or above the cap."""
    if count < 0:
      raise self.fault(f"{name} count is {count}")
    if count > MAX_ELEMENTS:
      raise self.fault(f"{name} count {count} is above the cap of {MAX_ELEMENTS}", "simplify or split the mesh")

  def check_finite(self, vertices: np.ndarray) -> None:
    """Refuses vertices (v, 3) that are NaN, infinite or so far that products overflow: the first and how many."""
    bad = np.flatnonzero(~(np.abs(vertices) <= FARTHEST).all(1))
    if len(bad):
      what = "not finite" if not np.isfinite(vertices[bad[0]]).all() else f"beyond {FARTHEST:g}"
      raise self.fault(f"vertex {bad[0]} (from 0) is {what}: {vertices[bad[0]].tolist()} ({len(bad)} in all)")

  def check_indices(self, corners: np.ndarray, num_vertices: int, face_of=None) -> None:
    """Refuses vertex indices (c,) from 0 that are out of range; `face_of(corner)` names the face, or its line."""
    bad = np.flatnonzero((corners < 0) | (corners >= num_vertices))
    if len(bad):
      where = face_of(int(bad[0])) if face_of else f"face {bad[0] // 3} (from 0)"
      raise self.fault(f"{where}: vertex index {corners[bad[0]]} (from 0) is out of range, the mesh has {num_vertices} "
                       f"vertices ({len(bad)} such indices in all)")

  def inside(self, name: str) -> pathlib.Path | None:
    """The regular file of that relative name in the mesh's folder or below; None for any other, links out included."""
    if len(name) > _MOST_NAME:
      return None
    folder = pathlib.Path(self.path).resolve().parent
    try:
      path = (folder / name.replace("\\", "/")).resolve()
      return path if path.is_relative_to(folder) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # before Python 3.13 a loop of links is a RuntimeError
      return None

  def named(self, uri: str) -> pathlib.Path | None:
    """The file that a URI means, whose signs may be percent-encoded: one of the mesh's folder, see `inside`, or None."""
    return self.inside(urllib.parse.unquote(uri))

  def text(self) -> str:
    """The bytes as text: BOM and carriage returns gone. Names may be in any 8-bit encoding; numbers are ASCII.

    Raises:
      BadData: UTF-16 or 32, NUL bytes (a binary file), or more than MAX_TEXT_BYTES.
    """
    if len(self.data) > MAX_TEXT_BYTES:
      raise self.fault(f"{len(self.data)} bytes of text, the cap is {MAX_TEXT_BYTES}", "save it in a binary format")
    if self.data[:2] in (b"\xff\xfe", b"\xfe\xff"):
      raise self.fault("UTF-16 text", "save it as ASCII or UTF-8")
    if (at := self.data.find(b"\0")) >= 0:
      raise self.fault(f"NUL byte at offset {at}: not text", "check that the suffix fits the content")
    text = self.data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

  def numbers(self, rows: Sequence[str], dtype: type, lines: Sequence[int]) -> np.ndarray:
    """All numbers of some lines, flat; anything but numbers is a fault that names its line.

    Args:
      rows: whitespace-separated numbers; a decimal comma is no number.
      dtype: np.float64 or np.int64 (an integer beyond int64 comes out as its end, which no index check passes).
      lines: the line number of each row, from 1.
    """
    parts = []
    for i in range(0, len(rows), _CHUNK):
      joined = " ".join(rows[i:i + _CHUNK])
      try:
        with warnings.catch_warnings():
          warnings.simplefilter("error", DeprecationWarning)  # numpy before 2.4 only warns of what is no number
          parts.append(np.fromstring(joined, dtype, sep=" ") if joined.strip() else np.zeros(0, dtype))
      except (ValueError, DeprecationWarning):
        raise self._bad_number(rows[i:i + _CHUNK], dtype, lines[i:i + _CHUNK]) from None
      if len(parts[-1]) != len(joined.split()):
        raise self._bad_number(rows[i:i + _CHUNK], dtype, lines[i:i + _CHUNK])
    return np.concatenate(parts) if parts else np.zeros(0, dtype)

  def _bad_number(self, rows: Sequence[str], dtype: type, lines: Sequence[int]) -> BadData:
    kind = "a number" if dtype is np.float64 else "an integer"
    for row, line in zip(rows, lines, strict=True):
      for token in row.split():
        if not re.fullmatch(r"[+-]?\d+" if dtype is np.int64 else
                            r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|inf|infinity)", token, re.IGNORECASE):
          remedy = "write decimals with a point" if "," in token else "re-export the mesh"
          return self.fault(f"line {line}: {token[:40]!r} is not {kind}", remedy)
    return self.fault(f"lines {lines[0]} to {lines[-1]}: not all numbers")


def colors_to_uint8(file: MeshFile, colors: np.ndarray, what: str = "vertex",
                    full: float | None = None) -> np.ndarray | None:
  """Colours as uint8; None and a warning where they are not finite or out of range.

  Args:
    colors: (n, 3). full: the value of a full channel; None for 1, or 255 where any is above 1 by more than rounding.
  """
  bad = int((~np.isfinite(colors)).any(1).sum())
  if bad:
    file.warn(f"{bad} {what} colours are not finite: colours left out")
    return None
  if full is None:
    full = 1.0 if colors.max(initial=0.0) <= _ROUNDED else 255.0
    above = int((colors > 1).any(1).sum())
    if full == 1 and above:
      file.warn(f"{above} {what} colours are slightly above 1: taken as 1")
      colors = np.minimum(colors, 1)
  bad = int(((colors < 0) | (colors > full)).any(1).sum())
  if bad:
    file.warn(f"{bad} {what} colours are outside 0..{full:g}: colours left out")
    return None
  return np.rint(colors * (255 / full)).astype(np.uint8)


def split_by_face_color(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray):
  """Face colours as vertex colours, exactly: a vertex is repeated once for each colour of the faces around it.

  Args:
    vertices: (v, 3). faces: (f, 3). colors: (f, 3) uint8.
  Returns:
    vertices (w, 3), faces (f, 3), colors (w, 3) uint8.
  """
  code = colors.astype(np.int64) @ np.array([65536, 256, 1])
  corners = faces.astype(np.int64) << 24 | code[:, None]
  kept, inverse = np.unique(corners, return_inverse=True)
  rgb = np.stack([kept >> 16 & 255, kept >> 8 & 255, kept & 255], 1).astype(np.uint8)
  return vertices[kept >> 24], inverse.reshape(faces.shape), rgb


def unit_normals(file: MeshFile, normals: np.ndarray) -> np.ndarray | None:
  """Normals (n, 3) at unit length, float64; None and a warning where some have no direction."""
  normals = normals.astype(np.float64)
  length = np.linalg.norm(normals, axis=1, keepdims=True)
  bad = int((~(np.isfinite(length) & (length > 0))).sum())
  if bad:
    file.warn(f"{bad} normals are zero or not finite: normals left out")
    return None
  return normals / length
