"""Frechet distances of Gaussians fitted to features: of given moments, of two sets, against their size, at infinite size.

All in float64. A Frechet distance of finite sets lies above that of what they were drawn from, by about c / N; it may
be compared only at one N, or at N to infinity by extrapolation. Fewer features than dimensions (singular covariances)
are no special case: the trace of the covariances' geometric mean is a nuclear norm of a product of their factors, so
no root of a nearly singular matrix is taken, and rounding enters at its own size, not at its square root.

Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6; Dowson & Landau 1982, "The
Frechet distance between multivariate normal distributions". Chong & Forsyth 2020, "Effectively unbiased FID and
Inception Score", section 3.
"""

from typing import NamedTuple

import numpy as np

from fields3d.core.errors import UsageFault


class Gaussian(NamedTuple):
  """mean (d,) and covariance (d, d), float64."""
  mean: np.ndarray
  cov: np.ndarray


def gaussian(features: np.ndarray) -> Gaussian:
  """The mean and the unbiased covariance (divisor n - 1) of features (n, d), n at least 2.

  >>> gaussian(np.array([[0.0, 1.0], [2.0, 1.0]])).cov.tolist()
  [[2.0, 0.0], [0.0, 0.0]]
  """
  features = _checked(features)
  mean, factor = _factor(features, None)
  return Gaussian(mean, factor.T @ factor)


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
  """|mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), a squared distance, at least 0.

  Exact to rounding for any positive semidefinite covariances; eigenvalues below d eps times the largest count as 0.

  Args:
    mean_a, mean_b: (d,). cov_a, cov_b: (d, d) symmetric, positive semidefinite.

  Raises:
    UsageFault: a value is not finite, or a covariance has an eigenvalue far below 0.

  >>> round(frechet_distance(np.zeros(1), np.eye(1), np.ones(1), 4 * np.eye(1)), 12)  # (0 - 1)^2 + (1 - 2)^2
  2.0
  """
  roots = [_root(np.asarray(cov, np.float64)) for cov in (cov_a, cov_b)]
  return _distance(np.asarray(mean_a, np.float64), roots[0], np.asarray(mean_b, np.float64), roots[1])


def frechet_of_sets(a: np.ndarray, b: np.ndarray, weights_a: np.ndarray | None = None,
                    weights_b: np.ndarray | None = None) -> float:
  """The Frechet distance of the Gaussians of two sets of features; the same as by `gaussian`, at less rounding.

  Args:
    a (n, d), b (m, d): features. weights_a (n,), weights_b (m,): how often each counts (whole numbers, two at least in
      all); once when None.
  """
  return _distance(*_factor(_checked(a), weights_a), *_factor(_checked(b), weights_b))


def _distance(mean_a: np.ndarray, root_a: np.ndarray, mean_b: np.ndarray, root_b: np.ndarray) -> float:
  """Of roots (k, d) with root^T root the covariance: tr (AB)^(1/2) is the sum of singular values of root_a root_b^T."""
  shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
  total = np.sum((mean_a - mean_b) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2 * shared
  return max(float(total), 0.0)


def _root(cov: np.ndarray) -> np.ndarray:
  """A matrix (k, d) with root^T root = cov (d, d), of its k positive eigenvalues."""
  if not np.isfinite(cov).all():
    raise UsageFault("covariance", "is not finite", "look for features that are not")
  values, vectors = np.linalg.eigh((cov + cov.T) / 2)
  tiny = len(cov) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  if values[0] < -1e3 * max(tiny, np.finfo(np.float64).tiny):
    raise UsageFault("covariance", f"has the eigenvalue {values[0]:.3g} (the largest is {values[-1]:.3g})",
                     "give a positive semidefinite matrix")
  kept = values > tiny
  return np.sqrt(values[kept])[:, None] * vectors[:, kept].T


def _factor(features: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
  """The mean (d,) and a root (min(n, d), d) of the covariance of weighted features (n, d)."""
  if weights is None:
    weights = np.ones(len(features))
  features, weights = features[weights > 0], weights[weights > 0]
  total = weights.sum()
  mean = weights @ features / total
  root = np.sqrt(weights / (total - 1))[:, None] * (features - mean)
  return mean, root if len(root) <= root.shape[1] else np.linalg.qr(root, mode="r")


def _checked(features: np.ndarray) -> np.ndarray:
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or len(features) < 2:
    raise UsageFault("features", f"have shape {features.shape}", "give at least two rows (n, d)")
  if not np.isfinite(features).all():
    raise UsageFault("features", "hold a value that is not finite", "look for images that are not")
  return features
