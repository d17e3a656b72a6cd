"""Signed distances: one field for one shape, or for many by a code each, the auto-decoder of DeepSDF."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Given, Positive
from fields3d.core.errors import UsageFault, nearest
from fields3d.core.schedules import Curriculum, Rate, Schedule, as_schedule, at
from fields3d.core.task import Task, require
from fields3d.fields import FIELDS
from fields3d.fields.field import NeuralField
from fields3d.losses.blocks import mean_over_blocks, split_points
from fields3d.losses.regularizers import code_norm, eikonal, overshoot
from fields3d.losses.surface import clamped_l1, color_l1, normal_alignment, relative_l1, value_and_gradient
from fields3d.tasks.codes import Reconstruction, between, fit_code, sample_gaussian, shrunk_gaussian, within

TERMS = ("distance", "color", "eikonal", "normal", "code")
CURRICULUM = types.MappingProxyType({"distance": 1.0, "code": 1e-4})
DISTANCES = {"clamped_l1": clamped_l1, "relative_l1": relative_l1}


def fit_sdf(field: Annotated[NeuralField, From(FIELDS)], info: Annotated[Mapping[str, Any], Given()],
            curriculum: Curriculum = CURRICULUM, distance: Literal[tuple(DISTANCES)] = "clamped_l1",
            clamp: Positive = 0.1, relative_floor: Positive = 0.01, color_within: Positive = 0.05,
            gradient_points: Count = 1024, block: Count | None = None, code_std: Positive = 1.0,
            code_bound: Positive | None = 1.0, code_noise: Rate = 0.0,
            reconstruct: Annotated[Reconstruction, From({"adam": Reconstruction})] = types.MappingProxyType({}),
            ) -> Task:
  """Fits a field, and a code for each shape, to samples of signed distances.

  Group "field": {"decoder": the field's parameters, "codes" (num_shapes, code_dim) unless code_dim is 0}. Batches
  are {"shape" (s,), "x" (s, n, 3), "sdf" (s, n)} with "normals" (s, n, 3) and "colors" (s, n, 3) where known. The
  loss is a sum of means over rows, so that microbatches of rows are exact.

  Args:
    info: the dataset's facts: num_shapes.
    curriculum: weights of the terms, numbers or schedules of the step; a term that is not named is not computed.
      distance; color (L1 near the surface; the field has 4 channels); eikonal (|gradient| = 1); normal (the
      gradient's direction); code (mean length of the codes; DeepSDF warms its 1e-4 up over 100 epochs). And level,
      no weight but the number of active encoding levels.
    distance: "clamped_l1" (DeepSDF), or "relative_l1", free of scale, for hash grids.
    clamp, relative_floor: of the one, of the other.
    color_within: distance up to which colours count.
    gradient_points: of each row, for eikonal and normal: its own samples, and for eikonal as many more anywhere in
      [-1, 1]^3.
    block: points of each row that are differentiated at once, a divisor of n; all when None. Bounds the memory of
      activations. A CPU is fastest with 1,000 to 4,000 points in all rows' blocks together, up to twice, as they
      then stay in its cache.
    code_std: codes start from N(0, code_std^2 / code_dim).
    code_bound: greatest length of a code; None for no bound.
    code_noise: standard deviation of the normal noise on every entry of a code in training, a schedule: neighbours in the
      space of codes become alike, which a prior over the codes wants (a variational auto-decoder with one given variance).
    reconstruct: see `Reconstruction`.

  Raises:
    UsageFault: an unknown term, or one that the field or the data cannot give.

  Source: Park et al. 2019, "DeepSDF"; Gropp et al. 2020 for the eikonal term.
  """
  schedules = {name: as_schedule(value) for name, value in curriculum.items()}
  for name in schedules:
    if name not in (*TERMS, "level"):
      raise UsageFault(f"--config.task.curriculum.{name}", "no such term", nearest(name, (*TERMS, "level")))
  if "color" in schedules and field.channels != 4:
    raise UsageFault("--config.task.curriculum.color", "the field has no colours", "set --config.task.field.channels=4")
  if not set(schedules) & {"distance", "eikonal", "normal"}:
    raise UsageFault("--config.task.curriculum", "has no term that shapes the field", "add distance=1.0")
  settings = reconstruct if isinstance(reconstruct, Reconstruction) else Reconstruction(**reconstruct)
  scale = clamp if distance == "clamped_l1" else relative_floor
  fit = _FitSdf(field, info["num_shapes"], schedules, lambda predicted, sdf: DISTANCES[distance](predicted, sdf, scale),
                color_within, gradient_points, block, code_std, code_bound, as_schedule(code_noise) if code_noise else None,
                settings)
  return Task(fit.init, {"field": fit.loss}, fit.predict(), fit.refresh)


@dataclasses.dataclass(frozen=True)
class _FitSdf:
  """The settings of `fit_sdf`, and the task's functions as methods."""
  field: NeuralField
  num_shapes: int
  curriculum: Mapping[str, Schedule]
  distance: Callable
  color_within: float
  gradient_points: int
  block: int | None
  code_std: float
  code_bound: float | None
  code_noise: Schedule | None
  reconstruction: Reconstruction

  def init(self, key):
    decoder_key, code_key = jax.random.split(key)
    own = {"decoder": self.field.init(decoder_key)}
    if (d := self.field.code_dim) > 0:
      codes = self.code_std / d**0.5 * jax.random.normal(code_key, (self.num_shapes, d), jnp.float32)
      own["codes"] = within(codes, self.code_bound)
    return {"field": own}, self.refresh(None, {}, None, None, jnp.zeros((), jnp.int32))

  def refresh(self, params, extra, batch, key, step):
    """Remembers how many encoding levels are active, so that predictions use those that are trained."""
    del params, extra, batch, key
    return {"level": self.curriculum["level"](step)} if "level" in self.curriculum else {}

  def loss(self, params, extra, batch, key, step):
    del extra
    own, weights = params["field"], at(self.curriculum, step)
    level = weights.pop("level", None)
    self._check(batch, weights)
    stored = own["codes"][batch["shape"]] if "codes" in own else jnp.zeros((*batch["shape"].shape, 0))
    z = clean = within(stored, self.code_bound)
    data_key, gradient_key, *noise_key = jax.random.split(key, 3 if self.code_noise else 2)
    if self.code_noise:
      z = clean + self.code_noise(step) * jax.random.normal(noise_key[0], z.shape)
    total, scalars = self._data(own["decoder"], z, batch, level, weights, data_key)
    terms = {"code": code_norm(clean)} if "code" in weights else {}
    if {"eikonal", "normal"} & set(weights):
      terms |= self._gradients(own["decoder"], z, batch, level, weights, gradient_key)
    total += sum(weights[name] * term for name, term in terms.items())
    if self.code_bound is not None:
      total += overshoot(stored, self.code_bound)
    return total, {**scalars, **terms}

  def _check(self, batch, weights):
    require(batch, ("x", "sdf", "shape"), "the batches have", "use a dataset of shapes, as name=procedural")
    for term, data in (("color", "colors"), ("normal", "normals")):
      if term in weights and data not in batch:
        raise UsageFault(f"--config.task.curriculum.{term}", f"the data has no {data}", "remove the term")
    points = batch["x"].shape[1]
    if self.block is not None and points % self.block:
      raise UsageFault("--config.task.block", f"{self.block} does not divide the {points} points of a row",
                       "give a divisor of --config.data.points")

  def _data(self, decoder, z, batch, level, weights, key):
    """The terms that compare values, in blocks of points: (weighted sum, {term: value})."""
    def of_block(params, block, block_key):
      decoder, z = params
      out = self.field.apply(decoder, block["x"], z, block_key, level)
      terms = {}
      if "distance" in weights:
        terms["distance"] = self.distance(out[..., 0], block["sdf"])
      if "color" in weights:
        terms["color"] = color_l1(out[..., 1:], block["colors"], block["sdf"], self.color_within)
      return sum(weights[name] * term for name, term in terms.items()), terms

    if not {"distance", "color"} & set(weights):
      return jnp.zeros(()), {}
    points = {name: batch[name] for name in ("x", "sdf", "colors") if name in batch}
    if self.block is None:
      return of_block((decoder, z), points, key)
    blocks = split_points(points, self.block)
    return mean_over_blocks(of_block, (decoder, z), blocks, jax.random.split(key, len(blocks["x"])))

  def _gradients(self, decoder, z, batch, level, weights, key):
    """The terms that look at the field's gradient, at some of each row's samples and, for eikonal, anywhere."""
    drop_key, draw_key = jax.random.split(key)
    stride = -(-batch["x"].shape[1] // self.gradient_points)
    x = batch["x"][:, ::stride]
    own = x.shape[1]
    if "eikonal" in weights:
      x = jnp.concatenate([x, jax.random.uniform(draw_key, x.shape, x.dtype, -1.0, 1.0)], axis=1)
    _, gradient = value_and_gradient(lambda x: self.field.apply(decoder, x, z, drop_key, level)[..., 0], x)
    terms = {"eikonal": eikonal(gradient)} if "eikonal" in weights else {}
    if "normal" in weights:
      terms["normal"] = normal_alignment(gradient[:, :own], batch["normals"][:, ::stride])
    return terms

  def predict(self) -> dict[str, Callable]:
    fns = {"code": self._code, "sdf": self._sdf}
    if self.field.channels == 4:
      fns["color"] = self._color
    if self.field.code_dim:
      fns |= {"reconstruct": self._reconstruct, "interpolate": between, "sample": self._sample,
              "latents": self._latents}
    return fns

  def _code(self, params, extra, index):
    del extra
    if not self.field.code_dim:
      return jnp.zeros((0,), jnp.float32)
    return within(params["field"]["codes"][index], self.code_bound)

  def _latents(self, params, extra, batch, key):
    del key
    return jax.vmap(lambda index: self._code(params, extra, index))(batch["shape"])

  def _sdf(self, params, extra, x, z):
    return self.field.apply(params["field"]["decoder"], x, z, None, extra.get("level"))[..., 0]

  def _color(self, params, extra, x, z):
    return jax.nn.sigmoid(self.field.apply(params["field"]["decoder"], x, z, None, extra.get("level"))[..., 1:])

  def _reconstruct(self, params, extra, x, sdf, key):
    loss = lambda z, x, sdf: self.distance(self._sdf(params, extra, x, z), sdf)
    return fit_code(loss, x, sdf, self.field.code_dim, self.reconstruction, key)

  def _sample(self, params, extra, key, num):
    del extra
    mean, covariance = shrunk_gaussian(within(params["field"]["codes"], self.code_bound))
    return within(sample_gaussian(key, mean, covariance, num), self.code_bound)
