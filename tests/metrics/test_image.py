"""Image figures: closed forms, float64 loops, scikit-image; masks; the ends of the scale."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fields3d.metrics.image import K1, K2, PSNR_LIMIT, mse, psnr, ssim


@pytest.fixture
def pair():
  rng = np.random.default_rng(0)
  truth = np.clip(np.linspace(0, 1, 40)[None, :, None] + 0.2 * rng.standard_normal((33, 40, 3)), 0, 1)
  return np.clip(truth + 0.1 * rng.standard_normal(truth.shape), 0, 1), truth


def loop_ssim(a, b, mask=None):
  """Wang's equation 13 by windows, in float64."""
  g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
  weights = np.outer(g, g) / g.sum() ** 2
  found = []
  for j in range(a.shape[0] - 10):
    for i in range(a.shape[1] - 10):
      if mask is not None and not mask[j:j + 11, i:i + 11].all():
        continue
      for c in range(3):
        x, y = a[j:j + 11, i:i + 11, c], b[j:j + 11, i:i + 11, c]
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        cov = (weights * (x - mx) * (y - my)).sum()
        found.append((2 * mx * my + K1**2) * (2 * cov + K2**2) / ((mx**2 + my**2 + K1**2) * (vx + vy + K2**2)))
  return np.mean(found)


def test_psnr_of_a_constant_difference_is_minus_20_log10_of_it():
  truth = np.full((5, 7, 3), 0.25)
  for difference in (0.5, 0.1, 1e-3):
    assert psnr(truth + difference, truth) == pytest.approx(-20 * np.log10(difference), rel=1e-9)


def test_psnr_of_equal_images_is_the_limit_and_of_black_against_white_0(pair):
  assert psnr(pair[0], pair[0]) == PSNR_LIMIT
  assert psnr(np.zeros((4, 4, 3)), np.ones((4, 4, 3))) == 0


def test_eight_bit_rounding_alone_is_58_9_decibels():
  truth = np.random.default_rng(1).random((400, 400, 3))
  assert psnr(np.rint(truth * 255) / 255, truth) == pytest.approx(58.92, abs=0.02)  # Monte Carlo, 480,000 values


def test_ssim_is_scikit_images(pair):
  expected = structural_similarity(*pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
                                   channel_axis=-1)
  assert ssim(*pair) == pytest.approx(expected, abs=1e-6)  # float32 on a scale of 1


def test_ssim_is_the_definition_written_as_a_loop(pair):
  assert ssim(*pair) == pytest.approx(loop_ssim(*pair), abs=1e-6)


def test_ssim_of_flat_images_is_the_luminance_term():
  a, b = np.full((20, 20, 3), 1.0), np.full((20, 20, 3), 0.98)
  assert ssim(a, b) == pytest.approx((2 * 0.98 + K1**2) / (1 + 0.98**2 + K1**2), abs=1e-4)  # rounding against K2^2
  assert ssim(a, a) == pytest.approx(1, abs=1e-6)


def test_a_mask_leaves_only_its_pixels_and_the_windows_inside_it(pair):
  image, truth = pair
  mask = np.zeros(truth.shape[:2], bool)
  mask[4:30, 3:35] = True
  outside = np.where(mask[..., None], image, 0.0)
  assert mse(outside, truth, mask) == pytest.approx(np.mean((image - truth)[mask] ** 2), rel=1e-12)
  assert ssim(outside, truth, mask) == pytest.approx(loop_ssim(image, truth, mask), abs=1e-6)
  assert ssim(outside, truth, mask) == pytest.approx(ssim(image[4:30, 3:35], truth[4:30, 3:35]), abs=1e-6)


def test_what_has_no_pixel_or_no_window_has_no_figure(pair):
  nothing = np.zeros(pair[0].shape[:2], bool)
  assert mse(*pair, nothing) is None and psnr(*pair, nothing) is None and ssim(*pair, nothing) is None
  assert ssim(np.zeros((10, 40, 3)), np.zeros((10, 40, 3))) is None
