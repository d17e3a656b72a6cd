"""Attention between sets of tokens: the blocks that latent sets, denoisers and token models are built of.

Tokens are (*b, n, width). A block is pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x)); without a
context it attends to itself. Sums, norms and softmax stay float32 whatever the matmuls compute in.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Policy
from fields3d.networks.mlp import init_linear, linear


def check_heads(width: int, heads: int, where: str, setting: str = "heads") -> None:
  """Refuses a width that the heads do not divide.

  >>> check_heads(128, 4, "--config.task.autoencoder")
  """
  if width % heads:
    raise UsageFault(f"{where}.{setting}", f"{heads} heads do not divide a width of {width}", "give a divisor of it")


def dense(params: dict[str, jax.Array], x: Float[Array, "*b k"], policy: Policy) -> Float[Array, "*b m"]:
  """x w + b on the last axis, as one matmul."""
  return linear(params, x.reshape(-1, x.shape[-1]), policy).reshape(*x.shape[:-1], -1)


def init_norm(width: int) -> dict[str, jax.Array]:
  """Scale 1 and shift 0 of a layer norm."""
  return {"scale": jnp.ones((width,), jnp.float32), "shift": jnp.zeros((width,), jnp.float32)}


def layer_norm(params: dict[str, jax.Array] | None, x: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
  """Each token with mean 0 and variance 1 over its entries (to 1e-6), then scaled and shifted; `None`: not so.

  >>> layer_norm(None, jnp.asarray([[1.0, 3.0]])).round(3).tolist()
  [[-1.0, 1.0]]
  """
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
  if params is None:
    return x
  ones = (1,) * (x.ndim - 1)
  return x * params["scale"].reshape(*ones, -1) + params["shift"].reshape(*ones, -1)


def init_attention(key: jax.Array, width: int, context_width: int | None = None) -> dict:
  """Weights of `attention`: query (width, width), key and value from the context's width, out (width, width)."""
  context_width = width if context_width is None else context_width
  q, kv, out = jax.random.split(key, 3)
  return {"query": init_linear(q, width, width), "key_value": init_linear(kv, context_width, 2 * width),
          "out": init_linear(out, width, width)}


def attention(params: dict, x: Float[Array, "*b n w"], context: Float[Array, "*b m c"], heads: int,
              policy: Policy) -> Float[Array, "*b n w"]:
  """Multi-head attention of the tokens x to those of the context. Exact; (n, m) weights a head are held.

  The order of the context's tokens does not matter, and each token of x is answered on its own.

  Source: Vaswani et al. 2017, equation 1 and section 3.2.2.

  >>> params = init_attention(jax.random.key(0), 8, 6)
  >>> attention(params, jnp.zeros((2, 5, 8)), jnp.zeros((2, 7, 6)), 2, Policy()).shape
  (2, 5, 8)
  """
  q = dense(params["query"], x, policy)
  k, v = jnp.split(dense(params["key_value"], context, policy), 2, axis=-1)
  return dense(params["out"], mixed(q, k, v, heads, policy), policy)


def mixed(q: Float[Array, "*b n w"], k: Float[Array, "*b m w"], v: Float[Array, "*b m v"], heads: int,
          policy: Policy) -> Float[Array, "*b n v"]:
  """The values' means by softmax(q k / sqrt(w / heads)), head by head; heads divide both widths."""
  *batch, n, width = q.shape
  rows = math.prod(batch)
  split = lambda h: h.reshape(rows, h.shape[-2], heads, h.shape[-1] // heads)
  logits = _product("rnhd,rmhd->rhnm", split(q * (width // heads) ** -0.5), split(k), policy)
  return _product("rhnm,rmhd->rnhd", jax.nn.softmax(logits, axis=-1), split(v), policy).reshape(*batch, n, v.shape[-1])


def _product(equation: str, a: jax.Array, b: jax.Array, policy: Policy) -> jax.Array:
  """einsum in the policy's precision, accumulated and returned in float32."""
  if policy.compute == "bfloat16":
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)
  precision = {"float32": jax.lax.Precision.HIGHEST, "tensorfloat32": jax.lax.Precision.HIGH}[policy.compute]
  return jnp.einsum(equation, a, b, precision=precision)


def init_feed_forward(key: jax.Array, width: int, factor: int = 4) -> dict:
  """Weights of `feed_forward`, `factor` times as wide inside, twice that before its gate."""
  first, second = jax.random.split(key)
  return {"in": init_linear(first, width, 2 * factor * width), "out": init_linear(second, factor * width, width)}


def feed_forward(params: dict, x: Float[Array, "*b w"], policy: Policy) -> Float[Array, "*b w"]:
  """Two layers, token by token; the first is gated: a * gelu(b), so that it can multiply what a token holds.

  Source: Shazeer 2020, "GLU variants improve transformer", equation 6 (GEGLU).
  """
  a, b = jnp.split(dense(params["in"], x, policy), 2, axis=-1)
  return dense(params["out"], a * jax.nn.gelu(b), policy)


def init_block(key: jax.Array, width: int, context_width: int | None = None, factor: int = 4) -> dict:
  """Weights of a block: of self-attention, or with `context_width` of cross-attention to a context of that width."""
  own, forward = jax.random.split(key)
  params = {"norm": init_norm(width), "attention": init_attention(own, width, context_width),
            "forward_norm": init_norm(width), "forward": init_feed_forward(forward, width, factor)}
  return params if context_width is None else {**params, "context_norm": init_norm(context_width)}


def block(params: dict, x: Float[Array, "*b n w"], context: Float[Array, "*b m c"] | None, heads: int,
          policy: Policy) -> Float[Array, "*b n w"]:
  """A pre-norm transformer block: attention to the context (to x itself where None), then the feed-forward part.

  >>> block(init_block(jax.random.key(0), 8), jnp.ones((2, 5, 8)), None, 2, Policy()).shape
  (2, 5, 8)
  """
  own = layer_norm(params["norm"], x)
  seen = own if context is None else layer_norm(params["context_norm"], context)
  x = x + attention(params["attention"], own, seen, heads, policy)
  return x + feed_forward(params["forward"], layer_norm(params["forward_norm"], x), policy)


def init_blocks(key: jax.Array, num: int, width: int, factor: int = 4) -> dict:
  """Weights of `num` self-attention blocks (may be 0), stacked: every leaf has them on its first axis."""
  return jax.vmap(lambda key: init_block(key, width, None, factor))(jax.random.split(key, num))


def blocks(layers: dict, x: Float[Array, "*b n w"], heads: int, policy: Policy, remat: bool = False) -> jax.Array:
  """Self-attention blocks after one another, compiled once whatever their number.

  remat: keeps only what enters each block for the gradient and computes the rest again; same values, less memory.
  """
  one = lambda x, params: (block(params, x, None, heads, policy), None)
  return jax.lax.scan(jax.checkpoint(one) if remat else one, x, layers)[0]
