"""Latent sets: a surface as a few dozen or hundred vectors, written and read by attention (3DShape2VecSet)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings.encoding import Encoding
from fields3d.encodings.fourier import fourier
from fields3d.fields.autoencoder import LOG_VARIANCE, WHERE, ShapeAutoencoder, init_code, standing
from fields3d.networks.attention import (
  block,
  blocks,
  check_heads,
  dense,
  init_block,
  init_blocks,
  init_norm,
  layer_norm,
)
from fields3d.networks.mlp import init_linear

SMALL = 0.1  # of the last layer's first weights: values start near 0, between inside and outside


def latent_set(latents: Count = 512, dim: Count = 8, width: Count = 512, heads: Count = 8, cross_heads: Count = 1,
               encoder_layers: Index = 0, decoder_layers: Index = 24, factor: Count = 4, levels: Count = 8,
               queries: Literal["points", "learned"] = "points", remat: bool = False,
               compute: Compute = "float32") -> ShapeAutoencoder:
  """Points are read into `latents` vectors by cross-attention; a point's value is read out of them by cross-attention.

  Encoder: cross-attention of the queries to all points, `encoder_layers` blocks, a linear layer to mean and log variance of
  `dim` entries a vector. Decoder: `decoder_layers` blocks, then a cross-attention of each asked point to the set.

  Args:
    queries: "points": embedded points of the cloud, taken by farthest point sampling; "learned": vectors of their own.
    heads, cross_heads: of self- and of cross-attention. factor: inner width of feed-forward parts, in widths.
    levels: octaves of the points' Fourier features, shared by the cloud and the asked points.
    remat: computes activations again in the backward pass instead of holding them; same values.

  Raises:
    UsageFault: heads that do not divide the width; at encoding, fewer points than latents.

  Source: Zhang et al. 2023, "3DShape2VecSet", section 5 and the authors' code; the defaults are theirs. There the last
    cross-attention has no feed-forward part, and no skip around it.

  >>> model = latent_set(latents=4, dim=2, width=8, heads=2, decoder_layers=1)
  >>> params = model.init(jax.random.key(0))
  >>> model.decode(params, model.encode(params, jnp.ones((1, 6, 3)))[0], jnp.zeros((1, 5, 3))).shape
  (1, 5)
  """
  check_heads(width, heads, WHERE)
  check_heads(width, cross_heads, WHERE, "cross_heads")
  made = _LatentSet(latents, dim, width, heads, cross_heads, (encoder_layers, decoder_layers), factor,
                    fourier(levels, include_input=True), queries == "learned", remat, Policy(compute))
  return ShapeAutoencoder(made.init, made.encode, made.expand, made.query, (latents, dim))


@dataclasses.dataclass(frozen=True)
class _LatentSet:
  """The settings of `latent_set`, and the autoencoder's functions as methods."""
  latents: int
  dim: int
  width: int
  heads: int
  cross_heads: int
  layers: tuple[int, int]
  factor: int
  encoding: Encoding
  learned: bool
  remat: bool
  policy: Policy

  def init(self, key):
    keys, width, factor = iter(jax.random.split(key, 9)), self.width, self.factor
    encoder = {"blocks": init_blocks(next(keys), self.layers[0], width, factor), "norm": init_norm(width),
               "out": init_code(next(keys), width, self.dim), "read": init_block(next(keys), width, width, factor)}
    decoder = {"in": init_linear(next(keys), self.dim, width), "norm": init_norm(width),
               "blocks": init_blocks(next(keys), self.layers[1], width, factor), "read": init_block(next(keys), width, width, factor),
               "out": jax.tree.map(lambda w: SMALL * w, init_linear(next(keys), width, 1))}
    params = {"embed": init_linear(next(keys), self.encoding.dim, width), "encoder": encoder, "decoder": decoder}
    if self.learned:
      params["queries"] = jax.random.normal(next(keys), (self.latents, width)) / width**0.5
    return params

  def _embed(self, params, x):
    return dense(params["embed"], self.encoding.apply({}, x), self.policy)

  def _cross(self, own, x, context):
    one = lambda own, x, context: block(own, x, context, self.cross_heads, self.policy)
    return (jax.checkpoint(one) if self.remat else one)(own, x, context)

  def encode(self, params, points):
    own = params["encoder"]
    if self.learned:
      x = jnp.broadcast_to(params["queries"][None], (len(points), self.latents, self.width))
    else:
      x = self._embed(params, standing(points, self.latents))
    x = self._cross(own["read"], x, self._embed(params, points))
    x = layer_norm(own["norm"], blocks(own["blocks"], x, self.heads, self.policy, self.remat))
    mean, log_variance = jnp.split(dense(own["out"], x, self.policy), 2, axis=-1)
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def expand(self, params, z):
    own = params["decoder"]
    return blocks(own["blocks"], dense(own["in"], z, self.policy), self.heads, self.policy, self.remat)

  def query(self, params, expanded, x):
    own = params["decoder"]
    h = self._cross(own["read"], self._embed(params, x), expanded)
    return dense(own["out"], layer_norm(own["norm"], h), self.policy)[..., 0]
