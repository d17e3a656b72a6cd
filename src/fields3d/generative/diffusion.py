"""Diffusion: what a network is trained to say of a noisy x, and the clean x that follows from it.

The network always sees x scaled to unit variance, c_in x, and says F. Five meanings of F (`target`), of which any
gives the same estimate of x_0 where it is exact; n^2 = alpha^2 + sigma^2, s = sigma_data, m^2 = alpha^2 s^2 + sigma^2:

    eps   F = eps                              x_0 = (x - sigma F) / alpha
    x0    F = x_0                              x_0 = F
    v     F = (alpha eps - sigma x_0) / n      x_0 = (alpha x - sigma n F) / n^2
    flow  F = eps - x_0                        x_0 = (x - sigma F) / (alpha + sigma)
    edm   F = m / (sigma s) (x_0 - alpha s^2 / m^2 x)     x_0 = alpha s^2 / m^2 x + sigma s / m F

The loss is the mean square error of F, so the target is the weighting too: eps is DDPM's simple loss, edm EDM's.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import From, Positive
from fields3d.core.errors import UsageFault
from fields3d.generative.noise import NOISES, Noise

Net = Callable[..., jax.Array]
Target = Literal["eps", "x0", "v", "flow", "edm"]


@dataclasses.dataclass(frozen=True)
class Diffusion:
  """A noise schedule and the meaning of a network's answer.

  The net is (x (b, *s), c (b,)) -> F (b, *s), closed over parameters and conditions. c is t itself, or for the target
  edm ln(sigma / alpha) / 4. With `self_condition` the net takes a third argument, an estimate of x_0 or zeros.
  """
  noise: Noise
  target: Target
  sigma_data: float
  self_condition: bool = False
  clip: float | None = None

  def loss(self, net: Net, x0: Float[Array, "b ..."], key: jax.Array) -> Float[Array, "*b"]:
    """Mean square error of the net's F over each row, at a drawn time and noise of its own.

    With `self_condition` every other row, by a coin, is given the net's own estimate, through which no gradient flows.
    """
    time_key, noise_key, coin_key = jax.random.split(key, 3)
    t = self.noise.draw(time_key, x0.shape[0])
    eps = jax.random.normal(noise_key, x0.shape, x0.dtype)
    alpha, sigma = self._shares(t, x0)
    x = alpha * x0 + sigma * eps
    previous = ()
    if self.self_condition:
      coin = jax.random.bernoulli(coin_key, 0.5, (x0.shape[0],))
      guess = jax.lax.stop_gradient(self.estimate(x, self._ask(net, x, t, (jnp.zeros_like(x),)), t))
      previous = (jnp.where(_rows(coin, x), guess, 0.0),)
    error = self._ask(net, x, t, previous) - self.answer(x0, eps, t)
    return jnp.mean(error * error, axis=tuple(range(1, error.ndim)))

  def denoise(self, net: Net, x: Float[Array, "b ..."], t: Float[Array, "*b"]) -> Float[Array, "b ..."]:
    """The net's estimate of x_0, bounded to [-clip, clip] where a bound is set.

    With `self_condition` the net is asked twice at each x, as in training, where published samplers hand on the last
    step's estimate: twice the cost, and a sampler needs no memory.
    """
    previous = ()
    if self.self_condition:
      previous = (self._bounded(self.estimate(x, self._ask(net, x, t, (jnp.zeros_like(x),)), t)),)
    return self._bounded(self.estimate(x, self._ask(net, x, t, previous), t))

  def answer(self, x0: Float[Array, "b ..."], eps: Float[Array, "b ..."], t: Float[Array, "*b"]) -> Float[Array, "b ..."]:
    """F of a clean x_0 and the noise eps in it: what the net should say. Source: the table above."""
    alpha, sigma = self._shares(t, x0)
    if self.target == "eps":
      return eps
    if self.target == "x0":
      return x0
    if self.target == "v":
      return (alpha * eps - sigma * x0) / jnp.sqrt(alpha * alpha + sigma * sigma)
    if self.target == "flow":
      return eps - x0
    # EDM's with x = alpha x_0 + sigma eps put in, which leaves no difference of large numbers.
    return (sigma * x0 - alpha * self.sigma_data ** 2 * eps) / (self.sigma_data * self._scale(t, x0))

  def estimate(self, x: Float[Array, "b ..."], f: Float[Array, "b ..."], t: Float[Array, "*b"]) -> Float[Array, "b ..."]:
    """x_0 of a noisy x and the net's F at it. Source: the table above."""
    alpha, sigma = self._shares(t, x)
    if self.target == "eps":
      return (x - sigma * f) / alpha
    if self.target == "x0":
      return f
    if self.target == "v":
      square = alpha * alpha + sigma * sigma
      return (alpha * x - sigma * jnp.sqrt(square) * f) / square
    if self.target == "flow":
      return (x - sigma * f) / (alpha + sigma)
    scale = self._scale(t, x)
    return alpha * self.sigma_data ** 2 / scale ** 2 * x + sigma * self.sigma_data / scale * f

  def _ask(self, net, x, t, previous):
    alpha, sigma = self.noise.alpha(t), self.noise.sigma(t)
    c = jnp.log(jnp.maximum(sigma, 1e-6) / jnp.maximum(alpha, 1e-6)) / 4 if self.target == "edm" else t
    return net(x / self._scale(t, x), c, *previous)

  def _shares(self, t, x):
    return _rows(self.noise.alpha(t), x), _rows(self.noise.sigma(t), x)

  def _scale(self, t, x):
    """Standard deviation of x_t where that of x_0 is sigma_data."""
    alpha, sigma = self._shares(t, x)
    return jnp.sqrt((alpha * self.sigma_data) ** 2 + sigma * sigma)

  def _bounded(self, x0):
    return x0 if self.clip is None else jnp.clip(x0, -self.clip, self.clip)


def diffusion(noise: Annotated[Noise, From(NOISES)], target: Target = "v", sigma_data: Positive = 1.0,
              self_condition: bool = False, clip: Positive | None = None) -> Diffusion:
  """A diffusion of data whose standard deviation is `sigma_data`.

  Args:
    target: what the network's answer means.
    sigma_data: in the data's unit; it scales what the network sees, and for edm what it answers. EDM's images: 0.5.
    self_condition: the network also reads an estimate of x_0.
    clip: bound of |x_0| in sampling, in the data's unit. With eps and a schedule whose alpha(1) is near 0 the first
      estimates are an error divided by alpha, which only a bound makes harmless.

  Raises:
    UsageFault: eps with a schedule that has no data at t = 1, where eps does not determine x_0.

  Source: eps: DDPM (Ho et al. 2020), equation 14; v: Salimans & Ho 2022, section 4; flow: rectified flow (Liu et al.
    2022), equation 1; edm: EDM (Karras et al. 2022), equations 7 and 8 and table 1, here for any alpha;
    self-conditioning: Chen et al. 2022, section 2.2.

  >>> from fields3d.generative.noise import flow
  >>> model = diffusion(flow(), target="flow")
  >>> model.loss(lambda x, c: jnp.zeros_like(x), jnp.ones((4, 2)), jax.random.key(0)).shape
  (4,)
  """
  if target == "eps" and float(noise.alpha(jnp.ones(()))) == 0:
    raise UsageFault("diffusion.target", "eps does not determine x0 where alpha is 0, as at t = 1 of this noise",
                     "choose v, x0, flow or edm")
  return Diffusion(noise, target, sigma_data, self_condition, clip)


def _rows(value: jax.Array, x: jax.Array) -> jax.Array:
  """value (b,) with axes of 1 behind, so that it multiplies the rows of x."""
  return value.reshape(value.shape + (1,) * (x.ndim - value.ndim))
