"""Metrics between two occupancy grids, exact, with their protocol; no voxel is sampled, so there is no floor."""

import numpy as np

from fields3d.evaluation.results import Metric
from fields3d.metrics.statistics import percentile_interval, resampled_means
from fields3d.metrics.voxels import iou, precision_recall, surface_distances


def compare_voxels(prediction: np.ndarray, truth: np.ndarray, unit: float = 1.0, unit_name: str = "voxel",
                   seed: int = 0) -> list[Metric]:
  """IoU, precision, recall and F-score of voxels, and the distances between surface voxels.

  IoU, precision and recall count every voxel of one grid: they have no interval. Distances have one over the surface
  voxels, as if those were independent, which neighbours are not: it is narrower than the truth.

  Args:
    prediction, truth: (x, y, z) bool, of one shape.
    unit: length of a voxel's side. unit_name: its name in the protocol.
  """
  precision, recall = precision_recall(prediction, truth)
  both = precision + recall
  out = [
      _exact("voxel_iou", iou(prediction, truth), "voxels in both over voxels in either", truth, seed),
      _exact("voxel_precision", precision, "share of predicted voxels that are true", truth, seed),
      _exact("voxel_recall", recall, "share of true voxels that are predicted", truth, seed),
      _exact("voxel_f_score", 2 * precision * recall / both if both else 0.0, "harmonic mean of precision and recall",
             truth, seed)]
  found = surface_distances(prediction, truth)
  forward, backward = (np.zeros(0), np.zeros(0)) if found is None else (unit * found.forward, unit * found.backward)
  for name, power, words in (
      ("chamfer_sum_squared", 2, "mean squared distance prediction to truth + truth to prediction"),
      ("chamfer_mean_unsquared", 1, "(mean distance prediction to truth + truth to prediction) / 2")):
    share = 1.0 if power == 2 else 0.5
    value = low = high = None
    if found is not None:
      value = share * float(np.mean(forward**power) + np.mean(backward**power))
      rng = np.random.default_rng((seed, 1))
      low, high = percentile_interval(share * sum(resampled_means(d[:, None]**power, rng)[:, 0]
                                                  for d in (forward, backward)))
    out.append(Metric(f"surface_voxel_{name}", value, low, high, min(len(forward), len(backward)), seed, None,
                      "lower", f"{words}, between the centres of surface voxels, in units of a {unit_name}; interval "
                      "over voxels"))
  largest = max(forward.max(), backward.max()) if found is not None else None
  out.append(Metric("surface_voxel_hausdorff", None if largest is None else float(largest), None, None,
                    min(len(forward), len(backward)), seed, None, "lower", "largest distance to a nearest surface "
                    f"voxel, either way, in units of a {unit_name}"))
  return out


def _exact(name: str, value: float, words: str, truth: np.ndarray, seed: int) -> Metric:
  size = " x ".join(map(str, truth.shape))
  return Metric(name, value, None, None, truth.size, seed, None, "higher", f"{words}; all {size} voxels: no interval")
