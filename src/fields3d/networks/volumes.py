"""Layers on voxel grids (b, n, n, n, c): convolutions of 4^3 at stride 2, both ways, and norms.

A convolution of stride 2 is eight matrix products of shifted 2^3 blocks: no gradient of it is a convolution with dilation,
which a CPU is slow at, and it can be differentiated any number of times.
"""

import itertools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Norm = Literal["batch", "layer", "none"]


def init_kernel(key: jax.Array, taps: int, fan_in: int, fan_out: int) -> dict[str, jax.Array]:
  """{"w" (4, 4, 4, fan_in, fan_out) normal of variance 2 / (taps fan_in), "b" (fan_out,)}. Source: He et al. 2015."""
  w = jax.random.normal(key, (4, 4, 4, fan_in, fan_out), jnp.float32) * np.float32(np.sqrt(2 / (taps * fan_in)))
  return {"w": w, "b": jnp.zeros(fan_out, jnp.float32)}


def halved(x: Float[Array, "b n n n c"], kernel: Float[Array, "4 4 4 c m"]) -> Float[Array, "b n2 n2 n2 m"]:
  """Cross-correlation of stride 2 with one voxel of zeros around: n to n / 2.

  >>> float(halved(jnp.ones((1, 4, 4, 4, 1)), jnp.ones((4, 4, 4, 1, 1)))[0, 0, 0, 0, 0])  # a corner sees 3^3 ones
  27.0
  """
  blocks = blocked(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0))), 2)
  weights = kernel.reshape(2, 2, 2, 2, 2, 2, *kernel.shape[3:]).transpose(0, 2, 4, 1, 3, 5, 6, 7)  # taps by block, then inside
  weights = weights.reshape(8, -1, kernel.shape[4])
  n = x.shape[1] // 2
  return sum(_product(_window(blocks, tap, n), w) for tap, w in zip(_TAPS, weights, strict=True))


def doubled(x: Float[Array, "b n n n c"], kernel: Float[Array, "4 4 4 c m"]) -> Float[Array, "b n2 n2 n2 m"]:
  """The transposed convolution of stride 2, n to 2 n: voxel i adds x_i kernel to the 4^3 voxels from 2 i - 1 on.

  With the kernel's last axes swapped it is the transpose of `halved`.

  >>> float(doubled(jnp.ones((1, 2, 2, 2, 1)), jnp.ones((4, 4, 4, 1, 1)))[0, 0, 0, 0, 0])  # a corner is reached by one
  1.0
  """
  weights = kernel.reshape(2, 2, 2, 2, 2, 2, *kernel.shape[3:]).transpose(0, 2, 4, 6, 1, 3, 5, 7)
  weights = weights.reshape(8, kernel.shape[3], -1)[::-1]  # what lies before comes by the later half of the kernel
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
  n = x.shape[1]
  blocks = sum(_product(_window(padded, tap, n + 1), w) for tap, w in zip(_TAPS, weights, strict=True))
  return unblocked(blocks, 2)[:, 1:-1, 1:-1, 1:-1]


def blocked(x: Float[Array, "b n n n c"], p: int) -> Float[Array, "b g g g k"]:
  """Cubes of p^3 voxels as one voxel of p^3 times the channels.

  >>> blocked(jnp.arange(8.0).reshape(1, 2, 2, 2, 1), 2).ravel().tolist()
  [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
  """
  b, g, c = x.shape[0], x.shape[1] // p, x.shape[4]
  return x.reshape(b, g, p, g, p, g, p, c).transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, g, g, g, p**3 * c)


def unblocked(x: Float[Array, "b g g g k"], p: int) -> Float[Array, "b n n n c"]:
  """The voxels of `blocked`.

  >>> bool((unblocked(blocked(jnp.arange(64.0).reshape(1, 4, 4, 4, 1), 2), 2).ravel() == jnp.arange(64)).all())
  True
  """
  b, g, c = x.shape[0], x.shape[1], x.shape[4] // p**3
  return x.reshape(b, g, g, g, p, p, p, c).transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, g * p, g * p, g * p, c)


def init_scales(width: int) -> dict[str, jax.Array]:
  """Scale 1 and shift 0 of `normalised`."""
  return {"scale": jnp.ones(width, jnp.float32), "shift": jnp.zeros(width, jnp.float32)}


def normalised(params: dict[str, jax.Array], x: Float[Array, "b *s c"], norm: Norm) -> Float[Array, "b *s c"]:
  """Mean 0 and variance 1 (to 1e-5), then scaled and shifted by channel.

  batch: each channel over the batch and its places; there is no running average, so that a row's values depend on what it
  comes with. layer: each row over its places and channels. none: x as it is.

  Source: Ioffe & Szegedy 2015; Ba et al. 2016.

  >>> normalised(init_scales(1), jnp.array([[1.0], [3.0]]), "batch").round(3).ravel().tolist()
  [-1.0, 1.0]
  """
  if norm == "none":
    return x
  axes = tuple(range(x.ndim - 1)) if norm == "batch" else tuple(range(1, x.ndim))
  x = x - jnp.mean(x, axis=axes, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=axes, keepdims=True) + 1e-5)
  ones = (1,) * (x.ndim - 1)
  return x * params["scale"].reshape(*ones, -1) + params["shift"].reshape(*ones, -1)


_TAPS = tuple(itertools.product((0, 1), repeat=3))


def _window(x: jax.Array, tap: tuple[int, ...], n: int) -> jax.Array:
  i, j, k = tap
  return x[:, i:i + n, j:j + n, k:k + n]


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
  flat = jnp.matmul(x.reshape(-1, x.shape[-1]), w, precision=jax.lax.Precision.HIGHEST)
  return flat.reshape(*x.shape[:-1], -1)
