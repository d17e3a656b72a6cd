"""Intervals: the BCa bootstrap over shapes, the block bootstrap over a shape's points, Wilson's for shares.

Over shapes the resampled unit is the shape: the interval says how the figure would vary with other shapes of the
same kind. Over the points of one shape it says how it would vary with other points of the same two surfaces.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

RESAMPLES = 4000
BLOCKS = 256
_AT_ONCE = 1 << 22  # resampled values in memory
Interval = tuple[float, float]


def bootstrap_interval(values: np.ndarray, statistic: Callable = np.mean, confidence: float = 0.95,
                       resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
  """The BCa bootstrap interval of a statistic of independent values.

  Second-order accurate for smooth statistics; for the median first-order. Covers less than asked for under about
  20 values. Where the acceleration is undefined (the statistic ignores each single value) it is taken as 0.

  Args:
    values: (n,) finite, one per shape.
    statistic: (array, axis=int) -> array; np.mean and np.median.
    confidence: the share of intervals that should cover, in (0, 1).
    seed: of the resampling; the same values and seed give the same interval.

  Returns:
    (low, high), or None for fewer than 2 values: there is no spread to see.

  Source: Efron 1987, "Better bootstrap confidence intervals", equations 2.3 and 6.6.

  >>> low, high = bootstrap_interval(np.arange(100.0))
  >>> bool(low < 49.5 < high), bootstrap_interval(np.ones(1))
  (True, None)
  """
  values = np.asarray(values, np.float64)
  n = len(values)
  if n < 2:
    return None
  rng = np.random.default_rng(seed)
  rows = max(1, _AT_ONCE // n)
  sizes = [min(rows, resamples - done) for done in range(0, resamples, rows)]
  replicates = np.sort(np.concatenate([statistic(values[rng.integers(n, size=(k, n))], axis=1) for k in sizes]))
  estimate = statistic(values, axis=0)
  below = (np.sum(replicates < estimate) + 0.5 * np.sum(replicates == estimate)) / resamples
  bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
  left_out = np.array([statistic(np.delete(values, i), axis=0) for i in range(n)])
  pull = left_out.mean() - left_out
  spread = np.sum(pull**2)
  acceleration = np.sum(pull**3) / (6 * spread**1.5) if spread > 0 else 0.0
  tails = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
  low, high = np.quantile(replicates, ndtr(bias + tails / (1 - acceleration * tails)))
  return float(low), float(high)


def block_means(columns: np.ndarray, rng: np.random.Generator, blocks: int = BLOCKS) -> np.ndarray:
  """Means (min(blocks, n), k) of the rows of (n, k), split at random into blocks whose sizes differ by at most 1.

  For independent rows, resampling the block means gives a mean the variance that resampling rows would, up to the
  factor 1 - 1/blocks, at blocks/n of the price.
  """
  n = len(columns)
  edges = np.linspace(0, n, min(blocks, n) + 1).astype(np.int64)
  shuffled = columns[rng.permutation(n)]
  return np.add.reduceat(shuffled, edges[:-1]) / np.diff(edges)[:, None]


def resampled_means(columns: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> np.ndarray:
  """Bootstrap replicates (resamples, k) of the column means of (n, k), rows resampled together."""
  means = block_means(np.asarray(columns, np.float64), rng)
  b = len(means)
  counts = rng.multinomial(b, np.full(b, 1 / b), size=resamples)
  return counts @ means / b


def percentile_interval(replicates: np.ndarray, confidence: float = 0.95) -> Interval:
  """The central interval of bootstrap replicates (resamples,).

  >>> percentile_interval(np.arange(101.0), confidence=0.5)
  (25.0, 75.0)
  """
  low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(low), float(high)


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval | None:
  """The score interval of a share of n independent trials; None for no trial. Ties may count as halves (conservative).

  Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"; Brown, Cai & DasGupta 2001,
  equation 4.

  >>> [round(end, 4) for end in wilson_interval(0, 10)], wilson_interval(10, 10)[1]
  ([0.0, 0.2775], 1.0)
  """
  if n == 0:
    return None
  z2, share = float(ndtri((1 + confidence) / 2)) ** 2, successes / n
  middle, reach = share + z2 / (2 * n), np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2)))
  low, high = (middle - reach) / (1 + z2 / n), (middle + reach) / (1 + z2 / n)
  return (0.0 if share == 0 else float(low), 1.0 if share == 1 else float(high))
