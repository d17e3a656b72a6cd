"""DeepSDF's own files: sample archives (`pos`, `neg`), split JSON, normalisation parameters.

A data source is laid out as
  <root>/SdfSamples/<dataset>/<class>/<instance>.npz                 pos (n, 4), neg (m, 4): x, y, z, sdf
  <root>/NormalizationParameters/<dataset>/<class>/<instance>.npz    offset (3,), scale ()
and a split is {dataset: {class: [instances]}}. There, normalised = (world + offset) * scale.
"""

import os
import pathlib
import re
from typing import Literal

import numpy as np

from fields3d.core import strict_json
from fields3d.core.errors import BadData, from_os_error
from fields3d.core.types import Frame
from fields3d.data.npz import read_npz
from fields3d.data.pipeline import SdfSamples
from fields3d.data.sdf_samples import split_by_sign

SdfSign = Literal["check", "negative-inside", "positive-inside"]
MIN_SAMPLES = 64
MAX_NAN_SHARE = 0.01
SPLIT_FORM = '{"ShapeNetV2": {"03001627": ["instance", ...], ...}}'


def read_samples(path: str | os.PathLike, sdf_sign: SdfSign = "check") -> tuple[SdfSamples, list[str]]:
  """The samples of one shape, and warnings.

  Args:
    path: an npz with float `pos` and `neg` of shape (n, 4).
    sdf_sign: "negative-inside" is DeepSDF's convention; "positive-inside" negates what the file says; "check"
      expects the former, and refuses a file whose samples farthest from its centre are mostly negative.

  Raises:
    BadData: no such arrays, a wrong shape, more than 1 % of rows not finite, all points identical, fewer than 64,
      or a sign that looks inverted. MissingInput: no such file.
  """
  arrays = read_npz(path, ("pos", "neg"))
  for name, array in arrays.items():
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind != "f":
      raise BadData(path, f"{name!r} is {array.dtype} of shape {array.shape}", "give float (n, 4): x, y, z, sdf")
  with np.errstate(over="ignore"):
    rows = np.concatenate([arrays["pos"], arrays["neg"]]).astype(np.float32)
  in_pos = np.arange(len(rows)) < len(arrays["pos"])
  finite = np.isfinite(rows).all(axis=1)
  warnings = []
  if dropped := int((~finite).sum()):
    what = f"{dropped} of {len(rows)} samples are not finite"
    if dropped > MAX_NAN_SHARE * len(rows):
      raise BadData(path, what, "write the file again")
    warnings.append(f"{what}: dropped")
  rows, in_pos = rows[finite], in_pos[finite]
  if len(rows) < MIN_SAMPLES:
    raise BadData(path, f"has {len(rows)} samples, at least {MIN_SAMPLES} are needed", "sample the shape again")
  if (np.ptp(rows[:, :3], axis=0) == 0).all():
    raise BadData(path, "all its points are identical", "sample the shape again")
  if strange := int(((rows[:, 3] < 0) & in_pos).sum() + ((rows[:, 3] > 0) & ~in_pos).sum()):
    warnings.append(f"{strange} samples lie in the array of the other sign: taken by their sign")
  if sdf_sign == "positive-inside":
    rows[:, 3] *= -1
  elif sdf_sign == "check" and looks_inverted(rows):
    raise BadData(path, "sign looks inverted: far from the shape it is negative",
                  "pass --sdf-sign=positive-inside, or --sdf-sign=negative-inside if it is right")
  return split_by_sign(rows[:, :3], rows[:, 3]), warnings


def looks_inverted(rows: np.ndarray) -> bool:
  """Whether most of the 1 % of rows (n, 4) farthest from the centre of all points are negative."""
  points = rows[:, :3]
  centre = (points.min(axis=0) + points.max(axis=0)) / 2
  far = np.argsort(-np.linalg.norm(points - centre, axis=1))[:max(10, len(rows) // 100)]
  return bool(np.mean(rows[far, 3] < 0) > 0.5)


def write_samples(path: str | os.PathLike, samples: SdfSamples) -> None:
  """Writes `pos` and `neg`, float32 (n, 4), whole or not at all."""
  rows = np.concatenate([samples.x, samples.sdf[:, None]], axis=1).astype(np.float32)
  _savez(path, pos=rows[:samples.num_outside], neg=rows[samples.num_outside:])


def read_normalization(path: str | os.PathLike) -> Frame:
  """The frame of a NormalizationParameters file.

  Raises:
    BadData: not three finite offsets and one finite positive scale. MissingInput: no such file.
  """
  arrays = read_npz(path, ("offset", "scale"))
  offset, scale = arrays["offset"].astype(np.float64).ravel(), arrays["scale"].astype(np.float64).ravel()
  if offset.shape != (3,) or scale.shape != (1,) or not np.isfinite(offset).all() or not 0 < scale[0] < np.inf:
    raise BadData(path, f"offset {offset.tolist()}, scale {scale.tolist()}", "give three numbers, and one above 0")
  return Frame(tuple((-offset).tolist()), float(1 / scale[0]))


def write_normalization(path: str | os.PathLike, frame: Frame) -> None:
  """Writes a frame as `offset` (3,) and `scale` (), float64."""
  _savez(path, offset=-np.asarray(frame.offset), scale=np.asarray(1 / frame.scale))


def read_split(path: str | os.PathLike) -> list[tuple[str, str, str]]:
  """The (dataset, class, instance) triples of a split, in the file's order.

  Raises:
    BadData: not of the expected form, a name that is not a plain file name, one twice, or none at all.
    MissingInput: no such file.
  """
  def wrong(what: str) -> BadData:
    return BadData(path, what, f"expected {SPLIT_FORM}")

  content = strict_json.read(path)
  if not isinstance(content, dict):
    raise wrong(f"holds a {type(content).__name__}, not an object of datasets")
  triples = []
  for dataset, classes in content.items():
    if not isinstance(classes, dict):
      raise wrong(f"{dataset!r} holds a {type(classes).__name__}, not an object of classes")
    for label, instances in classes.items():
      if not isinstance(instances, list) or not all(isinstance(name, str) for name in instances):
        raise wrong(f"{dataset!r}, {label!r} does not hold a list of names")
      triples += [(dataset, label, name) for name in instances]
  for name in {part for triple in triples for part in triple}:
    if not re.fullmatch(r"[^/\\\0]+", name) or name in (".", ".."):
      raise wrong(f"{name!r} is not a file's name")
  if len(set(triples)) != len(triples):
    raise wrong(f"{len(triples) - len(set(triples))} instances stand twice")
  if not triples:
    raise wrong("names no instance")
  return triples


def write_split(path: str | os.PathLike, triples: list[tuple[str, str, str]]) -> None:
  """Writes (dataset, class, instance) triples as a split."""
  content: dict = {}
  for dataset, label, name in triples:
    content.setdefault(dataset, {}).setdefault(label, []).append(name)
  strict_json.write(path, content)


def _savez(path: str | os.PathLike, **arrays: np.ndarray) -> None:
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, "wb") as f:
      np.savez(f, **arrays)
    os.replace(temporary, path)
  except OSError as error:
    raise from_os_error(error, path) from None
