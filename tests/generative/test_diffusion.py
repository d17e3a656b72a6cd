"""Diffusion against the exact denoisers of a Gaussian and of a mixture of two, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.generative import DIFFUSIONS, NOISES

NOISE_NAMES = ("linear", "cosine", "edm", "flow")
TARGETS = ("eps", "x0", "v", "flow", "edm")
PAIRS = [(noise, target) for noise in NOISE_NAMES for target in TARGETS if (noise, target) != ("flow", "eps")]
S = 0.5  # sigma_data
# Means, deviations and weights of the two data distributions, of variance 0.25 and mean 0.
DATA = {"gaussian": ([0.0], [0.5], [1.0]), "mixture": ([-0.4, 0.4], [0.3, 0.3], [0.5, 0.5])}


def made(noise, target, **settings):
  return build(DIFFUSIONS, dict(name="diffusion", noise=dict(name=noise), target=target, sigma_data=S, **settings))


def shares(model, t):
  t = jnp.asarray(t, jnp.float32)
  return np.asarray(model.noise.alpha(t), np.float64), np.asarray(model.noise.sigma(t), np.float64)


def exact_x0(data, x, alpha, sigma):
  """The posterior mean of x_0, by Bayes' rule for each Gaussian of the data."""
  means, deviations, weights = (np.asarray(a)[:, None] for a in DATA[data])
  variance = alpha**2 * deviations**2 + sigma**2
  log_weight = np.log(weights) - (x - alpha * means) ** 2 / (2 * variance) - np.log(variance) / 2
  weight = np.exp(log_weight - log_weight.max(0))
  each = means + alpha * deviations**2 / variance * (x - alpha * means)
  return np.sum(weight * each, axis=0) / weight.sum(0)


def exact_f(target, x0, x, alpha, sigma):
  """What the papers call the network's answer, of the posterior mean."""
  eps = (x - alpha * x0) / sigma
  if target == "edm":  # Karras et al., table 1, at x / alpha and sigma / alpha
    level, x = sigma / alpha, x / alpha
    return (x0 - S**2 / (level**2 + S**2) * x) / (level * S / np.sqrt(level**2 + S**2))
  velocity = (alpha * eps - sigma * x0) / np.hypot(alpha, sigma)
  return {"eps": eps, "x0": x0, "v": velocity, "flow": eps - x0}[target]


def exact_net(model, data):
  """A net that knows its level from c alone, and undoes c_in."""
  def net(scaled, c):
    scaled, c = np.asarray(scaled, np.float64)[:, 0], np.asarray(c, np.float64)
    t = np.asarray(model.noise.time(np.exp(4 * c)) if model.target == "edm" else c)
    alpha, sigma = shares(model, t)
    x = scaled * np.sqrt(alpha**2 * S**2 + sigma**2)
    return jnp.asarray(exact_f(model.target, exact_x0(data, x, alpha, sigma), x, alpha, sigma)[:, None], jnp.float32)
  return net


def noisy(model, data, n, seed=0):
  """Times between 0.02 and 0.97, data, noise, and their sum."""
  draw = np.random.default_rng(seed)
  means, deviations, weights = (np.asarray(a) for a in DATA[data])
  t, eps, which = draw.uniform(0.02, 0.97, n), draw.standard_normal(n), draw.choice(len(weights), n, p=weights)
  if model.noise.sigma(jnp.float32(1.0)) > 2:  # edm: levels of its range
    t = draw.uniform(0.22, 1, n)
  x0 = means[which] + deviations[which] * draw.standard_normal(n)
  alpha, sigma = shares(model, t)
  return t, x0, eps, alpha, sigma, alpha * x0 + sigma * eps


def column(*arrays):
  return [jnp.asarray(a[:, None], jnp.float32) for a in arrays]


@pytest.mark.parametrize("noise, target", PAIRS)
def test_the_answer_leads_back_to_x0_and_the_exact_net_to_the_exact_denoiser(noise, target):
  model = made(noise, target)
  t, x0, eps, alpha, sigma, x = noisy(model, "mixture", 500)
  time = jnp.asarray(t, jnp.float32)
  f = model.answer(*column(x0, eps), time)
  bound = 1e-5 * (1 + np.abs(x)) / (alpha if target == "eps" else 1)  # float32 of x, which eps divides by alpha
  assert np.all(np.abs(np.asarray(model.estimate(*column(x), f, time))[:, 0] - x0) < bound)
  np.testing.assert_allclose(f[:, 0], exact_f(target, x0, x, alpha, sigma), rtol=1e-4, atol=2e-5)  # values near 1
  for data in DATA:
    exact = exact_x0(data, x, alpha, sigma)
    found = np.asarray(model.denoise(exact_net(model, data), *column(x), time))[:, 0]
    assert np.all(np.abs(found - exact) < bound)


@pytest.mark.parametrize("noise, target", PAIRS)
def test_the_loss_is_least_at_the_exact_denoiser_where_it_is_the_posterior_variance(noise, target):
  model, n = made(noise, target), 20_000
  key = jax.random.key(3)
  x0 = column(noisy(model, "gaussian", n, 1)[1])[0]
  net = exact_net(model, "gaussian")
  asked = []
  loss = np.asarray(model.loss(lambda *given: asked.append(given) or net(*given), x0, key), np.float64)
  alpha, sigma = shares(model, model.noise.draw(jax.random.split(key, 3)[0], n))
  variance = S**2 * sigma**2 / (alpha**2 * S**2 + sigma**2)
  slope = {"eps": alpha / sigma, "x0": 1.0, "v": np.hypot(alpha, sigma) / sigma, "flow": alpha / sigma + 1,
           "edm": np.sqrt(alpha**2 * S**2 + sigma**2) / (sigma * S)}[target]  # dF / dx_0 at one x
  expected = slope**2 * variance
  assert abs(np.mean(loss - expected)) < 4 * np.sqrt(2 * np.mean(expected**2) / n)  # 2 v^2: a squared normal's variance
  # Any change of the net adds its own mean square: the cross term, of mean 0, stays within 4 sigma.
  for change in (lambda x, c: 0.3 + 0 * x, lambda x, c: 0.3 * jnp.sin(2 * x), lambda x, c: 0.3 * x * c[:, None]):
    changed = model.loss(lambda x, c, change=change: net(x, c) + change(x, c), x0, key)
    own = np.asarray(change(*asked[0]), np.float64)[:, 0] ** 2
    cross = np.asarray(changed, np.float64) - loss - own
    assert abs(cross.mean()) < 4 * cross.std() / np.sqrt(n)


@pytest.mark.parametrize("noise", NOISE_NAMES)
def test_edm_scales_inputs_and_answers_to_unit_variance_at_every_level(noise):
  model, n = made(noise, "edm"), 20_000
  seen = []
  draw = np.random.default_rng(0)
  for t in (0.1, 0.3, 0.5, 0.9):
    x0, eps = column(S * draw.standard_normal(n), draw.standard_normal(n))
    time = jnp.full((n,), t, jnp.float32)
    alpha, sigma = shares(model, t)
    model.denoise(lambda x, c: seen.append(x) or x, alpha.astype("f") * x0 + sigma.astype("f") * eps, time)
    for value in (seen[-1], model.answer(x0, eps, time)):
      assert abs(float(jnp.mean(value**2)) - 1) < 4 * np.sqrt(2 / n)


def test_edm_preconditioning_is_karras_table_1():
  model = made("edm", "edm")
  levels = np.asarray([0.002, 0.1, 0.5, 3.0, 80.0])
  t = jnp.asarray(model.noise.time(levels), jnp.float32)
  seen = []
  skip = model.denoise(lambda x, c: seen.append((x, c)) or 0 * x, jnp.ones((5, 1)), t)[:, 0]
  out = model.denoise(lambda x, c: 0 * x + 1, jnp.zeros((5, 1)), t)[:, 0]
  root = np.sqrt(levels**2 + S**2)
  np.testing.assert_allclose(skip, S**2 / root**2, rtol=1e-5)
  np.testing.assert_allclose(out, levels * S / root, rtol=1e-5)
  np.testing.assert_allclose(seen[0][0][:, 0], 1 / root, rtol=1e-5)
  np.testing.assert_allclose(seen[0][1], np.log(levels) / 4, rtol=1e-4, atol=1e-6)  # the logarithm of 1 is 0


def test_the_loss_is_a_mean_over_each_rows_own_entries():
  model = made("cosine", "v")
  x0 = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 2)), jnp.float32)
  out = []
  loss = model.loss(lambda x, c: out.append((x, c)) or jnp.zeros_like(x), x0, jax.random.key(0))
  t, eps_key = out[0][1], jax.random.split(jax.random.key(0), 3)[1]
  answer = np.asarray(model.answer(x0, jax.random.normal(eps_key, x0.shape), t))
  np.testing.assert_allclose(loss, [np.mean(row**2) for row in answer], rtol=1e-5)
  assert len(set(t.tolist())) == 3


def test_self_conditioning_is_off_by_default_and_asks_the_net_once():
  model = made("cosine", "v")
  calls = []
  net = lambda *given: calls.append(len(given)) or given[0]
  model.loss(net, jnp.ones((4, 2)), jax.random.key(0))
  model.denoise(net, jnp.ones((4, 2)), jnp.full(4, 0.5))
  assert calls == [2, 2] and not model.self_condition


def test_self_conditioning_shows_half_of_the_rows_an_estimate_without_gradient():
  model = made("cosine", "x0", self_condition=True)
  seen = []

  def net(x, c, previous):
    seen.append(previous)
    return x * weight

  weight = 2.0
  model.loss(net, jnp.ones((1000, 1)), jax.random.key(0))
  assert not seen[0].any()
  shown = float(jnp.mean(seen[1] != 0))
  assert abs(shown - 0.5) < 4 * 0.5 / np.sqrt(1000)
  model.denoise(net, jnp.ones((4, 1)), jnp.full(4, 0.5))
  assert not seen[2].any() and seen[3].all()
  # Where the net repeats the estimate it is given, its loss has no gradient but through the second answer.
  repeat = lambda w: lambda x, c, previous: previous + w * (previous == 0)
  gradient = jax.grad(lambda w: jnp.sum(model.loss(repeat(w), jnp.ones((8, 1)), jax.random.key(1))))(3.0)
  rows = int(jnp.sum(jax.random.bernoulli(jax.random.split(jax.random.key(1), 3)[2], 0.5, (8,)) == 0))
  np.testing.assert_allclose(gradient, 2 * (3.0 - 1.0) * rows, rtol=1e-5)


def test_clip_bounds_estimates_and_eps_without_data_at_the_end_is_a_fault():
  model = made("cosine", "x0", clip=1.5)
  out = model.denoise(lambda x, c: 9 * jnp.sign(x), jnp.asarray([[2.0], [-2.0]]), jnp.full(2, 0.5))
  assert out.tolist() == [[1.5], [-1.5]]
  with pytest.raises(UsageFault, match="choose v"):
    made("flow", "eps")


def test_these_tests_name_every_schedule():
  assert set(NOISE_NAMES) == set(NOISES)
