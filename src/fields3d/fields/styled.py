"""Fields that a style makes: what adversarial tasks render. Planes that convolutions grow, or layers that a style scales."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count, From, Index
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.networks.equalised import dense, dense_columns, init_dense, leaky
from fields3d.networks.style import plane_network


@dataclasses.dataclass(frozen=True)
class StyledField:
  """A density and a colour for each style.

  init: (key, style_dim) -> params.
  make: (params, style (b, d)) -> what the points of each style share, a pytree of arrays (b, ...).
  apply: (params, made, x (b, n, 3) in [-1, 1]^3) -> (density (b, n), in 1 / unit of length, (3 + channels, b, n): colour, sRGB,
    and then features of any size). Channels stand first: on a CPU, points as the minor dimension of all that is as long as
    the points is several times faster.
  channels: features beside the colour, for an upsampler.
  """
  init: Callable
  make: Callable
  apply: Callable
  channels: int = 0


def style_planes(features: Count = 8, size: Count = 32, width: Count = 32, convolutions: Count = 1,
                 hidden: Count = 16, channels: Index = 0) -> StyledField:
  """Three planes of `size` x `size` nodes from a network of modulated convolutions; their sum at a point; one hidden layer,
  whose units the style scales and shifts: planes need say which part a point is of, and the style which colour.

  Args:
    features: of a plane. width, convolutions: of the network of planes. hidden: units between planes and values.

  Source: EG3D (Chan et al. 2022), sections 4.1 and 4.2, and for the hidden layer pi-GAN (Chan et al. 2021).

  >>> field = style_planes(features=2, size=8, width=4, hidden=4)
  >>> params, style = field.init(jax.random.key(0), 3), jnp.ones((2, 3))
  >>> density, color = field.apply(params, field.make(params, style), jnp.zeros((2, 5, 3)))
  >>> density.shape, color.shape
  ((2, 5), (3, 2, 5))
  """
  network = plane_network(3 * features, size, width, convolutions)

  def init(key, style_dim):
    network_key, hidden_key, out_key, style_key = jax.random.split(key, 4)
    return {"planes": network.init(network_key, style_dim), "hidden": init_dense(hidden_key, features, hidden),
            "style": init_dense(style_key, style_dim, 2 * hidden), "out": init_dense(out_key, hidden, 4 + channels)}

  def make(params, style):
    planes = network.apply(params["planes"], style).reshape(len(style), size, size, 3, features)
    return planes, dense(params["style"], style).reshape(-1, 2, hidden)

  def apply(params, made, x):
    planes, own = made
    h = dense_columns(params["hidden"], lookup_planes(planes, x).reshape(-1, features).T)
    return _values(dense_columns(params["out"], jax.nn.softplus(_scaled(h, own, x.shape[:-1]))), x.shape[:-1])

  return StyledField(init, make, apply, channels)


def style_layers(encoding: Annotated[Encoding, From(ENCODINGS)], width: Count = 32, depth: Count = 2,
                 channels: Index = 0) -> StyledField:
  """A network on encoded points, one encoding (Fourier, a hash grid) for all styles, whose layers the style scales and shifts.

  Args:
    width, depth: of the hidden layers. channels: of features beside the colour.

  Source: pi-GAN (Chan et al. 2021), section 3.1, with a leaky rectifier in place of the sine.

  >>> field = style_layers(ENCODINGS["fourier"](levels=2), width=4)
  >>> params, style = field.init(jax.random.key(0), 3), jnp.ones((2, 3))
  >>> field.apply(params, field.make(params, style), jnp.zeros((2, 5, 3)))[0].shape
  (2, 5)
  """
  def init(key, style_dim):
    encoding_key, out_key, *keys = jax.random.split(key, 2 + 2 * depth)
    sizes = [3 + encoding.dim] + [width] * depth
    layers = {f"layer_{i}": init_dense(keys[2 * i], sizes[i], width) for i in range(depth)}
    styles = {f"style_{i}": init_dense(keys[2 * i + 1], style_dim, 2 * width) for i in range(depth)}
    return {"encoding": encoding.init(encoding_key), **layers, **styles, "out": init_dense(out_key, width, 4 + channels)}

  def make(params, style):
    return jnp.stack([dense(params[f"style_{i}"], style).reshape(-1, 2, width) for i in range(depth)], axis=1)

  def apply(params, made, x):
    h = jnp.concatenate([x, encoding.apply(params["encoding"], x)], axis=-1)
    h = h.reshape(-1, h.shape[-1]).T
    for i in range(depth):
      h = leaky(_scaled(dense_columns(params[f"layer_{i}"], h), made[:, i], x.shape[:-1]))
    return _values(dense_columns(params["out"], h), x.shape[:-1])

  return StyledField(init, make, apply, channels)


def _scaled(h: Float[Array, "k n"], own: Float[Array, "b 2 k"], shape: tuple[int, ...]) -> Float[Array, "k n"]:
  """Units scaled by 1 plus, and shifted by, what the style of each row of points says."""
  scale, shift = own.transpose(1, 2, 0)[..., None]
  return ((1 + scale) * h.reshape(-1, *shape) + shift).reshape(len(h), -1)


def _values(out: Float[Array, "k n"], shape: tuple[int, ...]) -> tuple[Float[Array, "b p"], Float[Array, "c b p"]]:
  """Density 10 softplus(out - 3), thin fog to begin with, colours that can reach 0 and 1 (mip-NeRF's sigmoid), features."""
  color = jax.nn.sigmoid(out[1:4]) * 1.002 - 0.001
  values = jnp.concatenate([color, out[4:]]) if len(out) > 4 else color
  return 10 * jax.nn.softplus(out[0] - 3).reshape(shape), values.reshape(-1, *shape)
