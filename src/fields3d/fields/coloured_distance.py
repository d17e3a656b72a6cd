"""What NeuS and VolSDF share: a signed distance that starts as a sphere, its gradient, and a colour that sees both."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fields3d.core.numerics import norm
from fields3d.encodings.encoding import Encoding, check_fixed
from fields3d.networks.mlp import mlp
from fields3d.networks.sphere import as_sphere


@dataclasses.dataclass(frozen=True)
class ColouredDistance:
  """A distance network and a colour network.

  init: (key) -> params.
  sdf: (params, x (*b, 3), level, radius (*b,) or None) -> (*b,).
  at: (params, x (*b, 3), level, radius (*b,)) -> (sdf (*b,), gradient (*b, 3), features (*b, f)); features are those of the
    distance network, the unit normal and the point, as the colour wants them.
  color: (params, features (*b, f), d (*b, 3), appearance (*b, a) or None) -> (*b, 3) in [0, 1].
  """
  init: Callable
  sdf: Callable
  at: Callable
  color: Callable


def coloured_distance(encoding: Encoding, directions: Encoding, width: int, depth: int, features: int, color_width: int,
                      color_depth: int, sphere: float, appearance_dim: int, compute: str) -> ColouredDistance:
  """The networks: softplus for the distance, whose gradient is differentiated again, ReLU for the colour.

  Args:
    encoding: of points. directions: of unit directions. sphere: radius of the distance's initial zero set.
    width, depth, features, color_width, color_depth: hidden layers, and what the distance network hands to the colour's.

  Source: NeuS (Wang et al. 2021), appendix D; IDR (Yariv et al. 2020) for the colour's inputs.
  """
  check_fixed(directions, "--config.task.field.directions")
  distance_net = mlp(width, depth, activation="softplus", compute=compute)
  color_net = mlp(color_width, color_depth, compute=compute)

  def init(key):
    keys = jax.random.split(key, 4)
    layers = distance_net.init(keys[0], 3 + encoding.dim, 1 + features)
    inputs = features + 6 + directions.dim + appearance_dim
    return {"encoding": encoding.init(keys[1]), "distance": as_sphere(keys[2], layers, sphere),
            "color": color_net.init(keys[3], inputs, 3)}

  def hidden(params, x, level, radius=None):
    inputs = jnp.concatenate([x, encoding.apply(params["encoding"], x, level, radius)], axis=-1)
    return distance_net.apply(params["distance"], inputs)

  def sdf(params, x, level, radius=None):
    return hidden(params, x.reshape(-1, 3), level, None if radius is None else radius.reshape(-1))[:, 0].reshape(x.shape[:-1])

  def at(params, x, level, radius):
    flat = x.reshape(-1, 3)
    h, pullback = jax.vjp(lambda x: hidden(params, x, level, radius.reshape(-1)), flat)
    gradient, = pullback(jnp.zeros_like(h).at[:, 0].set(1.0))
    normal = gradient / jnp.maximum(norm(gradient), 1e-6)[:, None]
    seen = jnp.concatenate([h[:, 1:], normal, flat], axis=-1)
    return h[:, 0].reshape(x.shape[:-1]), gradient.reshape(x.shape), seen.reshape(*x.shape[:-1], -1)

  def color(params, seen, d, appearance):
    parts = [seen, directions.apply({}, d)] + ([] if appearance is None else [appearance])
    inputs = jnp.concatenate(parts, axis=-1)
    logits = color_net.apply(params["color"], inputs.reshape(-1, inputs.shape[-1]))
    return jax.nn.sigmoid(logits).reshape(*d.shape[:-1], 3)

  return ColouredDistance(init, sdf, at, color)
