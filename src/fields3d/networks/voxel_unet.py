"""A denoiser of voxel grids: a 3D U-net of residual blocks."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.networks.attention import attention, check_heads, dense, init_attention, layer_norm
from fields3d.networks.denoiser import DenoiserNetwork, init_inputs, init_zero, read_inputs
from fields3d.networks.dropout import dropout as drop
from fields3d.networks.mlp import DropRate, init_linear, linear
from fields3d.networks.voxel_blocks import convolve, group_norm, init_convolution
from fields3d.networks.voxel_transformer import from_patches, patches

WHERE = "--config.task.prior.network"


def voxel_unet(width: Count = 32, multiples: tuple[Count, ...] = (1, 2, 4), heads: Count = 4, dropout: DropRate = 0.0,
               compute: Compute = "float32") -> DenoiserNetwork:
  """Grids (r, r, r, c): a residual block at each size on the way down and back, halved between; 0 at the start.

  At the smallest size there is attention among the voxels, and to the tokens where there are any. Every norm is told of
  noise level and label.

  Args:
    width: channels at full size, and of the embeddings. multiples: of `width`, one for each size.
    heads: of all attention.
    dropout: rate inside each residual block, in training only.

  Raises:
    UsageFault: no size, heads that do not divide the channels; at init, a grid that is not a cube that can be halved so.

  Source: DDPM (Ho et al. 2020), appendix B, in three dimensions; norms told of the level: Dhariwal & Nichol 2021,
    section 3. One block a size, and halving by products of 2^3 voxels, for a CPU's sake.

  >>> network = voxel_unet(8, (1, 1))
  >>> params = jax.eval_shape(lambda key: network.init(key, (4, 4, 4, 1), num_classes=0), jax.random.key(0))
  >>> jax.eval_shape(lambda p: network.apply(p, jnp.ones((5, 4, 4, 4, 1)), jnp.ones(5), None, None), params).shape
  (5, 4, 4, 4, 1)
  """
  if not multiples:
    raise UsageFault(f"{WHERE}.multiples", "there is no size", "give one entry per size, such as 1,2,4")
  check_heads(width * multiples[-1], heads, WHERE)
  net = _VoxelUnet(width, tuple(width * m for m in multiples), heads, dropout, Policy(compute))
  return DenoiserNetwork(net.init, net.apply)


@dataclasses.dataclass(frozen=True)
class _VoxelUnet:
  """The settings of `voxel_unet`, and its functions as methods."""
  width: int
  channels: tuple[int, ...]
  heads: int
  dropout: float
  policy: Policy

  def init(self, key, shape, num_classes, token_dim=0, self_condition=False):
    halvings = len(self.channels) - 1
    if len(shape) != 4 or len(set(shape[:3])) > 1 or shape[0] % 2**halvings:
      raise UsageFault(WHERE, f"voxel_unet takes cubes of voxels to be halved {halvings} times, not {shape}",
                       "set fewer multiples or another network")
    keys = iter(jax.random.split(key, 4 + 4 * len(self.channels)))
    params = {"inputs": init_inputs(next(keys), self.width, shape[3], num_classes, token_dim, self_condition)}
    before = self.width
    for i, c in enumerate(self.channels):
      if i:
        params[f"halve_{i}"], before = init_linear(next(keys), 8 * before, c), c
        params[f"double_{i}"] = init_linear(next(keys), c, 8 * self.channels[i - 1])
      params[f"down_{i}"], before = self._init_block(next(keys), before, c), c
      params[f"up_{i}"] = self._init_block(next(keys), 2 * c, c)
    params["self"] = init_attention(next(keys), before)
    if token_dim:
      params |= {"cross": init_attention(next(keys), before, self.width), "gate": init_zero(self.width, before)}
    return {**params, "norm": init_zero(self.width, 2 * self.channels[0]), "out": init_zero(self.channels[0], shape[3])}

  def _init_block(self, key, a, b):
    keys = jax.random.split(key, 3)
    params = {"norm_0": init_zero(self.width, 2 * a), "conv_0": init_convolution(keys[0], a, b),
              "norm_1": init_zero(self.width, 2 * b), "conv_1": init_convolution(keys[1], b, b)}
    return params if a == b else {**params, "skip": init_linear(keys[2], a, b)}

  def _block(self, params, h, e, key):
    inner = convolve(params["conv_0"], jax.nn.silu(group_norm(params["norm_0"], h, e, self.policy)), self.policy)
    inner = jax.nn.silu(group_norm(params["norm_1"], inner, e, self.policy))
    if self.dropout and key is not None:
      inner = drop(key, inner, self.dropout)
    inner = convolve(params["conv_1"], inner, self.policy)
    return inner + (dense(params["skip"], h, self.policy) if "skip" in params else h)

  def apply(self, params, x, c, label, tokens, key=None, previous=None):
    flat = lambda h: h.reshape(len(h), -1, h.shape[-1])
    previous = None if previous is None else flat(previous)
    h, e, tokens = read_inputs(params["inputs"], flat(x), c, label, tokens, previous, self.policy)
    h, count, had = h.reshape(*x.shape[:-1], -1), itertools.count(), []
    block = lambda name, h: self._block(params[name], h, e, None if key is None else jax.random.fold_in(key, next(count)))
    for i in range(len(self.channels)):
      if i:
        h = halved(params[f"halve_{i}"], h, self.policy)
      h = block(f"down_{i}", h)
      had.append(h)
    h = self._attend(params, flat(h), e, tokens).reshape(h.shape)
    for i in reversed(range(len(self.channels))):
      h = block(f"up_{i}", jnp.concatenate([h, had[i]], axis=-1))
      if i:
        h = doubled(params[f"double_{i}"], h, self.policy)
    return dense(params["out"], jax.nn.silu(group_norm(params["norm"], h, e, self.policy)), self.policy)

  def _attend(self, params, h, e, tokens):
    if tokens is not None:
      gate = linear(params["gate"], e, self.policy)[:, None]
      h = h + gate * attention(params["cross"], layer_norm(None, h), tokens, self.heads, self.policy)
    own = layer_norm(None, h)
    return h + attention(params["self"], own, own, self.heads, self.policy)


def halved(params: dict, h: Float[Array, "b r r r c"], policy: Policy) -> Float[Array, "b s s s m"]:
  """Convolution of 2^3 voxels with stride 2: s = r / 2.

  >>> halved({"w": jnp.full((8, 1), 0.125), "b": jnp.zeros(1)}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1), Policy()).ravel().tolist()
  [3.5]
  """
  side = h.shape[1] // 2
  return dense(params, patches(h, 2), policy).reshape(len(h), side, side, side, -1)


def doubled(params: dict, h: Float[Array, "b s s s c"], policy: Policy) -> Float[Array, "b r r r m"]:
  """Its transpose: r = 2 s.

  >>> doubled({"w": jnp.ones((1, 8)), "b": jnp.arange(8.0)}, jnp.ones((1, 1, 1, 1, 1)), Policy()).ravel().tolist()
  [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
  """
  return from_patches(dense(params, h.reshape(len(h), -1, h.shape[-1]), policy), 2)
