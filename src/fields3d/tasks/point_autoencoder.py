"""Autoencoder of clouds of points, plain or variational: l-GAN's and DPM's."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Policy
from fields3d.core.schedules import Rate, Schedule, as_schedule
from fields3d.core.task import Task
from fields3d.fields.autoencoder import LOG_VARIANCE, init_code
from fields3d.generative import FLOWS
from fields3d.generative.flows import Flow
from fields3d.losses.latent import kl_to_normal
from fields3d.networks.mlp import linear
from fields3d.networks.point_adversaries import init_layers, layers
from fields3d.tasks.codes import between, drawn, surface_of
from fields3d.tasks.point_decoders import POINT_DECODERS, PointDecoder


def point_autoencoder(decoder: Annotated[PointDecoder, From(POINT_DECODERS)], code_dim: Count = 128,
                      widths: tuple[Count, ...] = (64, 128, 128, 256), kl: Rate | None = None,
                      flow: Annotated[Flow, From(FLOWS)] | None = None,
                      latents: Literal["mean", "sample"] = "mean") -> Task:
  """Learns to encode a cloud as a vector, by one layer after another on each point and a maximum, and to make it again.

  Group "model". Batches are {"surface" (r, n, 3)}; other entries are not read. The loss is a mean over rows.

  Args:
    widths: of the layers of each point, before the one of `code_dim`.
    kl: None: a cloud has one code (l-GAN). Else it has a normal distribution of codes, whose divergence from the prior has
      this weight, a number or a schedule of the step, in nats an entry (DPM's 1e-3 is of their sum: 0.256 for 256 entries).
    flow: the prior of codes, learned jointly; the divergence is then that of one draw of each code (its entropy is exact).
      None: N(0, 1), and the divergence exact.
    latents: what "latents" gives for another task to learn, where there is a distribution: its mean, or a draw.

  Its predict functions: "encode" gives the mean code. "sample" draws codes from the prior; without `kl` nothing makes codes
  look like N(0, 1), which is what it draws from: learn a prior over this task. "points" makes a cloud of a code.

  Raises:
    UsageFault: a flow without `kl`; batches without surface points.

  Source: PointNet (Qi et al. 2017), equation 1; Achlioptas et al. 2018, section 4.1 (batch norm is left out); DPM (Luo & Hu
    2021), equation 15.
  """
  if flow is not None and kl is None:
    raise UsageFault("--config.task.flow", "a prior of codes is learned by their divergence from it", "set kl, as to 0.1")
  made = _PointAutoencoder(decoder, code_dim, tuple(widths), None if kl is None else as_schedule(kl), flow, latents == "sample")
  return Task(made.init, {"model": made.loss}, made.predict())


@dataclasses.dataclass(frozen=True)
class _PointAutoencoder:
  """The settings of `point_autoencoder`, and the task's functions as methods."""
  decoder: PointDecoder
  code_dim: int
  widths: tuple[int, ...]
  kl: Schedule | None
  flow: Flow | None
  sampled: bool

  def init(self, key):
    point_key, head_key, decoder_key, flow_key = jax.random.split(key, 4)
    own = {"encoder": init_layers(point_key, (3, *self.widths, self.code_dim)),
           "decoder": self.decoder.init(decoder_key, self.code_dim)}
    if self.kl is not None:
      own["head"] = init_code(head_key, self.code_dim, self.code_dim)
    if self.flow is not None:
      own["flow"] = self.flow.init(flow_key, self.code_dim)
    return {"model": own}, {}

  def _code(self, own, batch):
    """Mean and log variance of the codes of clouds, batch["surface"] (r, n, 3); no log variance without a distribution."""
    surface = surface_of(batch, 2048)
    h = jnp.max(layers(own["encoder"], surface), axis=1)
    if self.kl is None:
      return h, None
    mean, log_variance = jnp.split(linear(own["head"], h, Policy()), 2, axis=1)
    return mean, jnp.clip(log_variance, *LOG_VARIANCE)

  def loss(self, params, extra, batch, key, step):
    del extra
    own, (code_key, decoder_key) = params["model"], jax.random.split(key)
    mean, log_variance = self._code(own, batch)
    z = drawn(code_key, mean, log_variance)
    fit = jnp.mean(self.decoder.loss(own["decoder"], z, batch["surface"], decoder_key))
    if self.kl is None:
      return fit, {"fit": fit}
    kl = kl_to_normal(mean, log_variance) if self.flow is None else self._kl_to_flow(own, z, log_variance)
    return fit + self.kl(step) * kl, {"fit": fit, "kl": kl, "kl_weight": self.kl(step)}

  def _kl_to_flow(self, own, z, log_variance):
    """In nats an entry: the draws' mean -ln of the flow's density, less the normal's entropy."""
    entropy = 0.5 * (jnp.mean(log_variance) + jnp.log(2 * jnp.pi) + 1)
    return -jnp.mean(self.flow.log_prob(own["flow"], z)) / self.code_dim - entropy

  def predict(self) -> dict[str, Callable]:
    return {"latents": self._latents, "encode": self._encode, "interpolate": between, "sample": self._sample,
            "points": self._points}

  def _latents(self, params, extra, batch, key):
    del extra
    mean, log_variance = self._code(params["model"], batch)
    return drawn(key, mean, log_variance) if self.sampled else mean

  def _encode(self, params, extra, points, key):
    del extra, key
    return self._code(params["model"], {"surface": points[None]})[0][0]

  def _sample(self, params, extra, key, num):
    del extra
    if self.flow is not None:
      return self.flow.sample(params["model"]["flow"], key, num)
    return jax.random.normal(key, (num, self.code_dim), jnp.float32)

  def _points(self, params, extra, z, key):
    del extra
    return self.decoder.points(params["model"]["decoder"], z, key)
