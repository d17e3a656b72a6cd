"""How a Frechet distance of two sets depends on their size, what it tends to, and how sure it is.

Both sets shrink together, by whole groups (the images of one shape): the distance falls with the size N about as
a + c / N, and a, the distance of what the sets were drawn from, is found by a straight line in 1 / N. That holds once N
is above the features' dimensions; below, the curve bends and the line's end is too high.

Source: Chong & Forsyth 2020, "Effectively unbiased FID and Inception Score", section 3.2 (there only the generated
set shrinks, from 50,000 images).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats

from fields3d.core.errors import UsageFault
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.statistics import Interval

SHARES = (0.4, 0.6, 0.8, 1.0)
REPEATS = 3
BLOCKS = 10


@dataclasses.dataclass(frozen=True)
class SizeCurve:
  """Frechet distances at the same share of both sets.

  sizes: (images of a, images of b) at each share. values: distances. infinite: the line's end at 1 / N = 0.
  """
  sizes: tuple[tuple[int, int], ...]
  values: tuple[float, ...]
  infinite: float

  @property
  def whole(self) -> float:
    """The distance of the whole sets."""
    return self.values[-1]


@dataclasses.dataclass(frozen=True)
class Estimate:
  """The curve of the whole sets, with 95% intervals of its last point and of its limit (None for too few groups)."""
  curve: SizeCurve
  whole: Interval | None
  infinite: Interval | None


def size_curve(a: np.ndarray, b: np.ndarray, groups_a: np.ndarray | None = None, groups_b: np.ndarray | None = None,
               shares: Sequence[float] = SHARES, seed: int = 0) -> SizeCurve:
  """Distances of random parts of two sets, and their limit.

  Args:
    a (n, d), b (m, d): features. groups_a (n,), groups_b (m,): labels of what is drawn together.
    shares: rising, the last 1; the smaller ones' values are means over `REPEATS` random parts.

  Raises:
    UsageFault: the least share of a set is under two features.
  """
  return _curve(a, b, _orders(a, b, groups_a, groups_b, seed), shares)


def _orders(a, b, groups_a, groups_b, seed: int) -> list:
  return [[_Order.random(len(x), g, np.random.default_rng((seed, k, repeat))) for k, (x, g) in
           enumerate(((a, groups_a), (b, groups_b)))] for repeat in range(REPEATS)]


def _curve(a: np.ndarray, b: np.ndarray, orders: Sequence, shares: Sequence[float]) -> SizeCurve:
  sizes, values = [], []
  for share in shares:
    found, lengths = [], []
    for order_a, order_b in orders if share < 1 else orders[:1]:
      part_a, part_b = order_a.part(share), order_b.part(share)
      if min(len(part_a), len(part_b)) < 2:
        raise UsageFault("Frechet distance", f"{len(part_a)} and {len(part_b)} images in a part", "give more images")
      found.append(frechet_of_sets(a[part_a], b[part_b]))
      lengths.append((len(part_a), len(part_b)))
    sizes.append(tuple(round(x) for x in np.mean(lengths, axis=0)))
    values.append(float(np.mean(found)))
  inverse = np.array([(1 / n + 1 / m) / 2 for n, m in sizes])
  line = np.stack([np.ones(len(inverse)), inverse / inverse[-1]], 1)
  infinite = np.linalg.lstsq(line, np.array(values))[0][0] if len(values) > 1 else values[0]
  return SizeCurve(tuple(sizes), tuple(values), float(infinite))


def estimate(a: np.ndarray, b: np.ndarray, groups_a: np.ndarray | None = None, groups_b: np.ndarray | None = None,
             shares: Sequence[float] = SHARES, seed: int = 0, blocks: int = BLOCKS,
             advance: Callable[[int], None] = lambda done: None) -> Estimate:
  """The curve with intervals by a jackknife that leaves out a tenth of both sets' groups at a time.

  A bootstrap would repeat images and so raise every Frechet distance; leaving out does not. The random parts of what is left
  are those of the whole sets, less what is left out, so that nothing else differs. The intervals cover the
  draw of both sets' groups: `whole` is for the expected distance at this N, `infinite` for the line's end at infinite N,
  not for the line's own bend. They are centred on the estimate and too wide where the sets are of one distribution.
  `advance` is told how many of the `blocks` + 1 curves are done.
  """
  orders = _orders(a, b, groups_a, groups_b, seed)
  curve = _curve(a, b, orders, shares)
  advance(1)
  labels = [np.arange(len(x)) if g is None else np.asarray(g) for x, g in ((a, groups_a), (b, groups_b))]
  names = [np.unique(g) for g in labels]
  if min(map(len, names)) < 2 * blocks:
    return Estimate(curve, None, None)
  cut = [np.random.default_rng((seed, 2 + k)).permutation(len(n)) % blocks for k, n in enumerate(names)]
  found = []
  for block in range(blocks):
    keep = [np.isin(g, n[c != block]) for g, n, c in zip(labels, names, cut)]
    part = _curve(a[keep[0]], b[keep[1]], [[order.only(k) for order, k in zip(pair, keep)] for pair in orders], shares)
    found.append((part.whole, part.infinite))
    advance(2 + block)
  reach = scipy.stats.t.ppf(0.975, blocks - 1) * np.sqrt((blocks - 1) * np.var(found, axis=0))
  return Estimate(curve, *((float(v - r), float(v + r)) for v, r in zip((curve.whole, curve.infinite), reach)))


@dataclasses.dataclass(frozen=True)
class _Order:
  """Groups in an order, of which parts are taken from the front. groups (n,): of each feature; rank: of each group."""
  groups: np.ndarray
  rank: np.ndarray

  @staticmethod
  def random(num: int, groups: np.ndarray | None, rng: np.random.Generator) -> "_Order":
    groups = np.unique(np.arange(num) if groups is None else groups, return_inverse=True)[1]
    return _Order(groups, rng.permutation(groups.max(initial=-1) + 1))

  def part(self, share: float) -> np.ndarray:
    return np.flatnonzero(self.rank[self.groups] < max(round(share * len(self.rank)), 1))

  def only(self, kept: np.ndarray) -> "_Order":
    """The order of the features that are kept (n,) bool."""
    names, groups = np.unique(self.groups[kept], return_inverse=True)
    return _Order(groups, self.rank[names].argsort().argsort())
