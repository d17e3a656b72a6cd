"""Metrics between two surfaces, each with its floor and a bootstrap interval; the convention is part of the name.

Sampled metrics look for each point's nearest neighbour among the other surface's points, so that they do not vanish
when the surfaces agree: their floor is the same metric between two independent samplings of the true surface, and
it falls with the number of points. Distances are Euclidean, in float64, by an exact search.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import scipy.spatial

from fields3d.core.types import Frame, Mesh, PointCloud
from fields3d.evaluation.results import Metric
from fields3d.geometry.distance import inside
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics.statistics import Interval, percentile_interval, resampled_means


@dataclasses.dataclass(frozen=True)
class Direction:
  """From each point of one cloud to the nearest of the other: distance (n,), |cosine| between their normals (n,)."""
  distance: np.ndarray
  cosine: np.ndarray


@dataclasses.dataclass(frozen=True)
class Matches:
  """Nearest neighbours both ways. Of a prediction: `forward` is prediction to truth, `backward` truth to prediction."""
  forward: Direction
  backward: Direction


@dataclasses.dataclass(frozen=True)
class Measure:
  """A metric of two surfaces as a function of two averages, one each way.

  point: Direction -> (n,), what each point contributes. combine: (forward, backward) -> value, of floats or arrays.
  pool: how points are pooled: their mean, or their maximum.
  power: of length in the unit (2 for squared distances), for other frames.
  """
  point: Callable[[Direction], np.ndarray]
  combine: Callable
  better: Literal["lower", "higher"]
  definition: str
  pool: Literal["mean", "max"] = "mean"
  power: int = 0


def match(a: PointCloud, b: PointCloud) -> Matches:
  """Nearest neighbours between two clouds with normals. Exact; both must hold a point."""
  to_b, index_b = scipy.spatial.cKDTree(b.points).query(a.points, workers=-1)
  to_a, index_a = scipy.spatial.cKDTree(a.points).query(b.points, workers=-1)
  return Matches(Direction(to_b, np.abs(np.sum(a.normals * b.normals[index_b], axis=1))),
                 Direction(to_a, np.abs(np.sum(b.normals * a.normals[index_a], axis=1))))


def chamfer_deepsdf(matches: Matches) -> float:
  """1000 times the sum of the two mean squared distances.

  Source: Park et al. 2019, DeepSDF, section 6 and its released evaluation (30,000 points).
  """
  return evaluate(MEASURES["chamfer_deepsdf"], matches)


def chamfer_mean_unsquared(matches: Matches) -> float:
  """Half the sum of the two mean distances, not squared.

  Source: Mescheder et al. 2019, Occupancy Networks, supplement ("Chamfer-L1"). Papers that leave out the half
  (3DShape2VecSet) print twice this.
  """
  return evaluate(MEASURES["chamfer_mean_unsquared"], matches)


def normal_consistency(matches: Matches) -> float:
  """The mean |cosine| between the normals of nearest neighbours, averaged over both ways; 1 is best.

  Source: Mescheder et al. 2019, Occupancy Networks.
  """
  return evaluate(MEASURES["normal_consistency"], matches)


def hausdorff(matches: Matches) -> float:
  """The largest distance to a nearest neighbour, either way; off the surfaces' own by at most the points' spacing."""
  return evaluate(MEASURES["hausdorff"], matches)


def f_score(matches: Matches, threshold: float) -> float:
  """The harmonic mean of precision and recall: shares of points with a neighbour nearer than the threshold.

  Source: Knapitsch et al. 2017, Tanks and Temples; Tatarchenko et al. 2019.
  """
  return evaluate(_at_threshold(threshold)[f"f_score@{threshold:g}"], matches)


def volumetric_iou(inside_a: np.ndarray, inside_b: np.ndarray) -> float:
  """The share of points in both solids among those in either; 1 where neither holds any.

  Args:
    inside_a, inside_b: (n,) bool at the same points, uniform in a box that holds both solids.

  >>> volumetric_iou(np.array([True, True, False]), np.array([True, False, False]))
  0.5
  """
  union = np.sum(inside_a | inside_b)
  return float(np.sum(inside_a & inside_b) / union) if union else 1.0


def joint_box(*meshes: Mesh) -> np.ndarray:
  """The least axis-aligned box (2, 3) that holds all the meshes."""
  corners = [mesh.vertices[mesh.faces.ravel()] for mesh in meshes]
  return np.stack([np.min([c.min(0) for c in corners], axis=0), np.max([c.max(0) for c in corners], axis=0)])


def _half_sum(forward, backward):
  return (forward + backward) / 2


def _harmonic(forward, backward):
  total = np.asarray(forward + backward, np.float64)
  return np.divide(2 * forward * backward, total, out=np.zeros_like(total), where=total > 0)


def _distance(direction: Direction) -> np.ndarray:
  return direction.distance


MEASURES: Mapping[str, Measure] = {
    "chamfer_deepsdf": Measure(
        lambda d: 1000 * d.distance**2, lambda a, b: a + b, "lower",
        "1000 x (mean squared distance prediction to truth + truth to prediction)", power=2),
    "chamfer_mean_unsquared": Measure(
        _distance, _half_sum, "lower",
        "(mean distance prediction to truth + truth to prediction) / 2, not squared", power=1),
    "normal_consistency": Measure(
        lambda d: d.cosine, _half_sum, "higher",
        "mean |cosine| of the face normals of nearest neighbours, averaged over both ways"),
    "hausdorff": Measure(
        _distance, np.maximum, "lower",
        "largest distance to a nearest neighbour, either way, of the samples; one shape has no interval (the "
        "bootstrap of a maximum is inconsistent)", pool="max", power=1),
}


def _at_threshold(threshold: float) -> dict[str, Measure]:
  def near(direction):
    return (direction.distance < threshold).astype(np.float64)

  share = f"share of {{}} points nearer than {threshold:g} (normalised frame) to the {{}}"
  return {
      f"f_score@{threshold:g}": Measure(
          near, _harmonic, "higher", f"harmonic mean of precision and recall at {threshold:g} (normalised frame)"),
      f"precision@{threshold:g}": Measure(near, lambda a, b: a, "higher", share.format("predicted", "truth")),
      f"recall@{threshold:g}": Measure(near, lambda a, b: b, "higher", share.format("true", "prediction")),
  }


def surface_measures(thresholds: Sequence[float] = (0.01, 0.02)) -> dict[str, Measure]:
  """Every sampled metric by its name, F-scores at the thresholds included.

  >>> [name for name in surface_measures((0.01,)) if "@" in name]
  ['f_score@0.01', 'precision@0.01', 'recall@0.01']
  """
  return functools.reduce(lambda table, t: table | _at_threshold(t), thresholds, dict(MEASURES))


def evaluate(measure: Measure, matches: Matches) -> float:
  """The value of a measure, in the frame of the points."""
  pool = np.mean if measure.pool == "mean" else np.max
  return float(measure.combine(pool(measure.point(matches.forward)), pool(measure.point(matches.backward))))


def compare(prediction: Mesh | None, truth: Mesh, *, points: int = 30_000, iou_points: int = 100_000,
            thresholds: Sequence[float] = (0.01, 0.02), seed: int = 0, index: int = 0,
            truth_inside: Callable | None = None, frame: Frame | None = None) -> tuple[Metric, ...]:
  """Every metric between a predicted mesh and the true one, both in the normalised frame.

  Intervals are over the points (resampled with their neighbours held fixed), so they do not cover the choice of
  shape. The prediction, the truth and the floor's second truth are sampled independently.

  Args:
    prediction: None is the empty prediction: it scores 0 where more is better and has no distance, that is None.
    points: uniform by area, on each surface. iou_points: uniform in the joint box.
    seed, index: of the points; shapes of one set share the seed and differ in the index.
    truth_inside: points (n, 3) -> (n,) bool; the truth mesh's own winding number when None.
    frame: distances are given in this frame's world unit; normalised when None. Thresholds are always normalised.
  """
  rngs = np.random.default_rng((seed, index)).spawn(4)
  true, again = (sample_surface(truth, points, rng) for rng in rngs[:2])
  matches = None if prediction is None else match(sample_surface(prediction, points, rngs[2]), true)
  metrics = _surface_metrics(matches, match(again, true), thresholds, seed, frame)
  box = joint_box(truth) if prediction is None else joint_box(prediction, truth)
  x = rngs[3].uniform(box[0], box[1], (iou_points, 3))
  in_prediction = np.zeros(len(x), bool) if prediction is None else inside(prediction, x)
  in_truth = inside(truth, x) if truth_inside is None else np.asarray(truth_inside(x), bool)
  return (*metrics, _iou_metric(in_prediction, in_truth, seed, truth_inside is None))


def _surface_metrics(matches: Matches | None, floor: Matches, thresholds: Sequence[float], seed: int,
                     frame: Frame | None) -> list[Metric]:
  measures = surface_measures(thresholds)
  unit = "; normalised frame" if frame is None else "; world frame"
  n = len(floor.forward.distance)
  intervals = {} if matches is None else _intervals(measures, matches, np.random.default_rng((seed, 1)))
  out = []
  for name, measure in measures.items():
    scale = 1.0 if frame is None else frame.scale**measure.power
    value = 0.0 if measure.better == "higher" else None
    if matches is not None:
      value = scale * evaluate(measure, matches)
    low, high = (scale * end for end in intervals[name]) if name in intervals else (None, None)
    protocol = f"{measure.definition}; {n:,} points uniform by area on each surface{unit if measure.power else ''}"
    out.append(Metric(name, value, low, high, n, seed, scale * evaluate(measure, floor), measure.better, protocol))
  return out


def _intervals(measures: Mapping[str, Measure], matches: Matches, rng: np.random.Generator) -> dict[str, Interval]:
  """The bootstrap interval of every measure that is a mean, both ways' points resampled for all of them together."""
  means = {name: measure for name, measure in measures.items() if measure.pool == "mean"}
  forward, backward = (resampled_means(np.stack([m.point(d) for m in means.values()], axis=1), rng, 2000)
                       for d in (matches.forward, matches.backward))
  return {name: percentile_interval(measure.combine(forward[:, k], backward[:, k]))
          for k, (name, measure) in enumerate(means.items())}


def _iou_metric(in_prediction: np.ndarray, in_truth: np.ndarray, seed: int, by_mesh: bool) -> Metric:
  both, either = in_prediction & in_truth, in_prediction | in_truth
  means = resampled_means(np.stack([both, either], axis=1), np.random.default_rng((seed, 2)))
  ratio = np.divide(means[:, 0], means[:, 1], out=np.ones(len(means)), where=means[:, 1] > 0)
  low, high = percentile_interval(ratio)
  sign = "mesh's winding number" if by_mesh else "signed distance function"
  protocol = (f"volume in both over volume in either, {len(both):,} points uniform in the joint bounding box; inside "
              f"by the predicted mesh's winding number and the true {sign}")
  return Metric("volumetric_iou", volumetric_iou(in_prediction, in_truth), low, high, len(both), seed, 1.0, "higher",
                protocol)
