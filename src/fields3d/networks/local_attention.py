"""Attention between tokens that stand somewhere: near ones first, and with values that are functions of the place."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.numerics import Policy
from fields3d.networks.attention import dense, feed_forward, init_feed_forward, init_norm, layer_norm, mixed
from fields3d.networks.mlp import init_linear

RANGE = (2.0, 400.0)  # scales of the heads' first ranges, 0.7 to 0.05
SLOPE = 8.0  # how much a step of 1 counts in a value's slope: places near an anchor are a tenth away


def near_bias(log_scales: Float[Array, " h"], x: Float[Array, "*b n 3"], y: Float[Array, "*b m 3"]) -> Float[Array, "*b h n m"]:
  """-scale |x - y|^2 for each head: attention that starts with what is near, each head at its own range 1/sqrt(scale).

  >>> near_bias(jnp.log(jnp.asarray([1.0, 4.0])), jnp.zeros((1, 3)), jnp.asarray([[0.0, 2.0, 0.0]])).round(3).tolist()
  [[[-4.0]], [[-16.0]]]
  """
  square = jnp.sum((x[..., :, None, :] - y[..., None, :, :]) ** 2, axis=-1)
  return -jnp.exp(log_scales).reshape(*(1,) * (x.ndim - 2), -1, 1, 1) * square[..., None, :, :]


def init_local_block(key: jax.Array, width: int, heads: int, factor: int = 4) -> dict:
  """Weights of `local_block`; tokens and context are `width` wide."""
  q, k, v, out, forward = jax.random.split(key, 5)
  return {"norm": init_norm(width), "context_norm": init_norm(width), "query": init_linear(q, width, width),
          "key": init_linear(k, width, width), "value": init_linear(v, width, 4 * width), "out": init_linear(out, width, width),
          "near": jnp.log(jnp.geomspace(*RANGE, heads)), "forward_norm": init_norm(width),
          "forward": init_feed_forward(forward, width, factor)}


def local_block(params: dict, x: Float[Array, "*b n w"], at: Float[Array, "*b n 3"], context: Float[Array, "*b m w"],
                anchors: Float[Array, "*b m 3"], heads: int, policy: Policy) -> Float[Array, "*b n w"]:
  """A pre-norm block of cross-attention of tokens that stand at `at` to a context whose tokens stand at `anchors`.

  A token of the context answers a + 8 B (at - anchor), so that a mean of answers is, near an anchor, an affine function of the
  place: what a surface looks like from near. The means of a - 8 B anchor and of B are taken; 8 B at is added afterwards.

  >>> params = init_local_block(jax.random.key(0), 8, 2)
  >>> local_block(params, jnp.ones((5, 8)), jnp.zeros((5, 3)), jnp.ones((4, 8)), jnp.zeros((4, 3)), 2, Policy()).shape
  (5, 8)
  """
  own, seen = layer_norm(params["norm"], x), layer_norm(params["context_norm"], context)
  q, k = dense(params["query"], own, policy), dense(params["key"], seen, policy)
  value = dense(params["value"], seen, policy).reshape(*k.shape[:-1], heads, 4, -1)
  constant = value[..., :1, :] - _slope(value, anchors)
  value = jnp.concatenate([constant, value[..., 1:, :]], axis=-2).reshape(*k.shape[:-1], -1)
  mean = mixed(q, k, value, heads, policy, near_bias(params["near"], at, anchors))
  mean = mean.reshape(*x.shape[:-1], heads, 4, -1)
  h = (mean[..., :1, :] + _slope(mean, at)).reshape(x.shape)
  x = x + dense(params["out"], h, policy)
  return x + feed_forward(params["forward"], layer_norm(params["forward_norm"], x), policy)


def _slope(value: Float[Array, "*b h 4 d"], at: Float[Array, "*b 3"]) -> Float[Array, "*b h 1 d"]:
  """8 B at, in float32 and without a matmul, whose rounding would move the surface."""
  return SLOPE * jnp.sum(value[..., 1:, :] * at[..., None, :, None], axis=-2, keepdims=True)
