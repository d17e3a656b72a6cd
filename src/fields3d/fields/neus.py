"""NeuS: a signed distance seen through a sigmoid, so that a ray's weights peak where it crosses the surface."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count, From, Index, Positive
from fields3d.core.numerics import Compute
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.fields.coloured_distance import coloured_distance
from fields3d.fields.field import RadianceField


def neus(encoding: Annotated[Encoding, From(ENCODINGS)], directions: Annotated[Encoding, From(ENCODINGS)],
         width: Count = 64, depth: Count = 1, features: Count = 15, color_width: Count = 64, color_depth: Count = 2,
         sphere: Positive = 0.5, sharpness: Positive = 20.0, appearance_dim: Index = 0,
         compute: Compute = "float32") -> RadianceField:
  """The radiance field of NeuS, over any encoding of points.

  The sharpness s, 1 / (width of the surface's blur), is exp(10 params["sharpness"]) and learned: give it a learning rate of
  its own, near 1e-3, where the grid's is larger.

  Args:
    encoding: of points in [-1, 1]^3; with a `level`, coarse levels first. directions: of unit directions.
    width, depth, features, color_width, color_depth, sphere: see `coloured_distance`.
    sharpness: s at the start.
    appearance_dim: width of the appearance code; 0 for none.

  Source: NeuS (Wang et al. 2021); on hash grids as NeuS2 and Instant-NSR.

  >>> field = neus(ENCODINGS["identity"](), ENCODINGS["identity"](), width=8)
  >>> x = jnp.zeros((5, 3))
  >>> [a.shape for a in field.section(field.init(jax.random.key(0)), x, x, jnp.ones(5), jnp.zeros(5), None)]
  [(5,), (5, 21), (5,), (5, 3)]
  """
  model = coloured_distance(encoding, directions, width, depth, features, color_width, color_depth, sphere,
                            appearance_dim, compute)

  def init(key):
    return model.init(key) | {"sharpness": jnp.log(jnp.float32(sharpness)) / 10}

  def section(params, x, d, dt, radius, level):
    sdf, gradient, seen = model.at(params, x, level, radius)
    tau = crossing_depth(sdf, jnp.sum(gradient * d, axis=-1), dt, jnp.exp(10 * params["sharpness"]))
    return tau, seen, sdf, gradient

  def density(params, x, level, radius=None):
    s = jnp.exp(10 * params["sharpness"])
    return s * jax.nn.sigmoid(-s * model.sdf(params, x, level, radius))

  return RadianceField(init, section, model.color, density, model.sdf, appearance_dim)


def crossing_depth(sdf: Float[Array, "*b"], slope: Float[Array, "*b"], dt: Float[Array, "*b"],
                   s: Float[Array, ""]) -> Float[Array, "*b"]:
  """The optical depth -log(1 - alpha) of sections: log Phi(f before) - log Phi(f after), Phi the sigmoid of s f.

  The distance is taken as linear over a section, so that splitting one changes nothing; where it rises (the ray leaves)
  nothing is absorbed. Unlike alpha's own quotient this form does not divide by a vanishing Phi deep inside.

  Args:
    sdf: at the middle. slope: its derivative along the ray. dt: length. s: sharpness.

  Source: NeuS (Wang et al. 2021), equations 10 to 13.

  >>> tau = crossing_depth(jnp.zeros(1), -jnp.ones(1), jnp.full(1, 2.0), jnp.float32(50.0))
  >>> round(float(-jnp.expm1(-tau[0])), 6)
  1.0
  """
  half = 0.5 * jax.nn.relu(-slope) * dt
  return jax.nn.softplus(-s * (sdf - half)) - jax.nn.softplus(-s * (sdf + half))
