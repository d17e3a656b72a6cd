"""A denoiser of voxel grids, and of point clouds by way of voxels: a transformer among patches of voxels (DiT-3D)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute
from fields3d.networks.denoiser import DenoiserNetwork
from fields3d.networks.mlp import DropRate
from fields3d.networks.point_voxels import from_voxels, to_voxels
from fields3d.networks.set_transformer import adaptive_transformer
from fields3d.networks.volumes import blocked, unblocked

WHERE = "--config.task.prior.network"


def voxel_transformer(width: Count = 384, depth: Count = 12, heads: Count = 6, expansion: Count = 4, patch: Count = 4,
                      resolution: Count = 32, dropout: DropRate = 0.0, remat: bool = False,
                      compute: Compute = "float32") -> DenoiserNetwork:
  """Grids (r, r, r, c) as patches of voxels that attend to each other, with waves for where they are; 0 at the start.

  Clouds (n, d), whose first three channels are places, are averaged into voxels first, and the answer is read off the
  voxels where the points are: a permutation of the points permutes it, and two points of one place get one answer.

  Args:
    patch: voxels along a patch's side. resolution: of a cloud's voxels.
    dropout: rate inside each MLP, in training only.
    remat: blocks are computed again in the backward pass instead of remembered; the same values.

  Raises:
    UsageFault: `heads` does not divide `width`; at init, a patch that does not divide the grid, or a datum that is
      neither grid nor cloud.

  Source: DiT-3D (Mo et al. 2023), section 3.2 and the authors' code; the defaults are its S/4 at 32^3 voxels, where
    windowed attention is not carried.

  >>> import jax
  >>> network = voxel_transformer(width=8, depth=1, heads=2, patch=2)
  >>> params = jax.eval_shape(lambda key: network.init(key, (4, 4, 4, 1), num_classes=0), jax.random.key(0))
  >>> jax.eval_shape(lambda p: network.apply(p, jnp.ones((5, 4, 4, 4, 1)), jnp.ones(5), None, None), params).shape
  (5, 4, 4, 4, 1)
  """
  positions = lambda num: jnp.asarray(waves_of_places(cube_of_places(round(num ** (1 / 3))), width))
  net = adaptive_transformer(width, depth, heads, expansion, dropout, remat, compute, positions)

  def init(key, shape, num_classes, token_dim=0, self_condition=False):
    cloud = len(shape) == 2 and shape[1] >= 3
    if not cloud and (len(shape) != 4 or len(set(shape[:3])) > 1):
      raise UsageFault(WHERE, f"voxel_transformer takes cubes of voxels or clouds of points, not {shape}",
                       "use another network")
    side = resolution if cloud else shape[0]
    if side % patch:
      raise UsageFault(f"{WHERE}.patch", f"{patch} voxels do not divide a side of {side}", "give a divisor of it")
    return net.init(key, ((side // patch) ** 3, patch**3 * shape[-1]), num_classes, token_dim, self_condition)

  def on_grid(params, x, c, label, tokens, key=None, previous=None):
    previous = None if previous is None else patches(previous, patch)
    return from_patches(net.apply(params, patches(x, patch), c, label, tokens, key, previous), patch)

  def apply(params, x, c, label, tokens, key=None, previous=None):
    if x.ndim == 5:
      return on_grid(params, x, c, label, tokens, key, previous)
    voxels, where = to_voxels(x[..., :3], x, resolution)
    previous = None if previous is None else to_voxels(x[..., :3], previous, resolution)[0]
    return from_voxels(on_grid(params, voxels, c, label, tokens, key, previous), where)

  return DenoiserNetwork(init, apply)


def patches(voxels: Float[Array, "b r r r c"], p: int) -> Float[Array, "b m k"]:
  """Cubes of p^3 voxels as vectors, in the order of their corners.

  >>> patches(jnp.arange(8.0).reshape(1, 2, 2, 2, 1), 1).ravel().tolist()
  [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
  """
  blocks = blocked(voxels, p)
  return blocks.reshape(len(blocks), -1, blocks.shape[-1])


def from_patches(vectors: Float[Array, "b m k"], p: int) -> Float[Array, "b r r r c"]:
  """The voxels of `patches`.

  >>> bool((from_patches(patches(jnp.arange(64.0).reshape(1, 4, 4, 4, 1), 2), 2).ravel() == jnp.arange(64)).all())
  True
  """
  b, m, k = vectors.shape
  g = round(m ** (1 / 3))
  return unblocked(vectors.reshape(b, g, g, g, k), p)


def cube_of_places(g: int) -> np.ndarray:
  """The places 0 .. g - 1 along three axes, (g^3, 3), the last one first to change."""
  return np.stack(np.meshgrid(*[np.arange(g)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def waves_of_places(places: np.ndarray, width: int) -> np.ndarray:
  """Sines and cosines of three coordinates (m, 3), a third of the width each, 0 in what is over: (m, width) float32.

  Source: DiT-3D (Mo et al. 2023), section 3.2; Vaswani et al. 2017, section 3.5.

  >>> waves_of_places(cube_of_places(2), 8).shape
  (8, 8)
  """
  half = width // 6
  rates = 10000.0 ** -(np.arange(half) / max(half, 1))
  angle = places[:, :, None] * rates
  both = np.concatenate([np.sin(angle), np.cos(angle)], axis=2).reshape(len(places), -1)
  return np.pad(both, ((0, 0), (0, width - both.shape[1]))).astype(np.float32)
