"""Instant-NGP: a hash grid and two small networks, the first for density, the second for colour by direction."""

from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Index
from fields3d.core.numerics import Compute, truncated_exp
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding, check_fixed
from fields3d.fields.field import RadianceField
from fields3d.networks.mlp import mlp


def ngp(encoding: Annotated[Encoding, From(ENCODINGS)], directions: Annotated[Encoding, From(ENCODINGS)],
        width: Count = 64, depth: Count = 1, features: Count = 15, color_width: Count = 64, color_depth: Count = 2,
        density_bias: float = 0.0, appearance_dim: Index = 0, compute: Compute = "float32") -> RadianceField:
  """The radiance field of Instant-NGP, over any encoding of points.

  The density is exp(h_0 + density_bias), truncated; h_0 and `features` more values go on to the colour network, which also
  sees the encoded direction and, where there is one, the photograph's appearance code.

  Args:
    encoding: of points in [-1, 1]^3. directions: of unit directions.
    width, depth: of the density network's hidden layers. color_width, color_depth: of the colour network's.
    density_bias: where the exponent starts; negative for a field that starts out faint.
    appearance_dim: width of the appearance code; 0 for none.

  Source: Müller et al. 2022, "Instant-NGP", section 5.4.

  >>> field = ngp(ENCODINGS["identity"](), ENCODINGS["identity"](), width=8)
  >>> x = jnp.zeros((5, 3))
  >>> tau, seen, _, _ = field.section(field.init(jax.random.key(0)), x, x, jnp.ones(5), jnp.zeros(5), None)
  >>> tau.shape, seen.shape
  ((5,), (5, 16))
  """
  check_fixed(directions, "--config.task.field.directions")
  density_net = mlp(width, depth, compute=compute)
  color_net = mlp(color_width, color_depth, compute=compute)

  def init(key):
    keys = jax.random.split(key, 3)
    return {"encoding": encoding.init(keys[0]), "density": density_net.init(keys[1], encoding.dim, 1 + features),
            "color": color_net.init(keys[2], directions.dim + 1 + features + appearance_dim, 3)}

  def hidden(params, x, radius, level):
    flat = x.reshape(-1, 3)
    encoded = encoding.apply(params["encoding"], flat, level, None if radius is None else radius.reshape(-1))
    return density_net.apply(params["density"], encoded).reshape(*x.shape[:-1], 1 + features)

  def section(params, x, d, dt, radius, level):
    del d
    h = hidden(params, x, radius, level)
    return truncated_exp(h[..., 0] + density_bias) * dt, h, None, None

  def color(params, h, d, appearance):
    parts = [directions.apply({}, d), h] + ([] if appearance is None else [appearance])
    inputs = jnp.concatenate(parts, axis=-1)
    logits = color_net.apply(params["color"], inputs.reshape(-1, inputs.shape[-1]))
    return jax.nn.sigmoid(logits).reshape(*d.shape[:-1], 3)

  def density(params, x, level, radius=None):
    return truncated_exp(hidden(params, x, radius, level)[..., 0] + density_bias)

  return RadianceField(init, section, color, density, None, appearance_dim)
