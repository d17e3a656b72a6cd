"""A prior over the latents of another task that is trained already: new shapes, by class, or that fit a partial scan."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, From, Given, Index
from fields3d.core.errors import UsageFault, nearest
from fields3d.core.task import Task
from fields3d.networks.mlp import mlp
from fields3d.tasks.bases import BASES, init_base, latents_of
from fields3d.tasks.priors import PRIORS, Prior

_OCTAVES = 4  # of the sines by which points of a scan are seen
_FLOOR = 1e-6  # of a standard deviation


def latent_prior(base: Annotated[Task, From(BASES)], prior: Annotated[Prior, From(PRIORS)],
                 info: Annotated[Mapping[str, Any], Given()], by_class: bool = False, scan_points: Index = 0,
                 scan_width: Count = 64, calibrate: Count = 100) -> Task:
  """Learns the distribution of the latents that `base` gives the shapes of each batch, or that the batch brings (`latents_of`).

  Groups: those of `base`, frozen, which `init_from` brings; and "prior", which is trained. Latents are standardised by
  their channels' mean and deviation over the first `calibrate` batches, which are kept in `extra`. All that can be asked
  of `base` can be asked of this; "sample" draws from the prior.

  Args:
    info: the dataset's facts: labels and classes of the training shapes.
    by_class: condition on the class of a shape; "sample" then draws classes as often as training has them.
    scan_points: condition on partial scans of so many points, the points of batch["surface"] that lie in a random
      direction (half of them, thinned out), for the predict function "complete"; 0 for none.
    scan_width: of the network that each point of a scan goes through.

  Raises:
    UsageFault: a base without latents, a prior that cannot take them, or a condition that the data do not give.

  Source: latent diffusion (Rombach et al. 2022); 3DShape2VecSet (Zhang et al. 2023), section 6 for sets.
  """
  if "latents" not in base.predict:
    raise UsageFault("--config.task.base", "its shapes have no latents", nearest("fit_sdf", BASES))
  if by_class and not any(info.get("classes") or ()):  # the files of a flat folder have the class ""
    raise UsageFault("--config.task.by_class", "the data names no classes", "set it to False")
  if scan_points and not prior.tokens:
    raise UsageFault("--config.task.scan_points", "this prior cannot be conditioned on scans", "use prior.name=diffusion")
  classes = list(info["classes"]) if by_class else []
  counts = np.array([list(info["labels"]).count(name) for name in classes], np.float64)
  task = _LatentPrior(base, prior, tuple(counts / max(counts.sum(), 1)), scan_points, scan_width, calibrate)
  return Task(task.init, {"prior": task.loss}, task.predict(), task.refresh)


@dataclasses.dataclass(frozen=True)
class _LatentPrior:
  """The settings of `latent_prior`, and the task's functions as methods. shares: of each class, () for none."""
  base: Task
  prior: Prior
  shares: tuple[float, ...]
  scan_points: int
  scan_width: int
  calibrate: int

  def init(self, key):
    base_key, prior_key, scan_key = jax.random.split(key, 3)
    params, extra = init_base(self.base, base_key)
    shape = self._shape(params, extra)
    if len(shape) > 1 and not self.prior.sets:
      raise UsageFault("--config.task.prior", f"takes vectors, the base's latents are {shape}", "use prior.name=diffusion")
    token_dim = self.scan_width if self.scan_points else 0
    own = {"model": self.prior.init(prior_key, shape, len(self.shares), token_dim)}
    if self.scan_points:
      own["scan"] = self._reader().init(scan_key, 3 + 6 * _OCTAVES, self.scan_width)
    channels = shape[-1:]
    moments = {"batches": jnp.zeros(()), "mean": jnp.zeros(channels), "variance": jnp.ones(channels)}
    return {**params, "prior": own}, {"base": extra, "moments": moments}

  def _shape(self, params, extra) -> tuple[int, ...]:
    """Of one latent."""
    one = lambda: self.base.predict["interpolate"](params, extra, *self._two(params, extra), 0.5)
    return jax.eval_shape(one).shape

  def _two(self, params, extra):
    draws = self.base.predict["sample"](params, extra, jax.random.key(0), 2)
    return draws[0], draws[1]

  def refresh(self, params, extra, batch, key, step):
    """Adds a batch to the moments, while they are calibrated."""
    moments = extra["moments"]
    z = latents_of(self.base, params, extra["base"], batch, key)
    axes = tuple(range(z.ndim - 1))
    share = jnp.where(step < self.calibrate, 1 / (moments["batches"] + 1), 0.0)
    moved = jnp.mean(z, axes) - moments["mean"]
    spread = jnp.var(z, axes) + (1 - share) * moved**2  # about its own mean, and of the means (Chan et al. 1979)
    new = {"batches": moments["batches"] + (step < self.calibrate), "mean": moments["mean"] + share * moved,
           "variance": moments["variance"] + share * (spread - moments["variance"])}
    return {"base": extra["base"], "moments": new}

  def _scale(self, extra, ndim: int):
    """Mean and standard deviation of the channels, with `ndim` axes."""
    moments, axes = extra["moments"], (1,) * (ndim - 1) + (-1,)
    deviation = jnp.sqrt(jnp.maximum(moments["variance"], _FLOOR**2))
    return moments["mean"].reshape(axes), deviation.reshape(axes)

  def loss(self, params, extra, batch, key, step):
    del step
    latent_key, scan_key, prior_key = jax.random.split(key, 3)
    z = latents_of(self.base, params, extra["base"], batch, latent_key)
    mean, deviation = self._scale(extra, z.ndim)
    label = self._label(batch)
    tokens = self._tokens(params, one_sided(self._surface(batch), self.scan_points, scan_key)) if self.scan_points else None
    value = self.prior.loss(params["prior"]["model"], (z - mean) / deviation, label, tokens, prior_key)
    return value, {"latent_std": jnp.mean(deviation)}

  def _label(self, batch):
    if not self.shares:
      return None
    if "label" not in batch:
      raise UsageFault("--config.task.by_class", "the batches have no label", "set it to False")
    return batch["label"]

  def _surface(self, batch):
    if "surface" not in batch:
      raise UsageFault("--config.task.scan_points", "the batches have no points on surfaces", "set --config.data.surface=2048")
    return batch["surface"]

  def _reader(self):
    return mlp(self.scan_width, 2, activation="silu")

  def _tokens(self, params, scan):
    """What the prior sees of scans (b, n, 3): (b, n, scan_width)."""
    angle = np.pi * (scan[..., None] * 2.0 ** np.arange(_OCTAVES, dtype=np.float32).reshape(1, 1, 1, -1))
    waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(*scan.shape[:2], -1)
    return self._reader().apply(params["prior"]["scan"], jnp.concatenate([scan, waves], axis=-1))

  def predict(self) -> dict[str, Callable]:
    def passed(fn):
      return lambda params, extra, *arguments: fn(params, extra["base"], *arguments)

    fns = {name: passed(fn) for name, fn in self.base.predict.items()} | {"sample": self._sample}
    if self.shares:
      fns["sample_label"] = self._sample_label
    if self.scan_points:
      fns["complete"] = self._complete
    return fns

  def _draw(self, params, extra, key, num, label, tokens):
    shape = self._shape(params, extra["base"])
    z = self.prior.sample(params["prior"]["model"], key, (num, *shape), label, tokens)
    mean, deviation = self._scale(extra, z.ndim)
    return mean + deviation * z

  def _sample(self, params, extra, key, num):
    label_key, key = jax.random.split(key)
    label = None
    if self.shares:
      label = jax.random.categorical(label_key, jnp.log(jnp.asarray(self.shares)), shape=(num,))
    return self._draw(params, extra, key, num, label, None)

  def _sample_label(self, params, extra, key, label, num):
    return self._draw(params, extra, key, num, jnp.full((num,), label, jnp.int32), None)

  def _complete(self, params, extra, points, key, num):
    """Of more points than a scan has, so many at random; of fewer, some twice."""
    pick_key, key = jax.random.split(key)
    order = jax.random.permutation(pick_key, len(points))
    scan = points[order[np.arange(self.scan_points) % len(points)]]
    tokens = self._tokens(params, scan[None])
    label = jnp.full((num,), -1) if self.shares else None
    return self._draw(params, extra, key, num, label, jnp.broadcast_to(tokens, (num, *tokens.shape[1:])))


def one_sided(surface: jax.Array, num: int, key: jax.Array) -> jax.Array:
  """Partial scans: of each cloud (b, n, 3), `num` of the half that lies farthest in a random direction.

  >>> cloud = jnp.stack([jnp.arange(8.0), jnp.zeros(8), jnp.zeros(8)], axis=1)[None]
  >>> float(jnp.ptp(one_sided(cloud, 4, jax.random.key(0))[0, :, 0]))
  3.0
  """
  direction = jax.random.normal(key, (len(surface), 3))
  order = jnp.argsort(jnp.einsum("bnk,bk->bn", surface, direction), axis=1)
  half = surface.shape[1] // 2
  kept = order[:, (np.arange(num) * half) // num]
  return jnp.take_along_axis(surface, kept[..., None], axis=1)
