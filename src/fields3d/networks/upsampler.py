"""Small pictures of features made into larger pictures of colour: what stands behind the rendering of adversarial fields."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fields3d.core.config import Count
from fields3d.networks.equalised import enlarged, init_conv, init_dense, leaky
from fields3d.networks.style import init_styled, styled


@dataclasses.dataclass(frozen=True)
class Upsampler:
  """init: (key, style_dim, features, channels) -> params. apply: (params, seen (b, n, n, features), shown (b, n, n, channels),
  opacity (b, n, n, 1), style (b, d)) -> (b, factor n, factor n, channels)."""
  init: Callable
  apply: Callable
  factor: int


def upsampler(width: Count = 32, fine: Count = 16, doublings: Count = 1) -> Upsampler:
  """The enlarged picture, and what two modulated convolutions or more add to it: one at its own size, one after each doubling.

  What is added comes through kernels that start at 0: at first the large picture is the small one, enlarged. Nothing is added
  where nothing was seen: all of it from an opacity of 1/4, in proportion below.

  Args:
    width: of the convolution at the small size. fine: of those behind it. doublings: of the side.

  Source: EG3D (Chan et al. 2022), section 4.3 and supplement 1, at a fraction of the size and without noise.

  >>> net = upsampler(width=4, fine=4)
  >>> params = net.init(jax.random.key(0), 5, 2, 3)
  >>> net.apply(params, jnp.ones((1, 4, 4, 2)), jnp.ones((1, 4, 4, 3)), jnp.ones((1, 4, 4, 1)), jnp.ones((1, 5))).shape
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

  def apply(params, seen, shown, opacity, style):
    h = leaky(styled(params["at_1"], jnp.concatenate([seen, shown], axis=-1), style))
    for i in range(doublings):
      h = leaky(styled(params[f"at_{2 << i}"], enlarged(h, 2), style))
    part = jnp.minimum(4 * enlarged(opacity, 2**doublings), 1)
    return enlarged(shown, 2**doublings) + part * styled(params["added"], h, style, demodulate=False)

  return Upsampler(init, apply, 2**doublings)
