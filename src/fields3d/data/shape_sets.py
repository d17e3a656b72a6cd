"""Datasets of meshes and of DeepSDF's files. Each prepares what it needs into the cache when it is first made."""

import collections
import dataclasses
import functools
import itertools
import logging
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from fields3d.core.config import Count, Fraction, Index, NonNegative, Positive, Range
from fields3d.core.errors import BadData, MissingInput, UsageFault, nearest
from fields3d.core.progress import progress
from fields3d.core.types import Dataset, Mesh
from fields3d.data import cache, deepsdf_files, quality
from fields3d.data.augment import stretched
from fields3d.data.entry_shapes import SPLITS, check_splits, entry_dataset, split_of
from fields3d.data.meshes import READERS, read_mesh
from fields3d.data.packs import read_pack
from fields3d.data.prepare import Recipe, prepare
from fields3d.data.sdf_samples import Protocol
from fields3d.data.sources import SampleSource, Source, find_sources
from fields3d.data.variants import Augment, Augments, augmented

_NEEDED = {"mesh", "mesh_colors", "exact", "sign", "frame", "num_samples"}  # of the facts of a prepared shape
Sign = Literal["auto", "winding", "pseudonormal", "unsigned"]


def meshes(path: str, cache_dir: str | None = None, rows: Count = 1, points: Index = 16_384,
           samples_per_shape: Count = 500_000, near_variances: tuple[Positive, ...] = (0.005, 0.0005),
           near_fraction: Fraction = 0.94, sign: Sign = "auto", keep_largest: bool = False, strict: bool = False,
           splits: tuple[NonNegative, ...] = (1.0, 0.0, 0.0), surface: Index = 0, workers: Count | None = None,
           seed: Index = 0) -> Dataset:
  """A mesh file, or every mesh file below a folder.

  Args:
    path: of the file or folder. A single shape stands in every split.
    cache_dir: where prepared shapes are kept; `cache.default_root()` by default.
    rows, points: shapes a batch, points a shape.
    samples_per_shape, near_variances, near_fraction: see `sdf_samples.Protocol`.
    sign, keep_largest, strict: see `prepare.Recipe`.
    splits: shares of train, val and test; a shape's split depends on its name alone.
    surface: points of each row of a batch that are drawn from its surface, out of a pool of 8,192 a shape; 0 for none.
    workers: processes that prepare; all cores by default.

  Raises:
    MissingInput: nothing at `path`. BadData: no training shape is acceptable.
  """
  sources = find_sources(path)
  recipe = Recipe(Protocol(samples_per_shape, near_variances, near_fraction), sign, keep_largest, strict, seed)
  if len(sources) == 1:
    return _build(path, {"train": sources}, recipe, cache_dir, workers, rows, points, seed, single=True,
                  surface=surface)
  return _build(path, _divide(sources, splits), recipe, cache_dir, workers, rows, points, seed, surface=surface)


def pack(path: str, classes: tuple[str, ...] = (), min_closed_share: Fraction = 0.0, max_shapes: Count | None = None,
         cache_dir: str | None = None, rows: Count = 16, points: Index = 4_096, samples_per_shape: Count = 100_000,
         near_variances: tuple[Positive, ...] = (0.005, 0.0005), near_fraction: Fraction = 0.94, sign: Sign = "winding",
         splits: tuple[NonNegative, ...] = (0.8, 0.1, 0.1), variants: Index = 0,
         stretch: Annotated[float, Range(gt=1)] = 1.25, augment: Augments = types.MappingProxyType({}), surface: Index = 0,
         workers: Count | None = None, seed: Index = 0) -> Dataset:
  """The models of a pack (`data.packs`).

  Args:
    path: the pack's folder.
    classes: the classes to take; all by default.
    min_closed_share: the least share of a model's faces in closed components; 1 takes watertight models only.
    max_shapes: the first so many of those.
    variants: stretched copies that join each training shape; stretch: by up to this factor along each axis.
    augment: copies, moved and recoloured, that join each of those, see `variants.Augment`.
    The others as in `meshes`. The sign is the winding number by default, since most models are open somewhere.

  Raises:
    MissingInput: no pack at `path`. UsageFault: a class that it does not have. BadData: no acceptable model.
  """
  models = read_pack(path)
  known = {model.label for model in models}
  for name in classes:
    if name not in known:
      raise UsageFault("--config.data.classes", f"the pack has no class {name!r}", nearest(name, known))
  chosen = [m for m in models if (not classes or m.label in classes) and m.closed_share >= min_closed_share]
  if not chosen:
    raise UsageFault("--config.data.min_closed_share", "leaves no model", "lower it")
  recipe = Recipe(Protocol(samples_per_shape, near_variances, near_fraction), sign, seed=seed)
  groups = _divide(chosen[:max_shapes], splits)
  groups["train"] = stretched(groups["train"], variants, stretch, seed)
  made = _build(path, groups, recipe, cache_dir, workers, rows, points, seed, surface=surface)
  return augmented(made, augment if isinstance(augment, Augment) else Augment(**augment), seed)


def deepsdf(path: str, train: str, val: str | None = None, test: str | None = None, meshes: str | None = None,
            cache_dir: str | None = None, rows: Count = 64, points: Index = 16_384,
            sdf_sign: deepsdf_files.SdfSign = "check", workers: Count | None = None, seed: Index = 0) -> Dataset:
  """DeepSDF's own data: <path>/SdfSamples/<dataset>/<class>/<instance>.npz and split files.

  Args:
    path: the data source's root.
    train, val, test: split files.
    meshes: a folder with the true surfaces, <class>/<instance>.<ext> or <class>/<instance>/models/model_normalized.obj
      as in ShapeNet, in the frame that NormalizationParameters normalise; without it there is no ground truth to
      evaluate against.
    sdf_sign: see `deepsdf_files.read_samples`.
    The others as in `meshes`.

  Raises:
    MissingInput: no such root or split. BadData: a split of another form, or no acceptable training shape.
  """
  root = pathlib.Path(path)
  if not (root / "SdfSamples").is_dir():
    raise MissingInput(root, "holds no SdfSamples folder", "give the root that prepare --format=deepsdf wrote")
  named = {name: split for name, split in zip(SPLITS, (train, val, test), strict=True) if split}
  groups = {split: [_instance(root, *triple, sdf_sign) for triple in deepsdf_files.read_split(file)]
            for split, file in named.items()}
  if both := set(groups["train"]) & {source for split in SPLITS[1:] for source in groups.get(split, ())}:
    logging.getLogger(__name__).warning("%s: %d shapes are of the training and of another split: figures of that are not of "
                                        "unseen shapes", path, len(both))
  truth = {}
  for source in (source for group in groups.values() for source in group) if meshes else ():
    truth[source.name] = functools.partial(_true_mesh, pathlib.Path(meshes), source)
  return _build(path, groups, Recipe(seed=seed), cache_dir, workers, rows, points, seed, truth=truth)


def prepared(path: str, classes: tuple[str, ...] = (), rows: Count = 16, points: Index = 4_096,
             splits: tuple[NonNegative, ...] = (0.8, 0.1, 0.1), surface: Index = 0, seed: Index = 0) -> Dataset:
  """A folder that `fields3d prepare` wrote; its sources are not needed any more.

  Args as in `pack`.

  Raises:
    MissingInput: no index at `path`. BadData: it is not one, or holds no shape of the classes.
  """
  check_splits(splits)
  root = pathlib.Path(path)
  found = quality.read_index(root)
  if not all(isinstance(row.facts, Mapping) and _NEEDED <= row.facts.keys() for row in found):
    raise BadData(root / quality.INDEX, "is not the index of prepared data", "run fields3d prepare again")
  kept = [row for row in found if not classes or row.label in classes]
  groups = {split: [row for row in kept if len(kept) == 1 or split_of(row.name, splits) == split] for split in SPLITS}
  if not groups["train"]:
    raise BadData(path, "has no training shape", "change `classes` or `splits`")
  if not all(row.facts["num_samples"] for row in groups["train"]):
    raise BadData(path, "was prepared without samples", "prepare it again with --samples")
  return entry_dataset(root, groups, rows, points, seed, surface=surface)


def _divide(sources: Sequence[Source], splits: Sequence[float]) -> dict[str, list[Source]]:
  check_splits(splits)
  groups = {split: [source for source in sources if split_of(source.name, splits) == split] for split in SPLITS}
  if not groups["train"]:
    raise UsageFault("--config.data.splits", f"leaves no training shape of {len(sources)}", "raise its first number")
  return groups


def _build(path: str, groups: dict[str, Sequence[Source]], recipe: Recipe, cache_dir: str | None, workers: int | None,
           batch_rows: int, points: int, seed: int, single: bool = False,
           truth: dict[str, Callable[[], Mesh]] | None = None, surface: int = 0) -> Dataset:
  """Prepares every split and makes the dataset; only training shapes are sampled, or those that are nothing else."""
  root = pathlib.Path(cache_dir) if cache_dir else cache.default_root()
  kept, rejected = {}, []
  for split, sources in groups.items():
    mesh_only = split != "train" and not isinstance(sources[0] if sources else None, SampleSource)
    found = _prepare(split, sources, dataclasses.replace(recipe, protocol=None) if mesh_only else recipe, root, workers)
    kept[split] = [row for row in found if row.status != "rejected"]
    rejected += [row for row in found if row.status == "rejected"]
    warned = collections.Counter(reason for row in kept[split] for reason in row.reasons)
    if warned:
      logging.getLogger(__name__).info("%s: %d warnings in %s", path, warned.total(), split)
  if rejected:
    logging.getLogger(__name__).warning("%s: %d shapes rejected; the first: %s", path, len(rejected),
                                        rejected[0].reasons[0])
  if not kept["train"]:
    if len(rejected) == 1:
      raise BadData(path, rejected[0].reasons[0])
    raise BadData(path, f"all {len(rejected)} shapes were rejected; the first: {rejected[0].reasons[0]}")
  if single:
    kept = dict.fromkeys(SPLITS, kept["train"])
  return entry_dataset(root, kept, batch_rows, points, seed, truth, surface)


def _prepare(split: str, sources: Sequence[Source], recipe: Recipe, root: pathlib.Path, workers: int | None) -> list[quality.Row]:
  done = itertools.count(1)
  with progress() as show:
    return prepare(sources, recipe, root, workers, lambda row: show(f"{split} shapes prepared", next(done), len(sources)))


def _instance(root: pathlib.Path, dataset: str, label: str, name: str, sdf_sign: deepsdf_files.SdfSign) -> SampleSource:
  path = root / "SdfSamples" / dataset / label / f"{name}.npz"
  frame = root / "NormalizationParameters" / dataset / label / f"{name}.npz"
  return SampleSource(name, label, path, frame if frame.is_file() else None, sdf_sign)


def _true_mesh(folder: pathlib.Path, source: SampleSource) -> Mesh:
  """The true surface of a DeepSDF instance, in the frame of its samples."""
  base = folder / source.label / source.name
  candidates = [*(base.with_name(base.name + suffix) for suffix in READERS), base / "models" / "model_normalized.obj"]
  for path in candidates:
    if path.is_file():
      mesh, frame = read_mesh(path)[0], source.frame()
      return dataclasses.replace(mesh, vertices=(mesh.vertices - frame.offset) / frame.scale)
  raise MissingInput(base, "has no mesh", "put it there, or set `meshes` to another folder")
