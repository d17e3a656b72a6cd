"""Normalising flows: densities of vectors with exact likelihoods, as couplings between halves of their entries.

All is float32: an inverse is one to rounding, and a log-likelihood exact to rounding.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.config import Count, Positive, Table
from fields3d.generative.splines import spline as bend


@dataclasses.dataclass(frozen=True)
class Flow:
  """A bijection between data and standard normal noise of the same size, which may be conditioned on a context.

  init: (key, dim, context_dim=0) -> params; at the start the bijection only reorders entries.
  forward: (params, z (n, dim), context (n, c) or None) -> noise (n, dim), ln |det d noise / dz| (n,).
  inverse: (params, noise (n, dim), context) -> z (n, dim).
  """
  init: Callable
  forward: Callable
  inverse: Callable

  def log_prob(self, params, z: Float[Array, "n d"], context: Float[Array, "n c"] | None = None) -> Float[Array, " n"]:
    """ln of the density at z, in nats. Source: RealNVP (Dinh et al. 2017), equation 2."""
    noise, log_det = self.forward(params, z, context)
    return log_det - jnp.sum(noise * noise, axis=-1) / 2 - z.shape[-1] / 2 * math.log(2 * math.pi)

  def context_dim(self, params) -> int:
    """How many numbers a context has; 0 for a flow without."""
    return len(params["couplings"]["0"]["0"]["w"]) - params["shift"].shape[0] // 2

  def sample(self, params, key: jax.Array, n: int, context: Float[Array, "n c"] | None = None) -> Float[Array, "n d"]:
    """n draws, each of its row of the context."""
    dim = params["shift"].shape[0]
    return self.inverse(params, jax.random.normal(key, (n, dim)), context)


def realnvp(layers: Count = 8, width: Count = 128, depth: Count = 2) -> Flow:
  """Affine couplings: half of the entries are scaled, by factors from 1/20 to 20, and shifted by a network of the rest.

  Args:
    layers: couplings; two of them change every entry once.
    width, depth: of each one's network.

  Source: RealNVP (Dinh et al. 2017), equations 7 and 8.

  >>> flow = realnvp(layers=2, width=8)
  >>> flow.sample(flow.init(jax.random.key(0), 3), jax.random.key(1), 5).shape
  (5, 3)
  """
  def change(y, raw, inverse):
    log_scale, shift = 3 * jnp.tanh(raw[..., 0] / 3), raw[..., 1]
    if inverse:
      return (y - shift) * jnp.exp(-log_scale), -log_scale
    return y * jnp.exp(log_scale) + shift, log_scale
  return _couplings(layers, width, depth, 2, change)


def spline(layers: Count = 6, width: Count = 128, depth: Count = 2, bins: Count = 8, bound: Positive = 4.0) -> Flow:
  """Spline couplings: half of the entries pass through monotone splines whose knots a network of the rest sets.

  Outside of [-bound, bound] a spline is the identity; a learned shift and scale of each entry comes before all.

  Source: neural spline flows (Durkan et al. 2019), section 3.

  >>> flow = spline(layers=2, width=8)
  >>> round(float(flow.log_prob(flow.init(jax.random.key(0), 3), jnp.zeros((1, 3)))[0]), 3)
  -2.757
  """
  return _couplings(layers, width, depth, 3 * bins - 1, lambda y, raw, inverse: bend(y, raw, bound, inverse))


def _couplings(layers: int, width: int, depth: int, numbers: int, change: Callable) -> Flow:
  """A flow of couplings. change: (y (n, m), raw (n, m, numbers), inverse) -> moved y and ln of its slope."""
  def init(key, dim, context_dim=0):
    keys = jax.random.split(key, layers)
    sizes = [dim // 2 + context_dim, *[width] * depth, (dim - dim // 2) * numbers]
    return {"shift": jnp.zeros(dim), "log_scale": jnp.zeros(dim),
            "couplings": {f"{i}": _init_network(k, sizes) for i, k in enumerate(keys)}}

  def couple(params, i, z, context, inverse):
    dim = z.shape[-1]
    order = _order(i, dim)
    kept, moved = z[:, order[:dim // 2]], z[:, order[dim // 2:]]
    raw = _network(params, kept if context is None else jnp.concatenate([kept, context], axis=-1))
    moved, log_slope = change(moved, raw.reshape(*moved.shape, numbers), inverse)
    return jnp.concatenate([kept, moved], axis=-1)[:, np.argsort(order)], jnp.sum(log_slope, axis=-1)

  def forward(params, z, context=None):
    z = (z - params["shift"][None]) * jnp.exp(-params["log_scale"])[None]
    total = jnp.broadcast_to(-jnp.sum(params["log_scale"]), z.shape[:1])
    for i in range(layers):
      z, log_det = couple(params["couplings"][f"{i}"], i, z, context, inverse=False)
      total = total + log_det
    return z, total

  def inverse(params, noise, context=None):
    z = noise
    for i in reversed(range(layers)):
      z, _ = couple(params["couplings"][f"{i}"], i, z, context, inverse=True)
    return z * jnp.exp(params["log_scale"])[None] + params["shift"][None]

  return Flow(init, forward, inverse)


def _order(i: int, dim: int) -> np.ndarray:
  """Entries as coupling i reads them: the first dim // 2 are kept. Couplings 2k and 2k + 1 swap halves of one shuffle."""
  order = np.random.Generator(np.random.Philox(key=[i // 2, dim])).permutation(dim)
  return order[::-1] if i % 2 and dim > 1 else order


def _init_network(key: jax.Array, sizes: list[int]) -> dict[str, dict[str, jax.Array]]:
  """Hidden layers of variance 1 / fan-in; the last one says 0."""
  keys = jax.random.split(key, len(sizes) - 1)
  last = len(sizes) - 2
  return {f"{i}": {"w": (i < last) * jax.random.normal(k, (a, b)) / np.sqrt(max(a, 1)), "b": jnp.zeros(b)}
          for i, (k, a, b) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=True))}


def _network(params: dict, x: Float[Array, "n k"]) -> Float[Array, "n m"]:
  for i in range(len(params)):
    layer = params[f"{i}"]
    x = jax.nn.silu(x) if i else x
    x = jnp.matmul(x, layer["w"], precision=jax.lax.Precision.HIGHEST) + layer["b"][None]
  return x


FLOWS: Table = {
    "realnvp": realnvp,
    "spline": spline,
}
