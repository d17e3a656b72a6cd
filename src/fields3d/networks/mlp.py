"""Multilayer perceptrons, conditioned on a code per row of points at the cost of none.

A layer that reads the concatenation [h, z, x] is a sum of three shares. The code's share, z W_z + b, is the same for
all points of a row: it is computed once per row and added, which equals the concatenated form and saves, in DeepSDF,
a seventh of all multiplications. Points are flattened to one matmul dimension throughout.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.config import Count, Range
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.networks.dropout import dropout as drop
from fields3d.networks.network import Network

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "softplus": lambda h: jax.nn.softplus(100.0 * h) / 100.0,  # IGR's: a ReLU with second derivatives.
    "sine": lambda h: jnp.sin(30.0 * h),  # SIREN's; wants SIREN's initial weights.
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}
Activation = Literal[tuple(ACTIVATIONS)]
DropRate = Annotated[float, Range(ge=0, lt=1)]


def init_linear(key: jax.Array, fan_in: int, fan_out: int, weight_norm: bool = False) -> dict[str, jax.Array]:
  """Weight (fan_in, fan_out) and bias uniform in +-1/sqrt(fan_in), PyTorch's default.

  Returns:
    {"w", "b"}, or {"v", "g", "b"} under weight norm: v as w, and g (fan_out,) its columns' lengths.
  """
  w_key, b_key = jax.random.split(key)
  bound = 1 / np.sqrt(max(fan_in, 1))
  w = jax.random.uniform(w_key, (fan_in, fan_out), jnp.float32, -bound, bound)
  b = jax.random.uniform(b_key, (fan_out,), jnp.float32, -bound, bound)
  return {"v": w, "g": jnp.linalg.norm(w, axis=0), "b": b} if weight_norm else {"w": w, "b": b}


def weight(params: dict[str, jax.Array]) -> Float[Array, "fan_in fan_out"]:
  """A layer's effective weight: w, or under weight norm g v / |v|, the length |v| per output.

  Source: Salimans & Kingma 2016, equation 2.

  >>> layer = init_linear(jax.random.key(0), 5, 3, weight_norm=True)
  >>> bool(jnp.allclose(weight(layer), layer["v"]))
  True
  """
  if "w" in params:
    return params["w"]
  v = params["v"]
  return v * (params["g"] / jnp.sqrt(jnp.sum(v * v, axis=0)))[None, :]


def linear(params: dict[str, jax.Array], h: Float[Array, "n k"], policy: Policy) -> Float[Array, "n m"]:
  """h w + b."""
  return policy.dot(h, weight(params)) + params["b"][None, :]


def conditioned(params: dict[str, jax.Array], h: Float[Array, "n k"] | None, x: Float[Array, "n f"],
                z: Float[Array, "r d"], policy: Policy) -> Float[Array, "n m"]:
  """[h, z, x] w + b with row z[i] at the i-th run of n / r points; the code's share is computed once per row."""
  w, d = weight(params), z.shape[1]
  before = 0 if h is None else h.shape[1]
  share = policy.dot(z, w[before:before + d]) + params["b"][None, :]
  if h is None:
    own = policy.dot(x, w[d:])
  else:
    own = policy.dot(jnp.concatenate([h, x], axis=1), jnp.concatenate([w[:before], w[before + d:]]))
  runs = (z.shape[0], x.shape[0] // z.shape[0], share.shape[1])
  return own + jnp.broadcast_to(share[:, None, :], runs).reshape(own.shape)


def mlp(width: Count = 256, depth: Count = 8, skip: Count | None = None, skip_narrows: bool = False,
        activation: Activation = "relu", dropout: DropRate = 0.0, weight_norm: bool = False,
        compute: Compute = "float32") -> Network:
  """`depth` hidden layers of `width`, then a linear one without weight norm.

  Args:
    skip: the hidden layer, counted from 0, whose input is [h, z, x] instead of h alone.
    skip_narrows: the layer before the skip is narrower by the width of [z, x], so that the concatenation is `width`
      wide (DeepSDF), but not below a quarter of `width`; else the concatenation is wider (NeRF).
    dropout: rate after every hidden activation, in training only.

  Raises:
    UsageFault: `skip` is not a hidden layer.

  >>> network = mlp(width=8, depth=2)
  >>> network.apply(network.init(jax.random.key(0), 3, 1), jnp.zeros((5, 3))).shape
  (5, 1)
  """
  if skip is not None and skip >= depth:
    raise UsageFault("mlp.skip", f"{skip} is not a hidden layer of {depth}",
                     f"give one from 1 to {depth - 1}, or None" if depth > 1 else "give None")
  policy, act = Policy(compute), ACTIVATIONS[activation]

  def init(key, fan_in, fan_out, code_dim=0):
    inputs = fan_in + code_dim
    outs = [width] * depth
    if skip is not None and skip_narrows:
      outs[skip - 1] = max(width - inputs, width // 4, 1)
    ins = [inputs, *outs[:-1]]
    if skip is not None:
      ins[skip] += inputs
    keys = jax.random.split(key, depth + 1)
    layers = [init_linear(k, a, b, weight_norm) for k, a, b in zip(keys, ins, outs, strict=False)]
    layers.append(init_linear(keys[-1], outs[-1], fan_out))
    return {f"layer_{i}": layer for i, layer in enumerate(layers)}

  def apply(params, x, z=None, key=None):
    rows, points = x.shape[:-2], x.shape[-2]
    flat = x.reshape(-1, x.shape[-1])
    code = jnp.zeros((1, 0), flat.dtype) if z is None or z.shape[-1] == 0 else z.reshape(-1, z.shape[-1])
    h = None
    for i in range(depth):
      layer = params[f"layer_{i}"]
      h = act(conditioned(layer, h, flat, code, policy) if i in (0, skip) else linear(layer, h, policy))
      if dropout and key is not None:
        h = drop(jax.random.fold_in(key, i), h, dropout)
    out = linear(params[f"layer_{depth}"], h, policy)
    return out.reshape(*rows, points, out.shape[-1])

  return Network(init, apply)
