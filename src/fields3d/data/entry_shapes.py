"""Prepared shapes as ground truth and as a dataset."""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fields3d.core.errors import MissingInput, UsageFault, nearest
from fields3d.core.types import Dataset, Frame, Mesh, Shape
from fields3d.data import cache
from fields3d.data.pipeline import generator, sdf_batches
from fields3d.data.quality import Row
from fields3d.data.sdf_samples import TESTING, sample_sdf
from fields3d.geometry.distance import closest, signed_distance, surface_colors

SPLITS = ("train", "val", "test")
BOUNDS = [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]


class EntryShapes(Sequence):
  """Ground-truth shapes of prepared entries; nothing is read before it is asked for, and nothing is kept here.

  truth: name -> () -> mesh in the model frame, for the shapes that were prepared from samples alone.
  """

  def __init__(self, root: pathlib.Path, rows: Sequence[Row], seed: int = 0,
               truth: Mapping[str, Callable[[], Mesh]] | None = None):
    self._root, self._rows, self._seed, self._truth = root, tuple(rows), seed, truth or {}

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return EntryShapes(self._root, self._rows[index], self._seed, self._truth)
    row = self._rows[index]
    return entry_shape(self._root, row, self._seed, self._truth.get(row.name))


def entry_shape(root: pathlib.Path, row: Row, seed: int = 0, truth: Callable[[], Mesh] | None = None) -> Shape:
  """One prepared shape.

  Its mesh has the faces that bound the solid only. Its samples are DeepSDF's for test time, drawn anew from the mesh
  as a function of seed and content; where only samples were prepared, all of them.
  """
  facts = row.facts

  @functools.cache
  def solid() -> tuple[Mesh, np.ndarray, str]:
    if facts["mesh"]:
      return *cache.read_entry_mesh(root, row.key), facts["sign"]
    if truth is None:
      raise MissingInput(row.name, "only samples of it are known, no mesh", "give the data set's `meshes` folder")
    mesh = truth()
    return mesh, np.ones(len(mesh.faces), bool), "winding"

  def sdf(points: np.ndarray) -> np.ndarray:
    mesh, exposed, sign = solid()
    return signed_distance(mesh, np.asarray(points), sign, exposed)

  def surface() -> Mesh:
    mesh, exposed, _ = solid()
    return Mesh(mesh.vertices, mesh.faces[exposed], mesh.colors)

  def samples() -> Mapping[str, np.ndarray]:
    if facts["mesh"]:
      mesh, exposed, sign = solid()
      drawn = sample_sdf(mesh, TESTING, generator(seed, 1, int(row.key[:15], 16)), sign, exposed)
    else:
      drawn = cache.read_entry_samples(root, row.key)
    return {"x": np.array(drawn.x), "sdf": np.array(drawn.sdf)}

  def color(points: np.ndarray) -> np.ndarray:
    mesh, exposed, _ = solid()
    _, face, foot = closest(mesh, np.asarray(points), exposed)
    return surface_colors(mesh, face, foot).astype(np.float32) / 255

  frame = Frame(tuple(facts["frame"]["offset"]), facts["frame"]["scale"])
  return Shape(row.name, row.label, sdf, surface, samples, exact=facts["exact"], frame=frame,
               color=color if facts["mesh_colors"] else None)


def split_of(name: str, splits: Sequence[float]) -> str:
  """The split of a shape: a function of its name alone, so that adding shapes moves none.

  >>> split_of("chair_1", (0.8, 0.1, 0.1)), split_of("chair_1", (0.0, 0.0, 1.0))
  ('train', 'test')
  """
  place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
  edges = np.cumsum(splits) / np.sum(splits)
  return SPLITS[min(int(np.searchsorted(edges, place, side="right")), 2)]


def check_splits(splits: Sequence[float]) -> None:
  """Refuses fractions that are not three, or leave no training shapes."""
  if len(splits) != 3 or min(splits) < 0 or splits[0] <= 0:
    raise UsageFault("--config.data.splits", f"{splits!r} is out of range", "give shares of train, val and test")


def entry_dataset(root: pathlib.Path, rows: Mapping[str, Sequence[Row]], batch_rows: int, points: int, seed: int,
                  truth: Mapping[str, Callable[[], Mesh]] | None = None, surface: int = 0) -> Dataset:
  """The dataset of prepared shapes.

  Args:
    rows: split -> the accepted shapes, in order; "train" not empty.
    batch_rows, points: shapes a batch and points a shape.
    seed: of the batches and of the samples that test-time reconstruction sees.
    surface: points of each row that are drawn from its surface.

  Raises:
    UsageFault: `surface` where only samples were prepared.
  """
  train = rows["train"]
  classes = sorted({row.label for row in train})
  info = {"num_shapes": len(train), "names": [row.name for row in train], "labels": [row.label for row in train],
          "classes": classes, "licences": [row.licence for row in train], "bounds": BOUNDS,
          "splits": {split: len(rows.get(split, ())) for split in SPLITS}}
  if surface and not all(row.facts["mesh"] for row in train):
    raise UsageFault("--config.data.surface", "only samples were prepared, no meshes", "remove it, or use a dataset of meshes")
  samples = cache.EntrySamples(root, [row.key for row in train], with_surface=surface > 0)

  def shapes(split: str) -> Sequence[Shape]:
    if split not in SPLITS:
      raise UsageFault("split", f"unknown split {split!r}", nearest(split, SPLITS))
    return EntryShapes(root, rows.get(split, ()), seed, truth)

  labels = [classes.index(row.label) for row in train]
  return Dataset(info, sdf_batches(samples, batch_rows, points, seed, labels, surface), shapes)
