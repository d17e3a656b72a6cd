"""Procedural shapes: an unlimited supply of coloured solids with analytic distances, split into train, val and test.

Shape `index` of a family depends on (family, seed, index) alone. Index 3 k belongs to train, 3 k + 1 to val and
3 k + 2 to test, so that no shape is ever shared and asking for more shapes changes none of the others.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import types
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from fields3d.core.config import Count, Fraction, Index, Positive
from fields3d.core.errors import UsageFault, nearest, require_memory
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.data import cache
from fields3d.data.families import FAMILIES, Parameters
from fields3d.data.kept_samples import kept_mesh, kept_samples
from fields3d.data.pipeline import SdfSamples, generator, sdf_batches
from fields3d.data.solids import Solid, normalise, surface, surface_points
from fields3d.data.variants import Augment, Augments, augmented, choose_partner, recombined

SPLITS = ("train", "val", "test")

_SAMPLING_SPACING = 1 / 56  # of the mesh that surface points are drawn from, before they are projected
_TRUTH_SPACING = 1 / 128  # of the mesh that stands for the truth


def parameters(family: str, seed: int, index: int, partner: int | None = None) -> Parameters:
  """The named parameters of one shape of a family; with `partner`, some of its parts are as that other shape's."""
  own = FAMILIES[family].draw(generator(seed, zlib.crc32(family.encode()), index))
  return own if partner is None else recombined(family, own, parameters(family, seed, partner), seed, index)


def solid(family: str, seed: int, index: int, partner: int | None = None) -> Solid:
  """One shape of a family as a solid of named parts, centred, within radius 1 / 1.03.

  >>> [part.label for part in solid("mug", seed=0, index=1).parts][:2]
  ['cup', 'handle']
  """
  return normalise(FAMILIES[family].build(parameters(family, seed, index, partner)))


def shape(family: str, seed: int, index: int, sampled: Mapping, partner: int | None = None) -> Shape:
  """One shape as ground truth; its mesh (colours included) and samples are made when first asked for.

  Args:
    sampled: the keyword arguments `num`, `near_variances` and `near_fraction` of `sample`.
  """
  made = solid(family, seed, index, partner)

  @functools.cache
  def mesh() -> Mesh:
    return surface(made, _TRUTH_SPACING)

  @functools.cache
  def samples() -> Mapping[str, np.ndarray]:
    drawn = sample_shape(family, seed, index, sampled, partner)
    return {"x": drawn.x, "sdf": drawn.sdf}

  def color(points: np.ndarray) -> np.ndarray:
    return made.color(points).astype(np.float32) / 255

  return Shape(shape_name(family, index, partner), label=family, sdf=made.sdf, mesh=mesh, samples=samples, exact=False,
               color=color)


def shape_name(family: str, index: int, partner: int | None = None) -> str:
  """What a shape is called: "mug-0003", or with parts of another, "mug-0003+0009"."""
  return f"{family}-{index:04d}" + ("" if partner is None else f"+{partner:04d}")


def places(families: Sequence[str], num: int, split: str, seed: int = 0,
           recombine: float = 0.0) -> list[tuple[str, int, int | None]]:
  """(family, index, partner) of each of a split's `num` shapes; of "train" alone some have partners among their own."""
  out = []
  for i in range(num):
    family, place = families[i % len(families)], i // len(families)
    among = -(-(num - i % len(families)) // len(families))  # shapes of the family
    other = choose_partner(seed, family, place, among, recombine) if split == "train" else None
    out.append((family, 3 * place + SPLITS.index(split), None if other is None else 3 * other))
  return out


def sample(made: Solid, num: int, near_variances: Sequence[float], near_fraction: float, seed: int,
           stream: Sequence[int], surface_pool: int = 0) -> SdfSamples:
  """Distance samples as DeepSDF draws them, with normals and colours.

  A fraction of the points are surface points, uniform by area, displaced by normal noise of each variance in turn;
  the rest are uniform in the cube [-1, 1]^3. The distance is that of the float32 point. A colour is that of the
  nearest surface point.

  Args:
    num: points in all. near_variances: of the noise, in squared units of the model frame. near_fraction: in [0, 1].
    seed, stream: the random numbers depend on these alone.
    surface_pool: as many points on the surface besides, uniform by area; 0 for none.

  Source: DeepSDF, section 5.1: 0.94 of the points, variances 0.005 and 0.0005.
  """
  rng = generator(seed, *stream)
  num_near = round(num * near_fraction)
  x = rng.uniform(-1, 1, (num, 3))
  mesh = surface(made, _SAMPLING_SPACING) if num_near or surface_pool else None
  if num_near:
    deviations = np.sqrt(np.asarray(near_variances))[np.arange(num_near) % len(near_variances)]
    points = surface_points(mesh, made, num_near, rng)
    x[:num_near] = points + deviations[:, None] * rng.standard_normal((num_near, 3))
  x = x.astype(np.float32)
  sdf = made.sdf(x)
  order = np.argsort(sdf < 0, kind="stable")
  x, sdf = x[order], sdf[order]
  normals = made.normal(x, sdf)
  colors = made.color(x - sdf[:, None] * normals)
  on_surface = surface_points(mesh, made, surface_pool, rng).astype(np.float32) if surface_pool else None
  return SdfSamples(x, sdf.astype(np.float32), int((sdf >= 0).sum()), normals.astype(np.float32), colors, on_surface)


def sample_shape(family: str, seed: int, index: int, sampled: Mapping, partner: int | None = None) -> SdfSamples:
  """The samples of one shape. sampled: the keyword arguments of `sample` but seed and stream."""
  return sample(solid(family, seed, index, partner), seed=seed, stream=(zlib.crc32(family.encode()), index, 1), **sampled)


def procedural(families: tuple[str, ...] = tuple(FAMILIES), num_shapes: Count = 12, num_val: Index = 6,
               num_test: Index = 6, samples_per_shape: Count = 50_000,
               near_variances: tuple[Positive, ...] = (0.005, 0.0005), near_fraction: Fraction = 0.94,
               rows: Count = 12, points: Index = 1024, surface: Index = 0, recombine: Fraction = 0.0,
               augment: Augments = types.MappingProxyType({}), cached: bool = False,
               cache_dir: str | None = None, workers: Count | None = None, seed: Index = 0) -> Dataset:
  """The dataset of procedural shapes, the families taking turns.

  Args:
    families: names in FAMILIES. num_shapes, num_val, num_test: shapes of each split.
    samples_per_shape, near_variances, near_fraction: as in `sample`. rows, points: of a batch.
    surface: points of each row of a batch that are drawn from its surface, out of a pool of 8,192 a shape; 0 for none.
    recombine: share of the training shapes that have some parts as another training shape of their family.
    augment: copies that join each training shape, see `variants.Augment`.
    cached: keep the samples of training shapes on disk, in cache_dir (`cache.default_root()` by default), made by
      `workers` processes (all cores by default), instead of making them anew in memory: right from some hundred shapes on.
      The true meshes that evaluation asks for are kept there too.
    seed: of the shapes, their samples and the batches.

  Raises:
    UsageFault: an unknown or repeated family, none at all, or more samples than memory holds.
  """
  _check(families, near_variances, near_fraction)
  bytes_per_sample = 31  # x, sdf and normals in float32, colours
  if not cached:
    require_memory(num_shapes * (samples_per_shape * bytes_per_sample + 12 * cache.POOL * bool(surface)),
                   "--config.data.num_shapes", "lower it or samples_per_shape, or set cached=True")
  sampled = {"num": samples_per_shape, "near_variances": near_variances, "near_fraction": near_fraction}
  counts = dict(zip(SPLITS, (num_shapes, num_val, num_test), strict=True))
  root = pathlib.Path(cache_dir) if cache_dir else cache.default_root()
  probes = {family: _probe(family) for family in families} if cached else {}
  stand = {split: places(families, counts[split], split, seed, recombine) for split in SPLITS}
  augment = augment if isinstance(augment, Augment) else Augment(**augment)

  @functools.cache
  def shapes(split: str) -> Sequence[Shape]:
    if split not in counts:
      raise UsageFault("split", f"no split {split!r}", nearest(split, counts))
    return tuple(truth(family, index, other) for family, index, other in stand[split])

  def truth(family: str, index: int, other: int | None) -> Shape:
    made = shape(family, seed, index, sampled, other)
    if not cached:
      return made
    key = _key(probes, family, seed, index, {"truth": _TRUTH_SPACING}, other)
    return dataclasses.replace(made, mesh=functools.partial(kept_mesh, root, key, made.mesh))

  pool = sampled | ({"surface_pool": cache.POOL} if surface else {})
  wanted = [(family, seed, index, pool, other) for family, index, other in stand["train"]]
  if cached:
    drawn = kept_samples(root, {_key(probes, *arguments): arguments for arguments in wanted}, sample_shape, workers)
  else:
    drawn = [sample_shape(*arguments) for arguments in wanted]
  train, classes = shapes("train"), sorted(families)
  info = {"num_shapes": num_shapes, "names": [s.name for s in train], "labels": [s.label for s in train],
          "classes": classes, "bounds": [[-1.0] * 3, [1.0] * 3]}
  labels = [classes.index(s.label) for s in train]
  return augmented(Dataset(info, sdf_batches(drawn, rows, points, seed, labels, surface), shapes), augment, seed)


def _key(probes: Mapping[str, str], family: str, seed: int, index: int, sampled: Mapping, partner: int | None) -> str:
  """The cache's name for the samples of a shape: its parameters, how it is sampled, and what its family builds now."""
  parts = [family, seed, index, parameters(family, seed, index, partner), sampled, probes[family], cache.VERSION]
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _probe(family: str) -> str:
  """Distances, colours and surface points of some shapes of a family: another digest once its code makes others."""
  digest = hashlib.sha256()
  for index in range(4):
    drawn = sample_shape(family, 0, index, {"num": 256, "near_variances": (0.005,), "near_fraction": 0.5, "surface_pool": 64})
    for array in (drawn.x, drawn.sdf, drawn.normals, drawn.colors, drawn.surface):
      digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _check(families: Sequence[str], near_variances: Sequence[float], near_fraction: float) -> None:
  where = "--config.data.families"
  if not families:
    raise UsageFault(where, "names no family", "known: " + ", ".join(sorted(FAMILIES)))
  for family in families:
    if family not in FAMILIES:
      raise UsageFault(where, f"unknown family {family!r}", nearest(family, FAMILIES))
  if len(set(families)) < len(families):
    raise UsageFault(where, "names a family twice", "name each once")
  if near_fraction and not near_variances:
    raise UsageFault("--config.data.near_variances", "is empty", "give a variance or near_fraction 0")
