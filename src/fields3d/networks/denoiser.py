"""What a denoiser is to a task, and what every denoiser shares: conditions and adaptive normalisation."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Policy
from fields3d.networks.attention import dense, layer_norm
from fields3d.networks.mlp import init_linear, linear


@dataclasses.dataclass(frozen=True)
class DenoiserNetwork:
  """A network on noisy data, conditioned on the noise level and, where given, on a label and on tokens.

  init: (key, shape, num_classes, token_dim=0, self_condition=False) -> params. shape: of one datum, without batch.
  apply: (params, x (b, *shape), c (b,), label (b,) int32 or None, tokens (b, k, token_dim) or None, key=None,
    previous=None) -> (b, *shape); 0 at the start. c is the noise level, about of unit range.

  A label below 0, or None, is "no class", an embedding of its own; labels are below num_classes, which nobody checks.
  A row whose tokens are all 0, or None, is "no tokens": dropping a row's tokens is multiplying them by 0.
  `key` turns dropout on. previous (b, *shape): an estimate of the clean x, where `self_condition` was set.
  """
  init: Callable
  apply: Callable


def init_zero(fan_in: int, fan_out: int) -> dict[str, jax.Array]:
  """A linear layer that says 0."""
  return {"w": jnp.zeros((fan_in, fan_out)), "b": jnp.zeros((fan_out,))}


def init_inputs(key: jax.Array, width: int, dim: int, num_classes: int, token_dim: int, self_condition: bool) -> dict:
  """Parameters of `read_inputs`: of the datum, the noise level, the label, the tokens and an earlier estimate."""
  keys = jax.random.split(key, 6)
  params = {"x": init_linear(keys[0], dim, width), "level": init_linear(keys[1], width, width),
            "mix": init_linear(keys[2], width, width),
            "label": jax.random.normal(keys[3], (num_classes + 1, width)) * 0.02}
  if token_dim:
    params["tokens"] = init_linear(keys[4], token_dim, width)
  if self_condition:
    params["previous"] = init_linear(keys[5], dim, width)
  return params


def read_inputs(params: dict, x: Float[Array, "b m d"], c: Float[Array, "*b"], label: jax.Array | None,
                tokens: jax.Array | None, previous: jax.Array | None, policy: Policy) -> tuple:
  """Embeds what a denoiser is given.

  Returns:
    h (b, m, width), e (b, width) of level and label, and tokens (b, k, width) or None where the network reads none.

  Raises:
    UsageFault: tokens or an earlier estimate for a network that was made without, or none for one made with.
  """
  if (previous is not None) != ("previous" in params):
    raise UsageFault("denoiser", "self-conditioning is set in one of diffusion and network only", "set it in both")
  if tokens is not None and "tokens" not in params:
    raise UsageFault("denoiser", "tokens for a network without any", "make it with token_dim")
  h = dense(params["x"], x, policy)
  if previous is not None:
    h = h + dense(params["previous"], previous, policy)
  width, classes = h.shape[-1], params["label"].shape[0] - 1
  row = jnp.full(c.shape, classes) if label is None else jnp.where(label < 0, classes, label)
  e = jax.nn.silu(linear(params["level"], waves(c, width), policy)) + params["label"][row]
  e = jax.nn.silu(linear(params["mix"], e, policy))
  if "tokens" not in params:
    return h, e, None
  w = params["tokens"]["w"]
  tokens = jnp.zeros((x.shape[0], 1, w.shape[0])) if tokens is None else tokens
  return h, e, dense(params["tokens"], tokens, policy)


def waves(c: Float[Array, "*b"], width: int) -> Float[Array, "b w"]:
  """Cosines and sines of c at frequencies from 1/2 to 500, evenly in the logarithm; an odd last entry is 0.

  Source: DDPM (Ho et al. 2020), appendix B, for c of unit range.

  >>> waves(jnp.zeros(1), 5).tolist()
  [[1.0, 1.0, 0.0, 0.0, 0.0]]
  """
  angle = c[:, None] * jnp.asarray(np.geomspace(0.5, 500.0, max(width // 2, 1)), jnp.float32)[None, :]
  both = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)
  return jnp.pad(both, ((0, 0), (0, width % 2)))[:, :width]


def adapted(h: Float[Array, "b m w"], scale: Float[Array, "b w"], shift: Float[Array, "b w"]) -> Float[Array, "b m w"]:
  """Adaptive layer norm. Source: DiT (Peebles & Xie 2023), section 3.2."""
  return layer_norm(None, h) * (1 + scale[:, None, :]) + shift[:, None, :]
