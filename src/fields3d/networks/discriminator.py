"""A convolutional network that tells real pictures from made ones: one number a picture."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.networks.equalised import convolve, dense, init_conv, init_dense, kernel_of, leaky, unit_rows


@dataclasses.dataclass(frozen=True)
class Discriminator:
  """init: (key, size, channels, condition_dim=0) -> params. apply: (params, pictures (b, size, size, channels),
  condition=None (b, condition_dim)) -> scores (b,), or (b, k) of k opinions, high for real. penalised: the same, the scores (b,)
  whose gradients by the pictures are penalised."""
  init: Callable
  apply: Callable
  penalised: Callable


def spectral_scale(w: Float[Array, "*k m"], squarings: int = 6) -> Float[Array, ""]:
  """The largest singular value of a kernel as a matrix (k, m), by power iteration without memory.

  The Gram matrix is squared `squarings` times, which is 2^squarings steps of the power method. The result falls short by at
  most a factor m^(-1 / 2^(squarings + 1)), 0.96 at 6 squarings for m = 128, and far less where singular values are apart. Its
  gradient is u v^T, as in the paper.

  Source: Miyato et al. 2018, "Spectral normalization for generative adversarial networks", equations 8 and 11, algorithm 1.

  >>> round(float(spectral_scale(jnp.diag(jnp.array([3.0, 1.0])))), 4)
  3.0
  """
  high = jax.lax.Precision.HIGHEST
  matrix = w.reshape(-1, w.shape[-1])
  gram = jnp.matmul(matrix.T, matrix, precision=high)
  for _ in range(squarings):
    gram = gram / jnp.maximum(jnp.linalg.norm(gram), 1e-20)
    gram = jnp.matmul(gram, gram, precision=high)
  v = gram[:, jnp.argmax(jnp.diagonal(gram))]  # The column with the largest share of the first vector.
  v = jax.lax.stop_gradient(v / jnp.maximum(jnp.linalg.norm(v), 1e-20))
  u = jnp.matmul(matrix, v, precision=high)
  u = jax.lax.stop_gradient(u / jnp.maximum(jnp.linalg.norm(u), 1e-20))
  return jnp.dot(u, jnp.matmul(matrix, v, precision=high), precision=high)


def group_deviation(h: jax.Array, group: int) -> jax.Array:
  """The standard deviation of each entry within groups of rows: i, i + b / group, i + 2 b / group ... make one.

  >>> group_deviation(jnp.array([[1.0], [5.0], [3.0], [5.0]]), 2).ravel().round(3).tolist()
  [1.0, 0.0, 1.0, 0.0]
  """
  rows = h.reshape(group, -1, *h.shape[1:])
  centred = rows - jnp.mean(rows, axis=0, keepdims=True)
  return jnp.tile(jnp.sqrt(jnp.mean(centred**2, axis=0) + 1e-8), (group, *[1] * (h.ndim - 1)))


def minibatch_deviation(h: Float[Array, "b h w c"], group: int) -> Float[Array, "b h w 1"]:
  """The mean over places and channels of the deviation within groups of pictures: a collapse can be seen.

  Source: Karras et al. 2018, "Progressive growing of GANs", section 3, and the authors' code for the groups.

  >>> minibatch_deviation(jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1), 2).ravel().round(3).tolist()
  [1.0, 1.0]
  """
  return jnp.broadcast_to(jnp.mean(group_deviation(h, group), axis=(1, 2, 3), keepdims=True), (*h.shape[:3], 1))


def largest_group(rows: int, group: int) -> int:
  """The largest divisor of a batch's rows up to `group`.

  >>> largest_group(6, 4)
  3
  """
  return max(n for n in range(1, group + 1) if rows % n == 0)


def folded(h: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 4*c"]:
  """Squares of 2 x 2 pixels as one pixel of four times the channels: a convolution of stride 2 behind it is a product.

  >>> folded(jnp.arange(4.0).reshape(1, 2, 2, 1)).tolist()
  [[[[0.0, 1.0, 2.0, 3.0]]]]
  """
  b, h_, w, c = h.shape
  return h.reshape(b, h_ // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h_ // 2, w // 2, 4 * c)


def scored(params: dict, h: Float[Array, "b c"], condition: jax.Array | None, full: Callable = dense) -> Float[Array, " b"]:
  """A score of features, and their projection on what two layers say of the condition, where there is one.

  Args:
    params: "score", and with a condition "condition_0" and "condition_1". full: how a layer of them is applied.

  Source: Miyato & Koyama 2018, "cGANs with projection discriminator", equation 3.

  >>> float(scored({"score": {"w": jnp.ones((4, 1)), "b": jnp.zeros(1)}}, jnp.ones((1, 4)), None)[0])
  2.0
  """
  score = full(params["score"], h)[:, 0]
  if condition is None:
    return score
  wanted = unit_rows(full(params["condition_1"], leaky(full(params["condition_0"], condition))))
  return score + jnp.sum(wanted * h, axis=1) / np.float32(np.sqrt(h.shape[1]))


def discriminator(width: Count = 32, widest: Count = 128, group: Index = 4, spectral_norm: bool = False) -> Discriminator:
  """Halves the picture, channels in [0, 1], down to 4 x 4, then two dense layers.

  A halving is a 2 x 2 convolution of stride 2 and a 3 x 3 convolution that is added to what it works on. (Larger kernels of
  stride 2 cost a CPU ten times as much under the penalties, which differentiate twice.) Parameters are named by the
  resolution they work at, so that a larger picture's network takes a smaller one's. A condition (a pose) multiplies the last
  features (projection).

  Args:
    width: of features at half a picture's own size, doubling with every halving up to `widest`.
    group: pictures among which deviations are measured, the largest divisor of the batch up to it; 0 measures none.
    spectral_norm: every kernel is divided by its largest singular value (in place of the equalised rate).

  Source: StyleGAN2 (Karras et al. 2020), section 4, for residual layers; Miyato & Koyama 2018 for the projection; EG3D (Chan
    et al. 2022) gives the discriminator poses.

  >>> net = discriminator(width=4)
  >>> net.apply(net.init(jax.random.key(0), 16, 3), jnp.zeros((2, 16, 16, 3))).shape
  (2,)
  """
  def wide(size, n):
    return min(width * (size // (2 * n)), widest)

  def kernel(params):
    if spectral_norm:
      return params["w"] / spectral_scale(params["w"])
    return kernel_of(params)

  def full(params, x):
    if spectral_norm:
      return jnp.matmul(x, kernel(params), precision=jax.lax.Precision.HIGHEST) + params["b"][None]
    return dense(params, x)

  def init(key, size, channels, condition_dim=0):
    if size < 8 or size & (size - 1):
      raise UsageFault("discriminator", f"pictures of {size} x {size} are not halved to 4 x 4", "give 8, 16, 32, 64 ...")
    sizes = [size >> i for i in range(1, (size // 4).bit_length())]
    last, before = wide(size, 4), channels
    keys = iter(jax.random.split(key, 2 * len(sizes) + 5))
    params = {}
    for n in sizes:
      params[f"halved_{n}"] = init_conv(next(keys), 1, 4 * before, wide(size, n))
      params[f"at_{n}"] = init_conv(next(keys), 3, wide(size, n), wide(size, n))
      before = wide(size, n)
    params["mixed"] = init_conv(next(keys), 3, last + bool(group), last)
    params["hidden"] = init_dense(next(keys), 16 * last, last)
    params["score"] = init_dense(next(keys), last, 1)
    if condition_dim:
      params["condition_0"] = init_dense(next(keys), condition_dim, last)
      params["condition_1"] = init_dense(next(keys), last, last)
    return params

  def apply(params, pictures, condition=None):
    layer = lambda name, h: leaky(convolve(h, kernel(params[name])) + params[name]["b"][None, None, None])
    h = 2 * pictures - 1
    while h.shape[1] > 4:
      h = layer(f"halved_{h.shape[1] // 2}", folded(h))
      h = np.float32(np.sqrt(0.5)) * (h + layer(f"at_{h.shape[1]}", h))
    if group:
      h = jnp.concatenate([h, minibatch_deviation(h, largest_group(len(h), group))], axis=-1)
    h = layer("mixed", h)
    h = leaky(full(params["hidden"], h.reshape(len(h), -1)))
    return scored(params, h, condition, full)

  return Discriminator(init, apply, apply)
