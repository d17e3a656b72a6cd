"""A denoiser of point clouds that moves each point on its own, knowing the cloud by its code alone (DPM)."""

import itertools

import jax
import jax.numpy as jnp

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Compute, Policy
from fields3d.networks.attention import dense
from fields3d.networks.denoiser import DenoiserNetwork, init_inputs, init_zero, read_inputs
from fields3d.networks.mlp import init_linear, linear


def pointwise(widths: tuple[Count, ...] = (128, 256, 512, 256, 128), compute: Compute = "float32") -> DenoiserNetwork:
  """ConcatSquash layers, h -> (h w + b) sigmoid(gate of context) + shift of context, with no talk among points.

  Applies to sets (n, d) and is the same for each of their points. The context is noise level, label and the mean of the
  tokens: a shape's code is one token. 0 at the start.

  Args:
    widths: of the layers between a point and the answer.

  Raises:
    UsageFault: no widths; data that are no sets of points.

  Source: DPM (Luo & Hu 2021), section 4.3, supplement and the authors' code, which the defaults follow. There the level is
    told as (beta, sin beta, cos beta), and the input is added to the answer; here it is added as far as the context says.

  >>> network = pointwise((8, 8))
  >>> params = jax.eval_shape(lambda key: network.init(key, (7, 3), num_classes=0), jax.random.key(0))
  >>> jax.eval_shape(lambda p: network.apply(p, jnp.ones((5, 7, 3)), jnp.ones(5), None, None), params).shape
  (5, 7, 3)
  """
  if not widths:
    raise UsageFault("--config.task.prior.network.widths", "there is no layer", "give a width or more")
  policy = Policy(compute)

  def squash(params, told, context):
    gate, shift = jnp.split(linear(params["context"], context, policy)[:, None], 2, axis=-1)
    return told * jax.nn.sigmoid(gate) + shift

  def init(key, shape, num_classes, token_dim=0, self_condition=False):
    if len(shape) != 2:
      raise UsageFault("--config.task.prior.network", f"pointwise takes sets of points, not {shape}", "use another network")
    input_key, *keys = jax.random.split(key, 2 * len(widths))
    known = widths[0] + token_dim
    params = {"inputs": init_inputs(input_key, widths[0], shape[1], num_classes, 0, self_condition),
              "first": {"context": init_linear(keys[0], known, 2 * widths[0])}}
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
      params[f"layer_{i}"] = {**init_linear(keys[2 * i + 1], a, b), "context": init_linear(keys[2 * i + 2], known, 2 * b)}
    return {**params, "out": {**init_zero(widths[-1], shape[1]), "context": init_zero(known, 2 * shape[1])},
            "residual": init_zero(known, shape[1])}

  def apply(params, x, c, label, tokens, key=None, previous=None):
    del key
    h, e, _ = read_inputs(params["inputs"], x, c, label, None, previous, policy)
    token_dim = params["residual"]["w"].shape[0] - e.shape[1]
    if tokens is not None and not token_dim:
      raise UsageFault("denoiser", "tokens for a network without any", "make it with token_dim")
    code = jnp.zeros((len(x), token_dim)) if tokens is None else jnp.mean(tokens, axis=1)
    context = jnp.concatenate([e, code], axis=1)
    h = jax.nn.leaky_relu(squash(params["first"], h, context))
    for i in range(len(widths) - 1):
      layer = params[f"layer_{i}"]
      h = jax.nn.leaky_relu(squash(layer, dense(layer, h, policy), context))
    residual = x * linear(params["residual"], context, policy)[:, None]
    return residual + squash(params["out"], dense(params["out"], h, policy), context)

  return DenoiserNetwork(init, apply)
