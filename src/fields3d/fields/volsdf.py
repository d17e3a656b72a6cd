"""VolSDF: density as a Laplace distribution's share of the signed distance, constant inside, none far outside."""

from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count, From, Index, Positive
from fields3d.core.numerics import Compute
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.fields.coloured_distance import coloured_distance
from fields3d.fields.field import RadianceField

LEAST_BETA = 1e-4


def volsdf(encoding: Annotated[Encoding, From(ENCODINGS)], directions: Annotated[Encoding, From(ENCODINGS)],
           width: Count = 64, depth: Count = 1, features: Count = 15, color_width: Count = 64, color_depth: Count = 2,
           sphere: Positive = 0.5, beta: Positive = 0.1, appearance_dim: Index = 0,
           compute: Compute = "float32") -> RadianceField:
  """The radiance field of VolSDF, over any encoding of points.

  Args:
    encoding: of points in [-1, 1]^3. directions: of unit directions.
    width, depth, features, color_width, color_depth, sphere: see `coloured_distance`.
    beta: the blur's width at the start; learned, |params["beta"]| + 1e-4.
    appearance_dim: width of the appearance code; 0 for none.

  Source: VolSDF (Yariv et al. 2021), section 3.1, with alpha = 1 / beta.

  >>> import jax
  >>> field = volsdf(ENCODINGS["identity"](), ENCODINGS["identity"](), width=8)
  >>> field.density(field.init(jax.random.key(0)), jnp.zeros((5, 3)), None).shape
  (5,)
  """
  model = coloured_distance(encoding, directions, width, depth, features, color_width, color_depth, sphere,
                            appearance_dim, compute)

  def init(key):
    return model.init(key) | {"beta": jnp.float32(beta)}

  def section(params, x, d, dt, radius, level):
    del d
    sdf, gradient, seen = model.at(params, x, level, radius)
    return laplace_density(sdf, jnp.abs(params["beta"]) + LEAST_BETA) * dt, seen, sdf, gradient

  def density(params, x, level, radius=None):
    return laplace_density(model.sdf(params, x, level, radius), jnp.abs(params["beta"]) + LEAST_BETA)

  return RadianceField(init, section, model.color, density, model.sdf, appearance_dim)


def laplace_density(sdf: Float[Array, "*b"], beta: Float[Array, ""]) -> Float[Array, "*b"]:
  """1 / beta times the Laplace distribution function, of scale beta, at -sdf.

  Source: VolSDF (Yariv et al. 2021), equations 2 and 3.

  >>> laplace_density(jnp.array([0.0, -9.0]), jnp.float32(0.5)).tolist()
  [1.0, 2.0]
  """
  tail = 0.5 * jnp.exp(jnp.where(sdf > 0, -sdf, sdf) / beta)  # not by the modulus, whose gradient at 0 is another side's
  return jnp.where(sdf > 0, tail, 1 - tail) / beta
