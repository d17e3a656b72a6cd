"""Initial weights that make a rectified network the signed distance of a sphere."""

import jax
import jax.numpy as jnp
import numpy as np


def as_sphere(key: jax.Array, layers: dict, radius: float, code_dim: int = 0) -> dict:
  """A plain mlp's layers with weights such that channel 0 is near |x| - radius, to an error of order 1/sqrt(width).

  Each rectified normal layer keeps lengths; the mean of the last one's outputs is |x| / sqrt(pi) times their number's
  root. Inputs are [code, point, encoding]: the first layer ignores all but the point.

  Args:
    layers: of `mlp` without skips or weight norm. code_dim: how many inputs come before the point's three.

  Source: SAL (Atzmon & Lipman 2020), theorem 1; zero weights on the encoding: IDR (Yariv et al. 2020), appendix B.2.
  """
  depth = len(layers) - 1
  out = {}
  for i, layer_key in enumerate(jax.random.split(key, depth)):
    fan_in, width = layers[f"layer_{i}"]["w"].shape
    w = jax.random.normal(layer_key, (fan_in, width)) * np.sqrt(2 / width)
    if i == 0:
      seen = (np.arange(fan_in) >= code_dim) & (np.arange(fan_in) < code_dim + 3)
      w = jnp.where(seen[:, None], w, 0)
    out[f"layer_{i}"] = {"w": w, "b": jnp.zeros(width)}
  last = layers[f"layer_{depth}"]
  width = last["w"].shape[0]
  out[f"layer_{depth}"] = {"w": last["w"].at[:, 0].set(np.sqrt(np.pi / width)), "b": last["b"].at[0].set(-radius)}
  return out
