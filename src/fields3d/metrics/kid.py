"""The kernel distance of two sets of features (KID): the unbiased squared maximum mean discrepancy.

Kernel (x.y / d + 1)^3. Unbiased for independent features; images of one shape are not, so features may come in groups:
pairs within a group are left out, and the groups are what is resampled. It may be negative.

Source: Binkowski, Sutherland, Arbel & Gretton 2018, "Demystifying MMD GANs", section 4; Gretton et al. 2012, lemma 6.
"""

import numpy as np

from fields3d.core.errors import UsageFault
from fields3d.metrics.statistics import Interval, percentile_interval

_ROWS = 1024


def kid(a: np.ndarray, b: np.ndarray, groups_a: np.ndarray | None = None, groups_b: np.ndarray | None = None,
        resamples: int = 1000, seed: int = 0) -> tuple[float, Interval | None]:
  """The unbiased squared discrepancy of all features, and its 95% bootstrap interval over groups of both sets.

  A resample leaves out pairs of a group with itself, so that its mean is the estimate. The interval covers the draw
  of both sets' groups; it is too wide where the two sets are of one distribution. Memory is bounded by tiles.

  Args:
    a (n, d), b (m, d). groups_a (n,), groups_b (m,): labels, at least two each; every feature its own when None.
    resamples: 0 for no interval.

  >>> x = np.array([[0.0], [1.0], [2.0]])
  >>> round(kid(x, x)[0], 6)  # Twice: the mean over distinct pairs, 29 / 3, less that over all, 192 / 9.
  -23.333333
  """
  of_a, of_b = (_grouped(np.asarray(x, np.float64), g) for x, g in ((a, groups_a), (b, groups_b)))
  rng = np.random.default_rng(seed)
  aa, bb, ab = (_sums(x, y) for x, y in ((of_a, of_a), (of_b, of_b), (of_a, of_b)))
  np.fill_diagonal(aa, 0)
  np.fill_diagonal(bb, 0)

  def value(weights_a: np.ndarray, weights_b: np.ndarray) -> np.ndarray:
    na, nb = weights_a * of_a[1], weights_b * of_b[1]
    own = [np.einsum("rg,gh,rh->r", w, sums, w, optimize=True) / (n.sum(1)**2 - np.sum(n**2, 1))
           for w, sums, n in ((weights_a, aa, na), (weights_b, bb, nb))]
    return own[0] + own[1] - 2 * np.einsum("rg,gh,rh->r", weights_a, ab, weights_b, optimize=True) / (
        na.sum(1) * nb.sum(1))

  estimate = value(np.ones((1, len(aa))), np.ones((1, len(bb))))[0]
  weights = [rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64) for n in (len(aa), len(bb))]
  usable = (np.sum(weights[0] > 0, 1) > 1) & (np.sum(weights[1] > 0, 1) > 1)
  interval = percentile_interval(value(weights[0][usable], weights[1][usable])) if usable.any() else None
  return float(estimate), interval


def kid_of_subsets(a: np.ndarray, b: np.ndarray, subsets: int = 100, size: int = 1000,
                   seed: int = 0) -> tuple[float, float]:
  """The literature's KID: mean and standard deviation of the estimate over random subsets without repetition.

  The deviation is that of one subset, of these two sets; it is no interval for other sets.

  Args:
    size: of a subset, at most the smaller set's; papers and torch-fidelity take 100 subsets of 1000.
  """
  if not 2 <= size <= min(len(a), len(b)):
    raise UsageFault("KID", f"subsets of {size} features, the sets have {len(a)} and {len(b)}", "take smaller ones")
  rng = np.random.default_rng(seed)
  values = []
  for _ in range(subsets):
    x, y = (np.asarray(f, np.float64)[rng.choice(len(f), size, replace=False)] for f in (a, b))
    values.append(kid(x, y, resamples=0)[0])
  return float(np.mean(values)), float(np.std(values))


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """(n, d), (m, d) -> (n, m)."""
  return (x @ y.T / x.shape[1] + 1) ** 3


def _grouped(features: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
  """Features in the order of their groups, and the groups' sizes."""
  if groups is None:
    groups = np.arange(len(features))
  counts = np.unique(groups, return_counts=True)[1]
  if len(counts) < 2:
    raise UsageFault("KID", f"{len(counts)} independent features", "give two or more")
  return features[np.argsort(groups, kind="stable")], counts


def _sums(a: tuple, b: tuple) -> np.ndarray:
  """The kernel summed over each pair of groups, in tiles of whole groups."""
  (x, counts), (y, others) = a, b
  starts, inner = np.concatenate([[0], np.cumsum(counts)]), np.cumsum(others) - others
  out, g = np.empty((len(counts), len(others))), 0
  while g < len(counts):
    h = max(g + 1, int(np.searchsorted(starts, starts[g] + _ROWS, side="right")) - 1)
    tile = np.add.reduceat(kernel(x[starts[g]:starts[h]], y), inner, axis=1)
    out[g:h] = np.add.reduceat(tile, starts[g:h] - starts[g], axis=0)
    g = h
  return out
