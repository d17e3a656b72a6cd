"""A network on encoded points whose hidden layers are scaled and shifted by the code (FiLM)."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Index
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.fields.field import NeuralField
from fields3d.networks.mlp import ACTIVATIONS, Activation, init_linear, linear, mlp


def modulated(encoding: Annotated[Encoding, From(ENCODINGS)], code_dim: Index = 64, width: Count = 64, depth: Count = 3,
              mapping_width: Count = 64, activation: Activation = "relu", channels: Literal[1, 4] = 1,
              compute: Compute = "float32") -> NeuralField:
  """h <- act((1 + scale) (h W + b) + shift), `depth` times, from the point and its encoding; scale and shift from the code.

  One encoding, Fourier or a hash grid, serves all shapes; what differs between them is in 2 x `width` numbers a layer, that
  a network of one hidden layer makes from the code, once for each row of points.

  Args:
    encoding: of the points; its `level` argument is the field's.
    width, depth: of the hidden layers. mapping_width: of the network from the code.

  Source: Perez et al. 2018, "FiLM"; pi-GAN (Chan et al. 2021), section 3.1, for fields (there with sines).

  >>> field = modulated(ENCODINGS["fourier"](levels=2), code_dim=4, width=8)
  >>> field.apply(field.init(jax.random.key(0)), jnp.zeros((2, 5, 3)), jnp.zeros((2, 4))).shape
  (2, 5, 1)
  """
  policy, act = Policy(compute), ACTIVATIONS[activation]
  mapping = mlp(mapping_width, 1, compute=compute)

  def init(key):
    encoding_key, mapping_key, last_key, *keys = jax.random.split(key, 3 + depth)
    sizes = [3 + encoding.dim] + [width] * depth
    layers = {f"layer_{i}": init_linear(k, sizes[i], width) for i, k in enumerate(keys)}
    return {"encoding": encoding.init(encoding_key), "mapping": mapping.init(mapping_key, max(code_dim, 1), 2 * depth * width),
            "network": {**layers, f"layer_{depth}": init_linear(last_key, width, channels)}}

  def apply(params, x, z, key=None, level=None):
    del key
    rows, points = x.shape[:-2], x.shape[-2]
    codes = z.reshape(-1, code_dim) if code_dim else jnp.ones((1, 1), x.dtype)
    made = mapping.apply(params["mapping"], codes).reshape(len(codes), 1, depth, 2, width)
    h = jnp.concatenate([x, encoding.apply(params["encoding"], x, level)], axis=-1).reshape(-1, 3 + encoding.dim)
    for i in range(depth):
      h = linear(params["network"][f"layer_{i}"], h, policy).reshape(len(codes), -1, width)
      h = act((1 + made[:, :, i, 0]) * h + made[:, :, i, 1]).reshape(-1, width)
    return linear(params["network"][f"layer_{depth}"], h, policy).reshape(*rows, points, channels)

  return NeuralField(init, apply, code_dim, channels)
