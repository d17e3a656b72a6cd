"""Two methods measured on the same things: the paired bootstrap test of their mean difference, and Holm's correction."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fields3d.metrics.statistics import RESAMPLES, bootstrap_interval

_CHUNK = 1 << 22  # Resampled values held at a time.


@dataclasses.dataclass(frozen=True)
class PairedTest:
  """The mean of second - first over n pairs, its 95% BCa interval, and the p value of its being 0.

  low, high, p: None for fewer than 2 pairs.
  """
  difference: float
  low: float | None
  high: float | None
  p: float | None
  n: int


def paired_bootstrap(first: np.ndarray, second: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> PairedTest:
  """The two-sided bootstrap test that the mean difference of pairs is 0.

  The studentised mean of the differences is held against that of resamples of the centred differences; p is the share
  of resamples at least as far from 0, counting the observed one. Asymptotically exact, second-order accurate; for few
  pairs p is kept at or above 2^(1-n), which is all that n signs can say.

  Args:
    first, second: (n,) finite, n at least 1; entry i of both is of the same shape or view.
    seed: of the resampling. resamples: how many.

  Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", algorithm 16.2, with one sample of differences;
  Davison & Hinkley 1997, equation 4.11, for counting the observed one.

  >>> paired_bootstrap(np.arange(9.0), np.arange(9.0))
  PairedTest(difference=0.0, low=0.0, high=0.0, p=1.0, n=9)
  """
  gain = np.asarray(second, np.float64) - np.asarray(first, np.float64)
  n = len(gain)
  if n < 2:
    return PairedTest(float(gain.mean()), None, None, None, n)
  interval = bootstrap_interval(gain, seed=seed)
  if not gain.any():
    return PairedTest(0.0, 0.0, 0.0, 1.0, n)
  observed = abs(_student(gain[None])[0])
  apart = gain - gain[0]  # 0 where all are equal, whose mean may be off by rounding
  centred, rng, beyond = apart - apart.mean(), np.random.default_rng((seed, n)), 0
  for start in range(0, resamples, rows := max(1, _CHUNK // n)):
    index = rng.integers(n, size=(min(rows, resamples - start), n))
    beyond += int(np.sum(np.abs(_student(centred[index])) >= observed))
  p = max((1 + beyond) / (resamples + 1), 2.0 ** (1 - n))
  return PairedTest(float(gain.mean()), *interval, p, n)


def _student(values: np.ndarray) -> np.ndarray:
  """Mean over standard error of the rows of (b, n): 0 / 0 is 0, and x / 0 infinite."""
  mean, spread = values.mean(1), values.std(1, ddof=1) / np.sqrt(values.shape[1])
  out = np.where(mean == 0, 0.0, np.inf)
  return np.divide(mean, spread, out=out, where=spread > 0)


def holm(p: Sequence[float | None]) -> list[float | None]:
  """p values corrected for their number by Holm's step-down method: at most alpha of wrong findings, however they depend.

  None (no test) stays None and does not count.

  Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

  >>> holm([0.01, None, 0.04, 0.03])
  [0.03, None, 0.06, 0.06]
  """
  known = sorted((value, i) for i, value in enumerate(p) if value is not None)
  out: list[float | None] = [None] * len(p)
  least = 0.0
  for rank, (value, i) in enumerate(known):
    least = max(least, min(1.0, (len(known) - rank) * value))
    out[i] = least
  return out
