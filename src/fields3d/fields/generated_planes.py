"""A field on three planes that a small convolutional network makes from the code: a tri-plane for each shape."""

from typing import Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index
from fields3d.core.numerics import Compute
from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.fields.field import NeuralField
from fields3d.fields.plane_stacks import Doublings
from fields3d.networks.mlp import Activation, mlp
from fields3d.networks.plane_generator import plane_generator


def generated_planes(code_dim: Index = 64, features: Count = 16, coarsest: Count = 8,
                     doublings: Doublings = 2, generator_width: Count = 48, width: Count = 64,
                     depth: Count = 2, activation: Activation = "relu", channels: Literal[1, 4] = 1,
                     compute: Compute = "float32") -> NeuralField:
  """code -> three planes of features -> their sum at a point -> a small network -> values.

  The code acts through the planes alone, once for each row of points: a point costs three bilinear look-ups and the small
  network, whatever the generator's size. Values change piecewise smoothly with the point, cell by cell.

  Args:
    features: of a plane's node. coarsest, doublings: the planes have coarsest x 2^doublings nodes a side.
    generator_width: channels of the generator's inner layers. width, depth: of the small network's hidden layers.

  Source: EG3D (Chan et al. 2022), section 4.1, with an auto-decoder's code in the place of a style.

  >>> field = generated_planes(code_dim=4, features=2, coarsest=4, doublings=1, generator_width=4, width=8)
  >>> field.apply(field.init(jax.random.key(0)), jnp.zeros((2, 5, 3)), jnp.zeros((2, 4))).shape
  (2, 5, 1)
  """
  generator = plane_generator(code_dim, features, coarsest, doublings, generator_width, compute)
  network = mlp(width, depth, activation=activation, compute=compute)

  def init(key):
    generator_key, network_key = jax.random.split(key)
    return {"generator": generator.init(generator_key), "network": network.init(network_key, features, channels)}

  def apply(params, x, z, key=None, level=None):
    del key, level
    planes = generator.apply(params["generator"], z.reshape(-1, code_dim) if code_dim else jnp.zeros((1, 0), z.dtype))
    flat = x.reshape(len(planes), -1, 3)
    return network.apply(params["network"], lookup_planes(planes, flat)).reshape(*x.shape[:-1], channels)

  return NeuralField(init, apply, code_dim, channels)
