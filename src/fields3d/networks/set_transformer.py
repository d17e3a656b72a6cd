"""A denoiser of sets of vectors: attention among them, with no order and no positions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.networks.attention import attention, check_heads, dense, init_attention
from fields3d.networks.denoiser import DenoiserNetwork, adapted, init_inputs, init_zero, read_inputs
from fields3d.networks.dropout import dropout as drop
from fields3d.networks.mlp import DropRate, init_linear, linear


def set_transformer(width: Count = 256, depth: Count = 6, heads: Count = 8, expansion: Count = 4,
                    dropout: DropRate = 0.0, remat: bool = False, compute: Compute = "float32") -> DenoiserNetwork:
  """`depth` blocks on sets (m, d): attention within the set, to the tokens where there are any, and an MLP.

  A permutation of the set permutes the answer. Each block starts as the identity, and the network as 0.

  Args:
    expansion: the MLP's hidden width over `width`.
    dropout: rate inside each MLP, in training only.
    remat: blocks are computed again in the backward pass instead of remembered; the same values.

  Raises:
    UsageFault: `heads` does not divide `width`; data that are no sets of vectors.

  Source: 3DShape2VecSet (Zhang et al. 2023), section 5; gates that start at 0: DiT (Peebles & Xie 2023), section 3.2.

  >>> network = set_transformer(width=8, depth=2)
  >>> params = network.init(jax.random.key(0), (7, 3), num_classes=0)
  >>> network.apply(params, jnp.ones((5, 7, 3)), jnp.ones(5), None, None).shape
  (5, 7, 3)
  """
  return adaptive_transformer(width, depth, heads, expansion, dropout, remat, compute)


def adaptive_transformer(width: int, depth: int, heads: int, expansion: int, dropout: float, remat: bool, compute: Compute,
                         positions: Callable = lambda num: None) -> DenoiserNetwork:
  """`set_transformer`, with what `positions` says of m vectors, (m, width), added to what is read of them.

  Raises:
    UsageFault: as of `set_transformer`.
  """
  check_heads(width, heads, "--config.task.prior.network")
  policy = Policy(compute)

  def init_block(key, crossed):
    keys = jax.random.split(key, 4)
    block = {"adapt": init_zero(width, (9 if crossed else 6) * width), "self": init_attention(keys[0], width),
             "in": init_linear(keys[1], width, expansion * width), "out": init_linear(keys[2], expansion * width, width)}
    return {**block, "cross": init_attention(keys[3], width)} if crossed else block

  def init(key, shape, num_classes, token_dim=0, self_condition=False):
    if len(shape) != 2:
      raise UsageFault("--config.task.prior.network", f"it takes sets of vectors, not {shape}", "use another network")
    input_key, block_key = jax.random.split(key)
    blocks = jax.vmap(lambda key: init_block(key, token_dim > 0))(jax.random.split(block_key, depth))
    return {"inputs": init_inputs(input_key, width, shape[-1], num_classes, token_dim, self_condition),
            "blocks": blocks, "last": init_zero(width, 2 * width), "out": init_zero(width, shape[-1])}

  def apply(params, x, c, label, tokens, key=None, previous=None):
    h, e, tokens = read_inputs(params["inputs"], x, c, label, tokens, previous, policy)
    place = positions(x.shape[1])
    h = h if place is None else h + place[None]

    def block(h, layer):
      layer, i = layer
      said = iter(jnp.split(linear(layer["adapt"], e, policy), 6 if tokens is None else 9, axis=-1))

      def add(h, what):
        scale, shift, gate = next(said), next(said), next(said)
        return h + gate[:, None] * what(adapted(h, scale, shift))

      def mlp(h):
        inner = jax.nn.gelu(dense(layer["in"], h, policy))
        if dropout and key is not None:
          inner = drop(jax.random.fold_in(key, i), inner, dropout)
        return dense(layer["out"], inner, policy)

      h = add(h, lambda h: attention(layer["self"], h, h, heads, policy))
      if tokens is not None:
        h = add(h, lambda h: attention(layer["cross"], h, tokens, heads, policy))
      return add(h, mlp), None

    h, _ = jax.lax.scan(jax.checkpoint(block) if remat else block, h, (params["blocks"], jnp.arange(depth)))
    scale, shift = jnp.split(linear(params["last"], e, policy), 2, axis=-1)
    return dense(params["out"], adapted(h, scale, shift), policy)

  return DenoiserNetwork(init, apply)
