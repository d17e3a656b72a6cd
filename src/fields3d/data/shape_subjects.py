"""What `shape_views` takes pictures of: procedural solids, or the meshes of a pack; and the sections that name them."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from fields3d.core.config import Count, Fraction, Index, NonNegative
from fields3d.core.errors import UsageFault, nearest
from fields3d.core.types import Mesh, Shape
from fields3d.data.entry_shapes import check_splits, split_of
from fields3d.data.families import FAMILIES
from fields3d.data.packs import PackModel, read_pack
from fields3d.data.pipeline import generator
from fields3d.data.procedural import SPLITS, parameters, places, shape, shape_name, solid
from fields3d.data.sdf_samples import TESTING, sample_sdf
from fields3d.data.shape_pictures import mesh_pictures, solid_pictures
from fields3d.data.solids import Solid
from fields3d.data.variants import Augment, Motion, copy_name, motions_of
from fields3d.geometry.distance import closest, signed_distance, surface_colors
from fields3d.geometry.meshes import normalise

_SAMPLED = {"num": 50_000, "near_variances": (0.005, 0.0005), "near_fraction": 0.94}  # of a shape's distances, on demand
_MARGIN = 1.03  # the bounding sphere's radius is 1 / margin, as everywhere


class Subject(Protocol):
  """A shape to take pictures of; small enough to send to another process.

  digest: sha256 of what the pictures depend on besides cameras. pictures: poses (v, 3, 4) -> (v, w, w, 4) uint8.
  """
  name: str
  label: str

  def digest(self) -> str: ...

  def pictures(self, poses: np.ndarray, width: int, supersample: int) -> np.ndarray: ...

  def shape(self) -> Shape: ...


@dataclasses.dataclass(frozen=True)
class Procedural:
  """A shape of a family, with parts of the shape `partner` where that is given."""
  label: str
  index: int
  seed: int
  partner: int | None = None

  @property
  def name(self) -> str:
    return shape_name(self.label, self.index, self.partner)

  def digest(self) -> str:
    return _digest(self.label, parameters(self.label, self.seed, self.index, self.partner))

  def solid(self) -> Solid:
    return solid(self.label, self.seed, self.index, self.partner)

  def pictures(self, poses: np.ndarray, width: int, supersample: int) -> np.ndarray:
    return solid_pictures(self.solid(), poses, width, supersample)

  def shape(self) -> Shape:
    return shape(self.label, self.seed, self.index, _SAMPLED, self.partner)


@dataclasses.dataclass(frozen=True)
class Copy:
  """A training shape's copy, moved and recoloured."""
  subject: "Procedural | Model"
  number: int
  motion: Motion

  @property
  def name(self) -> str:
    return copy_name(self.subject.name, self.number)

  @property
  def label(self) -> str:
    return self.subject.label

  def digest(self) -> str:
    return _digest(self.subject.digest(), dataclasses.asdict(self.motion))

  def pictures(self, poses: np.ndarray, width: int, supersample: int) -> np.ndarray:
    if isinstance(self.subject, Model):
      return mesh_pictures(self.motion.mesh(self.subject.mesh()), poses, width, supersample)
    return solid_pictures(self.motion.solid(self.subject.solid()), poses, width, supersample)

  def shape(self) -> Shape:
    return self.motion.shape(self.subject.shape(), self.name)


def with_copies(subjects: Sequence["Procedural | Model"], settings: Augment, seed: int) -> list[Subject]:
  """Each subject followed by its copies."""
  return [s if move is None else Copy(s, k, move) for s in subjects
          for k, move in enumerate(motions_of(settings, seed, s.name))]


@dataclasses.dataclass(frozen=True)
class Model:
  """A model of a pack, mended and brought into the unit sphere as `prepare` does."""
  model: PackModel

  @property
  def name(self) -> str:
    return self.model.name

  @property
  def label(self) -> str:
    return self.model.label

  def digest(self) -> str:
    return self.model.digest()

  def mesh(self) -> Mesh:
    return normalise(self.model.read()[0], "unit_sphere", _MARGIN)[0]

  def pictures(self, poses: np.ndarray, width: int, supersample: int) -> np.ndarray:
    return mesh_pictures(self.mesh(), poses, width, supersample)

  def shape(self) -> Shape:
    """The mesh as ground truth; what is inside is what its faces wind around."""
    mesh = functools.cache(self.mesh)
    stream = int(self.digest()[:15], 16)

    def samples() -> Mapping[str, np.ndarray]:
      drawn = sample_sdf(mesh(), TESTING, generator(0, 1, stream), "winding", np.ones(len(mesh().faces), bool))
      return {"x": np.array(drawn.x), "sdf": np.array(drawn.sdf)}

    def color(points: np.ndarray) -> np.ndarray:
      _, face, foot = closest(mesh(), np.asarray(points))
      return surface_colors(mesh(), face, foot).astype(np.float32) / 255

    return Shape(self.name, self.label, lambda points: signed_distance(mesh(), np.asarray(points)), mesh, samples,
                 exact=False, color=color)


Subjects = Mapping[str, Sequence[Subject]]


@dataclasses.dataclass(frozen=True)
class Families:
  """Procedural families taking turns, exactly the shapes of the dataset `procedural`.

  families: names in FAMILIES. num_shapes, num_val, num_test: shapes of each split.
  recombine: share of the training shapes that have some parts as another training shape of their family.
  """
  families: tuple[str, ...] = tuple(FAMILIES)
  num_shapes: Count = 12
  num_val: Index = 6
  num_test: Index = 6
  recombine: Fraction = 0.0

  def subjects(self, seed: int) -> Subjects:
    """Split -> shapes. Raises UsageFault: an unknown or repeated family, or none."""
    where = "--config.data.source.families"
    if not self.families or len(set(self.families)) < len(self.families):
      raise UsageFault(where, "names no family, or one twice", "known: " + ", ".join(sorted(FAMILIES)))
    for family in self.families:
      if family not in FAMILIES:
        raise UsageFault(where, f"unknown family {family!r}", nearest(family, FAMILIES))
    counts = zip(SPLITS, (self.num_shapes, self.num_val, self.num_test), strict=True)
    return {split: [Procedural(family, index, seed, other) for family, index, other
                    in places(self.families, num, split, seed, self.recombine)] for split, num in counts}

  def identity(self, subjects: Sequence[Subject]) -> str:
    """What all pictures of a split depend on, but for how many there are: so more of them are added to those there."""
    del subjects
    points = generator(0, 9).uniform(-1, 1, (64, 3))
    built = [[solid(family, 0, i).sdf(points).round(6).tolist(), solid(family, 0, i).color(points).tolist()]
             for family in self.families for i in range(4)]
    return _digest(self.families, self.recombine and (self.recombine, self.num_shapes), built)


@dataclasses.dataclass(frozen=True)
class Pack:
  """The models of a pack, as the dataset `pack` divides them.

  path: its folder. classes: to take; all by default. min_closed_share: of a model's faces, in closed components.
  max_shapes: the first so many. splits: shares of train, val and test; a model's split depends on its name alone.
  """
  path: str
  classes: tuple[str, ...] = ()
  min_closed_share: Fraction = 0.0
  max_shapes: Count | None = None
  splits: tuple[NonNegative, ...] = (0.8, 0.1, 0.1)

  def subjects(self, seed: int) -> Subjects:
    """Split -> models. Raises MissingInput: no pack. UsageFault: a class that it lacks, or no training shape."""
    del seed
    check_splits(self.splits)
    models = read_pack(self.path)
    known = {model.label for model in models}
    for name in self.classes:
      if name not in known:
        raise UsageFault("--config.data.source.classes", f"the pack has no class {name!r}", nearest(name, known))
    chosen = [m for m in models if (not self.classes or m.label in self.classes) and m.closed_share >= self.min_closed_share]
    out = {split: [Model(m) for m in chosen[:self.max_shapes] if split_of(m.name, self.splits) == split] for split in SPLITS}
    if not out["train"]:
      raise UsageFault("--config.data.source", f"leaves no training shape of {len(models)}", "take more of the pack")
    return out

  def identity(self, subjects: Sequence[Subject]) -> str:
    """What all pictures of a split depend on."""
    return _digest([subject.digest() for subject in subjects])


SOURCES = {"families": Families, "pack": Pack}


def _digest(*facts: object) -> str:
  return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
