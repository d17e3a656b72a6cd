"""Tri-plane autoencoder: points are seen against three planes, which a convolutional network squeezes and unfolds."""

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.encodings.fourier import fourier
from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.encodings.plane_scatter import cell_offsets, other_planes, scatter_to_planes
from fields3d.fields.autoencoder import LOG_VARIANCE, ShapeAutoencoder, init_code
from fields3d.networks.attention import dense
from fields3d.networks.mlp import init_linear, mlp
from fields3d.networks.plane_blocks import convolve, doubled, init_convolution, init_residual, residual


def tri_plane(cells: Count = 64, halvings: Index = 2, doublings: Index = 3, dim: Count = 4, width: Count = 64,
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
  if cells % 2**halvings:
    raise UsageFault("--config.task.autoencoder.cells", f"{cells} cannot be halved {halvings} times",
                     f"give a multiple of {2**halvings}")
  n, policy, encoding = cells // 2**halvings, Policy(compute), fourier(levels, include_input=True)
  see, value = mlp(width, 2, compute=compute), mlp(hidden, depth, activation="gelu", compute=compute)
  aware = lambda params, h: residual(params, h, policy, other_planes)
  plain = lambda params, h: residual(params, h, policy)
  if remat:
    aware, plain = jax.checkpoint(aware), jax.checkpoint(plain)

  def init(key):
    keys = iter(jax.random.split(key, 6 + 2 * (halvings + doublings + layers)))
    stage = lambda: {"convolution": init_convolution(next(keys), width, width), "block": init_residual(next(keys), width)}
    latent = lambda: [init_residual(next(keys), width, 3) for _ in range(layers)]
    encoder = {"points": see.init(next(keys), encoding.dim + 3, width), "down": [stage() for _ in range(halvings)],
               "latent": latent(), "out": init_code(next(keys), width, dim)}
    decoder = {"in": init_linear(next(keys), dim, width), "place": jnp.zeros((3, n, n, width)), "latent": latent(),
               "up": [stage() for _ in range(doublings)], "out": init_linear(next(keys), width, features),
               "value": value.init(next(keys), features + encoding.dim, 1)}
    return {"encoder": _named(encoder), "decoder": _named(decoder)}

  def encode(params, points):
    own = params["encoder"]
    seen = jnp.concatenate([encoding.apply({}, points), cell_offsets(points, cells)], axis=-1)
    h = scatter_to_planes(see.apply(own["points"], seen), points, cells)
    for i in range(halvings):
      h = plain(own[f"down_{i}"]["block"], convolve(own[f"down_{i}"]["convolution"], h, policy, 2))
    for i in range(layers):
      h = aware(own[f"latent_{i}"], h)
    mean, log_variance = jnp.split(dense(own["out"], h, policy).reshape(len(points), 3 * n * n, 2 * dim), 2, axis=-1)
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def expand(params, z):
    own = params["decoder"]
    h = dense(own["in"], z, policy).reshape(len(z), 3, n, n, width) + own["place"][None]
    for i in range(layers):
      h = aware(own[f"latent_{i}"], h)
    for i in range(doublings):
      h = plain(own[f"up_{i}"]["block"], convolve(own[f"up_{i}"]["convolution"], doubled(h), policy))
    return dense(own["out"], h, policy).transpose(0, 2, 3, 1, 4)

  def query(params, expanded, x):
    own = params["decoder"]
    return value.apply(own["value"], jnp.concatenate([lookup_planes(expanded, x), encoding.apply({}, x)], axis=-1))[..., 0]

  return ShapeAutoencoder(init, encode, expand, query, (3 * n * n, dim))


def _named(params: dict) -> dict:
  """Lists as entries name_0, name_1, ..."""
  return {f"{name}_{i}" if isinstance(value, list) else name: entry for name, value in params.items()
          for i, entry in enumerate(value if isinstance(value, list) else [value])}
