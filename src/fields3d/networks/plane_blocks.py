"""Convolutions on planes of features (r, 3, n, n, c): the three share their weights, as rows of one batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.numerics import Policy
from fields3d.networks.attention import init_norm, layer_norm


def init_convolution(key: jax.Array, fan_in: int, fan_out: int) -> dict[str, jax.Array]:
  """A 3 x 3 kernel uniform in +-1/sqrt(9 fan_in), as PyTorch has it, and a bias of 0."""
  bound = 1 / np.sqrt(9 * fan_in)
  return {"w": jax.random.uniform(key, (3, 3, fan_in, fan_out), jnp.float32, -bound, bound), "b": jnp.zeros((fan_out,))}


def convolve(params: dict[str, jax.Array], planes: Float[Array, "r k n n c"], policy: Policy,
             stride: int = 1) -> Float[Array, "r k n2 n2 d"]:
  """A 3 x 3 convolution of every plane, zeros around it; n2 = n / stride."""
  h = policy.convolve(planes.reshape(-1, *planes.shape[2:]), params["w"], stride) + params["b"][None, None, None, :]
  return h.reshape(*planes.shape[:2], *h.shape[1:])


def doubled(planes: Float[Array, "r k n n c"]) -> Float[Array, "r k 2n 2n c"]:
  """Every cell four times.

  >>> doubled(jnp.asarray([1.0, 2.0]).reshape(1, 1, 1, 2, 1))[0, 0, :, :, 0].tolist()
  [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
  """
  return jnp.repeat(jnp.repeat(planes, 2, axis=2), 2, axis=3)


def init_residual(key: jax.Array, width: int, views: int = 1) -> dict:
  """Weights of `residual`; `views`: how many times as wide the first convolution's input is."""
  first, second = jax.random.split(key)
  return {"norm": init_norm(width), "first": init_convolution(first, views * width, width),
          "second": init_convolution(second, width, width)}


def residual(params: dict, planes: Float[Array, "r 3 n n c"], policy: Policy,
             others: Callable | None = None) -> Float[Array, "r 3 n n c"]:
  """planes + convolution(gelu(convolution(norm(planes)))).

  others: planes -> more channels for the first convolution, such as what the other planes say.
  """
  h = layer_norm(params["norm"], planes)
  h = h if others is None else jnp.concatenate([h, others(h)], axis=-1)
  return planes + convolve(params["second"], jax.nn.gelu(convolve(params["first"], h, policy)), policy)
