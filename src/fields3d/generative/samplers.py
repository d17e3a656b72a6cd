"""Samplers: from noise to data by a denoiser, in a fixed number of steps (`lax.scan`, static shapes).

A sampler is (denoise, noise, key, shape) -> x (b, *s), with denoise: (x (b, *s), t (b,)) -> estimate of x_0. Each
starts at sigma(t) z for the first time t of its grid, z standard normal. All but `ddpm`, `ddim` with eta above 0 and
`heun` with churn are deterministic after that: they follow one ordinary differential equation, each to its own order.
With r = sigma / alpha it is d(x / alpha) / dr = (x / alpha - x_0) / r.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Fraction, NonNegative, Positive, Range, Table
from fields3d.core.errors import UsageFault
from fields3d.generative.noise import Noise

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
Sampler = Callable[[Denoise, Noise, jax.Array, tuple[int, ...]], jax.Array]


def ddpm(steps: Count = 1000, variance: Literal["small", "large"] = "small") -> Sampler:
  """Ancestral sampling: each step draws from the posterior of the cleaner x given the noisier and x_0.

  Args:
    variance: of a step: the posterior's (right where the data are one point), or the forward step's (right where
      they are white noise). Between the two where steps are few; equal in the limit of many.

  Source: DDPM (Ho et al. 2020), equations 6 and 7 and section 3.2, for any alpha and sigma.

  >>> from fields3d.generative.noise import linear
  >>> ddpm(steps=4)(lambda x, t: 0 * x + 3, linear(), jax.random.key(0), (2, 1)).tolist()
  [[3.0], [3.0]]
  """
  return _ancestral(steps, 1.0, variance)


def ddim(steps: Count = 50, eta: Fraction = 0.0) -> Sampler:
  """DDIM: deterministic for eta 0, of order 1; ancestral for eta 1. Not Markov in between, with the same marginals.

  Source: DDIM (Song et al. 2021), equations 12 and 16, for any alpha and sigma.

  >>> from fields3d.generative.noise import cosine
  >>> ddim(steps=4)(lambda x, t: 0 * x + 3, cosine(), jax.random.key(0), (1, 2)).tolist()
  [[3.0, 3.0]]
  """
  return _ancestral(steps, eta, "small")


def _ancestral(steps: int, eta: float, variance: str) -> Sampler:
  def sample(denoise, noise, key, shape):
    start_key, path_key = jax.random.split(key)
    times = noise.times(steps)
    alpha, sigma = levels(noise, times)
    shrink = (alpha[:-1] * sigma[1:]) / (alpha[1:] * sigma[:-1])  # r of the next level over r of this one
    keep = np.sqrt(1 - eta**2 * (1 - shrink**2))  # the share of the noise that stays
    fresh = eta * np.sqrt(1 - shrink**2) * (sigma[1:] if variance == "small" else sigma[:-1] * (sigma[1:] > 0))
    rows = _rows(t=times[:-1], of_x=keep * sigma[1:] / sigma[:-1], of_x0=alpha[1:] * (1 - keep * shrink), fresh=fresh)

    def step(x, row):
      row, key = row
      x = row["of_x"] * x + row["of_x0"] * denoise(x, _time(row["t"], shape))
      return (x + row["fresh"] * jax.random.normal(key, shape) if eta else x), None

    keys = jax.random.split(path_key, steps)
    return jax.lax.scan(step, start(noise, times[0], start_key, shape), (rows, keys))[0]
  return sample


def heun(steps: Count = 18, sigma_min: Positive = 0.002, sigma_max: Positive = 80.0, rho: Positive = 7.0,
         churn: NonNegative = 0.0, churn_min: NonNegative = 0.05, churn_max: Positive = 50.0,
         churn_noise: Positive = 1.003) -> Sampler:
  """EDM's sampler: Heun's method in r = sigma / alpha, of order 2, with fresh noise before a step where asked.

  2 steps - 1 evaluations: the last step, to r = 0, is Euler's, without churn. The grid is the sampler's own, for any schedule, and
  begins no higher than the schedule's own first level.

  Args:
    sigma_min, sigma_max, rho: the grid of r, in the data's unit: equal steps of r^(1/rho), then 0.
    churn: S_churn; 0 is deterministic. churn_min, churn_max: the r between which it acts. churn_noise: S_noise.

  Raises:
    UsageFault: sigma_min is not below sigma_max.

  Source: EDM (Karras et al. 2022), algorithm 2 and equation 5; other schedules by its equation 4 and s = alpha.

  >>> from fields3d.generative.noise import flow
  >>> heun(steps=3)(lambda x, t: 0 * x + 3, flow(), jax.random.key(0), (1, 2)).tolist()
  [[3.0, 3.0]]
  """
  grid = _karras_grid("heun", steps, sigma_min, sigma_max, rho)

  def sample(denoise, noise, key, shape):
    start_key, path_key = jax.random.split(key)
    r = grid(noise)
    gamma = np.where((r >= churn_min) & (r <= churn_max), min(churn / steps, np.sqrt(2) - 1), 0.0)
    up = np.minimum(r * (1 + gamma), r[0])
    added = churn_noise * np.sqrt(up**2 - r**2)
    t, t_up = noise.time(r), noise.time(up)
    scale, scale_up = levels(noise, t)[0], levels(noise, t_up)[0]
    rows = _rows(added=added[:-1], r=up[:-1], t=t_up[:-1], scale=scale_up[:-1],
                 r_next=r[1:], t_next=t[1:], scale_next=scale[1:])

    def step(y, row):  # y = x / alpha
      row, key = row
      y = y + row["added"] * jax.random.normal(key, shape) if churn else y
      slope = (y - denoise(row["scale"] * y, _time(row["t"], shape))) / row["r"]
      far = y + (row["r_next"] - row["r"]) * slope
      ahead = (far - denoise(row["scale_next"] * far, _time(row["t_next"], shape))) / row["r_next"]
      return y + (row["r_next"] - row["r"]) * (slope + ahead) / 2, None

    y = start(noise, t[0], start_key, shape) / jnp.float32(scale[0])
    y, _ = jax.lax.scan(step, y, (rows, jax.random.split(path_key, steps - 1)))
    return denoise(jnp.float32(scale[-1]) * y, _time(jnp.float32(t[-1]), shape))
  return sample


def ode(steps: Count = 50, method: Literal["euler", "midpoint"] = "euler") -> Sampler:
  """The probability flow in t itself, dx/dt = alpha' x_0 + sigma' eps: for rectified flow eps - x_0.

  Euler's method (order 1) or the midpoint rule (order 2, two evaluations a step); the last step, to no noise, is the estimate of x_0:
  where sigma falls as a power of t, either would leave or add noise.

  Source: rectified flow (Liu et al. 2022), equation 1 and algorithm 1, with time the other way round.

  >>> from fields3d.generative.noise import flow
  >>> ode(steps=4)(lambda x, t: 0 * x + 3, flow(), jax.random.key(0), (1, 2)).tolist()
  [[3.0, 3.0]]
  """
  def sample(denoise, noise, key, shape):
    def velocity(x, t):
      (alpha, sigma), (alpha_rate, sigma_rate) = jax.jvp(lambda t: (noise.alpha(t), noise.sigma(t)), (t,), (1.0,))
      x0 = denoise(x, _time(t, shape))
      return alpha_rate * x0 + sigma_rate / sigma * (x - alpha * x0)

    def step(x, row):
      t, dt = row["t"], row["dt"]
      if method == "euler":
        return x + dt * velocity(x, t), None
      return x + dt * velocity(x + dt / 2 * velocity(x, t), t + dt / 2), None

    times = noise.times(steps)
    within = times[:-1] if times[-1] == 0 else times
    rows = _rows(t=within[:-1], dt=np.diff(within))
    x = jax.lax.scan(step, start(noise, times[0], key, shape), rows)[0]
    return denoise(x, _time(jnp.float32(within[-1]), shape)) if times[-1] == 0 else x
  return sample


def few_step(steps: Annotated[int, Range(ge=2)] = 10, sigma_min: Positive = 0.002, sigma_max: Positive = 80.0,
             rho: Positive = 7.0) -> Sampler:
  """DPM-Solver++ (2M): order 2 at one evaluation a step, by the last step's estimate of x_0; on the grid of `heun`.

  The first step and the last one, to r = 0, are of order 1.

  Args:
    sigma_min, sigma_max, rho: as of `heun`.

  Raises:
    UsageFault: sigma_min is not below sigma_max.

  Source: DPM-Solver++ (Lu et al. 2022), algorithm 2, in lambda = -ln r; the grid: EDM (Karras et al. 2022), equation 5.

  >>> from fields3d.generative.noise import flow
  >>> few_step(steps=4)(lambda x, t: 0 * x + 3, flow(), jax.random.key(0), (1, 2)).tolist()
  [[3.0, 3.0]]
  """
  grid = _karras_grid("few_step", steps, sigma_min, sigma_max, rho)

  def sample(denoise, noise, key, shape):
    r = grid(noise)
    times = np.append(noise.time(r), 0.0)
    alpha, sigma = levels(noise, times)
    shrink = np.append(r[1:] / r[:-1], 0.0)  # exp(-h)
    h = -np.log(shrink[:-1])
    ahead = np.concatenate([[0.0], h[1:] / (2 * h[:-1]), [0.0]])
    rows = _rows(t=times[:-1], of_x=sigma[1:] / sigma[:-1], of_x0=alpha[1:] * (1 - shrink), ahead=ahead)

    def step(carry, row):
      x, last = carry
      x0 = denoise(x, _time(row["t"], shape))
      x = row["of_x"] * x + row["of_x0"] * (x0 + row["ahead"] * (x0 - last))
      return (x, x0), None

    x = start(noise, times[0], key, shape)
    return jax.lax.scan(step, (x, jnp.zeros_like(x)), rows)[0][0]
  return sample


def _karras_grid(name: str, steps: int, sigma_min: float, sigma_max: float, rho: float) -> Callable:
  """noise -> (steps,) float64 descending r, in equal steps of r^(1/rho) and no higher than the noise's own first."""
  if sigma_min >= sigma_max:
    raise UsageFault(f"{name}.sigma_min", f"{sigma_min:g} is not below sigma_max = {sigma_max:g}", "exchange them")

  def grid(noise):
    alpha, sigma = levels(noise, np.ones(1))
    top = min(sigma_max, sigma[0] / alpha[0]) if alpha[0] > 0 else sigma_max
    return np.linspace(top ** (1 / rho), sigma_min ** (1 / rho), steps) ** rho
  return grid


def start(noise: Noise, t: float, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """sigma(t) z: noise at t, of data that its alpha(t) has made nothing."""
  return noise.sigma(jnp.float32(t)) * jax.random.normal(key, shape)


def levels(noise: Noise, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """alpha and sigma at times on the host, inside jit too: float64 arrays of float32 values."""
  with jax.ensure_compile_time_eval():
    t = jnp.asarray(times, jnp.float32)
    return np.asarray(noise.alpha(t), np.float64), np.asarray(noise.sigma(t), np.float64)


def _rows(**columns: np.ndarray) -> dict[str, jax.Array]:
  return {name: jnp.asarray(column, jnp.float32) for name, column in columns.items()}


def _time(t: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  return jnp.broadcast_to(t, shape[:1])


SAMPLERS: Table = {
    "ddpm": ddpm,
    "ddim": ddim,
    "heun": heun,
    "ode": ode,
    "few_step": few_step,
}
