"""Noise levels: x_t = alpha(t) x_0 + sigma(t) eps, with t from 0 (data) to 1 (noise).

All that a sampler or a loss knows of a schedule is here. The ratio r = sigma / alpha orders the levels of every
schedule alike (EDM's sigma, and exp(-lambda / 2) of the log-signal-to-noise ratio lambda), and `time` finds its t.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Positive, Range, Table
from fields3d.core.errors import UsageFault

Rate = Annotated[float, Range(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class Noise:
  """A schedule of noise levels.

  alpha, sigma: (t) -> same shape; the shares of data and of noise at t in [0, 1]. sigma(0) is 0.
  draw: (key, n) -> (n,) training times.
  times: (num) -> float64 (num + 1,), descending sampling times; the last is 0 (clean).
  time: (r) -> float64, same shape; on the host: the t whose sigma / alpha is r, for r >= 0 up to that of t = 1.
  """
  alpha: Callable
  sigma: Callable
  draw: Callable
  times: Callable
  time: Callable


def linear(first: Rate = 1e-4, last: Rate = 0.02, steps: Count = 1000) -> Noise:
  """DDPM's: each of `steps` steps adds the variance beta, which rises linearly from `first` to `last`.

  Exact at t = i / steps; between them the logarithm of alpha is linear in t. Training times are the steps themselves.
  Variance preserving: alpha^2 + sigma^2 = 1.

  Source: DDPM (Ho et al. 2020), equation 4 and section 4.

  >>> noise = linear()
  >>> round(float(noise.sigma(jnp.asarray(1 / 1000)) ** 2), 7)
  0.0001
  """
  grid = np.linspace(0, 1, steps + 1)
  logs = np.concatenate([[0.0], np.cumsum(np.log1p(-np.linspace(first, last, steps)))])  # of alpha^2

  def log_square(t):
    return jnp.interp(t, jnp.asarray(grid, jnp.float32), jnp.asarray(logs, jnp.float32))

  def time(r):
    return np.interp(np.log1p(np.square(np.asarray(r, np.float64))), -logs, grid)

  return Noise(alpha=lambda t: jnp.exp(log_square(t) / 2), sigma=lambda t: jnp.sqrt(-jnp.expm1(log_square(t))),
               draw=lambda key, n: jax.random.randint(key, (n,), 1, steps + 1) / jnp.float32(steps),
               times=evenly, time=time)


def cosine(offset: Positive = 0.008) -> Noise:
  """alpha is a quarter of a cosine, moved so that the first step's noise is not nothing.

  Approximate in one thing: the published bound of the last of 1000 betas, 0.999, ends alpha at 5e-5; here t is scaled
  by 1 - 3e-5 so that alpha(1) is that value without a corner. Variance preserving: alpha^2 + sigma^2 = 1.

  Source: Nichol & Dhariwal 2021, equation 17 and the text below it.

  >>> noise = cosine()
  >>> round(float(noise.alpha(jnp.asarray(0.5)) ** 2), 4)
  0.4939
  """
  begin = np.pi / 2 * offset / (1 + offset)
  end = np.sqrt(1e-3) * np.cos(begin + 0.999 * (np.pi / 2 - begin))  # of alpha cos(begin)
  turn = np.arccos(end) - begin

  def alpha(t):
    return jnp.cos(begin + turn * t) / np.cos(begin)

  def sigma(t):  # sqrt(1 - alpha^2) without cancellation
    return jnp.sqrt(jnp.sin(turn * t) * jnp.sin(2 * begin + turn * t)) / np.cos(begin)

  def time(r):
    r = np.asarray(r, np.float64)
    return np.minimum((np.arccos(np.cos(begin) / np.sqrt(1 + r * r)) - begin) / turn, 1.0)

  return Noise(alpha, sigma, draw=uniform, times=evenly, time=time)


def edm(mean: float = -1.2, spread: Positive = 1.2, sigma_min: Positive = 0.002, sigma_max: Positive = 80.0,
        rho: Positive = 7.0) -> Noise:
  """EDM's: alpha is 1 and sigma(t) = sigma_max t^rho, so that equal steps of t are the paper's steps of sigma.

  Training levels are log-normal, and those above sigma_max count as sigma_max. Sampling times go in equal steps of
  t from sigma_max to sigma_min and then to 0.

  Args:
    mean, spread: of the logarithm of the training levels (P_mean, P_std).
    sigma_min, sigma_max: the sampling levels' ends, in the data's unit.

  Raises:
    UsageFault: sigma_min is not below sigma_max.

  Source: EDM (Karras et al. 2022), equation 5 and table 1.

  >>> [round(float(edm().sigma(t)), 3) for t in edm().times(3)]
  [80.0, 2.515, 0.002, 0.0]
  """
  if sigma_min >= sigma_max:
    raise UsageFault("edm.sigma_min", f"{sigma_min:g} is not below sigma_max = {sigma_max:g}", "exchange them")

  def draw(key, n):
    level = jnp.exp(mean + spread * jax.random.normal(key, (n,)))
    return jnp.minimum((level / sigma_max) ** (1 / rho), 1.0)

  def times(num):
    return np.concatenate([np.linspace(1, (sigma_min / sigma_max) ** (1 / rho), num), [0.0]])

  return Noise(alpha=jnp.ones_like, sigma=lambda t: sigma_max * t ** rho, draw=draw, times=times,
               time=lambda r: np.minimum(np.asarray(r, np.float64) / sigma_max, 1.0) ** (1 / rho))


def flow(mean: float | None = None, spread: Positive = 1.0) -> Noise:
  """Rectified flow's straight lines: alpha = 1 - t, sigma = t.

  Args:
    mean, spread: training times are uniform, or, where `mean` is given, the logistic function of a normal variate.

  Source: rectified flow (Liu et al. 2022), equation 1, with time the other way round; logit-normal times: Esser et
    al. 2024, equation 19.

  >>> float(flow().alpha(jnp.asarray(0.25)))
  0.75
  """
  def draw(key, n):
    return uniform(key, n) if mean is None else jax.nn.sigmoid(mean + spread * jax.random.normal(key, (n,)))

  def time(r):
    r = np.asarray(r, np.float64)
    return r / (1 + r)

  return Noise(alpha=lambda t: 1 - t, sigma=lambda t: 1.0 * t, draw=draw, times=evenly, time=time)


def uniform(key: jax.Array, n: int) -> jax.Array:
  """n times in (0, 1]."""
  return 1 - jax.random.uniform(key, (n,))


def evenly(num: int) -> np.ndarray:
  """num equal steps from 1 to 0."""
  return np.linspace(1.0, 0.0, num + 1)


NOISES: Table = {
    "linear": linear,
    "cosine": cosine,
    "edm": edm,
    "flow": flow,
}
