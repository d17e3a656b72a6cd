"""COLMAP's sparse models: cameras, images and points3D, as .bin or .txt, read as they stand.

Nothing is believed: a count is checked against the bytes that are left before anything is made of it. Which bytes mean
what: https://colmap.github.io/format.html; camera models: `src/colmap/sensor/models.h`.
"""

import dataclasses
import math
import pathlib
import struct
from collections.abc import Callable, Iterator

import numpy as np

from fields3d.core.errors import BadData, MissingInput, from_os_error

MODELS = {  # id -> name, parameters (focal lengths, principal point, distortion)
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12), 11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4), 13: ("DIVISION", 5), 14: ("SIMPLE_FISHEYE", 3), 15: ("FISHEYE", 4), 16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
KINDS = ("cameras", "images", "points3D")
_UNIT = 1e-3  # how far a quaternion's length may be from 1
_MAX_NAME = 4096
_MAX_BYTES = 2**31  # of a file
_MAX_SIDE = 1 << 20  # pixels; no photograph has a longer side
_CUT = "the file is cut off or no COLMAP model: copy it again"


@dataclasses.dataclass(frozen=True)
class ColmapCamera:
  """model: a name of `MODELS`. size: (width, height). params: the model's own, in COLMAP's order."""
  model: str
  size: tuple[int, int]
  params: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ColmapImage:
  """A registered photograph. rotation (3, 3), translation (3,): world to camera, which looks along +z, +y down."""
  name: str
  camera: int
  rotation: np.ndarray
  translation: np.ndarray


@dataclasses.dataclass(frozen=True)
class ColmapModel:
  """A sparse model. cameras by id, images in the order of their names.

  points (m, 3) float64, colors (m, 3) uint8 and errors (m,), the mean reprojection errors in pixels.
  """
  path: pathlib.Path
  cameras: dict[int, ColmapCamera]
  images: tuple[ColmapImage, ...]
  points: np.ndarray
  colors: np.ndarray
  errors: np.ndarray
  warnings: tuple[str, ...] = ()


def read_model(folder: pathlib.Path) -> ColmapModel:
  """Reads cameras, images and points3D of one folder; each .bin where there is one, else .txt.

  Raises:
    MissingInput: a file is not there. BadData: a file is cut off or contradicts itself or another.
  """
  if missing := missing_files(folder):
    raise MissingInput(folder, "has no " + " and no ".join(f"{kind}.bin or .txt" for kind in missing),
                       "copy all three files of the COLMAP model, or run `fields3d prepare` on its photographs")
  cameras = read_cameras(_file(folder, "cameras"))
  images, warnings = read_images(_file(folder, "images"))
  for image in images:
    if image.camera not in cameras:
      raise BadData(_file(folder, "images"), f"{image.name!r} has camera {image.camera}, which cameras lacks",
                    "take all three files from one model")
  return ColmapModel(folder, cameras, images, *read_points(_file(folder, "points3D")), tuple(warnings))


def missing_files(folder: pathlib.Path) -> list[str]:
  """Which of cameras, images and points3D a folder lacks."""
  return [kind for kind in KINDS if not _file(folder, kind).is_file()]


def read_cameras(path: pathlib.Path) -> dict[int, ColmapCamera]:
  """The cameras by id.

  Raises:
    BadData: an unknown model, a wrong number of parameters, a size or a parameter that is none, an id twice.
  """
  cameras = {}
  for where, number, model, size, params in _camera_records(path):
    if number in cameras:
      raise BadData(path, f"{where}: camera {number} stands twice", "keep one of them")
    if not all(0 < side <= _MAX_SIDE for side in size):
      raise BadData(path, f"{where}: camera {number} is of {size[0]} x {size[1]} pixels", _CUT)
    _check_finite(path, where, params)
    cameras[number] = ColmapCamera(model, size, params)
  return cameras


def read_images(path: pathlib.Path) -> tuple[tuple[ColmapImage, ...], list[str]]:
  """The registered photographs in the order of their names, and warnings of quaternions that were normalised.

  Raises:
    BadData: poses that are not finite, quaternions far from unit length, a name twice or not UTF-8.
  """
  images, mended = {}, 0
  for where, pose, camera, name in _image_records(path):
    if not name or "\0" in name or name in images:
      raise BadData(path, f"{where}: the name {name!r} " + ("stands twice" if name in images else "is none"),
                    "keep one image of each name")
    _check_finite(path, where, pose)
    length = math.sqrt(sum(q * q for q in pose[:4]))
    if abs(length - 1) > _UNIT:
      raise BadData(path, f"{where}: the quaternion of {name!r} has length {length:.4g}, not 1", "export it again")
    mended += abs(length - 1) > 1e-6
    images[name] = ColmapImage(name, camera, rotation_of(np.array(pose[:4]) / length), np.array(pose[4:]))
  warnings = [f"{path.name}: {mended} quaternions normalised"] if mended else []
  return tuple(images[name] for name in sorted(images)), warnings


def read_points(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The triangulated points (m, 3) float64, their colours (m, 3) uint8 and mean reprojection errors (m,), pixels.

  Raises:
    BadData: a coordinate that is not finite, a colour out of 0..255, tracks beyond the file's end.
  """
  table = np.fromiter(_point_records(path), np.dtype((np.float64, 7)))
  if (bad := ~np.isfinite(table[:, :3]).all(axis=1)).any():
    raise BadData(path, f"point {int(bad.argmax())} is not finite ({int(bad.sum())} in all)", "export the model again")
  return table[:, :3].copy(), table[:, 3:6].astype(np.uint8), table[:, 6].copy()


def rotation_of(quaternion: np.ndarray) -> np.ndarray:
  """The rotation matrix (3, 3) of a unit quaternion (w, x, y, z).

  >>> rotation_of(np.array([0.0, 0.0, 0.0, 1.0])).tolist()
  [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
  """
  w, x, y, z = quaternion
  return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                   [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                   [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


class _Bytes:
  """A binary file, taken from its start; every step is checked against what is left."""

  def __init__(self, path: pathlib.Path):
    self.path, self.data, self.at = path, _read(path), 0

  def take(self, form: str) -> tuple:
    size = struct.calcsize(form)
    self.need(size, form)
    self.at += size
    return struct.unpack_from(form, self.data, self.at - size)

  def need(self, size: int, what: str) -> None:
    left = len(self.data) - self.at
    if size > left:
      raise BadData(self.path, f"offset {self.at}: {what} needs {size} bytes, {left} are left", _CUT)

  def count(self, smallest: int, what: str) -> int:
    """A count of records, each of at least `smallest` bytes."""
    number, = self.take("<Q")
    self.need(number * smallest, f"{number} {what}")
    return number

  def skip(self, size: int, what: str) -> None:
    self.need(size, what)
    self.at += size

  def name(self) -> str:
    end = self.data.find(b"\0", self.at, self.at + _MAX_NAME)
    if end < 0:
      raise BadData(self.path, f"offset {self.at}: a name without an end", _CUT)
    raw, at = self.data[self.at:end], self.at
    self.at = end + 1
    return _decode(self.path, f"offset {at}", raw)

  def end(self) -> None:
    if self.at != len(self.data):
      raise BadData(self.path, f"{len(self.data) - self.at} bytes after the last record", _CUT)


def _camera_records(path: pathlib.Path) -> Iterator[tuple[str, int, str, tuple[int, int], tuple[float, ...]]]:
  if path.suffix == ".txt":
    lengths = dict(MODELS.values())
    for where, line in _lines(path):
      words = line.split()
      if len(words) < 4 or words[1] not in lengths or len(words) != 4 + lengths[words[1]]:
        model = words[1] if len(words) > 1 else ""
        raise BadData(path, f"{where}: " + (f"{model} has {lengths[model]} parameters, {len(words) - 4} are given"
                                            if model in lengths else f"unknown camera model {model[:40]!r}"),
                      "known: " + ", ".join(lengths))
      number, width, height = _numbers(path, where, [words[0], *words[2:4]], int)
      yield where, number, words[1], (width, height), tuple(_numbers(path, where, words[4:], float))
    return
  data = _Bytes(path)
  for _ in range(data.count(24, "cameras")):
    where = f"offset {data.at}"
    number, model, width, height = data.take("<IiQQ")
    if model not in MODELS:
      raise BadData(path, f"{where}: unknown camera model id {model}", f"known: 0 to {max(MODELS)}")
    name, length = MODELS[model]
    yield where, number, name, (width, height), data.take(f"<{length}d")
  data.end()


def _image_records(path: pathlib.Path) -> Iterator[tuple[str, tuple[float, ...], int, str]]:
  """Where, (qw, qx, qy, qz, tx, ty, tz), camera, name; the observations are passed over."""
  if path.suffix == ".txt":
    lines = _lines(path, blank=True)
    for where, line in lines:
      if not line:
        continue
      words = line.split(maxsplit=9)
      if len(words) != 10:
        raise BadData(path, f"{where}: {len(words)} words, an image has 10", _CUT)
      if next(lines, None) is None:
        raise BadData(path, f"{where}: the line of observations that follows an image is missing", _CUT)
      pose = tuple(_numbers(path, where, words[1:8], float))
      yield where, pose, *_numbers(path, where, words[8:9], int), words[9]
    return
  data = _Bytes(path)
  for _ in range(data.count(73, "images")):
    where = f"offset {data.at}"
    *pose, camera = data.take("<4x7dI")
    name = data.name()
    data.skip(24 * data.count(24, "observations"), "observations")
    yield where, tuple(pose), camera, name
  data.end()


def _point_records(path: pathlib.Path) -> Iterator[tuple]:
  """(x, y, z, r, g, b, error); the tracks are passed over."""
  if path.suffix == ".txt":
    for where, line in _lines(path):
      words = line.split()
      if len(words) < 8 or len(words) % 2:
        raise BadData(path, f"{where}: {len(words)} words, a point has 8 and pairs of a track", _CUT)
      color = _numbers(path, where, words[4:7], int)
      if not all(0 <= c <= 255 for c in color):
        raise BadData(path, f"{where}: colour {color} is out of 0..255", _CUT)
      yield (*_numbers(path, where, words[1:4], float), *color, *_numbers(path, where, words[7:8], float))
    return
  data = _Bytes(path)
  for _ in range(data.count(51, "points")):
    yield data.take("<8x3d3Bd")
    data.skip(8 * data.count(8, "observations"), "a track")
  data.end()


def _lines(path: pathlib.Path, blank: bool = False) -> Iterator[tuple[str, str]]:
  """The lines of a text file with their numbers, without comments; blank ones only where asked for."""
  for number, raw in enumerate(_read(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
    line = _decode(path, f"line {number}", raw).strip()
    if not line.startswith("#") and (line or blank):
      yield f"line {number}", line


def _numbers(path: pathlib.Path, where: str, words: list[str], kind: Callable) -> list:
  try:
    if any("_" in word for word in words):  # python's own digit grouping
      raise ValueError
    return [kind(word) for word in words]
  except ValueError:
    raise BadData(path, f"{where}: {' '.join(words)[:60]!r} are not numbers", "export the model again") from None


def _check_finite(path: pathlib.Path, where: str, values: tuple[float, ...]) -> None:
  if not all(map(math.isfinite, values)):
    raise BadData(path, f"{where}: holds a number that is not finite", "export the model again")


def _decode(path: pathlib.Path, where: str, raw: bytes) -> str:
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError:
    raise BadData(path, f"{where}: {raw[:40]!r} is not UTF-8", "rename the photograph and run COLMAP again") from None


def _file(folder: pathlib.Path, kind: str) -> pathlib.Path:
  binary = folder / f"{kind}.bin"
  return binary if binary.is_file() else folder / f"{kind}.txt"


def _read(path: pathlib.Path) -> bytes:
  try:
    if (size := path.stat().st_size) > _MAX_BYTES:
      raise BadData(path, f"{size} bytes, the cap is {_MAX_BYTES}", "split the scene")
    data = path.read_bytes()
  except OSError as error:
    raise from_os_error(error, path) from None
  if not data:
    raise BadData(path, "empty file", "copy or export it again")
  return data
