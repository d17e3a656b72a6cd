"""Priors: models of the distribution of latents, vectors and sets alike, which draw new ones."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import Fraction, From, NonNegative, Table
from fields3d.core.errors import UsageFault
from fields3d.generative import DIFFUSIONS, FLOWS, SAMPLERS
from fields3d.generative.diffusion import Diffusion
from fields3d.generative.flows import Flow
from fields3d.generative.guidance import guided
from fields3d.networks import DENOISERS
from fields3d.networks.denoiser import DenoiserNetwork


@dataclasses.dataclass(frozen=True)
class Prior:
  """A model of standardised latents z (b, *s), given a label and tokens or not.

  init: (key, shape s, num_classes, token_dim) -> params.
  loss: (params, z (b, *s), label (b,) int32 or None, tokens (b, k, w) or None, key) -> scalar, a mean over rows.
  sample: (params, key, shape (num, *s), label (num,) or None, tokens (num, k, w) or None) -> (num, *s).
  sets: whether s may have more than one axis.
  tokens: whether it reads tokens.
  """
  init: Callable
  loss: Callable
  sample: Callable
  sets: bool
  tokens: bool


def diffusion_prior(diffusion: Annotated[Diffusion, From(DIFFUSIONS)], network: Annotated[DenoiserNetwork, From(DENOISERS)],
                    sampler: Annotated[Callable, From(SAMPLERS)], label_dropout: Fraction = 0.1,
                    token_dropout: Fraction = 0.1, guidance: NonNegative = 1.0) -> Prior:
  """A diffusion model of the latents.

  Args:
    label_dropout, token_dropout: the share of rows that are trained without their label, without their tokens. Where there are
      both, a row with tokens has no label: draws are asked for by one or the other.
    guidance: scale of classifier-free guidance where draws have a label or tokens; 1 is none of it, and half the work.

  Raises:
    UsageFault: a share of 0, and draws ask for what no row was then trained with.

  Source: latent diffusion (Rombach et al. 2022), section 3; classifier-free guidance (Ho & Salimans 2022), equation 6.
  """
  def init(key, shape, num_classes, token_dim):
    if token_dim and not token_dropout:
      raise UsageFault("--config.task.prior.token_dropout", "no row is trained without its scan, draws have none", "set it to 0.1")
    if num_classes and not label_dropout and guidance != 1.0:
      raise UsageFault("--config.task.prior.label_dropout", "no row is trained without its class, guidance asks for that", "set it to 0.1")
    return network.init(key, shape, num_classes, token_dim, diffusion.self_condition)

  def ask(params, label, tokens, key=None):
    return lambda x, c, previous=None: network.apply(params, x, c, label, tokens, key, previous)

  def loss(params, z, label, tokens, key):
    label_key, token_key, net_key, noise_key = jax.random.split(key, 4)
    if label is not None:
      label = jnp.where(jax.random.bernoulli(label_key, label_dropout, label.shape), -1, label)
    if tokens is not None:
      kept = jax.random.bernoulli(token_key, 1 - token_dropout, (len(tokens),))
      label = None if label is None else jnp.where(kept, -1, label)
      tokens = tokens * kept[:, None, None]
    return jnp.mean(diffusion.loss(ask(params, label, tokens, net_key), z, noise_key))

  def sample(params, key, shape, label, tokens):
    net = ask(params, label, tokens)
    if guidance != 1.0 and not (label is None and tokens is None):
      net = guided(net, ask(params, None, None), guidance)
    return sampler(lambda x, t: diffusion.denoise(net, x, t), diffusion.noise, key, shape)

  return Prior(init, loss, sample, sets=True, tokens=True)


def flow_prior(flow: Annotated[Flow, From(FLOWS)]) -> Prior:
  """A normalising flow of latent vectors, fitted by their likelihood; the loss is in nats an entry.

  Classes are one-hot contexts; all zeros is no class.
  """
  def context(params, label, num):
    classes = flow.context_dim(params["flow"])
    return None if not classes else jnp.zeros((num, classes)) if label is None else jax.nn.one_hot(label, classes)

  def init(key, shape, num_classes, token_dim):
    del token_dim
    return {"flow": flow.init(key, shape[0], num_classes)}

  def loss(params, z, label, tokens, key):
    del tokens, key
    return -jnp.mean(flow.log_prob(params["flow"], z, context(params, label, len(z)))) / z.shape[1]

  def sample(params, key, shape, label, tokens):
    del tokens
    return flow.sample(params["flow"], key, shape[0], context(params, label, shape[0]))

  return Prior(init, loss, sample, sets=False, tokens=False)


PRIORS: Table = {
    "diffusion": diffusion_prior,
    "flow": flow_prior,
}
