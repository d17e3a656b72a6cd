"""Does a model copy its training shapes? How far its samples are from them, beside held-out shapes of the truth.

Held-out shapes say how near a new shape of the same kind comes to the training set by itself. Samples that are nearer
than they are copies in degree; farther ones say nothing (a bad model is far from everything).
"""

import dataclasses

import numpy as np
from scipy.special import ndtr

from fields3d.core.errors import UsageFault
from fields3d.metrics.statistics import Interval, wilson_interval


@dataclasses.dataclass(frozen=True)
class CopyTest:
  """The rank-sum test of distances to the nearest training shape, samples against held-out shapes.

  z: Z_U; far below 0: samples are nearer to the training shapes than held-out ones are. p_value: of so low a z or
    lower, were they distributed alike (normal approximation, from about 8 shapes in each set).
  farther: the share of pairs in which the sample is farther than the held-out shape, ties counted half; 1/2 is ideal.
  interval: of z, with the training shapes held fixed: it does not cover other training sets.
  """
  z: float
  p_value: float
  farther: float
  interval: Interval | None


def nearest_training(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Of distances (n, t) to training shapes: which is nearest (n,), the first of equals, and how far (n,)."""
  index = distances.argmin(axis=1)
  return index, distances[np.arange(len(distances)), index]


def copy_test(samples: np.ndarray, held_out: np.ndarray, seed: int = 0, resamples: int = 2000) -> CopyTest:
  """Z_U of distances to the nearest training shape, of samples (n,) and of held-out shapes (m,).

  U is how many pairs have the sample farther, ties counted half; Z_U = (U - n m / 2) / sigma with sigma^2 =
  n m / 12 (n + m + 1 - sum (t^3 - t) / ((n + m)(n + m - 1))) over groups of t tied values. 0 where all are tied.

  Raises:
    UsageFault: no distances, or not finite: a failed sample copies nothing and is left out by the caller, who says so.

  Source: Mann & Whitney 1947; Meehan, Chaudhuri & Dasgupta 2020, "A non-parametric test to detect data-copying in
  generative models", section 3.2 (the global test); arXiv 2512.23628 for shapes.

  >>> test = copy_test(np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0]))
  >>> round(test.z, 4), test.farther
  (-1.7321, 0.0)
  """
  samples, held_out = np.asarray(samples, np.float64), np.asarray(held_out, np.float64)
  n, m = len(samples), len(held_out)
  if not (n and m and np.isfinite(samples).all() and np.isfinite(held_out).all()):
    raise UsageFault("distances to training shapes", f"of {n} samples and {m} held-out shapes, not all finite",
                     "give at least one of each, failed ones left out")
  sigma = _sigma(np.concatenate([samples, held_out]), n, m)
  farther = _farther(samples, held_out)
  z = (farther - 0.5) * n * m / sigma if sigma > 0 else 0.0
  return CopyTest(z, float(ndtr(z)), farther, _interval(samples, held_out, farther, sigma, seed, resamples))


def _farther(samples: np.ndarray, held_out: np.ndarray) -> float:
  ordered = np.sort(held_out)
  below = np.searchsorted(ordered, samples, "left") + np.searchsorted(ordered, samples, "right")
  return float(below.mean() / (2 * len(held_out)))


def _sigma(pooled: np.ndarray, n: int, m: int) -> float:
  """The standard deviation of U when all n + m values are exchangeable."""
  total = n + m
  ties = np.unique(pooled, return_counts=True)[1].astype(np.float64)
  correction = np.sum(ties**3 - ties) / (total * (total - 1))
  return float(np.sqrt(max(n * m / 12 * (total + 1 - correction), 0.0)))


def _interval(samples: np.ndarray, held_out: np.ndarray, farther: float, sigma: float, seed: int,
              resamples: int) -> Interval | None:
  """The share's interval, as Z_U: Wilson's form at the number of independent pairs that the bootstrap's variance, over both sets,
  comes from; at the smaller set's size where that is 0, as where all samples are nearer."""
  n, m = len(samples), len(held_out)
  if min(n, m) < 4 or sigma == 0:
    return None
  rng = np.random.default_rng((seed, n, m))
  replicates = np.array([_farther(samples[rng.integers(n, size=n)], held_out[rng.integers(m, size=m)])
                         for _ in range(resamples)])
  variance = float(np.var(replicates, ddof=1))
  pairs = farther * (1 - farther) / variance if variance > 0 else min(n, m)
  low, high = wilson_interval(farther * pairs, pairs)
  return (low - 0.5) * n * m / sigma, (high - 0.5) * n * m / sigma
