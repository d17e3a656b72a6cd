"""Variational autoencoder of shapes: points on a surface -> a small set of vectors -> distance or occupancy anywhere."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Given, NonNegative, Positive
from fields3d.core.schedules import Rate, Schedule, as_schedule
from fields3d.core.task import Task, require
from fields3d.fields import AUTOENCODERS
from fields3d.fields.autoencoder import ShapeAutoencoder
from fields3d.losses.latent import kl_to_normal, occupancy_cross_entropy, truncated_l1
from fields3d.tasks.codes import between, drawn, surface_of


@dataclasses.dataclass(frozen=True)
class Occupancy:
  """How occupancy is told: see `losses.latent.occupancy_cross_entropy`."""
  temperature: Positive = 0.02
  near: NonNegative = 0.1
  near_weight: NonNegative = 0.1


def shape_vae(autoencoder: Annotated[ShapeAutoencoder, From(AUTOENCODERS)], info: Annotated[Mapping[str, Any], Given()],
              target: Literal["sdf", "occupancy"] = "sdf", clamp: Positive = 0.1,
              occupancy: Annotated[Occupancy, From({"occupancy": Occupancy})] = types.MappingProxyType({}),
              kl: Rate = 1e-3, latents: Literal["mean", "sample"] = "sample",
              surface_points: Count = 1024, noise: NonNegative = 0.0) -> Task:
  """Learns to encode points on a shape's surface and to give the shape's values back at any point.

  Group "model": the autoencoder's parameters. Batches are {"surface" (r, n, 3), "x" (r, m, 3), "sdf" (r, m)}; other entries
  are not read. The loss is a mean over rows, so that microbatches of rows are exact but for their noise.

  Args:
    target: "sdf": L1 to the distance clamped to +-clamp; "occupancy": cross-entropy of being inside. What the decoder gives
      is negative inside in both cases; with "occupancy" it is -logit * temperature, which is steep or flat as it is learned.
    kl: weight of the divergence from N(0, 1), a number or a schedule of the step, in nats an entry.
    latents: what "latents" gives for a prior to learn: the mean of a code, or a draw from its distribution.
    surface_points: how many samples "reconstruct" takes for points on the surface.
    noise: deviation, in the model frame's unit, of normal noise on the points in training, for points that are not exactly on
      a surface, such as those that a generator of clouds draws.

  Its predict functions: "encode" gives the mean code. "reconstruct" knows only samples of distances, so it takes the
  `surface_points` of least |sdf| for points on the surface, which are off by that much. "sample" draws from N(0, 1), the
  crudest prior. There is no "code": a shape's code needs its surface.

  Raises:
    UsageFault: batches without surface points.

  Source: Zhang et al. 2023, "3DShape2VecSet", sections 5 to 7; with "sdf", distances in the place of occupancy.
  """
  del info
  settings = occupancy if isinstance(occupancy, Occupancy) else Occupancy(**occupancy)
  distance = {"sdf": lambda predicted, sdf: truncated_l1(predicted, sdf, clamp),
              "occupancy": lambda predicted, sdf: occupancy_cross_entropy(predicted, sdf, **dataclasses.asdict(settings))}
  made = _ShapeVae(autoencoder, distance[target], target, as_schedule(kl), latents == "sample", surface_points, noise)
  return Task(made.init, {"model": made.loss}, made.predict())


@dataclasses.dataclass(frozen=True)
class _ShapeVae:
  """The settings of `shape_vae`, and the task's functions as methods."""
  model: ShapeAutoencoder
  distance: Callable
  target: str
  kl: Schedule
  sampled: bool
  surface_points: int
  noise: float

  def init(self, key):
    return {"model": self.model.init(key)}, {}

  def loss(self, params, extra, batch, key, step):
    del extra
    own, surface = params["model"], surface_of(batch, 1024)
    if self.noise:
      surface = surface + self.noise * jax.random.normal(jax.random.fold_in(key, 1), surface.shape)
    mean, log_variance = self.model.encode(own, surface)
    require(batch, ("x", "sdf"), "the batches have", "use a dataset of shapes, with points=1024, say")
    predicted = self.model.decode(own, drawn(key, mean, log_variance), batch["x"])
    fit, kl = self.distance(predicted, batch["sdf"]), kl_to_normal(mean, log_variance)
    wrong = jnp.mean((predicted < 0) != (batch["sdf"] < 0))
    return fit + self.kl(step) * kl, {self.target: fit, "kl": kl, "kl_weight": self.kl(step), "wrong_side": wrong}

  def predict(self) -> dict[str, Callable]:
    return {"sdf": self._sdf, "latents": self._latents, "encode": self._encode, "reconstruct": self._reconstruct,
            "interpolate": between, "sample": self._sample}

  def _sdf(self, params, extra, x, z):
    del extra
    return self.model.decode(params["model"], z[None], x[None])[0]

  def _latents(self, params, extra, batch, key):
    del extra
    mean, log_variance = self.model.encode(params["model"], surface_of(batch, 1024))
    return drawn(key, mean, log_variance) if self.sampled else mean

  def _encode(self, params, extra, points, key):
    del extra, key
    return self.model.encode(params["model"], points[None])[0][0]

  def _reconstruct(self, params, extra, x, sdf, key):
    nearest = jax.lax.top_k(-jnp.abs(sdf), min(self.surface_points, sdf.shape[0]))[1]
    return self._encode(params, extra, x[nearest], key)

  def _sample(self, params, extra, key, num):
    del params, extra
    return jax.random.normal(key, (num, *self.model.shape), jnp.float32)
