"""Augmentation by new training shapes: copies moved, shrunk and recoloured, and solids with parts of one another.

A copy is a shape of its own, with its own index, so that it means the same for a code per shape, an encoder and a picture.
Distances stay exact: rigid motions keep them, a scale multiplies them, and a recombination is built from its parameters as
any shape of its family. Everything depends on (seed, name or index, number of the copy) alone.
"""

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from fields3d.core.config import Fraction, From, Index, NonNegative, Range
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.data.pipeline import generator
from fields3d.data.solids import Part, Solid
from fields3d.geometry.primitives import Sdf, rotate, scale, translate

_RADIUS = 1 / 1.03  # of the ball that holds a shape
Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Augment:
  """Copies that join each training shape.

  variants: of each shape. turn: about the vertical, by up to so many degrees either way. scale: the least factor, of
  those from it to 1. shift: along each axis, by up to so much and never out of the unit ball.
  jitter: of colours, each channel by a factor from 1 - jitter to 1 + jitter.
  """
  variants: Index = 0
  turn: Annotated[float, Range(ge=0, le=180)] = 0.0
  scale: Annotated[float, Range(gt=0, le=1)] = 1.0
  shift: NonNegative = 0.0
  jitter: Fraction = 0.0


Augments = Annotated[Augment, From({"copies": Augment})]


@dataclasses.dataclass(frozen=True)
class Motion:
  """x -> scale * R x + shift, R turning about y by `turn` radians; sRGB colours times `gains`, cut off at 1."""
  turn: float = 0.0
  scale: float = 1.0
  shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
  gains: tuple[float, float, float] = (1.0, 1.0, 1.0)

  def points(self, x: np.ndarray) -> np.ndarray:
    """Points (..., 3) moved along."""
    return (self.directions(x) * self.scale + np.asarray(self.shift)).astype(x.dtype)

  def back(self, x: np.ndarray) -> np.ndarray:
    """Where moved points (..., 3) come from."""
    return ((x - np.asarray(self.shift)) / self.scale) @ self._rotation()

  def directions(self, v: np.ndarray) -> np.ndarray:
    """Directions (..., 3), such as normals, turned."""
    return (v @ self._rotation().T).astype(v.dtype)

  def colors(self, rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) of any kind: uint8 to 255, or fractions of 1."""
    top = 255 if rgb.dtype == np.uint8 else 1
    moved = np.minimum(rgb * np.asarray(self.gains), top)
    return (np.round(moved) if top == 255 else moved).astype(rgb.dtype)

  def mesh(self, mesh: Mesh) -> Mesh:
    """A mesh moved and recoloured."""
    return Mesh(self.points(mesh.vertices), mesh.faces, None if mesh.colors is None else self.colors(mesh.colors))

  def solid(self, made: Solid) -> Solid:
    """A solid moved and recoloured."""
    def place(sdf: Sdf) -> Sdf:
      still = scale(translate(sdf, [-c for c in made.center]), self.scale / made.scale)
      return translate(rotate(still, "y", self.turn), self.shift)

    def paint(color) -> tuple:
      return tuple(int(c) for c in self.colors(np.uint8(color)))

    return Solid(tuple(Part(part.label, place(part.sdf), paint(part.color), [(place(r), paint(c)) for r, c in part.paint])
                       for part in made.parts))

  def shape(self, base: Shape, name: str) -> Shape:
    """A shape moved and recoloured; its own frame no longer leads back to a file's."""
    def samples() -> Mapping[str, np.ndarray]:
      found = base.samples()
      return {"x": self.points(found["x"]), "sdf": (found["sdf"] * self.scale).astype(found["sdf"].dtype)}

    color = None if base.color is None else lambda x: self.colors(base.color(self.back(x)))
    return Shape(name, base.label, lambda x: self.scale * base.sdf(self.back(np.asarray(x))), lambda: self.mesh(base.mesh()),
                 samples, exact=base.exact, color=color)

  def _rotation(self) -> np.ndarray:
    c, s = math.cos(self.turn), math.sin(self.turn)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def motion(settings: Augment, seed: int, name: str, number: int) -> Motion:
  """The motion of a shape's copy `number`, from 1.

  >>> motion(Augment(turn=90, scale=0.5), 0, "chair-0000", 1) == motion(Augment(turn=90, scale=0.5), 0, "chair-0000", 1)
  True
  """
  u = generator(seed, 6, zlib.crc32(name.encode()), number).uniform(-1, 1, 8)
  factor = 1 - (1 - settings.scale) * (u[0] + 1) / 2
  reach = min(settings.shift, (1 - factor * _RADIUS) / math.sqrt(3))
  return Motion(math.radians(settings.turn) * float(u[1]), float(factor), tuple(float(reach * c) for c in u[2:5]),
                tuple(float(1 + settings.jitter * c) for c in u[5:8]))


def motions_of(settings: Augment, seed: int, name: str) -> list[Motion | None]:
  """None for a shape itself, then the motions of its copies."""
  return [None, *(motion(settings, seed, name, k) for k in range(1, settings.variants + 1))]


def augmented(data: Dataset, settings: Augment, seed: int) -> Dataset:
  """A dataset of distance samples whose training shapes are each followed by their copies.

  A row of the still dataset becomes one of its shape's copies or stays, as (seed, position, row) says: x, surface,
  normals, sdf and colors are moved, "shape" counts the copies too.
  """
  if not settings.variants:
    return data
  num, each = data.info["num_shapes"], settings.variants + 1
  motions = [m for name in data.info["names"] for m in motions_of(settings, seed, name)]
  moves = {"x": Motion.points, "surface": Motion.points, "normals": Motion.directions, "colors": Motion.colors,
           "sdf": lambda m, sdf: sdf * np.float32(m.scale)}

  def batch(position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, np.ndarray]:
    out = dict(data.batch(position, shard, num_shards))
    rows = len(out["shape"])
    copies = [int(generator(seed, 10, position, shard * rows + r).integers(each)) for r in range(rows)]
    out["shape"] = (out["shape"] * each + np.asarray(copies)).astype(np.int32)
    own = [motions[i] for i in out["shape"]]
    for name in moves.keys() & out.keys():
      out[name] = np.stack([v if m is None else moves[name](m, v) for m, v in zip(own, out[name], strict=True)])
    return out

  def shapes(split: str) -> Sequence[Shape]:
    return _Copies(data.shapes(split), motions) if split == "train" else data.shapes(split)

  info = {name: [v for v in value for _ in range(each)] if name in ("names", "labels", "licences") else value
          for name, value in data.info.items()}
  info["names"] = [copy_name(name, i % each) for i, name in enumerate(info["names"])]
  return dataclasses.replace(data, info=info | {"num_shapes": num * each}, batch=batch, shapes=shapes)


def copy_name(name: str, number: int) -> str:
  """What a shape's copy is called; number 0 is the shape itself."""
  return f"{name}~{number}" if number else name


class _Copies(Sequence):
  """Shapes, each followed by its copies, made as they are asked for."""

  def __init__(self, still: Sequence[Shape], motions: Sequence[Motion | None]):
    self._still, self._motions = still, motions

  def __len__(self) -> int:
    return len(self._motions)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return tuple(self[i] for i in range(*index.indices(len(self))))
    place, number = divmod(range(len(self))[index], len(self) // len(self._still))
    base, move = self._still[place], self._motions[index]
    return base if move is None else move.shape(base, copy_name(base.name, number))


PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "chair": {"legs": ("legs", "leg_height", "leg_radius"), "back": ("back", "back_height", "back_tilt"),
              "seat": ("seat_width", "seat_depth", "seat_thickness", "fabric"), "arms": ("arms",)},
    "table": {"legs": ("legs", "leg_radius", "height", "frame"), "top": ("top", "width", "depth", "thickness", "wood"),
              "shelf": ("shelf",)},
    "lamp": {"shade": ("shade_height", "shade_top", "shade_flare", "fabric"), "base": ("base_radius", "metal"),
             "stem": ("kind", "height", "stem_radius", "tilt", "accent")},
    "plane": {"fuselage": ("length", "fuselage_radius", "accent"), "tail": ("tail_height", "tail"),
              "wings": ("span", "chord", "taper", "sweep", "dihedral", "wing", "body"), "engines": ("engines",)},
    "car": {"body": ("length", "width", "fender_height", "paint"), "cabin": ("body", "cabin_height"),
            "wheels": ("wheel_radius", "wheelbase"), "spoiler": ("spoiler",)},
    "mug": {"cup": ("height", "radius", "taper", "wall", "decor", "glaze", "inner"), "saucer": ("saucer",),
            "handle": ("handle", "handle_reach", "handle_rise", "handle_tube", "accent")},
}  # the parameters that shape each part


def choose_partner(seed: int, family: str, index: int, num: int, share: float) -> int | None:
  """Which of a family's `num` training shapes gives parts to the one that stands at `index` among them, or None.

  share: of the shapes, that take parts. Where there is one shape only, none does.
  """
  u = generator(seed, 7, zlib.crc32(family.encode()), index).random(2)
  return None if u[0] >= share or num < 2 else (index + 1 + int(u[1] * (num - 1))) % num


def recombined(family: str, own: Parameters, other: Parameters, seed: int, index: int) -> dict[str, Any]:
  """The parameters of a shape with some parts, at least one and never all, as another's; the rest decides where they fit.

  >>> mixed = recombined("mug", {n: 0 for p in PARTS["mug"].values() for n in p}, {n: 1 for p in PARTS["mug"].values() for n in p}, 0, 0)
  >>> sorted(set(mixed.values()))
  [0, 1]
  """
  rng, parts = generator(seed, 8, zlib.crc32(family.encode()), index), list(PARTS[family])
  taken = rng.permutation(len(parts))[:int(rng.integers(1, len(parts)))]
  return dict(own) | {name: other[name] for i in taken for name in PARTS[family][parts[i]]}
