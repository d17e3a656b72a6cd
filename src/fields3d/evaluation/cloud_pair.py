"""Two clouds of points held against each other: distances in every convention, or in a protocol's."""

from collections.abc import Sequence

import numpy as np
import scipy.spatial

from fields3d.evaluation.cloud_protocols import CloudProtocol
from fields3d.evaluation.results import Metric
from fields3d.metrics.clouds import CHAMFERS, density_aware_chamfer
from fields3d.metrics.statistics import Interval, percentile_interval
from fields3d.metrics.transport import EMDS, MOST_POINTS, emd

_RESAMPLES = 1000


def compare_clouds(a: np.ndarray, b: np.ndarray, protocol: CloudProtocol | None = None,
                   seed: int = 0) -> tuple[list[Metric], list[str]]:
  """Chamfer distances in every convention, Hausdorff, density-aware chamfer and exact EMD of a to b.

  Chamfer intervals are over the points, resampled with their neighbours held fixed. The floor is the same metric
  between two random halves of b: half the points, so somewhat above what two samplings of all would give.

  Args:
    a (p, 3), b (q, 3): finite, in one unit; b of at least 2 points.
    protocol: its chamfer distance and EMD alone.

  Returns:
    the metrics, and warnings: why an EMD is left out.
  """
  rng = np.random.default_rng((seed, 3))
  order = rng.permutation(len(b))
  halves = b[order[:len(b) // 2]], b[order[len(b) // 2:2 * (len(b) // 2)]]
  squares, floors = _squares(a, b), _squares(*halves)
  size = (f"{len(a):,} points against {len(b):,}, in the files' unit; floor: {len(halves[0]):,} of B's against as many "
          "others")

  def metric(name, value, interval, floor, words):
    low, high = interval or (None, None)
    return Metric(name, value, low, high, min(len(a), len(b)), seed, floor, "lower", f"{words}; {size}")

  out = []
  for name in CHAMFERS if protocol is None else (protocol.chamfer,):
    kind = CHAMFERS[name]
    words = f"{kind.definition}; bootstrap over points, neighbours fixed"
    out.append(metric(name, float(kind.value(*squares)), _interval(kind.value, squares, rng),
                      float(kind.value(*floors)), words))
  if protocol is None:
    out.append(metric("hausdorff", *_largest(squares, floors), "largest distance to a nearest neighbour, either way"))
    out.append(metric("density_aware_chamfer", density_aware_chamfer(a, b), None, density_aware_chamfer(*halves),
                      "Wu et al. 2021, alpha 1000: made for shapes of size about 1"))
  warnings = _why_no_emd(a, b)
  for name in () if warnings else EMDS if protocol is None else (protocol.emd,):
    out.append(metric(name, emd(a, b, name), None, emd(*halves, name), f"{EMDS[name].definition}; exact"))
  return out, warnings


def _squares(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Squared distances of each point to the nearest of the other cloud, both ways; exact, float64."""
  return tuple(scipy.spatial.cKDTree(y).query(x, workers=-1)[0]**2 for x, y in ((a, b), (b, a)))


def _largest(squares: Sequence[np.ndarray], floors: Sequence[np.ndarray]) -> tuple[float, None, float]:
  top = lambda pair: float(np.sqrt(max(x.max() for x in pair)))
  return top(squares), None, top(floors)


def _interval(value, squares: Sequence[np.ndarray], rng: np.random.Generator) -> Interval | None:
  """Of both ways' points drawn anew, few resamples at a time."""
  if min(map(len, squares)) < 2:
    return None
  found = []
  for _ in range(_RESAMPLES):
    found.append(value(*(x[rng.integers(len(x), size=len(x))] for x in squares)))
  return percentile_interval(np.array(found))


def _why_no_emd(a: np.ndarray, b: np.ndarray) -> list[str]:
  if len(a) != len(b):
    return [f"no EMD: {len(a)} points against {len(b)}; give --points"]
  if len(a) > MOST_POINTS:
    return [f"no EMD: {len(a)} points, the exact one is for {MOST_POINTS} at most; give --points"]
  return []
