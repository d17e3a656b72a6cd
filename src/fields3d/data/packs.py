"""Packs: hundreds of labelled meshes in one npz of quantised arrays, with a csv of one row a model beside it.

Arrays: vertices of model i = lo[i] + q[v_off[i]:v_off[i + 1]] * scale[i] / 65535; faces = faces_lo + (faces_hi << 16)
over f_off, indices within the model; a face's colour = palette[p_off[i]:p_off[i + 1]][face_color], sRGB. The csv has at
least index, name, cls, licence and closed_face_share (the share of faces in closed components; 1 is watertight).
"""

import csv
import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from fields3d.core.errors import BadData, MissingInput, from_os_error
from fields3d.core.types import Mesh
from fields3d.data.mesh_file import split_by_face_color
from fields3d.data.npz import read_npz
from fields3d.geometry.repair import repair

ARRAYS = {"q": "uint16", "lo": "float32", "scale": "float32", "faces_lo": "uint16", "faces_hi": "uint8",
          "face_color": "uint8", "palette": "uint8", "v_off": "int64", "f_off": "int64", "p_off": "int64"}
COLUMNS = ("index", "name", "cls", "licence", "closed_face_share")


@dataclasses.dataclass(frozen=True)
class PackModel:
  """One model as the pack stores it: a source for `prepare`; `mesh` decodes it."""
  name: str
  label: str
  licence: str
  creator: str
  closed_share: float
  q: np.ndarray
  low: np.ndarray
  scale: float
  faces_lo: np.ndarray
  faces_hi: np.ndarray
  palette: np.ndarray
  face_color: np.ndarray

  def digest(self) -> str:
    """sha256 of everything that the mesh depends on."""
    sha = hashlib.sha256(np.float64(self.scale).tobytes())
    for array in (self.q, self.low, self.faces_lo, self.faces_hi, self.palette, self.face_color):
      sha.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()

  def read(self) -> tuple[Mesh, list[str]]:
    """The mended mesh, and notes of what was mended."""
    return repair(self.mesh())

  def mesh(self) -> Mesh:
    """The mesh in the pack's frame; a vertex between faces of different colours is repeated for each."""
    vertices = self.low.astype(np.float64) + self.q * (float(self.scale) / 65535)
    return Mesh(*split_by_face_color(vertices, _faces(self.faces_lo, self.faces_hi), self.palette[self.face_color]))


def pack_files(path: str | os.PathLike) -> tuple[pathlib.Path, pathlib.Path] | None:
  """The npz and the csv of a pack's folder, or None where it is none: two files of the folder's one common stem."""
  path = pathlib.Path(path)
  found = [(table.with_suffix(".npz"), table) for table in sorted(path.glob("*.csv"))
           if table.with_suffix(".npz").is_file()] if path.is_dir() else []
  return found[0] if len(found) == 1 else None


def read_pack(path: str | os.PathLike) -> Sequence[PackModel]:
  """The models of a pack, in its order. Names are `<index>_<name>`, since a pack may repeat a name.

  Args:
    path: the pack's folder.

  Raises:
    MissingInput: no such folder, or no pack in it. BadData: arrays or table that do not fit each other.
  """
  files = pack_files(path)
  if files is None:
    said = "holds no pack, which is NAME.npz beside NAME.csv" if pathlib.Path(path).is_dir() else "is not there"
    raise MissingInput(path, said, "give the pack's folder (--config.data.path, or FIELDS3D_DATA where a config looks there)")
  arrays = read_npz(files[0], ARRAYS)
  for name, kind in ARRAYS.items():
    if arrays[name].dtype != kind:
      raise BadData(files[0], f"{name!r} has dtype {arrays[name].dtype}, not {kind}", "fetch the pack again")
  rows = _read_table(files[1])
  _check(files[0], arrays, len(rows))
  return [_model(files[0], arrays, i, row) for i, row in enumerate(rows)]


def _read_table(path: pathlib.Path) -> list[dict[str, str]]:
  try:
    with open(path, newline="", encoding="utf-8-sig") as f:
      reader = csv.DictReader(f, strict=True)
      rows = list(reader)
  except OSError as error:
    raise from_os_error(error, path) from None
  except (csv.Error, UnicodeDecodeError) as error:
    raise BadData(path, f"not a table ({error})", "fetch the pack again") from None
  if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
    raise BadData(path, f"has no column {missing[0]!r}", "fetch the pack again")
  for number, row in enumerate(rows):
    if None in row or None in row.values() or row["index"] != str(number):
      raise BadData(path, f"row {number} does not fit the table", "fetch the pack again")
  return rows


def _check(path: pathlib.Path, arrays: dict[str, np.ndarray], num: int) -> None:
  """Holds the offsets to the arrays that they cut, so that no model reaches into another."""
  def require(good: bool, what: str) -> None:
    if not good:
      raise BadData(path, what, "fetch the pack again")

  for offsets, cut, columns in (("v_off", "q", 3), ("f_off", "faces_lo", 3), ("p_off", "palette", 3)):
    array, ends = arrays[cut], arrays[offsets]
    require(array.ndim == 2 and array.shape[1] == columns, f"{cut!r} has shape {array.shape}")
    require(ends.shape == (num + 1,), f"{offsets!r} has shape {ends.shape}, the table {num} rows")
    require(ends[0] == 0 and ends[-1] == len(array) and (np.diff(ends) >= 0).all(), f"{offsets!r} does not cut {cut!r}")
  require(arrays["faces_hi"].shape == arrays["faces_lo"].shape, "'faces_hi' and 'faces_lo' differ in shape")
  require(arrays["face_color"].shape == arrays["faces_lo"].shape[:1], "'face_color' is not one a face")
  require(arrays["lo"].shape == (num, 3) and arrays["scale"].shape == (num,), "'lo' or 'scale' is not one a model")


def _model(path: pathlib.Path, arrays: dict[str, np.ndarray], i: int, row: dict[str, str]) -> PackModel:
  cut = lambda name, offsets: arrays[name][arrays[offsets][i]:arrays[offsets][i + 1]]
  faces_lo, faces_hi = cut("faces_lo", "f_off"), cut("faces_hi", "f_off")
  q, palette, face_color = cut("q", "v_off"), cut("palette", "p_off"), cut("face_color", "f_off")
  if len(faces_lo) == 0 or _faces(faces_lo, faces_hi).max() >= len(q) or face_color.max() >= len(palette):
    raise BadData(path, f"model {i} refers beyond its vertices or colours", "fetch the pack again")
  try:
    share = float(row["closed_face_share"])
  except ValueError:
    raise BadData(path.with_suffix(".csv"), f"row {i}: closed_face_share {row['closed_face_share']!r}",
                  "fetch the pack again") from None
  slug = re.sub(r"[^A-Za-z0-9]+", "_", row["name"]).strip("_").lower() or "model"
  return PackModel(f"{i:04d}_{slug}", row["cls"], row["licence"], row.get("creator", "") or "", share, q,
                   arrays["lo"][i], float(arrays["scale"][i]), faces_lo, faces_hi, palette, face_color)


def _faces(low: np.ndarray, high: np.ndarray) -> np.ndarray:
  return low.astype(np.int64) | high.astype(np.int64) << 16
