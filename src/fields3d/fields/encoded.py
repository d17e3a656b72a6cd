"""A signed distance from encoded points by a small network that starts as a sphere: hash-grid and Fourier fields."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Index, Positive
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.fields.field import NeuralField
from fields3d.networks.mlp import Activation, mlp
from fields3d.networks.sphere import as_sphere

RECTIFIERS = ("relu", "softplus")


def encoded(encoding: Annotated[Encoding, From(ENCODINGS)], width: Count = 64, depth: Count = 2,
            activation: Activation = "relu", sphere: Positive | None = 0.5, code_dim: Index = 0,
            channels: Literal[1, 4] = 1, compute: Compute = "float32") -> NeuralField:
  """A multilayer perceptron on the points and their encoding.

  Args:
    encoding: of the points; its `level` argument is the field's.
    width, depth: of the hidden layers.
    activation: "softplus" where the loss needs second derivatives (an eikonal term), else "relu" is faster.
    sphere: the network starts near the signed distance of a sphere of this radius, for any code and any encoding,
      to an error of order 1/sqrt(width); None starts it at random.
    code_dim: width of the latent code, which is concatenated to the input; 0 for a field of a single shape.
    channels: 4 adds colour logits.

  Raises:
    UsageFault: a sphere from an activation that is no rectifier.

  Source: Instant-NGP (Müller et al. 2022), section 5.3; initial sphere: SAL (Atzmon & Lipman 2020), theorem 1; zero
    weights on the encoding: IDR (Yariv et al. 2020), appendix B.2.

  >>> field = encoded(ENCODINGS["fourier"](levels=2), width=8)
  >>> field.apply(field.init(jax.random.key(0)), jnp.zeros((2, 5, 3)), jnp.zeros((2, 0))).shape
  (2, 5, 1)
  """
  if sphere is not None and activation not in RECTIFIERS:
    raise UsageFault("field.sphere", f"a sphere cannot be had from {activation!r}",
                     "set sphere=None, or activation to one of " + ", ".join(RECTIFIERS))
  network = mlp(width, depth, activation=activation, compute=compute)

  def init(key):
    network_key, sphere_key, encoding_key = jax.random.split(key, 3)
    layers = network.init(network_key, 3 + encoding.dim, channels, code_dim)
    if sphere is not None:
      layers = as_sphere(sphere_key, layers, sphere, code_dim)
    return {"network": layers, "encoding": encoding.init(encoding_key)}

  def apply(params, x, z, key=None, level=None):
    features = encoding.apply(params["encoding"], x, level)
    return network.apply(params["network"], jnp.concatenate([x, features], axis=-1), z, key)

  return NeuralField(init, apply, code_dim, channels)
