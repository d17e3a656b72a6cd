"""Convolutions whose kernels a style scales (StyleGAN2), and the network that grows planes of features with them."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.networks.equalised import convolve, dense, enlarged, init_conv, init_dense, kernel_of, leaky


def modulated(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c m"], style: Float[Array, "b c"],
              demodulate: bool = True) -> Float[Array, "b h w m"]:
  """Each picture convolved with the kernel, its input channels scaled by the picture's style.

  Demodulation divides output channel m by sqrt(sum over k, k, c of (kernel style)^2): inputs of independent entries of
  variance 1 give outputs of variance 1, away from the edges. The scales are applied to the activations, before and after one
  convolution for all pictures, which equals a kernel for each and is faster on a CPU than as many groups.

  Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", equations 1 and 3.

  >>> x = jnp.ones((1, 1, 1, 2))
  >>> print(modulated(x, jnp.ones((1, 1, 2, 1)), jnp.array([[3.0, 4.0]])))  # 7 / 5
  [[[[1.4]]]]
  """
  out = convolve(x * style[:, None, None], kernel)
  if not demodulate:
    return out
  square = jnp.matmul(style * style, jnp.sum(kernel * kernel, axis=(0, 1)), precision=jax.lax.Precision.HIGHEST)
  return out * jax.lax.rsqrt(square + 1e-8)[:, None, None]


def init_styled(key: jax.Array, size: int, fan_in: int, fan_out: int, style_dim: int) -> dict:
  """A convolution and the dense layer that makes its style, 1 for all channels on average."""
  kernel_key, style_key = jax.random.split(key)
  return {"conv": init_conv(kernel_key, size, fan_in, fan_out), "style": init_dense(style_key, style_dim, fan_in, 1.0)}


def styled(params: dict, x: Float[Array, "b h w c"], style: Float[Array, "b d"],
           demodulate: bool = True) -> Float[Array, "b h w m"]:
  """`modulated` by a dense layer of the style, with a bias.

  >>> styled(init_styled(jax.random.key(0), 3, 2, 4, 5), jnp.ones((1, 8, 8, 2)), jnp.ones((1, 5))).shape
  (1, 8, 8, 4)
  """
  out = modulated(x, kernel_of(params["conv"]), dense(params["style"], style), demodulate)
  return out + params["conv"]["b"][None, None, None]


@dataclasses.dataclass(frozen=True)
class PlaneNetwork:
  """From a style to pictures of features.

  init: (key, style_dim) -> params. apply: (params, style (b, d)) -> (b, size, size, channels). size: pixels a side.
  """
  init: Callable
  apply: Callable
  size: int


def plane_network(channels: int, size: Count = 32, width: Count = 32, convolutions: Count = 1) -> PlaneNetwork:
  """A learned 4 x 4 constant, doubled (bilinear) and convolved up to `size`; every convolution is scaled by the style.

  Parameters are named by the resolution they work at, so that a larger network takes a smaller one's (`init_from`).

  Args:
    channels: of the output. width: of all layers, twice that up to 8 x 8. convolutions: at each size.

  Raises:
    UsageFault: `size` is not 4 times a power of two.

  >>> net = plane_network(6, size=8, width=4)
  >>> net.apply(net.init(jax.random.key(0), 5), jnp.ones((2, 5))).shape
  (2, 8, 8, 6)
  """
  if size < 4 or size & (size - 1):
    raise UsageFault("plane_network.size", f"{size} is not 4 times a power of two", "give 8, 16, 32, 64 ...")
  sizes = [4 << i for i in range((size // 4).bit_length())]
  wide = lambda n: 2 * width if n <= 8 else width

  def layers():
    before = wide(4)
    for n in sizes:
      for i in range(convolutions):
        yield f"at_{n}_{i}", n, before, wide(n)
        before = wide(n)

  def init(key, style_dim):
    start_key, out_key, own_key = jax.random.split(key, 3)
    params = {"start": jax.random.normal(start_key, (4, 4, wide(4)), jnp.float32)}
    for i, (name, _, fan_in, fan_out) in enumerate(layers()):
      params[name] = init_styled(jax.random.fold_in(own_key, i), 3, fan_in, fan_out, style_dim)
    return params | {f"planes_{size}": init_styled(out_key, 1, wide(size), channels, style_dim)}

  def apply(params, style):
    h = jnp.broadcast_to(params["start"][None], (len(style), *params["start"].shape))
    for name, n, _, _ in layers():
      if h.shape[1] < n:
        h = enlarged(h, 2)
      h = leaky(styled(params[name], h, style))
    return styled(params[f"planes_{size}"], h, style, demodulate=False)

  return PlaneNetwork(init, apply, size)
