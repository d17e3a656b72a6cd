"""Latent sets: a surface as a few dozen or hundred vectors, written and read by attention (3DShape2VecSet)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings.encoding import Encoding
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
)
from fields3d.networks.local_attention import init_local_block, local_block
from fields3d.networks.mlp import init_linear
from fields3d.networks.point_sets import farthest_points, neighbours

_WHERE = "--config.task.autoencoder"
SMALL = 0.1  # of the last layer's first weights: values start near 0, between inside and outside


def latent_set(latents: Count = 512, dim: Count = 8, width: Count = 512, heads: Count = 8, cross_heads: Count = 1,
               encoder_layers: Index = 0, decoder_layers: Index = 24, factor: Count = 4, levels: Count = 8,
               queries: Literal["points", "learned"] = "points", anchors: bool = False, around: Index = 0,
               remat: bool = False, compute: Compute = "float32") -> ShapeAutoencoder:
  """Points are read into `latents` vectors by cross-attention; a point's value is read out of them by cross-attention.

  Encoder: cross-attention of the queries to all points, `encoder_layers` blocks, a linear layer to mean and log variance of
  `dim` entries a vector. Decoder: `decoder_layers` blocks, then a cross-attention of each asked point to the set.

  Args:
    queries: "points": embedded points of the cloud, taken by farthest point sampling; "learned": vectors of their own.
    anchors: each vector's first three entries start from the coordinates of its point, the decoder sees them as it sees
      points, and cross-attentions are local (`networks.local_attention`). Not in the paper, where the network has to find out
      where a vector belongs.
    around: with anchors, how many points around each are read by a small network and their maximum taken, in the place of
      the encoder's cross-attention to all points; 0 for that.
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
  _check(width, heads, cross_heads, anchors and (queries != "points" or dim < 3), around and not anchors)
  made = _LatentSet(latents, dim, width, heads, cross_heads, (encoder_layers, decoder_layers), factor,
                    fourier(levels, include_input=True), queries == "learned", anchors, around, remat, Policy(compute))
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
  anchors: bool
  around: int
  remat: bool
  policy: Policy

  def init(self, key):
    keys, width, factor = iter(jax.random.split(key, 9)), self.width, self.factor
    own = next(keys)
    encoder = {"blocks": init_blocks(next(keys), self.layers[0], width, factor), "norm": init_norm(width),
               "out": init_code(next(keys), width, self.dim)}
    encoder["read"] = _init_around(own, self.encoding.dim, width) if self.around else self._init_cross(own)
    decoder = {"in": init_linear(next(keys), self.dim, width), "norm": init_norm(width),
               "blocks": init_blocks(next(keys), self.layers[1], width, factor), "read": self._init_cross(next(keys)),
               "out": jax.tree.map(lambda w: SMALL * w, init_linear(next(keys), width, 1))}
    params = {"embed": init_linear(next(keys), self.encoding.dim, width), "encoder": encoder, "decoder": decoder}
    if self.learned:
      params["queries"] = jax.random.normal(next(keys), (self.latents, width)) / width**0.5
    return params

  def _init_cross(self, key):
    if self.anchors:
      return init_local_block(key, self.width, self.cross_heads, self.factor)
    return init_block(key, self.width, self.width, self.factor)

  def _embed(self, params, x):
    return dense(params["embed"], self.encoding.apply({}, x), self.policy)

  def _cross(self, own, x, context, at, anchored):
    """Cross-attention of tokens x that stand at `at` to tokens that stand at `anchored`."""
    def one(own, x, context, at, anchored):
      if self.anchors:
        return local_block(own, x, at, context, anchored, self.cross_heads, self.policy)
      return block(own, x, context, self.cross_heads, self.policy)
    return (jax.checkpoint(one) if self.remat else one)(own, x, context, at, anchored)

  def encode(self, params, points):
    own = params["encoder"]
    if self.learned:
      at, x = None, jnp.broadcast_to(params["queries"][None], (len(points), self.latents, self.width))
    else:
      at = jnp.take_along_axis(points, _taken(points, self.latents)[..., None], axis=1)
      x = self._embed(params, at)
    if self.around:
      x = x + layer_norm(None, _read_around(own["read"], at, points, self.around, self.encoding, self.policy))
    else:
      x = self._cross(own["read"], x, self._embed(params, points), at, points)
    x = layer_norm(own["norm"], blocks(own["blocks"], x, self.heads, self.policy, self.remat))
    mean, log_variance = jnp.split(dense(own["out"], x, self.policy), 2, axis=-1)
    if self.anchors:
      mean += jnp.pad(at, ((0, 0), (0, 0), (0, self.dim - 3)))
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def expand(self, params, z):
    own, anchored = params["decoder"], z[..., :3]
    h = dense(own["in"], z, self.policy) + (self._embed(params, anchored) if self.anchors else 0.0)
    return blocks(own["blocks"], h, self.heads, self.policy, self.remat), anchored

  def query(self, params, expanded, x):
    own = params["decoder"]
    h = self._cross(own["read"], self._embed(params, x), expanded[0], x, expanded[1])
    return dense(own["out"], layer_norm(own["norm"], h), self.policy)[..., 0]


def _check(width: int, heads: int, cross_heads: int, unanchored: bool, homeless: bool) -> None:
  check_heads(width, heads, _WHERE)
  check_heads(width, cross_heads, _WHERE)
  if unanchored:
    raise UsageFault(f"{_WHERE}.anchors", "anchors want queries='points' and dim of 3 or more", "set it to False")
  if homeless:
    raise UsageFault(f"{_WHERE}.around", "wants anchors", "set anchors=True, or it to 0")


def _taken(points: jax.Array, latents: int) -> jax.Array:
  """Which points the set starts from, (r, latents)."""
  if points.shape[1] < latents:
    raise UsageFault(f"{_WHERE}.latents", f"{latents} latents want as many points, a surface has {points.shape[1]}",
                     "raise --config.data.surface, or lower it")
  return farthest_points(points, latents)


def _init_around(key: jax.Array, fan_in: int, width: int) -> dict:
  first, second, out = jax.random.split(key, 3)
  return {"first": init_linear(first, fan_in, width), "second": init_linear(second, width, width),
          "out": init_linear(out, width, width)}


def _read_around(params: dict, at: jax.Array, points: jax.Array, num: int, encoding: Encoding, policy: Policy) -> jax.Array:
  """What lies around each place `at` (r, m, 3), (r, m, width): its nearest points, seen from it, through a small network.

  Source: Qi et al. 2017, "PointNet++", section 3.2; Zhang et al. 2022, "3DILG", for the first layer of such an encoder.
  """
  index = neighbours(at, points, num)
  seen = jax.vmap(lambda row, picked: row[picked])(points, index) - at[:, :, None, :]
  h = jax.nn.gelu(dense(params["first"], encoding.apply({}, seen), policy))
  return dense(params["out"], jnp.max(dense(params["second"], h, policy), axis=2), policy)
