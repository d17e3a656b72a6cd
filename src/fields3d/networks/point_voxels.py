"""Point-voxel convolution: points are averaged into voxels, convolved there, and read off again (PVCNN)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.numerics import Policy
from fields3d.networks.attention import attention, dense, init_attention
from fields3d.networks.denoiser import init_zero
from fields3d.networks.mlp import init_linear, linear
from fields3d.networks.voxel_blocks import convolve, group_norm, init_convolution

CORNERS = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(8, 3)


def to_voxels(x: Float[Array, "b n 3"], features: Float[Array, "b n c"], resolution: int) -> tuple:
  """The mean features of the points nearest to each node of a grid around the cloud; 0 where there are none.

  The grid is the cube around the cloud's mean that holds it by its farthest point. Exact; differentiable by the
  features alone: where the points stand is taken as given.

  Returns:
    voxels (b, r, r, r, c), and where each point stands, (b, n, 3) in nodes from 0 to r - 1.

  Source: PVCNN (Liu et al. 2019), equation 1 and the authors' code, which scales to r nodes and takes what is beyond
    the last for the last.

  >>> voxels, where = to_voxels(jnp.asarray([[[0.0, 0, 0], [4, 0, 0]]]), jnp.ones((1, 2, 1)), 5)
  >>> where[0, :, 0].tolist(), float(voxels.sum())
  ([0.0, 4.0], 2.0)
  """
  (b, n, _), r = x.shape, resolution
  x = jax.lax.stop_gradient(x)
  x = x - jnp.mean(x, axis=1, keepdims=True)
  radius = jnp.sqrt(jnp.max(jnp.sum(x * x, axis=-1), axis=1))[:, None, None]
  where = jnp.clip((x / jnp.maximum(2 * radius, 1e-12) + 0.5) * r, 0, r - 1)
  node = _flat(jnp.round(where).astype(jnp.int32), r)
  total = jax.ops.segment_sum(features.reshape(b * n, -1), node, b * r**3)
  count = jax.ops.segment_sum(jnp.ones(b * n), node, b * r**3)
  return (total / jnp.maximum(count, 1)[:, None]).reshape(b, r, r, r, -1), where


def from_voxels(voxels: Float[Array, "b r r r c"], where: Float[Array, "b n 3"]) -> Float[Array, "b n c"]:
  """Reads voxels off where points stand (in nodes), trilinearly. Exact.

  >>> ramp = jnp.broadcast_to(jnp.arange(3.0)[None, :, None, None, None], (1, 3, 3, 3, 1))
  >>> float(from_voxels(ramp, jnp.asarray([[[1.25, 0.5, 2.0]]]))[0, 0, 0])
  1.25
  """
  b, r, c = voxels.shape[0], voxels.shape[1], voxels.shape[-1]
  low = jnp.clip(jnp.floor(where), 0, max(r - 2, 0))
  share, corners = (where - low)[:, :, None], CORNERS[None, None]
  weights = jnp.prod(jnp.where(corners == 1, share, 1 - share), axis=-1, keepdims=True)
  nodes = jnp.minimum(low[:, :, None].astype(jnp.int32) + corners, r - 1)
  read = voxels.reshape(-1, c)[_flat(nodes.reshape(b, -1, 3), r)]
  return jnp.sum(weights * read.reshape(b, -1, 8, c), axis=2)


def _flat(node: jax.Array, r: int) -> jax.Array:
  """Nodes (b, n, 3) as places (b n,) among the voxels of all rows."""
  row = jnp.arange(len(node))[:, None]
  return (((row * r + node[..., 0]) * r + node[..., 1]) * r + node[..., 2]).reshape(-1)


def init_shared(key: jax.Array, widths: tuple[int, ...], condition: int) -> dict:
  """Weights of `shared`: layers from widths[0] through the others."""
  keys = jax.random.split(key, len(widths) - 1)
  return {f"layer_{i}": {"dense": init_linear(k, a, b), "norm": init_zero(condition, 2 * b)}
          for i, (k, a, b) in enumerate(zip(keys, widths[:-1], widths[1:]))}


def shared(params: dict, h: Float[Array, "b *s c"], e: Float[Array, "b w"], policy: Policy) -> Float[Array, "b *s m"]:
  """The same layers at every point: dense, group norm told of e, swish."""
  for i in range(len(params)):
    layer = params[f"layer_{i}"]
    h = jax.nn.silu(group_norm(layer["norm"], dense(layer["dense"], h, policy), e, policy))
  return h


def init_attended(key: jax.Array, width: int, condition: int) -> dict:
  """Weights of `attended`."""
  return {"attention": init_attention(key, width), "norm": init_zero(condition, 2 * width)}


def attended(params: dict, h: Float[Array, "b m c"], e: Float[Array, "b w"], heads: int,
             policy: Policy) -> Float[Array, "b m c"]:
  """Attention among all places, added, then group norm and swish.

  Source: PVD (Zhou et al. 2021), the authors' code, there with one head and without the factor 1 / sqrt(c).
  """
  h = h + attention(params["attention"], h, h, heads, policy)
  return jax.nn.silu(group_norm(params["norm"], h, e, policy))


def init_pvconv(key: jax.Array, fan_in: int, fan_out: int, condition: int, attend: bool = False) -> dict:
  """Weights of `pvconv`; `attend`: its second swish is attention among all voxels instead."""
  keys = jax.random.split(key, 6)
  squeezed = max(fan_out // 8, 1)
  params = {"conv_0": init_convolution(keys[0], fan_in, fan_out), "norm_0": init_zero(condition, 2 * fan_out),
            "conv_1": init_convolution(keys[1], fan_out, fan_out), "norm_1": init_zero(condition, 2 * fan_out),
            "squeeze": init_linear(keys[2], fan_out, squeezed), "excite": init_linear(keys[3], squeezed, fan_out),
            "points": init_shared(keys[4], (fan_in, fan_out), condition)}
  return {**params, "attend": init_attended(keys[5], fan_out, condition)} if attend else params


def pvconv(params: dict, x: Float[Array, "b n 3"], features: Float[Array, "b n c"], e: Float[Array, "b w"],
           resolution: int, policy: Policy, heads: int = 1,
           dropped: Callable = lambda h: h) -> Float[Array, "b n m"]:
  """What voxels say at the points, plus what a shared layer says of each point alone.

  Voxels: convolution, group norm, swish, `dropped`; convolution, group norm, swish (or attention); squeeze and excite.
  A permutation of the points permutes the answer; shifts and scales of x change nothing.

  Source: PVCNN (Liu et al. 2019), section 4.1, figure 3; with swish and squeeze-excitation (Hu et al. 2018) as in PVD
    (Zhou et al. 2021), the authors' code. Norms told of e: here.

  >>> params = jax.eval_shape(lambda key: init_pvconv(key, 2, 8, 4), jax.random.key(0))
  >>> ones = lambda *shape: jnp.ones(shape)
  >>> jax.eval_shape(lambda p: pvconv(p, ones(1, 6, 3), ones(1, 6, 2), ones(1, 4), 3, Policy()), params).shape
  (1, 6, 8)
  """
  voxels, where = to_voxels(x, features, resolution)
  voxels = group_norm(params["norm_0"], convolve(params["conv_0"], voxels, policy), e, policy)
  voxels = dropped(jax.nn.silu(voxels))
  voxels = group_norm(params["norm_1"], convolve(params["conv_1"], voxels, policy), e, policy)
  shape = voxels.shape
  if "attend" in params:
    voxels = attended(params["attend"], voxels.reshape(shape[0], -1, shape[-1]), e, heads, policy).reshape(shape)
  else:
    voxels = jax.nn.silu(voxels)
  gate = jax.nn.relu(linear(params["squeeze"], jnp.mean(voxels, axis=(1, 2, 3)), policy))
  gate = jax.nn.sigmoid(linear(params["excite"], gate, policy))
  read = from_voxels(voxels, where) * gate[:, None]
  return read + shared(params["points"], features, e, policy)
