"""Layers on grids of voxels (b, r, r, r, c): convolutions, and group norms that are told of a condition."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import Policy
from fields3d.networks.mlp import init_linear, linear

GROUPS = 8  # of PVCNN's group norms; fewer where the channels are not divided by it


def init_convolution(key: jax.Array, fan_in: int, fan_out: int) -> dict[str, jax.Array]:
  """Kernel {"w" (3, 3, 3, fan_in, fan_out), "b" (fan_out,)}, uniform as PyTorch's."""
  params = init_linear(key, 27 * fan_in, fan_out)
  return {"w": params["w"].reshape(3, 3, 3, fan_in, fan_out), "b": params["b"]}


def convolve(params: dict[str, jax.Array], h: Float[Array, "b r r r c"], policy: Policy) -> Float[Array, "b r r r m"]:
  """Cross-correlation with a kernel of 3^3 voxels that keeps the size; outside the grid is 0.

  As nine matmuls, and their gradients too: a CPU's own convolutions take up to three times as long at 16 and 32 channels.

  >>> params = jax.eval_shape(lambda key: init_convolution(key, 2, 5), jax.random.key(0))
  >>> jax.eval_shape(lambda p: convolve(p, jnp.ones((1, 4, 4, 4, 2)), Policy()), params).shape
  (1, 4, 4, 4, 5)
  """
  return _correlate(h, params["w"], policy) + params["b"][None, None, None, None]


def _columns(h: Float[Array, "b r s t c"], what: Callable) -> Callable:
  """what(of one of the nine columns of the kernel: its number, and what it meets (b r s t, 3 c)), by its number."""
  (b, r, s, t, c) = h.shape
  h = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
  h = jnp.concatenate([h[:, :, :, k:k + t] for k in range(3)], axis=-1)
  meets = lambda i: jax.lax.dynamic_slice(h, (0, i // 3, i % 3, 0, 0), (b, r, s, t, 3 * c)).reshape(-1, 3 * c)
  return lambda i: what(i, meets(i))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate(h, w, policy):
  columns = w.reshape(9, -1, w.shape[-1])
  share = _columns(h, lambda i, met: policy.dot(met, columns[i]))
  return jax.lax.fori_loop(1, 9, lambda i, total: total + share(i), share(0)).reshape(*h.shape[:-1], -1)


def _forward(h, w, policy):
  return _correlate(h, w, policy), (h, w)


def _backward(policy, saved, g):
  h, w = saved
  flat = g.reshape(-1, g.shape[-1])
  to_w = jax.lax.map(_columns(h, lambda i, met: policy.dot(met.T, flat)), jnp.arange(9)).reshape(w.shape)
  return _correlate(g, jnp.flip(w, axis=(0, 1, 2)).swapaxes(3, 4), policy), to_w


_correlate.defvjp(_forward, _backward)


def group_norm(params: dict[str, jax.Array], h: Float[Array, "b *s c"], e: Float[Array, "b w"],
               policy: Policy) -> Float[Array, "b *s c"]:
  """Groups of channels with mean 0 and variance 1 (to 1e-5) over all places of a row, then scaled and shifted by e.

  `params` is a linear layer from e to 2 c numbers: the scale, less 1, and the shift of each channel.

  Source: Wu & He 2018, "Group normalization", equation 7; scaled by a condition: Dhariwal & Nichol 2021, section 3.

  >>> params = {"w": jnp.zeros((1, 2)), "b": jnp.zeros(2)}
  >>> group_norm(params, jnp.asarray([[[1.0], [3.0]]]), jnp.zeros((1, 1)), Policy()).round(3).ravel().tolist()
  [-1.0, 1.0]
  """
  b, c = h.shape[0], h.shape[-1]
  groups = math.gcd(GROUPS, c)
  flat = h.reshape(b, -1, c)

  def spread(moment):
    """Means (b, c) over places -> means (b, 1, c) over places and the group."""
    mean = jnp.mean(moment.reshape(b, groups, -1), axis=2, keepdims=True)
    return jnp.broadcast_to(mean, (b, groups, c // groups)).reshape(b, 1, c)

  flat = flat - spread(jnp.mean(flat, axis=1))
  scale, shift = jnp.split(linear(params, e, policy)[:, None], 2, axis=-1)
  flat = flat * (jax.lax.rsqrt(spread(jnp.mean(flat * flat, axis=1)) + 1e-5) * (1 + scale)) + shift
  return flat.reshape(h.shape)
