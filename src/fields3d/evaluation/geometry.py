"""Metrics between two surfaces, each with its floor and a bootstrap interval; the convention is part of the name.

Sampled metrics look for each point's nearest neighbour among the other surface's points, so that they do not vanish
when the surfaces agree: their floor is the same metric between two independent samplings of the true surface, and
it falls with the number of points. `compare` measures the groups "surface" and "iou" unless it is asked for others.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.core.types import Frame, Mesh
from fields3d.evaluation.geometry_groups import GROUPS, Case
from fields3d.evaluation.matches import (
  Direction,
  Matches,
  Measure,
  distance,
  evaluate,
  half_sum,
  harmonic,
  match,
  measured,
)
from fields3d.evaluation.results import Metric
from fields3d.geometry.distance import inside
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics.statistics import percentile_interval, resampled_means

__all__ = ["ALL_GROUPS", "DEFAULT_GROUPS", "MEASURES", "Direction", "Matches", "Measure", "compare", "evaluate",
           "match"]

DEFAULT_GROUPS = ("surface", "iou")
ALL_GROUPS = (*DEFAULT_GROUPS, *GROUPS)


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


MEASURES: Mapping[str, Measure] = {
    "chamfer_deepsdf": Measure(
        lambda d: 1000 * d.distance**2, lambda a, b: a + b, "lower",
        "1000 x (mean squared distance prediction to truth + truth to prediction)", power=2),
    "chamfer_mean_unsquared": Measure(
        distance, half_sum, "lower",
        "(mean distance prediction to truth + truth to prediction) / 2, not squared", power=1),
    "normal_consistency": Measure(
        lambda d: d.cosine, half_sum, "higher",
        "mean |cosine| of the face normals of nearest neighbours, averaged over both ways"),
    "hausdorff": Measure(
        distance, np.maximum, "lower",
        "largest distance to a nearest neighbour, either way, of the samples; one shape has no interval (the "
        "bootstrap of a maximum is inconsistent)", pool="max", power=1),
}


def _at_threshold(threshold: float) -> dict[str, Measure]:
  def near(direction):
    return (direction.distance < threshold).astype(np.float64)

  share = f"share of {{}} points nearer than {threshold:g} (normalised frame) to the {{}}"
  return {
      f"f_score@{threshold:g}": Measure(
          near, harmonic, "higher", f"harmonic mean of precision and recall at {threshold:g} (normalised frame)"),
      f"precision@{threshold:g}": Measure(near, lambda a, b: a, "higher", share.format("predicted", "truth")),
      f"recall@{threshold:g}": Measure(near, lambda a, b: b, "higher", share.format("true", "prediction")),
  }


def surface_measures(thresholds: Sequence[float] = (0.01, 0.02)) -> dict[str, Measure]:
  """Every sampled metric by its name, F-scores at the thresholds included.

  >>> [name for name in surface_measures((0.01,)) if "@" in name]
  ['f_score@0.01', 'precision@0.01', 'recall@0.01']
  """
  return functools.reduce(lambda table, t: table | _at_threshold(t), thresholds, dict(MEASURES))


def check_groups(groups: Sequence[str], where: str) -> None:
  """Refuses groups of metrics that are not known.

  >>> check_groups(["surface", "edges"], "--metrics")
  """
  for group in groups:
    if group not in ALL_GROUPS:
      raise UsageFault(where, f"no such group of metrics: {group!r}", nearest(group, ALL_GROUPS))


def compare(prediction: Mesh | None, truth: Mesh, *, points: int = 30_000, iou_points: int = 100_000,
            thresholds: Sequence[float] = (0.01, 0.02), seed: int = 0, index: int = 0,
            truth_inside: Callable | None = None, frame: Frame | None = None,
            groups: Sequence[str] = DEFAULT_GROUPS, max_distance: float | None = None) -> tuple[Metric, ...]:
  """The metrics between a predicted mesh and the true one, both in the normalised frame.

  Intervals are over the points (resampled with their neighbours held fixed), so they do not cover the choice of
  shape. The prediction, the truth and the floor's second truth are sampled independently.

  Args:
    prediction: None is the empty prediction: it scores 0 where more is better and has no distance, that is None.
    points: uniform by area, on each surface. iou_points: uniform in the joint box.
    seed, index: of the points; shapes of one set share the seed and differ in the index.
    truth_inside: points (n, 3) -> (n,) bool; the truth mesh's own winding number when None.
    frame: distances are given in this frame's world unit; normalised when None. Thresholds are always normalised.
    groups: which metrics, of `ALL_GROUPS`; what one finds does not depend on the others.
    max_distance: in the normalised frame: points farther than it do not count in accuracy and completeness.

  Raises:
    UsageFault: no such group.
  """
  check_groups(groups, "metrics")
  rngs = np.random.default_rng((seed, index)).spawn(4 + len(GROUPS))
  found: list[Metric] = []
  true, again = (sample_surface(truth, points, rng) for rng in rngs[:2])
  sample = None if prediction is None else sample_surface(prediction, points, rngs[2])
  case = Case(prediction, truth, sample, true, again, seed, truth_inside or functools.partial(inside, truth),
              "mesh's winding number" if truth_inside is None else "signed distance function", frame, max_distance)
  if "surface" in groups:
    found += measured(surface_measures(thresholds), case.matches, case.floor, case.sampling, seed, frame)
  if "iou" in groups:
    found.append(_iou_metric(case, iou_points, rngs[3]))
  for (group, measure), rng in zip(GROUPS.items(), rngs[4:], strict=True):
    if group in groups:
      found += measure(case, rng)
  return tuple(found)


def _iou_metric(case: Case, points: int, rng: np.random.Generator) -> Metric:
  box = joint_box(*filter(None, (case.prediction, case.truth)))
  x = rng.uniform(box[0], box[1], (points, 3))
  in_prediction, in_truth = case.prediction_inside(x), np.asarray(case.truth_inside(x), bool)
  both, either = in_prediction & in_truth, in_prediction | in_truth
  means = resampled_means(np.stack([both, either], axis=1), np.random.default_rng((case.seed, 2)))
  ratio = np.divide(means[:, 0], means[:, 1], out=np.ones(len(means)), where=means[:, 1] > 0)
  low, high = percentile_interval(ratio)
  protocol = (f"volume in both over volume in either, {len(both):,} points uniform in the joint bounding box; inside "
              f"by the predicted mesh's winding number and the true {case.sign}")
  return Metric("volumetric_iou", volumetric_iou(in_prediction, in_truth), low, high, len(both), case.seed, 1.0,
                "higher", protocol)
