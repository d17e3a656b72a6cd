"""Three coordinate planes of features from a code: a small convolutional network that doubles its resolution."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.numerics import Compute, Policy
from fields3d.networks.mlp import init_linear, linear

_SLOPE = 0.2  # of the leaky rectifier


@dataclasses.dataclass(frozen=True)
class PlaneGenerator:
  """A generator of planes as pure functions.

  init: (key) -> params, a plain nested dict. apply: (params, z (r, d)) -> planes (r, nodes, nodes, 3, features).
  nodes: along a plane's side.
  """
  init: Callable
  apply: Callable
  nodes: int


def plane_generator(code_dim: int, features: int = 16, coarsest: int = 8, doublings: int = 2, width: int = 48,
                    compute: Compute = "float32") -> PlaneGenerator:
  """A linear layer to `coarsest` x `coarsest` cells of `width`, then a doubling and a 3 x 3 convolution, `doublings` times.

  The three planes are one image of 3 x `features` channels. Doubling repeats cells; the convolution behind it smooths them.
  Without doublings the planes are a linear function of the code.

  Source: EG3D (Chan et al. 2022), section 4.1, for planes as channels of one image.

  >>> made = plane_generator(4, features=2, coarsest=4, doublings=1, width=8)
  >>> made.apply(made.init(jax.random.key(0)), jnp.zeros((5, 4))).shape, made.nodes
  ((5, 8, 8, 3, 2), 8)
  """
  policy, nodes = Policy(compute), coarsest * 2**doublings
  widths = [width] * doublings + [3 * features]

  def init(key):
    keys = jax.random.split(key, doublings + 1)
    params = {"start": init_linear(keys[0], code_dim, coarsest**2 * widths[0])}
    for i in range(doublings):
      bound = np.sqrt(6 / (9 * widths[i] * (1 + _SLOPE**2)))  # He et al. 2015: keeps the variance
      params[f"conv_{i}"] = {"w": jax.random.uniform(keys[i + 1], (3, 3, widths[i], widths[i + 1]), jnp.float32, -bound, bound),
                             "b": jnp.zeros(widths[i + 1])}
    return params

  def apply(params, z: Float[Array, "r d"]) -> Float[Array, "r n n 3 f"]:
    h = linear(params["start"], z, policy).reshape(len(z), coarsest, coarsest, widths[0])
    for i in range(doublings):
      h = jnp.repeat(jnp.repeat(jax.nn.leaky_relu(h, _SLOPE), 2, axis=1), 2, axis=2)
      layer = params[f"conv_{i}"]
      h = policy.convolve(h, layer["w"]) + layer["b"][None, None, None, :]
    return h.reshape(len(z), nodes, nodes, 3, features)

  return PlaneGenerator(init, apply, nodes)
