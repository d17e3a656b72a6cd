"""Sinusoids against their closed forms, and random features against the kernel they stand for."""

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.encodings import fourier, gaussian_fourier, integrated_fourier


def test_octaves_double_the_frequency():
  x = np.random.default_rng(0).uniform(-1, 1, (10, 3))
  with jax.enable_x64(True):
    out = np.asarray(fourier(levels=3).apply({}, jnp.asarray(x))).reshape(10, 3, 2, 3)
  for k in range(3):
    np.testing.assert_allclose(out[:, k, 0], np.sin(2**k * np.pi * x), rtol=1e-12, atol=1e-12)  # values are O(1)
    np.testing.assert_allclose(out[:, k, 1], np.cos(2**k * np.pi * x), rtol=1e-12, atol=1e-12)


def test_random_features_estimate_the_gaussian_kernel():
  frequency, half = 0.4, 20_000
  encoding = gaussian_fourier(features=2 * half, frequency=frequency)
  x = np.random.default_rng(1).uniform(-1, 1, (6, 3)).astype(np.float32)
  features = np.asarray(encoding.apply({}, jnp.asarray(x)), np.float64)
  kernel = np.exp(-0.5 * (np.pi * frequency) ** 2 * ((x[:, None] - x[None]) ** 2).sum(-1))
  # E[cos(pi B d)] for normal B; each estimate's standard deviation is at most sqrt(1 / (2 half)).
  np.testing.assert_allclose(features @ features.T / half, kernel, atol=4 * np.sqrt(0.5 / half))


def test_the_seed_alone_decides_the_directions():
  x = jnp.asarray([[0.3, -0.2, 0.7]])
  first, again, other = (gaussian_fourier(features=16, seed=s).apply({}, x) for s in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)


def test_fixed_encodings_have_nothing_to_train():
  for encoding in (fourier(levels=2), gaussian_fourier(features=4)):
    assert jax.tree.leaves(encoding.init(jax.random.key(0))) == []


def test_the_input_may_stand_first():
  x = jnp.asarray([[0.1, -0.2, 0.3]])
  out = fourier(levels=2, include_input=True).apply({}, x)
  np.testing.assert_array_equal(out, jnp.concatenate([x, fourier(levels=2).apply({}, x)], axis=-1))
  assert fourier(levels=2, include_input=True).dim == out.shape[-1] == 15


def test_an_integrated_octave_is_the_mean_over_the_gaussian():
  rng = np.random.default_rng(0)
  x, radius, n = np.array([0.3, -0.4, 0.7]), 0.2, 400_000
  draws = x + radius / 2 * rng.standard_normal((n, 3))
  with jax.enable_x64(True):
    waves = np.asarray(fourier(levels=3).apply({}, jnp.asarray(draws)))
    out = np.asarray(integrated_fourier(levels=3).apply({}, jnp.asarray(x), radius=jnp.asarray(radius)))
  assert np.all(np.abs(out - waves.mean(axis=0)) < 4 * waves.std(axis=0) / np.sqrt(n))  # 4 standard errors
