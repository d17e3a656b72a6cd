"""Samplers against the exact flow of a Gaussian, their orders, and the moments of ancestral chains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.generative import NOISES, SAMPLERS
from fields3d.generative.samplers import start

NOISE_NAMES = ("linear", "cosine", "edm", "flow")
NAMES = ("ddpm", "ddim", "heun", "ode", "few_step")  # a row per entry of the table
MU, S = 0.7, 0.5
KEY = jax.random.key(0)


def shares(noise, t):
  t = jnp.asarray(t, jnp.float32)
  return np.asarray(noise.alpha(t), np.float64), np.asarray(noise.sigma(t), np.float64)


def gaussian(noise):
  """The exact denoiser of N(MU, S^2)."""
  def denoise(x, t):
    alpha, sigma = noise.alpha(t)[:, None], noise.sigma(t)[:, None]
    return MU + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * MU)
  return denoise


def flowed(noise, x, begin, end):
  """Where the probability flow takes x: its quantile stays. begin, end: (alpha, sigma)."""
  spread = [np.sqrt(a**2 * S**2 + s**2) for a, s in (begin, end)]
  return end[0] * MU + spread[1] / spread[0] * (x - begin[0] * MU)


def run(section, noise, key, n):
  sampler = build(SAMPLERS, section)
  return np.asarray(jax.jit(lambda key: sampler(gaussian(noise), noise, key, (n, 1)))(key), np.float64)[:, 0]


def test_the_tables_and_these_tests_name_the_same_entries():
  assert set(NAMES) == set(SAMPLERS) and set(NOISE_NAMES) == set(NOISES)


def order(section, noise, begin, end, key):
  """Binary logarithm of the ratio of the errors at 24 and 48 steps, and the second error. key: of the start."""
  x = np.asarray(start(noise, begin, key, (64, 1)), np.float64)[:, 0]
  exact = flowed(noise, x, shares(noise, begin), shares(noise, end))
  errors = [np.sqrt(np.mean((run({**section, "steps": steps}, noise, KEY, 64) - exact) ** 2)) for steps in (24, 48)]
  return np.log2(errors[0] / errors[1]), errors[1]


def between(name):
  """A schedule whose sampling times end before it is clean: the order alone, without the last step's own."""
  return dataclasses.replace(build(NOISES, dict(name=name)), times=lambda num: np.linspace(0.9, 0.3, num + 1))


@pytest.mark.parametrize("name", NOISE_NAMES)
def test_ddim_is_of_order_1(name):
  found, error = order(dict(name="ddim"), between(name), 0.9, 0.3, jax.random.split(KEY)[0])
  assert abs(found - 1) < 0.1 and error < 0.03, (found, error)


@pytest.mark.parametrize("name", NOISE_NAMES)
@pytest.mark.parametrize("sampler", ["heun", "few_step"])
def test_heun_and_dpm_solver_2m_are_of_order_2_for_every_schedule(sampler, name):
  noise = build(NOISES, dict(name=name))
  key = jax.random.split(KEY)[0] if sampler == "heun" else KEY
  found, error = order(dict(name=sampler), noise, float(noise.time(80.0)), 0.0, key)
  assert abs(found - 2) < 0.3 and error < 0.01, (found, error)


def test_few_steps_are_those_of_lu_algorithm_2_in_float64():
  noise, steps = build(NOISES, dict(name="flow")), 7  # so few that neighbouring steps differ in length
  x = np.asarray(start(noise, float(noise.time(80.0)), KEY, (64, 1)), np.float64)[:, 0]
  r = (80 ** (1 / 7) + np.arange(steps) / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
  alpha, sigma, lam = 1 / (1 + r), r / (1 + r), -np.log(r)
  guess = [MU + alpha[0] * S**2 / (alpha[0]**2 * S**2 + sigma[0]**2) * (x - alpha[0] * MU)]
  for i in range(1, steps):
    h = lam[i] - lam[i - 1]
    mixed = guess[-1]
    if i > 1:
      ratio = (lam[i - 1] - lam[i - 2]) / h
      mixed = (1 + 1 / (2 * ratio)) * guess[-1] - guess[-2] / (2 * ratio)
    x = sigma[i] / sigma[i - 1] * x - alpha[i] * (np.exp(-h) - 1) * mixed
    guess.append(MU + alpha[i] * S**2 / (alpha[i]**2 * S**2 + sigma[i]**2) * (x - alpha[i] * MU))
  found = run(dict(name="few_step", steps=steps), noise, KEY, 64)
  np.testing.assert_allclose(found, guess[-1], rtol=1e-4, atol=1e-4)  # values near 1 from float32 steps that begin at 80


@pytest.mark.parametrize("name", ["cosine", "edm", "flow"])
@pytest.mark.parametrize("method, expected", [("euler", 1), ("midpoint", 2)])
def test_the_flows_euler_is_of_order_1_and_its_midpoint_rule_of_order_2(method, expected, name):
  found, error = order(dict(name="ode", method=method), between(name), 0.9, 0.3, KEY)
  # On the straight lines the midpoint's leading error happens to be near 0: a higher order there.
  assert abs(found - expected) < 0.3 or (name, method) == ("flow", "midpoint") and found > 2, (found, error)
  assert error < 0.2


@pytest.mark.parametrize("name", NOISE_NAMES)
@pytest.mark.parametrize("sampler", [dict(name=name) for name in NAMES] + [dict(name="ode", method="midpoint")], ids=str)
def test_of_one_datum_every_sampler_draws_it_without_noise_whatever_the_schedule(sampler, name):
  x = build(SAMPLERS, {**sampler, "steps": 8})(lambda x, t: 0 * x + MU, build(NOISES, dict(name=name)), KEY, (64, 1))
  np.testing.assert_allclose(x, MU, rtol=1e-5)


def chain(section, noise):
  """Mean and variance of an ancestral chain on the Gaussian, step by step from DDPM's and DDIM's equations."""
  times = noise.times(section["steps"])
  alpha, sigma = shares(noise, times)
  mean, variance = 0.0, sigma[0] ** 2
  for (a, s), (b, r) in zip(zip(alpha, sigma), zip(alpha[1:], sigma[1:])):
    gain = a * S**2 / (a**2 * S**2 + s**2)  # x_0 = MU + gain (x - a MU)
    if section["name"] == "ddpm":
      step = s**2 - (a / b * r) ** 2  # variance of x_t given x_s
      of_x, of_x0 = a / b * r**2 / s**2, b * step / s**2
      added = step * r**2 / s**2 if section["variance"] == "small" else step * (r > 0)
    else:
      added = section["eta"] ** 2 * r**2 / s**2 * (s**2 - (a / b * r) ** 2)
      of_x = np.sqrt(r**2 - added) / s
      of_x0 = b - a * of_x
    factor = of_x + of_x0 * gain
    mean = factor * mean + of_x0 * (1 - gain * a) * MU
    variance = factor**2 * variance + added
  return mean, variance


@pytest.mark.parametrize("name", NOISE_NAMES)
@pytest.mark.parametrize("section", [
    dict(name="ddpm", steps=30, variance="small"), dict(name="ddpm", steps=30, variance="large"),
    dict(name="ddim", steps=30, eta=0.5)], ids=["small", "large", "half"])
def test_ancestral_moments_are_those_of_the_chain_at_4_sigma(section, name):
  noise, n = build(NOISES, dict(name=name)), 40_000
  x = run(section, noise, jax.random.key(1), n)
  mean, variance = chain(section, noise)
  assert abs(x.mean() - mean) < 4 * np.sqrt(variance / n)
  assert abs(x.var() / variance - 1) < 4 * np.sqrt(2 / n)


def test_a_thousand_ancestral_steps_give_the_datas_moments_at_4_sigma():
  noise, n = build(NOISES, dict(name="linear")), 20_000
  x = run(dict(name="ddpm"), noise, jax.random.key(1), n)
  assert abs(x.mean() - MU) < 4 * S / np.sqrt(n) + 0.0064 * MU  # alpha(1) MU is missing at the start
  assert abs(x.var() / S**2 - 1) < 4 * np.sqrt(2 / n)


def test_churned_moments_are_those_of_karras_algorithm_2_at_4_sigma():
  noise, n, steps, churn = build(NOISES, dict(name="edm")), 40_000, 18, 5.0
  x = run(dict(name="heun", steps=steps, churn=churn), noise, jax.random.key(1), n)
  levels = np.append((80 ** (1 / 7) + np.arange(steps) / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, 0.0)
  mean, variance = -MU, levels[0] ** 2  # of the distance to MU, of which everything is a multiple
  rate = lambda level: level / (S**2 + level**2)  # (x - D(x)) / level over that distance
  for i, (level, after) in enumerate(zip(levels, levels[1:])):
    up = level * (1 + (churn / steps if 0.05 <= level <= 50 else 0.0))
    variance += 1.003**2 * (up**2 - level**2) if i < steps - 1 else 0.0
    up = up if i < steps - 1 else level
    far = 1 + (after - up) * rate(up)
    factor = 1 + (after - up) * (rate(up) + rate(after) * far) / 2 if after else far
    mean, variance = factor * mean, factor**2 * variance
  assert abs(x.mean() - MU - mean) < 4 * np.sqrt(variance / n)
  assert abs(x.var() / variance - 1) < 4 * np.sqrt(2 / n)


@pytest.mark.parametrize("name", NOISE_NAMES)
@pytest.mark.parametrize("section", [dict(name="heun"), dict(name="few_step", steps=20), dict(name="ddim")],
                         ids=["heun", "few_step", "ddim"])
def test_published_numbers_of_steps_sample_a_mixture_of_two(section, name):
  noise, n = build(NOISES, dict(name=name)), 4_000
  means, spread = jnp.asarray([-1.0, 1.0]), 0.2

  def denoise(x, t):
    alpha, sigma = noise.alpha(t)[:, None], noise.sigma(t)[:, None]
    variance = alpha**2 * spread**2 + sigma**2
    weight = jax.nn.softmax(-((x - alpha * means[None]) ** 2) / (2 * variance), axis=1)
    each = means[None] + alpha * spread**2 / variance * (x - alpha * means[None])
    return jnp.sum(weight * each, axis=1, keepdims=True)

  sampler = build(SAMPLERS, section)
  x = np.asarray(jax.jit(lambda key: sampler(denoise, noise, key, (n, 1)))(jax.random.key(2)))[:, 0]
  assert abs(np.mean(x > 0) - 0.5) < 4 * 0.5 / np.sqrt(n)
  assert abs(x[x > 0].mean() - 1) < 0.05 and abs(x[x > 0].std() - spread) < 0.05  # the steps' own error


def test_heun_begins_at_the_schedules_first_level_and_counts_its_evaluations():
  noise = build(NOISES, dict(name="edm", sigma_max=5.0))
  seen = []

  def denoise(x, t):
    jax.debug.callback(lambda t: seen.append(float(t[0])), t)
    return 0 * x
  build(SAMPLERS, dict(name="heun", steps=4))(denoise, noise, jax.random.key(0), (1, 1))
  jax.effects_barrier()
  assert len(seen) == 7 and max(seen) == 1
  np.testing.assert_allclose(5 * min(seen) ** 7, 0.002, rtol=1e-4)


def test_a_grid_upside_down_is_a_fault():
  with pytest.raises(UsageFault, match="not below"):
    build(SAMPLERS, dict(name="heun", sigma_min=3.0, sigma_max=2.0))
