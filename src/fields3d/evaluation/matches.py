"""Nearest neighbours between two sampled surfaces, and measures that are functions of two averages over them.

Distances are Euclidean, in float64, by an exact search.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import scipy.spatial

from fields3d.core.types import Frame, PointCloud
from fields3d.evaluation.results import Metric
from fields3d.metrics.statistics import Interval, percentile_interval, resampled_means


@dataclasses.dataclass(frozen=True)
class Direction:
  """From each point of one cloud to the nearest of the other.

  distance (n,). signed (n,): the cosine between their normals, negative where they point apart.
  """
  distance: np.ndarray
  signed: np.ndarray

  @property
  def cosine(self) -> np.ndarray:
    """(n,) |cosine| between the normals: which way a face looks does not count."""
    return np.abs(self.signed)


@dataclasses.dataclass(frozen=True)
class Matches:
  """Nearest neighbours both ways. Of a prediction: `forward` is prediction to truth, `backward` truth to prediction."""
  forward: Direction
  backward: Direction


@dataclasses.dataclass(frozen=True)
class Measure:
  """A metric of two surfaces as a function of two averages, one each way.

  point: Direction -> (n,), what each point contributes. combine: (forward, backward) -> value, of floats or arrays.
  pool: how points are pooled: their mean, their median, or their maximum.
  power: of length in the unit (2 for squared distances), for other frames.
  keep: Direction -> (n,) bool, the points that count; all when None.
  way: which of the two averages it uses.
  """
  point: Callable[[Direction], np.ndarray]
  combine: Callable
  better: Literal["lower", "higher"]
  definition: str
  pool: Literal["mean", "median", "max"] = "mean"
  power: int = 0
  keep: Callable[[Direction], np.ndarray] | None = None
  way: Literal["both", "forward", "backward"] = "both"

  def values(self, direction: Direction) -> np.ndarray:
    """What the points that count contribute (m,)."""
    values = self.point(direction)
    return values if self.keep is None else values[self.keep(direction)]


def half_sum(forward, backward):
  """The mean of the two ways' averages."""
  return (forward + backward) / 2


def total(forward, backward):
  """Their sum."""
  return forward + backward


def harmonic(forward, backward):
  """Their harmonic mean, 0 where both are 0."""
  sums = np.asarray(forward + backward, np.float64)
  return np.divide(2 * forward * backward, sums, out=np.zeros_like(sums), where=sums > 0)


def one_way(way: Literal["forward", "backward"], point: Callable, better: str, definition: str, **more) -> Measure:
  """A measure of one of the two ways alone."""
  chosen = (lambda forward, backward: forward) if way == "forward" else (lambda forward, backward: backward)
  return Measure(point, chosen, better, definition, way=way, **more)


def distance(direction: Direction) -> np.ndarray:
  """(n,) distances."""
  return direction.distance


def squared_distance(direction: Direction) -> np.ndarray:
  """(n,) squared distances."""
  return direction.distance**2


POOLS = {"mean": np.mean, "median": np.median, "max": np.max}


def match(a: PointCloud, b: PointCloud) -> Matches:
  """Nearest neighbours between two clouds with normals. Exact; both must hold a point."""
  to_b, index_b = scipy.spatial.cKDTree(b.points).query(a.points, workers=-1)
  to_a, index_a = scipy.spatial.cKDTree(a.points).query(b.points, workers=-1)
  return Matches(Direction(to_b, np.sum(a.normals * b.normals[index_b], axis=1)),
                 Direction(to_a, np.sum(b.normals * a.normals[index_a], axis=1)))


def evaluate(measure: Measure, matches: Matches) -> float:
  """The value of a measure, in the frame of the points; NaN where a way that counts keeps no point."""
  def pooled(direction):
    values = measure.values(direction)
    return POOLS[measure.pool](values) if len(values) else np.nan

  return float(measure.combine(pooled(matches.forward), pooled(matches.backward)))


def intervals(measures: Mapping[str, Measure], matches: Matches, rng: np.random.Generator,
              resamples: int = 2000) -> dict[str, Interval]:
  """The 95% interval over the points of every measure that has one: all but maxima.

  Means: the percentile bootstrap, both ways' points resampled for all measures together. Means of the points that are
  kept: the same, of the ratio. Medians: the order statistics at n / 2 -+ 0.98 sqrt(n) of each way, combined.
  """
  means = {name: m for name, m in measures.items() if m.pool == "mean" and m.keep is None}
  forward, backward = (resampled_means(np.stack([m.point(d) for m in means.values()], axis=1), rng, resamples)
                       if means else None for d in (matches.forward, matches.backward))
  out = {name: percentile_interval(measure.combine(forward[:, k], backward[:, k]))
         for k, (name, measure) in enumerate(means.items())}
  for name, measure in measures.items():
    if measure.pool == "mean" and measure.keep is not None:
      ratios = [_kept_means(measure, d, rng, resamples) for d in (matches.forward, matches.backward)]
      if not np.isnan(combined := measure.combine(*ratios)).any():
        out[name] = percentile_interval(combined)
    elif measure.pool == "median":
      ends = [_median_interval(measure.values(d)) for d in (matches.forward, matches.backward)]
      low, high = (float(measure.combine(ends[0][k], ends[1][k])) for k in (0, 1))
      if not np.isnan(low + high):
        out[name] = (low, high)
  return out


def _kept_means(measure: Measure, direction: Direction, rng: np.random.Generator, resamples: int) -> np.ndarray:
  kept = measure.keep(direction).astype(np.float64)
  values = np.where(kept > 0, measure.point(direction), 0.0)
  means = resampled_means(np.stack([values, kept], axis=1), rng, resamples)
  return np.divide(means[:, 0], means[:, 1], out=np.full(len(means), np.nan), where=means[:, 1] > 0)


def _median_interval(values: np.ndarray) -> tuple[float, float]:
  n = len(values)
  if n < 2:
    return np.nan, np.nan
  reach = 0.98 * np.sqrt(n)
  ranks = np.clip([np.floor(n / 2 - reach), np.ceil(n / 2 + reach)], 0, n - 1).astype(np.int64)
  low, high = np.partition(values, ranks)[ranks]
  return float(low), float(high)


def measured(measures: Mapping[str, Measure], matches: Matches | None, floor: Matches, sampling: str, seed: int,
             frame: Frame | None) -> list[Metric]:
  """The metrics that the measures give.

  Args:
    matches: None is an empty prediction: it scores 0 where more is better and has no distance, that is None.
    floor: between two independent samplings of the truth.
    sampling: the protocol's words on the points.
    frame: distances are given in this frame's world unit; normalised when None.
  """
  unit = "; normalised frame" if frame is None else "; world frame"
  found = {} if matches is None else intervals(measures, matches, np.random.default_rng((seed, 1)))
  out = []
  for name, measure in measures.items():
    scale = 1.0 if frame is None else frame.scale**measure.power
    value = 0.0 if measure.better == "higher" else None
    if matches is not None:
      value = _number(scale * evaluate(measure, matches))
    low, high = (scale * end for end in found[name]) if name in found else (None, None)
    protocol = f"{measure.definition}; {sampling}{unit if measure.power else ''}"
    out.append(Metric(name, value, low, high, _counted(measure, matches or floor), seed,
                      _number(scale * evaluate(measure, floor)), measure.better, protocol))
  return out


def _number(value: float) -> float | None:
  return None if np.isnan(value) else value


def _counted(measure: Measure, matches: Matches) -> int:
  """How many points the measure rests on: those of its way, the fewer of both."""
  ways = [matches.forward, matches.backward]
  if measure.way != "both":
    ways = [getattr(matches, measure.way)]
  return min(len(measure.values(way)) for way in ways)
