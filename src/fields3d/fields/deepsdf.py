"""DeepSDF: a signed distance from a latent code and a point, by one multilayer perceptron."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Index
from fields3d.core.numerics import Compute
from fields3d.encodings import ENCODINGS
from fields3d.encodings.encoding import Encoding
from fields3d.fields.field import NeuralField
from fields3d.networks.mlp import Activation, DropRate, mlp


def deepsdf(code_dim: Index = 256, width: Count = 512, depth: Count = 8, skip: Count | None = 4,
            dropout: DropRate = 0.2, weight_norm: bool = True, activation: Activation = "relu", tanh: bool = True,
            channels: Literal[1, 4] = 1, encoding: Annotated[Encoding, From(ENCODINGS)] | None = None,
            compute: Compute = "float32") -> NeuralField:
  """The decoder of DeepSDF; with its defaults, the authors' own to the last setting.

  Eight hidden layers of 512, [z, x] concatenated to the input of layer 4 (layer 3 is narrower by as much), weight
  norm and dropout on every hidden layer, a plain linear last layer, tanh.

  Args:
    code_dim: width of the latent code; 0 for a field of a single shape.
    skip: the hidden layer, counted from 0, that sees [z, x] again; None for none.
    tanh: whether the distance goes through a last tanh, which bounds it by 1 and bends it away from the surface.
    channels: 4 adds colour logits, which bypass the tanh.
    encoding: of the points; None for the coordinates themselves, as in the paper.

  Source: Park et al. 2019, "DeepSDF", section 5.1 and figure 9; networks/deep_sdf_decoder.py and
    examples/chairs/specs.json of the authors' code, where they differ from the figure.

  >>> field = deepsdf(code_dim=4, width=16)
  >>> field.apply(field.init(jax.random.key(0)), jnp.zeros((2, 5, 3)), jnp.zeros((2, 4))).shape
  (2, 5, 1)
  """
  network = mlp(width, depth, skip, True, activation, dropout, weight_norm, compute)

  def init(key):
    network_key, encoding_key = jax.random.split(key)
    params = {"network": network.init(network_key, 3 if encoding is None else encoding.dim, channels, code_dim)}
    return params if encoding is None else {**params, "encoding": encoding.init(encoding_key)}

  def apply(params, x, z, key=None, level=None):
    features = x if encoding is None else encoding.apply(params["encoding"], x, level)
    y = network.apply(params["network"], features, z, key)
    return jnp.concatenate([jnp.tanh(y[..., :1]), y[..., 1:]], axis=-1) if tanh else y

  return NeuralField(init, apply, code_dim, channels)
