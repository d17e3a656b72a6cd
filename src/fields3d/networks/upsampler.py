"""Small pictures of features made into larger pictures of colour: what stands behind the rendering of adversarial fields."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count
from fields3d.networks.equalised import init_conv, init_dense, leaky
from fields3d.networks.style import init_styled, styled


@dataclasses.dataclass(frozen=True)
class Upsampler:
  """init: (key, style_dim, features, channels) -> params. apply: (params, seen (b, n, n, features), shown (b, n, n, channels),
  style (b, d)) -> (b, factor n, factor n, channels)."""
  init: Callable
  apply: Callable
  factor: int


def enlarged(pictures: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c"]:
  """Bilinear, pixels being areas, edges repeated; the mean is kept but for the edges.

  >>> enlarged(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), 2)[0, 0].ravel().tolist()
  [0.0, 1.0, 3.0, 4.0]
  """
  b, h, w, c = pictures.shape
  return jax.image.resize(pictures, (b, factor * h, factor * w, c), "bilinear", precision=jax.lax.Precision.HIGHEST)


def reduced(pictures: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c"]:
  """Means of squares of `factor` x `factor` pixels.

  >>> reduced(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).ravel().tolist()
  [1.5]
  """
  b, h, w, c = pictures.shape
  return jnp.mean(pictures.reshape(b, h // factor, factor, w // factor, factor, c), axis=(2, 4))


def upsampler(width: Count = 32, fine: Count = 16, doublings: Count = 1) -> Upsampler:
  """The enlarged picture, and what two modulated convolutions or more add to it: one at its own size, one after each doubling.

  What is added comes through kernels that start at 0: at first the large picture is the small one, enlarged.

  Args:
    width: of the convolution at the small size. fine: of those behind it. doublings: of the side.

  Source: EG3D (Chan et al. 2022), section 4.3 and supplement 1, at a fraction of the size and without noise.

  >>> net = upsampler(width=4, fine=4)
  >>> params = net.init(jax.random.key(0), 5, 2, 3)
  >>> net.apply(params, jnp.ones((1, 4, 4, 2)), jnp.ones((1, 4, 4, 3)), jnp.ones((1, 5))).shape
  (1, 8, 8, 3)
  """
  def init(key, style_dim, features, channels):
    first, last, *keys = jax.random.split(key, 2 + doublings)
    own = {"at_1": init_styled(first, 3, features + channels, width, style_dim)}
    for i, k in enumerate(keys):
      own[f"at_{2 << i}"] = init_styled(k, 3, fine if i else width, fine, style_dim)
    kernel_key, style_key = jax.random.split(last)
    conv = jax.tree.map(jnp.zeros_like, init_conv(kernel_key, 1, fine, channels))
    return own | {"added": {"conv": conv, "style": init_dense(style_key, style_dim, fine, 1.0)}}

  def apply(params, seen, shown, style):
    h = leaky(styled(params["at_1"], jnp.concatenate([seen, shown], axis=-1), style))
    for i in range(doublings):
      h = leaky(styled(params[f"at_{2 << i}"], enlarged(h, 2), style))
    return enlarged(shown, 2**doublings) + styled(params["added"], h, style, demodulate=False)

  return Upsampler(init, apply, 2**doublings)
