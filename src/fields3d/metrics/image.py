"""Figures of one image against another: MSE, PSNR and SSIM, as radiance-field papers compute them.

Images are (h, w, channels), finite, in [0, 1], sRGB; a mask (h, w) says which pixels count. The dynamic range is 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

PSNR_LIMIT = 100.0  # dB; two identical images score this.
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def mse(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float | None:
  """The mean squared error over pixels and channels, in float64; None where the mask leaves no pixel."""
  squares = np.square(np.asarray(image, np.float64) - np.asarray(truth, np.float64))
  if mask is not None:
    squares = squares[mask]
  return float(squares.mean()) if squares.size else None


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float | None:
  """The peak signal-to-noise ratio, -10 log10(MSE), in dB, at most `PSNR_LIMIT`; None where the mask leaves no pixel.

  The limit keeps means finite. It is far from what matters: a perfect image against its own 8-bit rounding has 58.9 dB.

  >>> round(psnr(np.full((4, 4, 3), 0.6), np.full((4, 4, 3), 0.5)), 9)
  20.0
  """
  error = mse(image, truth, mask)
  return None if error is None else float(-10 * np.log10(max(error, 10 ** (-PSNR_LIMIT / 10))))


def ssim(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float | None:
  """The mean structural similarity over channels and over the windows that lie inside the image, and inside the mask.

  A window is Gaussian, 11 x 11, sigma 1.5; K1 = 0.01, K2 = 0.03; variances are the window's own (not a sample's). This
  is Wang's original and jaxnerf's `compute_ssim`; float32. None where no window fits.

  Source: Wang, Bovik, Sheikh & Simoncelli 2004, "Image quality assessment: from error visibility to structural
  similarity", equation 13 and section III.C.

  >>> round(ssim(np.full((16, 16, 3), 0.5), np.full((16, 16, 3), 0.5)), 6)
  1.0
  """
  if min(truth.shape[:2]) < WINDOW:
    return None
  counts = np.ones(truth.shape[:2], bool) if mask is None else mask
  total, windows = _ssim(jnp.asarray(image, jnp.float32), jnp.asarray(truth, jnp.float32), jnp.asarray(counts))
  return float(total) if windows else None


@jax.jit
def _ssim(a: jax.Array, b: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The mean over the windows of the mask, and their number."""
  a, b = a - 0.5, b - 0.5  # variances do not change, and lose less to rounding
  mean_a, mean_b, squares, product = _window_means(jnp.stack([a, b, a * a + b * b, a * b]))
  variances = squares - mean_a**2 - mean_b**2
  covariance = product - mean_a * mean_b
  mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
  similarity = ((2 * mean_a * mean_b + K1**2) * (2 * covariance + K2**2)
                / ((mean_a**2 + mean_b**2 + K1**2) * (variances + K2**2))).mean(-1)
  inside = jax.lax.reduce_window(mask, True, jnp.logical_and, (WINDOW, WINDOW), (1, 1), "VALID")
  return jnp.mean(similarity, where=inside), inside.sum()


def _window_means(x: jax.Array) -> jax.Array:
  """The Gaussian means (k, h - 10, w - 10, c) of the windows inside images (k, h, w, c)."""
  weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
  weights = (weights / weights.sum()).astype(np.float32)
  for axis in (1, 2):
    length = x.shape[axis] - WINDOW + 1
    x = sum(weight * jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i, weight in enumerate(weights))
    x = jax.lax.optimization_barrier(x)  # else XLA would fuse the passes and repeat the first one 11 times
  return x
