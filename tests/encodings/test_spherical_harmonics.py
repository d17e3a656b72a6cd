"""The real basis against scipy's complex one, and its orthonormality."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import sph_harm_y

from fields3d.encodings import spherical_harmonics


def basis(directions, degree=5):
  with jax.enable_x64(True):
    return np.asarray(spherical_harmonics(degree=degree).apply({}, jnp.asarray(directions)))


def test_it_is_the_real_form_of_the_complex_basis():
  v = np.random.default_rng(0).normal(size=(50, 3))
  v /= np.linalg.norm(v, axis=1, keepdims=True)
  polar, azimuth = np.arccos(v[:, 2]), np.arctan2(v[:, 1], v[:, 0])
  out = basis(v)
  for band in range(5):
    for m in range(-band, band + 1):
      y = (-1.0) ** m * sph_harm_y(band, abs(m), polar, azimuth) * (np.sqrt(2) if m else 1)
      expected = y.imag if m < 0 else y.real
      np.testing.assert_allclose(out[:, band * (band + 1) + m], expected, rtol=1e-9, atol=1e-12)  # values are O(1)


def test_it_is_orthonormal_over_the_sphere():
  z, weight = np.polynomial.legendre.leggauss(8)  # exact for the products, of degree 8
  azimuth = 2 * np.pi * np.arange(16) / 16
  ring = np.sqrt(1 - z**2)[:, None]
  v = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), np.broadcast_to(z[:, None], (8, 16))], axis=-1)
  out = basis(v).reshape(-1, 25)
  gram = out.T @ (out * np.repeat(weight * 2 * np.pi / 16, 16)[:, None])
  np.testing.assert_allclose(gram, np.eye(25), atol=1e-12)  # entries are O(1)


def test_a_lower_degree_is_the_beginning_of_a_higher_one():
  v = np.eye(3)
  np.testing.assert_array_equal(basis(v, 2), basis(v)[:, :4])
