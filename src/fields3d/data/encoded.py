"""Shapes with the latents that a trained autoencoder gave them, so that what learns over latents need not encode them anew."""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from fields3d.core import strict_json
from fields3d.core.config import From, build
from fields3d.core.errors import BadData, MissingInput, from_os_error
from fields3d.core.types import Dataset, Shape
from fields3d.data.named_sets import SHAPE_SETS
from fields3d.data.npz import read_npz
from fields3d.data.pipeline import generator, once

PROBED = 4  # shapes whose distances are kept beside the latents


def encoded(source: Annotated[Dataset, From(SHAPE_SETS)], path: str) -> Dataset:
  """The dataset `source` with "latents" (r, *s) float32 in every batch: one of those that are kept of each row's shape, at random.

  They are read when the first batch is asked for: who draws or evaluates needs no file.

  Args:
    source: section of the set of shapes that was encoded; its `points` and `surface` may be 0.
    path: the file that `fields3d encode` wrote.

  Raises (from the first batch on):
    MissingInput: no such file. BadData: latents of other shapes, or a damaged file.
  """
  source = build(SHAPE_SETS, source, "data.source") if isinstance(source, Mapping) else source

  @once
  def kept() -> np.ndarray:
    return read_latents(path, source.shapes("train"))

  def batch(position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, Any]:
    found = dict(source.batch(position, shard, num_shards))
    first = shard * len(found["shape"])
    chosen = [generator(0, position, first + row).integers(len(kept())) for row in range(len(found["shape"]))]
    return {**found, "latents": kept()[chosen, found["shape"]]}

  return dataclasses.replace(source, info={**source.info, "latents": path}, batch=batch)


def write_latents(path: pathlib.Path, latents: np.ndarray, shapes: Sequence[Shape], step: int, checkpoint: str) -> None:
  """Keeps latents (k, n, *s), k of each of the shapes, with the step of the run that made them and its manifest's sha256."""
  file = io.BytesIO()
  np.savez(file, latents=latents.astype(np.float32), shapes=_digest(shapes), distances=_distances(shapes), step=np.int64(step),
           checkpoint=np.frombuffer(bytes.fromhex(checkpoint), np.uint8))
  try:
    strict_json.replace(path, file.getvalue())
  except OSError as error:
    raise from_os_error(error, path) from None


def read_latents(path: str, shapes: Sequence[Shape]) -> np.ndarray:
  """The latents (k, n, *s) that are kept of the shapes. Raises: see `encoded`."""
  found = _read(path, "latents", "shapes", "distances")
  if (found["latents"].ndim < 3 or found["latents"].shape[1] != len(shapes) or not np.array_equal(found["shapes"], _digest(shapes))
      or found["distances"].shape != (PROBED, 8) or not np.allclose(found["distances"], _distances(shapes), atol=1e-3)):
    raise BadData(path, f"holds latents of other shapes than the {len(shapes):,} of --config.data.source",
                  "give the data section of the run that was encoded, its seed too")
  if not np.isfinite(found["latents"]).all():
    raise BadData(path, "latents: some are not finite", "encode with a run that has not diverged")
  return found["latents"]


def made_by(path: str) -> tuple[int, str]:
  """The step that made the latents, and the sha256 of its checkpoint's manifest. Raises: see `encoded`."""
  found = _read(path, "step", "checkpoint")
  return found["step"].item(), found["checkpoint"].tobytes().hex()


def _read(path: str, *names: str) -> dict[str, np.ndarray]:
  if not pathlib.Path(path).exists():
    raise MissingInput(path, "no such file", f"write it: fields3d encode {pathlib.Path(path).parent}")
  return read_npz(path, names)


def _digest(shapes: Sequence[Shape]) -> np.ndarray:
  return np.frombuffer(hashlib.sha256("\n".join(shape.name for shape in shapes).encode()).digest(), np.uint8)


def _distances(shapes: Sequence[Shape]) -> np.ndarray:
  """(PROBED, 8) signed distances of some shapes at 8 points: shapes of one name differ where the seed of their data does."""
  points = np.stack(np.meshgrid(*3 * [(-0.3, 0.4)]), axis=-1).reshape(8, 3)
  return np.stack([shapes[i].sdf(points) for i in np.linspace(0, len(shapes) - 1, PROBED).astype(int)]).astype(np.float32)
