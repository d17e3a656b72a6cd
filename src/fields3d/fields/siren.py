"""SIREN: a signed distance by a perceptron of sines, smooth to every order."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Index, Positive
from fields3d.core.numerics import Compute
from fields3d.fields.field import NeuralField
from fields3d.networks.mlp import mlp

HIDDEN_W0 = 30.0  # of the network's "sine" activation, sin(30 h)


def siren(width: Count = 256, depth: Count = 4, w0: Positive = 30.0, code_dim: Index = 0,
          channels: Literal[1, 4] = 1, compute: Compute = "float32") -> NeuralField:
  """`depth` layers of sin(30 (W h + b)) and a linear one, with the paper's initial weights.

  Args:
    w0: frequency of the first layer, in radians per unit of length over a third: the finest detail at the start. It
      scales the first layer's initial weights; the activation stays sin(30 h), which is the same function.
    code_dim: width of the latent code, which is concatenated to the points; 0 for a field of a single shape.
    channels: 4 adds colour logits.

  Source: Sitzmann et al. 2020, section 3.2 and appendix 1.5.

  >>> field = siren(width=8, depth=1)
  >>> field.apply(field.init(jax.random.key(0)), jnp.zeros((2, 5, 3)), jnp.zeros((2, 0))).shape
  (2, 5, 1)
  """
  network = mlp(width, depth, activation="sine", compute=compute)

  def init(key):
    network_key, *keys = jax.random.split(key, depth + 2)
    layers = network.init(network_key, 3, channels, code_dim)
    out = {}
    for i, (name, layer) in enumerate(layers.items()):
      fan_in = layer["w"].shape[0]
      # The points' frequencies must not depend on the code's width, so that the first fan-in is that of points.
      bound = w0 / HIDDEN_W0 / 3 if i == 0 else np.sqrt(6 / fan_in) / HIDDEN_W0
      out[name] = {"w": jax.random.uniform(keys[i], layer["w"].shape, jnp.float32, -bound, bound), "b": layer["b"]}
    return out

  def apply(params, x, z, key=None, level=None):
    del level
    return network.apply(params, x, z, key)

  return NeuralField(init, apply, code_dim, channels)
