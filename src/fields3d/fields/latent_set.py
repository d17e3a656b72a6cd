"""Latent sets: a surface as a few dozen or hundred vectors, written and read by attention (3DShape2VecSet)."""

from typing import Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings.fourier import fourier
from fields3d.fields.autoencoder import LOG_VARIANCE, ShapeAutoencoder, init_code
from fields3d.networks.attention import (
  block,
  blocks,
  check_heads,
  dense,
  init_block,
  init_blocks,
  init_norm,
  layer_norm,
  near_bias,
)
from fields3d.networks.mlp import init_linear
from fields3d.networks.point_sets import farthest_points

NEAR = (2.0, 400.0)  # scales of the heads' first ranges, 0.7 to 0.05
_WHERE = "--config.task.autoencoder"
SMALL = 0.1  # of the last layer's first weights: values start near 0, between inside and outside


def latent_set(latents: Count = 512, dim: Count = 8, width: Count = 512, heads: Count = 8, cross_heads: Count = 1,
               encoder_layers: Index = 0, decoder_layers: Index = 24, factor: Count = 4, levels: Count = 8,
               queries: Literal["points", "learned"] = "points", anchors: bool = False, remat: bool = False,
               compute: Compute = "float32") -> ShapeAutoencoder:
  """Points are read into `latents` vectors by cross-attention; a point's value is read out of them by cross-attention.

  Encoder: cross-attention of the queries to all points, `encoder_layers` blocks, a linear layer to mean and log variance of
  `dim` entries a vector. Decoder: `decoder_layers` blocks, then a cross-attention of each asked point to the set.

  Args:
    queries: "points": embedded points of the cloud, taken by farthest point sampling; "learned": vectors of their own.
    anchors: each vector's first three entries start from the coordinates of its point, the decoder sees them as it sees
      points, and both cross-attentions start with what is near, each head at its own range. Not in the paper, where the
      network has to find out where a vector belongs.
    heads, cross_heads: of self- and of cross-attention. factor: inner width of feed-forward parts, in widths.
    levels: octaves of the points' Fourier features, shared by the cloud and the asked points.
    remat: computes activations again in the backward pass instead of holding them; same values.

  Raises:
    UsageFault: heads that do not divide the width; anchors without points.

  Source: Zhang et al. 2023, "3DShape2VecSet", section 5 and the authors' code; the defaults are theirs. There the last
    cross-attention has no feed-forward part, and no skip around it.

  >>> model = latent_set(latents=4, dim=2, width=8, heads=2, decoder_layers=1)
  >>> params = model.init(jax.random.key(0))
  >>> model.decode(params, model.encode(params, jnp.ones((1, 6, 3)))[0], jnp.zeros((1, 5, 3))).shape
  (1, 5)
  """
  _check(width, heads, cross_heads, anchors and (queries != "points" or dim < 3))
  policy, encoding = Policy(compute), fourier(levels, include_input=True)

  def cross(own, x, context, at, anchored):
    """Cross-attention of tokens x that stand at `at` to tokens that stand at `anchored`."""
    bias = near_bias(own["near"], at, anchored) if anchors else None
    return block(own["cross"], x, context, cross_heads, policy, bias)

  if remat:
    cross = jax.checkpoint(cross)

  def init(key):
    keys = iter(jax.random.split(key, 9))
    encoder = {"cross": init_block(next(keys), width, width, factor),
               "blocks": init_blocks(next(keys), encoder_layers, width, factor),
               "norm": init_norm(width), "out": init_code(next(keys), width, dim)}
    decoder = {"in": init_linear(next(keys), dim, width), "blocks": init_blocks(next(keys), decoder_layers, width, factor),
               "cross": init_block(next(keys), width, width, factor), "norm": init_norm(width),
               "out": jax.tree.map(lambda w: SMALL * w, init_linear(next(keys), width, 1))}
    if anchors:
      for part in (encoder, decoder):
        part["near"] = jnp.log(jnp.geomspace(*NEAR, cross_heads))
    params = {"embed": init_linear(next(keys), encoding.dim, width), "encoder": encoder, "decoder": decoder}
    if queries == "learned":
      params["queries"] = jax.random.normal(next(keys), (latents, width)) / width**0.5
    return params

  def embed(params, x):
    return dense(params["embed"], encoding.apply({}, x), policy)

  def encode(params, points):
    tokens = embed(params, points)
    if queries == "learned":
      x, at = jnp.broadcast_to(params["queries"][None], (len(points), latents, width)), None
    else:
      taken = _taken(points, latents)[..., None]
      x, at = (jnp.take_along_axis(a, taken, axis=1) for a in (tokens, points))
    own = params["encoder"]
    x = blocks(own["blocks"], cross(own, x, tokens, at, points), heads, policy, remat)
    mean, log_variance = jnp.split(dense(own["out"], layer_norm(own["norm"], x), policy), 2, axis=-1)
    if anchors:
      mean += jnp.pad(at, ((0, 0), (0, 0), (0, dim - 3)))
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def expand(params, z):
    own = params["decoder"]
    h = dense(own["in"], z, policy)
    return blocks(own["blocks"], h + embed(params, z[..., :3]) if anchors else h, heads, policy, remat), z[..., :3]

  def query(params, expanded, x):
    own = params["decoder"]
    h = cross(own, embed(params, x), expanded[0], x, expanded[1])
    return dense(own["out"], layer_norm(own["norm"], h), policy)[..., 0]

  return ShapeAutoencoder(init, encode, expand, query, (latents, dim))


def _check(width: int, heads: int, cross_heads: int, unanchored: bool) -> None:
  check_heads(width, heads, _WHERE)
  check_heads(width, cross_heads, _WHERE)
  if unanchored:
    raise UsageFault(f"{_WHERE}.anchors", "anchors want queries='points' and dim of 3 or more", "set it to False")


def _taken(points: jax.Array, latents: int) -> jax.Array:
  """Which points the set starts from, (r, latents)."""
  if points.shape[1] < latents:
    raise UsageFault(f"{_WHERE}.latents", f"{latents} latents want as many points, a surface has {points.shape[1]}",
                     "raise --config.data.surface, or lower it")
  return farthest_points(points, latents)
