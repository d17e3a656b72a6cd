"""Noise levels against the published formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.generative import NOISES

NAMES = ("linear", "cosine", "edm", "flow")  # a row per entry of the table
T = np.arange(1001) / 1000


def levels(name, t, **settings):
  noise = build(NOISES, dict(name=name, **settings))
  t = jnp.asarray(t, jnp.float32)
  return np.asarray(noise.alpha(t), np.float64), np.asarray(noise.sigma(t), np.float64)


def test_the_table_and_these_tests_name_the_same_schedules():
  assert set(NAMES) == set(NOISES)


@pytest.mark.parametrize("name", NAMES)
def test_levels_rise_from_clean_and_time_finds_them(name):
  noise = build(NOISES, dict(name=name))
  alpha, sigma = levels(name, T)
  assert (alpha[0], sigma[0]) == (1, 0)
  assert np.all(np.diff(sigma / np.maximum(alpha, 1e-30)) > 0)
  inner = slice(1, 1000)
  np.testing.assert_allclose(noise.time((sigma / np.maximum(alpha, 1e-30))[inner]), T[inner], rtol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_sampling_times_descend_from_one_to_clean_and_training_times_stay_inside(name):
  noise = build(NOISES, dict(name=name))
  for num in (1, 5, 18):
    times = noise.times(num)
    assert len(times) == num + 1 and times[0] == 1 and times[-1] == 0 and np.all(np.diff(times) < 0)
  t = np.asarray(noise.draw(jax.random.key(0), 20_000))
  assert t.min() > 0 and t.max() <= 1
  if name != "edm":  # uniform, of mean 1/2 (linear: 1/2 + 1/2000) and deviation 1/sqrt(12)
    assert abs(t.mean() - 0.5 - 0.0005 * (name == "linear")) < 4 / np.sqrt(12 * t.size)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_variance_is_preserved(name):
  alpha, sigma = levels(name, T)
  np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=3e-7)


def test_linear_is_ddpms_product_at_all_thousand_steps_and_its_betas_end_as_published():
  alpha, sigma = levels("linear", T)
  betas = 1e-4 + (0.02 - 1e-4) * np.arange(1000) / 999
  product = np.concatenate([[1.0], np.cumprod(1 - betas)])
  np.testing.assert_allclose(alpha**2, product, rtol=2e-6)  # exp of up to -10 in float32
  np.testing.assert_allclose(sigma**2, 1 - product, rtol=2e-6)
  found = 1 - alpha[1:] ** 2 / alpha[:-1] ** 2
  np.testing.assert_allclose(found[[0, -1]], [1e-4, 0.02], atol=1e-6)  # a quotient of float32 near 1
  np.testing.assert_allclose(alpha[-1] ** 2, 4.04e-5, rtol=1e-2)  # as commonly stated


def test_cosine_is_the_published_formula_with_its_last_beta_at_0_999():
  alpha, _ = levels("cosine", T)
  f = np.cos((T + 0.008) / 1.008 * np.pi / 2) ** 2
  published = f / f[0]
  np.testing.assert_allclose(alpha[:990] ** 2, published[:990], rtol=7e-3)  # t is scaled by 1 - 3e-5: 1 % from the end
  np.testing.assert_allclose(alpha[:-1], np.sqrt(published[:-1]), atol=6e-5)  # the same, where alpha is near 0
  np.testing.assert_allclose(alpha[-1] ** 2, 1e-3 * published[-2], rtol=1e-2)  # a cosine near 0 in float32


def test_edm_levels_are_equation_5_and_training_levels_log_normal():
  noise = build(NOISES, dict(name="edm"))
  i, n = np.arange(18), 18
  steps = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
  alpha, sigma = levels("edm", noise.times(18))
  np.testing.assert_allclose(sigma, [*steps, 0.0], rtol=3e-6)  # a seventh power in float32
  assert np.all(alpha == 1)
  logs = np.log(np.asarray(noise.sigma(noise.draw(jax.random.key(0), 50_000)), np.float64))
  assert abs(logs.mean() + 1.2) < 4 * 1.2 / np.sqrt(logs.size)
  assert abs(logs.var() - 1.44) < 4 * 1.44 * np.sqrt(2 / logs.size)


def test_flow_is_a_straight_line_and_its_logit_normal_times_are_logit_normal():
  alpha, sigma = levels("flow", T)
  np.testing.assert_allclose(alpha, 1 - T, atol=1e-7)  # of 1
  np.testing.assert_allclose(sigma, T, rtol=1e-7)
  t = np.asarray(build(NOISES, dict(name="flow", mean=0.5, spread=0.8)).draw(jax.random.key(0), 50_000), np.float64)
  logit = np.log(t / (1 - t))
  assert abs(logit.mean() - 0.5) < 4 * 0.8 / np.sqrt(t.size) and abs(logit.std() - 0.8) < 4 * 0.8 / np.sqrt(2 * t.size)


@pytest.mark.parametrize("section, word", [
    (dict(name="edm", sigma_min=3.0, sigma_max=2.0), "not below"), (dict(name="linear", last=1.0), "out of range"),
    (dict(name="edm", rho=0.0), "out of range"), (dict(name="sine"), "unknown name")])
def test_impossible_schedules_are_faults(section, word):
  with pytest.raises(UsageFault, match=word):
    build(NOISES, section)
