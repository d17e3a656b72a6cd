"""Precision, recall, density, coverage and a Vendi-like diversity of a set of shapes, from distances alone.

A set's manifold is the union of a ball about each member, its radius the distance to the member's k-th nearest other
member; balls are closed. A failed sample (infinitely far from all) lies in no ball and has none. All in float64.
"""

import dataclasses

import numpy as np

from fields3d.core.errors import UsageFault
from fields3d.metrics.sets import SetDistances


@dataclasses.dataclass(frozen=True)
class Manifold:
  """precision, recall, coverage in [0, 1]; density is at least 0 and 1 on average for samples of the truth."""
  precision: float
  recall: float
  density: float
  coverage: float


def radii(square: np.ndarray, k: int) -> np.ndarray:
  """The distance (n,) of each member to its k-th nearest other, of distances (n, n); infinite where there is none.

  >>> radii(np.abs(np.subtract.outer([0.0, 1.0, 3.0], [0.0, 1.0, 3.0])), 1).tolist()
  [1.0, 1.0, 2.0]
  """
  n = len(square)
  if not 1 <= k < n:
    raise UsageFault("k", f"the {k}-th nearest of {n - 1} others", f"choose k from 1 to {n - 1}, or more shapes")
  others = square.copy()
  np.fill_diagonal(others, np.inf)
  return np.partition(others, k - 1, axis=1)[:, k - 1]


def manifold(d: SetDistances, k: int) -> Manifold:
  """Precision: samples within the references' manifold; recall: references within the samples'.

  Density: in how many references' balls a sample lies, on average, over k. Coverage: references whose ball holds a
  sample. Expectations for n samples and m references of one kind: density 1; coverage 1 minus the product over
  i < k of (m - 1 - i) / (n + m - 1 - i). Outliers among the references inflate precision, among samples recall:
  density and coverage are less easily fooled.

  Args:
    k: at least 1, and below both numbers.

  Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", equation 1;
  Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", equations 3 to 6.
  """
  of_x, of_y = radii(d.xx, k), radii(d.yy, k)
  of_x = np.where(np.isfinite(of_x), of_x, -np.inf)  # where fewer than k others exist there is no ball
  in_reference_balls = d.xy <= of_y
  return Manifold(float(in_reference_balls.any(axis=1).mean()), float((d.xy <= of_x[:, None]).any(axis=0).mean()),
                  float(in_reference_balls.sum(axis=1).mean() / k), float(in_reference_balls.any(axis=0).mean()))


def vendi_like(square: np.ndarray, scale: float) -> float:
  """The effective number of different shapes: exp of the entropy of K / n's eigenvalues, K = exp(-distance / scale).

  n equal shapes count 1, n that are far apart n. A distance of clouds need not make K positive semidefinite: negative
  eigenvalues are dropped and the rest scaled to sum 1, hence "like". Figures with other kernels or scales do not
  compare.

  Args:
    square: (n, n) distances, finite; the diagonal counts as 0.
    scale: > 0, in the distances' unit; the references' own median distance, say, so that it does not depend on samples.

  Source: Friedman & Dieng 2023, "The Vendi score", definition 3.1.

  >>> round(vendi_like(np.zeros((5, 5)), 1.0), 6), round(vendi_like(1e9 * (1 - np.eye(5)), 1.0), 6)
  (1.0, 5.0)
  """
  if not (len(square) and np.isfinite(square).all() and 0 < scale < np.inf):
    raise UsageFault("distances", "not finite, or of no scale", "leave failed shapes out")
  kernel = np.exp(-(square + square.T) / (2 * scale))
  np.fill_diagonal(kernel, 1.0)
  values = np.linalg.eigvalsh(kernel / len(kernel))
  values = values[values > 0] / values[values > 0].sum()
  return float(np.exp(-np.sum(values * np.log(values))))


def median_distance(square: np.ndarray) -> float:
  """The median of the distances (n, n) between different members, n at least 2.

  >>> median_distance(np.array([[0.0, 2.0], [2.0, 0.0]]))
  2.0
  """
  return float(np.median(square[np.triu_indices(len(square), 1)]))
