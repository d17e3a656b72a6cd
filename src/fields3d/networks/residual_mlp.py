"""A denoiser of vectors: residual blocks of two layers, told of the noise level by adaptive normalisation."""

import jax
import jax.numpy as jnp

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.networks.attention import attention, check_heads, dense, init_attention, layer_norm
from fields3d.networks.denoiser import DenoiserNetwork, adapted, init_inputs, init_zero, read_inputs
from fields3d.networks.dropout import dropout as drop
from fields3d.networks.mlp import DropRate, init_linear, linear


def residual_mlp(width: Count = 512, depth: Count = 6, heads: Count = 8, dropout: DropRate = 0.0, remat: bool = False,
                 compute: Compute = "float32") -> DenoiserNetwork:
  """`depth` residual blocks on vectors (d,); each starts as the identity, and the network as 0.

  Args:
    heads: of the attention to the tokens, where there are any.
    dropout: rate inside each block, in training only.
    remat: blocks are computed again in the backward pass instead of remembered; the same values.

  Raises:
    UsageFault: `heads` does not divide `width`; data that are no vectors.

  Source: adaptive normalisation and gates that start at 0: DiT (Peebles & Xie 2023), section 3.2.

  >>> network = residual_mlp(width=8, depth=2)
  >>> params = network.init(jax.random.key(0), (3,), num_classes=0)
  >>> network.apply(params, jnp.ones((5, 3)), jnp.ones(5), None, None).shape
  (5, 3)
  """
  check_heads(width, heads, "--config.task.prior.network")
  policy = Policy(compute)

  def init_block(key, crossed):
    keys = jax.random.split(key, 3)
    block = {"adapt": init_zero(width, 3 * width), "in": init_linear(keys[0], width, width),
             "out": init_linear(keys[1], width, width)}
    return {**block, "cross": init_attention(keys[2], width), "gate": init_zero(width, width)} if crossed else block

  def init(key, shape, num_classes, token_dim=0, self_condition=False):
    if len(shape) != 1:
      raise UsageFault("--config.task.prior.network", f"residual_mlp takes vectors, not {shape}", "use another network")
    input_key, block_key = jax.random.split(key)
    blocks = jax.vmap(lambda key: init_block(key, token_dim > 0))(jax.random.split(block_key, depth))
    return {"inputs": init_inputs(input_key, width, shape[0], num_classes, token_dim, self_condition),
            "blocks": blocks, "out": init_zero(width, shape[0])}

  def apply(params, x, c, label, tokens, key=None, previous=None):
    row = None if previous is None else previous[:, None]
    h, e, tokens = read_inputs(params["inputs"], x[:, None], c, label, tokens, row, policy)

    def block(h, layer):
      layer, i = layer
      if tokens is not None:
        gate = linear(layer["gate"], e, policy)[:, None]
        h = h + gate * attention(layer["cross"], layer_norm(None, h), tokens, heads, policy)
      scale, shift, gate = jnp.split(linear(layer["adapt"], e, policy), 3, axis=-1)
      inner = jax.nn.silu(dense(layer["in"], adapted(h, scale, shift), policy))
      if dropout and key is not None:
        inner = drop(jax.random.fold_in(key, i), inner, dropout)
      return h + gate[:, None] * dense(layer["out"], inner, policy), None

    h, _ = jax.lax.scan(jax.checkpoint(block) if remat else block, h, (params["blocks"], jnp.arange(depth)))
    return dense(params["out"], layer_norm(None, h), policy)[:, 0]

  return DenoiserNetwork(init, apply)
