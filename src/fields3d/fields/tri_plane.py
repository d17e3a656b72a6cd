"""Tri-plane autoencoder: points are seen against three planes, which a convolutional network squeezes and unfolds."""

import jax
import jax.numpy as jnp

from fields3d.core.config import Count
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings.fourier import fourier
from fields3d.fields.autoencoder import LOG_VARIANCE, ShapeAutoencoder, init_code
from fields3d.fields.plane_stacks import Doublings, halved, plane_stacks
from fields3d.networks.attention import dense
from fields3d.networks.mlp import init_linear


def tri_plane(cells: Count = 64, halvings: Doublings = 2, doublings: Doublings = 3, dim: Count = 4, width: Count = 64,
              features: Count = 32, layers: Count = 2, hidden: Count = 64, depth: Count = 3, levels: Count = 6,
              remat: bool = False, compute: Compute = "float32") -> ShapeAutoencoder:
  """Points -> features on three planes -> latent planes -> finer planes -> a small network at each asked point.

  A latent is the planes' cells as a set: (3 n n, dim), n = cells / 2^halvings, plane by plane (x, y), (x, z), (y, z), row
  by row.

  Args:
    cells: along the planes onto which points are scattered. halvings: down to the latent planes; doublings: from them up to
      the planes that are looked up.
    dim: entries of a latent cell. width: of all convolutions. features: of a cell of the planes that are looked up.
    layers: residual blocks on the latent planes, in the encoder and in the decoder, that see the other planes too.
    hidden, depth: of the network behind the planes. levels: octaves of the points' Fourier features.
    remat: computes activations again in the backward pass instead of holding them; same values.

  Raises:
    UsageFault: cells that cannot be halved so often.

  Source: Peng et al. 2020, "Convolutional Occupancy Networks" (points to planes); Wang et al. 2023, "Rodin" (planes that
    see each other); Gupta et al. 2023, "3DGen" (a tri-plane VAE, here with a smaller network).

  >>> model = tri_plane(cells=8, halvings=1, doublings=1, width=4, features=4, layers=1, hidden=8)
  >>> params = model.init(jax.random.key(0))
  >>> model.decode(params, model.encode(params, jnp.ones((1, 6, 3)))[0], jnp.zeros((1, 5, 3))).shape
  (1, 5)
  """
  n, policy = halved(cells, halvings), Policy(compute)
  stacks = plane_stacks(fourier(levels, include_input=True), width, features, halvings, doublings, layers, hidden, depth,
                        remat, compute)

  def init(key):
    down, out, first, up = jax.random.split(key, 4)
    return {"encoder": {**stacks.init_squeeze(down), "out": init_code(out, width, dim)},
            "decoder": {**stacks.init_unfold(up, n), "in": init_linear(first, dim, width)}}

  def encode(params, points):
    h = dense(params["encoder"]["out"], stacks.squeeze(params["encoder"], points, cells), policy)
    mean, log_variance = jnp.split(h.reshape(len(points), 3 * n * n, 2 * dim), 2, axis=-1)
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def expand(params, z):
    own = params["decoder"]
    return stacks.unfold(own, dense(own["in"], z, policy).reshape(len(z), 3, n, n, width))

  return ShapeAutoencoder(init, encode, expand, lambda params, expanded, x: stacks.ask(params["decoder"], expanded, x),
                          (3 * n * n, dim))
