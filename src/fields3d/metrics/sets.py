"""Figures of a set of generated shapes against a set of references, from their distances; and honest intervals.

x are the samples, y the references. All in float64. A sample that failed (an empty shape) is infinitely far from every
shape, other failures included: it is nobody's nearest neighbour, covers nothing, and a classifier always knows it.

Intervals are by half-sampling (the delete-half jackknife): figures of random halves of both sets, drawn without
replacement, spread about their own mean as figures of whole sets spread about the truth. A bootstrap would not do: it
draws a shape twice, at distance 0 to itself, which nearest neighbours take for a perfect match. Means of halves are
biased (fewer shapes, farther neighbours), therefore only their spread is used. In sets of tens of shapes the spread of halves is
larger than it should be, so that intervals are wider than 95 % asks for; those of precision and recall there hold 85 to 90 % of the
time. The Vendi-like number has a jackknife of tenths.

Source: Shao & Wu 1989, "A general theory for jackknife variance estimation" (consistent also where one deletion at a
time is not). Achlioptas et al. 2018 and Yang et al. 2019, "PointFlow", section 5 for MMD, COV, JSD and 1-NNA.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import scipy.spatial
import scipy.stats

from fields3d.core.errors import UsageFault
from fields3d.metrics.statistics import Interval, wilson_interval

GRID = 28  # JSD's nodes per axis.
HALVES = 200
PARTS = 8  # of a direction of `sliced_quantiles`


@dataclasses.dataclass(frozen=True)
class SetDistances:
  """Distances within and between two sets; diagonals of xx and yy are not looked at.

  xx (n, n): samples; a failed sample's rows and columns are infinite. xy (n, m): samples to references. yy (m, m).
  """
  xx: np.ndarray
  xy: np.ndarray
  yy: np.ndarray

  def __post_init__(self):
    n, m = self.xy.shape
    if self.xx.shape != (n, n) or self.yy.shape != (m, m) or not n or not m:
      raise UsageFault("distances", f"shapes {self.xx.shape}, {self.xy.shape}, {self.yy.shape} do not belong together",
                       "give (n, n), (n, m) and (m, m)")
    if any(np.isnan(d).any() or (d < 0).any() for d in (self.xx, self.xy, self.yy)) or not np.isfinite(self.yy).all():
      raise UsageFault("distances", "hold NaN, a negative or a reference without distances", "look at the clouds")

  def take(self, i: np.ndarray, j: np.ndarray) -> "SetDistances":
    """Of samples i and references j alone."""
    return SetDistances(self.xx[np.ix_(i, i)], self.xy[np.ix_(i, j)], self.yy[np.ix_(j, j)])


def with_failures(distances: np.ndarray, rows: np.ndarray, num: int, both: bool = False) -> np.ndarray:
  """Distances (k, m) of the `rows` (k,) of `num` samples that exist -> (num, m), infinite where there is no shape.

  both: the columns are the same samples.

  >>> with_failures(np.array([[2.0]]), np.array([1]), 2).tolist()
  [[inf], [2.0]]
  """
  out = np.full((num, num if both else distances.shape[1]), np.inf)
  out[np.ix_(rows, rows) if both else rows] = distances
  return out


def mmd(d: SetDistances) -> float:
  """The mean over references of the distance to the nearest sample; infinite where all samples failed.

  Source: Achlioptas et al. 2018, "Learning representations and generative models for 3D point clouds", section 4 (MMD).

  >>> mmd(SetDistances(np.zeros((1, 1)), np.array([[1.0, 3.0]]), np.zeros((2, 2))))
  2.0
  """
  return float(d.xy.min(axis=0).mean())


def cov(d: SetDistances) -> float:
  """The share of references that are some sample's nearest one. Of equally near ones the first counts.

  Its ceiling is below 1 even for samples of the truth (about 1 - 1/e for as many), and it does not see how far they
  are.

  Source: as `mmd` (COV).
  """
  found = np.isfinite(d.xy.min(axis=1))
  return len(np.unique(d.xy[found].argmin(axis=1))) / d.xy.shape[1]


@dataclasses.dataclass(frozen=True)
class OneNN:
  """Leave-one-out accuracies of the nearest neighbour's label: over both sets, of the samples, of the references."""
  accuracy: float
  samples: float
  references: float


def one_nn(d: SetDistances) -> OneNN:
  """How well the nearest other shape tells samples from references; 1/2 is ideal, 1 is told apart.

  Of equally near neighbours each counts in proportion: the expected accuracy of a tie broken at random. A sample
  without a finite neighbour (a failed one) counts as told. Under 1/2 samples sit on the references, nearer than
  references to each other: copies of what they are judged by. The two one-sided accuracies tell which: few kinds of
  sample, repeated, give samples above 1/2 and references below. For two sets of n of one kind the expectation is
  (n - 1) / (2 n - 1).

  Source: Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests"; Yang et al. 2019, "PointFlow", section 5.1.
  """
  own_x, other_x = _without_diagonal(d.xx), d.xy
  own_y, other_y = _without_diagonal(d.yy), d.xy.T
  x, y = _share_own(own_x, other_x), _share_own(own_y, other_y)
  return OneNN(float((x.sum() + y.sum()) / (len(x) + len(y))), float(x.mean()), float(y.mean()))


def _without_diagonal(square: np.ndarray) -> np.ndarray:
  out = square.copy()
  np.fill_diagonal(out, np.inf)
  return out


def _share_own(own: np.ndarray, other: np.ndarray) -> np.ndarray:
  """The share (n,) of each shape's nearest neighbours that are of its own set."""
  least = np.minimum(own.min(axis=1), other.min(axis=1))[:, None]
  mine, theirs = (own == least).sum(axis=1), (other == least).sum(axis=1)
  return np.where(np.isfinite(least[:, 0]), mine / (mine + theirs), 1.0)


def halves(n: int, m: int, times: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Random halves, without replacement: indices (n // 2,) of samples and (m // 2,) of references."""
  rng = np.random.default_rng((seed, n, m))
  for _ in range(times):
    yield rng.permutation(n)[:n // 2], rng.permutation(m)[:m // 2]


def half_replicates(d: SetDistances, figures: Callable[[SetDistances], np.ndarray], times: int = HALVES,
                    seed: int = 0) -> np.ndarray | None:
  """Figures (k,) of `times` halves of both sets -> (times, k); None for fewer than 4 shapes in a set."""
  n, m = d.xy.shape
  return np.array([figures(d.take(i, j)) for i, j in halves(n, m, times, seed)]) if min(n, m) >= 4 else None


def spread_interval(value: float, replicates: np.ndarray | None, confidence: float = 0.95,
                    low: float = -np.inf) -> Interval | None:
  """The interval of a figure from its halves' replicates (times,): their deviations from their own mean, about it.

  None where the value or a replicate is not finite. low: the least value that there is.

  >>> spread_interval(5.0, np.array([1.0, 3.0]), confidence=0.5)
  (4.5, 5.5)
  """
  if replicates is None or not (np.isfinite(value) and np.isfinite(replicates).all()):
    return None
  tails = np.quantile(replicates - replicates.mean(), [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(max(value + tails[0], low)), float(value + tails[1])


def share_interval(share: float, n: int, replicates: np.ndarray | None, confidence: float = 0.95) -> Interval | None:
  """The interval of a share of n shapes: Wilson's, at the effective number that the spread of the halves implies.

  Never narrower than for n independent ones: a share of 0 or 1 has an interval too.

  Args:
    replicates: (times,) of halves.

  Source: Wilson 1927; Kish 1965, "Survey sampling", section 8.2 (design effect).

  >>> low, high = share_interval(1.0, 20, np.ones(5))
  >>> round(low, 2), high
  (0.84, 1.0)
  """
  if replicates is None:
    return None
  independent = share * (1 - share) / n
  effect = max(1.0, float(np.var(replicates, ddof=1)) / independent) if independent > 0 else 1.0
  return wilson_interval(share * n / effect, n / effect, confidence)


def jackknife_interval(value: float, figure: Callable[[np.ndarray, np.ndarray], float], n: int, m: int, seed: int = 0,
                       confidence: float = 0.95) -> Interval | None:
  """The interval of a positive figure that depends on how many shapes there are: a tenth of both sets left out at a time.

  Of its logarithm, by Student's t. Halves would have too small a spread, as they bound the figure lower. None for fewer than
  4 shapes in a set.

  Args:
    figure: (indices of samples, of references) -> the figure of those alone.
  """
  blocks = min(10, n, m)
  if blocks < 4:
    return None
  cut = [np.random.default_rng((seed, k)).permutation(num) % blocks for k, num in enumerate((n, m))]
  found = np.log([figure(*(np.flatnonzero(c != block) for c in cut)) for block in range(blocks)])
  reach = scipy.stats.t.ppf((1 + confidence) / 2, blocks - 1) * np.sqrt((blocks - 1) * np.var(found))
  return float(value * np.exp(-reach)), float(value * np.exp(reach))


@functools.cache
def sphere_grid(resolution: int = GRID) -> np.ndarray:
  """The nodes (g, 3) of a grid of `resolution`^3 over [-1/2, 1/2]^3, ends included, within the ball of radius 1/2."""
  axis = np.linspace(-0.5, 0.5, resolution)
  nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
  nodes = nodes[np.linalg.norm(nodes, axis=1) <= 0.5]
  nodes.flags.writeable = False
  return nodes


def occupancy_counts(clouds: np.ndarray, resolution: int = GRID) -> np.ndarray:
  """How many points of each cloud (n, p, 3) are nearest to each node of `sphere_grid`: (n, g) int32.

  Points outside the ball go to its nearest node, as in the source; say how many there are.

  Source: PointFlow's metrics/evaluation_metrics.py, entropy_of_occupancy_grid, after optas/latent_3d_points.
  """
  nodes = sphere_grid(resolution)
  tree = scipy.spatial.cKDTree(nodes)
  return np.stack([np.bincount(tree.query(cloud)[1], minlength=len(nodes)).astype(np.int32) for cloud in clouds])


def jsd(x: np.ndarray, y: np.ndarray) -> float:
  """The Jensen-Shannon divergence of two histograms (g,), in bits: 0 equal, 1 disjoint. Not its root.

  >>> jsd(np.array([1, 0]), np.array([0, 7])), jsd(np.array([1, 1]), np.array([2, 2]))
  (1.0, 0.0)
  """
  x, y = x / np.sum(x), y / np.sum(y)
  middle = (x + y) / 2

  def information(p):
    seen = p > 0
    return np.sum(p[seen] * np.log2(p[seen] / middle[seen]))

  return max(float((information(x) + information(y)) / 2), 0.0)


def jsd_replicates(x: np.ndarray, y: np.ndarray, times: int = HALVES, seed: int = 0) -> np.ndarray | None:
  """`jsd` of the sums of halves of counts x (n, g), y (m, g): (times,); None for fewer than 4 clouds in a set."""
  if min(len(x), len(y)) < 4:
    return None
  return np.array([jsd(x[i].sum(0, dtype=np.int64), y[j].sum(0, dtype=np.int64))
                   for i, j in halves(len(x), len(y), times, seed)])


@functools.cache
def directions() -> np.ndarray:
  """Unit vectors (13, 3) along the axes, face diagonals and space diagonals of a cube; their mean outer product is I/3.

  Source: the 26-neighbourhood's directions up to sign.
  """
  cube = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[14:]
  out = cube / np.linalg.norm(cube, axis=1, keepdims=True)
  out.flags.writeable = False
  return out


def sliced_quantiles(clouds: np.ndarray) -> np.ndarray:
  """A feature of clouds (n, p, 3) without weights: quantiles of the points along 13 directions, (n, 104).

  Each direction's quantile function is averaged over 8 equal parts. The squared distance of two features is the mean
  over directions of the squared 2-Wasserstein distance of these 8-part projections: a sliced Wasserstein distance, in
  the clouds' unit squared. It sees pose and proportion, and no detail below about an eighth of the points.

  Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures", for the sliced distance.
  """
  n, p = clouds.shape[:2]
  if p < PARTS:
    raise UsageFault("points", f"{p} a cloud, the feature takes {PARTS} parts", "use more")
  edges = np.linspace(0, p, PARTS + 1).astype(np.int64)
  out = np.empty((n, len(directions()) * PARTS))
  for k, cloud in enumerate(clouds):
    along = np.sort(cloud.astype(np.float64) @ directions().T, axis=0)
    out[k] = (np.add.reduceat(along, edges[:-1], axis=0) / np.diff(edges)[:, None]).ravel()
  return out / np.sqrt(out.shape[1])
