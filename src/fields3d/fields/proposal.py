"""A density alone: the small, coarse field that proposes where a finer one is asked."""

from typing import Annotated

import jax

from fields3d.core.config import Count, From
from fields3d.core.numerics import Compute, truncated_exp
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.fields.field import RadianceField
from fields3d.networks.mlp import mlp


def proposal_density(encoding: Annotated[Encoding, From(ENCODINGS)], width: Count = 16, depth: Count = 1,
                     density_bias: float = 0.0, compute: Compute = "float32") -> RadianceField:
  """exp of a small network on encoded points, truncated. It has no colour: `color` is None, its features are empty.

  Args:
    encoding: of points in [-1, 1]^3; nerfacto's is a hash grid of 5 levels, 2^17 rows, 128 (then 256) cells at most.
    width, depth: of the hidden layers.
    density_bias: where the exponent starts; negative for a field that starts out faint.

  Source: nerfacto (Tancik et al. 2023, nerfstudio), its density fields; mip-NeRF 360 (Barron et al. 2022), section 3.

  >>> field = proposal_density(ENCODINGS["identity"]())
  >>> x = jax.numpy.zeros((5, 3))
  >>> field.density(field.init(jax.random.key(0)), x, None).shape
  (5,)
  """
  network = mlp(width, depth, compute=compute)

  def init(key):
    encoding_key, network_key = jax.random.split(key)
    return {"encoding": encoding.init(encoding_key), "network": network.init(network_key, encoding.dim, 1)}

  def values(params, x, radius, level):
    radius = None if radius is None else radius.reshape(-1)
    encoded = encoding.apply(params["encoding"], x.reshape(-1, 3), level, radius)
    return truncated_exp(network.apply(params["network"], encoded) + density_bias).reshape(x.shape[:-1])

  def section(params, x, d, dt, radius, level):
    del d
    tau = values(params, x, radius, level) * dt
    return tau, tau[..., None][..., :0], None, None

  def density(params, x, level, radius=None):
    return values(params, x, radius, level)

  return RadianceField(init, section, None, density)
