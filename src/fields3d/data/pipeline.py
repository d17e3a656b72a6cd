"""Training batches as a pure function of one integer, the data position.

Counter-based randomness (Philox keyed by seed, position and row) makes every row of every batch addressable: a
process draws its own rows only, and resuming needs nothing but the position.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core.errors import UsageFault, require_memory


@dataclasses.dataclass(frozen=True)
class SdfSamples:
  """Signed-distance samples of one shape: outside ones (sdf >= 0) first, then inside ones.

  x (n, 3) float32, sdf (n,) float32; num_outside of them are outside. normals (n, 3) float32 (the distance's
  gradient) and colors (n, 3) uint8 (of the nearest surface point) where known. surface (m, 3) float32: points on the
  surface, uniform by area, where asked for.
  """
  x: np.ndarray
  sdf: np.ndarray
  num_outside: int
  normals: np.ndarray | None = None
  colors: np.ndarray | None = None
  surface: np.ndarray | None = None


def generator(seed: int, *counters: int) -> np.random.Generator:
  """A generator that depends on (seed, counters) alone: the same anywhere, in any order of calls.

  >>> bool(generator(0, 5, 2).integers(1000) == generator(0, 5, 2).integers(1000))
  True
  """
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=counters)))


def once(make: Callable[[], Any]) -> Callable[[], Any]:
  """`make` as a function that makes its result at the first call and keeps it, also where several threads make batches."""
  kept, lock = functools.cache(make), threading.Lock()

  def given() -> Any:
    with lock:
      return kept()

  return given


def sdf_batches(samples: Sequence[SdfSamples], rows: int, points: int, seed: int, labels: Sequence[int] | None = None,
                surface: int = 0) -> Callable:
  """The batch function of a Dataset: each row is one shape, half its points outside and half inside.

  Shapes are visited in epochs, each a new permutation; `rows` need not divide their number. As in DeepSDF, a shape
  with no sample on one side gives all its points from the other.

  Args:
    points: of a row; 0 for none, where what is trained knows shapes by their codes or surfaces.
    labels: the class of each shape, as numbers. surface: points of a row that are drawn from its surface.

  Returns:
    (position, shard, num_shards) -> {"shape" (r,) int32, "x" (r, points, 3), "sdf" (r, points), "normals",
    "colors" where every shape has them, "label" (r,) int32 and "surface" (r, surface, 3) where asked for},
    r = rows / num_shards.

  Raises:
    UsageFault: a batch that cannot fit in memory; rows that do not divide over the processes.
  """
  in_flight = 4 * rows * (points * 40 + surface * 12)  # four prefetched batches of at most 40 bytes a point
  require_memory(in_flight, "--config.data.rows", f"{rows} rows of {points} points: lower one of them")
  num = len(samples)
  has_normals = points > 0 and all(s.normals is not None for s in samples)
  has_colors = points > 0 and all(s.colors is not None for s in samples)

  @functools.lru_cache(maxsize=2)  # a batch lies in two epochs at most, but for fewer shapes than rows
  def order(epoch: int) -> np.ndarray:
    return generator(seed, 0, epoch).permutation(num)

  def shape_at(row: int) -> int:
    epoch, place = divmod(row, num)
    return int(order(epoch)[place])

  def batch(position: int, shard: int = 0, num_shards: int = 1) -> Mapping[str, np.ndarray]:
    if rows % num_shards:
      raise UsageFault("--config.data.rows", f"{rows} rows do not divide over {num_shards} processes",
                       f"give a multiple of {num_shards}")
    own = range(shard * rows // num_shards, (shard + 1) * rows // num_shards)
    shapes = [shape_at(position * rows + r) for r in own]
    out = {"shape": np.asarray(shapes, np.int32)}
    if points:
      picks = [_pick(samples[s], points, generator(seed, 1, position, r)) for s, r in zip(shapes, own, strict=True)]
      out |= _picked(samples, list(zip(shapes, picks, strict=True)), has_normals, has_colors)
    if labels is not None:
      out["label"] = np.asarray([labels[s] for s in shapes], np.int32)
    if surface:
      drawn = [generator(seed, 2, position, r).integers(len(samples[s].surface), size=surface)
               for s, r in zip(shapes, own, strict=True)]
      out["surface"] = np.stack([samples[s].surface[i] for s, i in zip(shapes, drawn, strict=True)])
    return out

  return batch


def _picked(samples: Sequence[SdfSamples], chosen: Sequence[tuple[int, np.ndarray]], normals: bool,
            colors: bool) -> dict[str, np.ndarray]:
  """The samples of each (shape, indices), stacked."""
  out = {"x": np.stack([samples[s].x[i] for s, i in chosen]), "sdf": np.stack([samples[s].sdf[i] for s, i in chosen])}
  if normals:
    out["normals"] = np.stack([samples[s].normals[i] for s, i in chosen])
  if colors:
    out["colors"] = np.stack([samples[s].colors[i] for s, i in chosen]).astype(np.float32) / 255
  return out


def _pick(samples: SdfSamples, points: int, rng: np.random.Generator) -> np.ndarray:
  inside = len(samples.sdf) - samples.num_outside
  if inside == 0 or samples.num_outside == 0:
    return rng.integers(len(samples.sdf), size=points)
  half = points // 2
  return np.concatenate([rng.integers(samples.num_outside, size=points - half),
                         samples.num_outside + rng.integers(inside, size=half)])
