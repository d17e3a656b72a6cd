"""A radiance field from posed photographs: volume rendering by any renderer, and all that photographs differ in."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Given, Index, Positive, Range
from fields3d.core.errors import UsageFault, nearest
from fields3d.core.numerics import mean_where, norm
from fields3d.core.schedules import Curriculum, Schedule, as_schedule, at
from fields3d.core.task import Task, require
from fields3d.core.types import Rays
from fields3d.fields import RADIANCE_FIELDS
from fields3d.fields.field import RadianceField
from fields3d.losses.image import PhotometricLoss, photometric
from fields3d.losses.ray import blurred_interlevel, distortion, interlevel
from fields3d.losses.regularizers import eikonal, normal_variation
from fields3d.networks.mlp import mlp
from fields3d.rendering import RENDERERS
from fields3d.rendering.contraction import Shape, contract, shrink
from fields3d.rendering.renderer import Radiance, Rendered, Renderer, Section
from fields3d.tasks.view_corrections import SHADES, Background, exposed, moved

TERMS = ("color", "coarse", "interlevel", "distortion", "eikonal", "curvature", "mask", "depth", "cameras",
         "exposures")
Blur = Annotated[tuple[float, ...], Range(gt=0)]
CURRICULUM = types.MappingProxyType({"color": 1.0})


def fit_radiance(field: Annotated[RadianceField, From(RADIANCE_FIELDS)], renderer: Annotated[Renderer, From(RENDERERS)],
                 info: Annotated[Mapping[str, Any], Given()],
                 proposals: Annotated[Mapping[str, RadianceField], From(RADIANCE_FIELDS, each=True)] = types.MappingProxyType({}),
                 curriculum: Curriculum = CURRICULUM, loss: PhotometricLoss = "l2",
                 background: Background = "white", appearance_std: Positive = 0.1, refine_cameras: bool = False,
                 fit_exposure: bool = False, outside_mask: Literal["unknown", "background"] = "unknown",
                 contraction: Shape = "ball", interlevel_blur: Blur = (), eikonal_points: Index = 1024,
                 curvature_points: Count = 512, curvature_step: Positive = 0.02) -> Task:
  """Fits a field to rays and their colours.

  Group "field": {"field", "proposals": {name: ...}} and, where asked for, "background", "appearance" (views, dim), "cameras"
  (views, 6: translation, rotation vector), "exposures" (views, 6). Their learning rates: `learning_rates` of the optimiser.
  Batches are those of `data.rays`. The loss is a mean over the pixels that were rendered.

  Args:
    info: the dataset's facts.
    renderer: how rays are sampled. proposals: the fields of the levels before the last, in the order of
      their names (a config does not keep the order in which they are written).
    curriculum: weights of the terms, numbers or schedules of the step: color; coarse (the colours of coarse levels);
      interlevel and distortion (mip-NeRF 360); eikonal (fields of distances, at the samples and at `eikonal_points` more
      anywhere in the box); curvature (fields of distances: by how much normals turn over `curvature_step` of the model
      frame in a random direction, where the first `curvature_points` rays meet the surface); mask (opacity against
      coverage); depth (L1, along rays, where known); cameras, exposures (mean squares of the corrections). And level, no weight but
      the number of active encoding levels.
    background: what rays that leave the scene see in training: a constant; a random colour for each pixel, under the
      photograph too where it is transparent; or a learned function of direction. Predictions show the scene's own
      background ("white" or "black"), white if it is transparent, and the learned one where there is one.
    appearance_std: appearance codes (as wide as the field wants) start from N(0, std^2); unknown views get their mean.
    refine_cameras: learn a rigid correction of each training camera. fit_exposure: learn a gain and an offset of each
      channel of each training view.
    outside_mask: what is known of pixels outside a photograph's mask: nothing, or that they show the background.
    contraction: of unbounded scenes. interlevel_blur: half widths by which the field's weights are blurred before each
      proposal is held against them (Zip-NeRF), one each; () for mip-NeRF 360's bound.

  Raises:
    UsageFault: an unknown term, or one that the field, the renderer or the data cannot give; proposals that the renderer
      does not want or misses.

  Source: NeRF (Mildenhall et al. 2020); mip-NeRF 360 (Barron et al. 2022) for the terms and the contraction; Martin-Brualla
    et al. 2021 for appearance codes.
  """
  require(info, ("ndc", "num_views"), "it is not a scene, there are", "give posed photographs of one")
  schedules = {name: as_schedule(value) for name, value in curriculum.items()}
  _check_blurs(schedules, renderer, interlevel_blur)
  _check(schedules, field, renderer, proposals, info, {"cameras": refine_cameras, "exposures": fit_exposure})
  sky = mlp(width=32, depth=1) if background == "learned" else None
  fit = _FitRadiance(field, dict(sorted(proposals.items())), renderer, info, schedules, loss, background, sky,
                     appearance_std, refine_cameras, fit_exposure, outside_mask == "background", contraction,
                     interlevel_blur, eikonal_points, curvature_points, curvature_step)
  return Task(fit.init, {"field": fit.loss}, fit.predict(), fit.refresh)


def _check(schedules: Mapping, field: RadianceField, renderer: Renderer, proposals: Mapping, info: Mapping,
           corrected: Mapping[str, bool]) -> None:
  for name in schedules:
    if name not in (*TERMS, "level"):
      raise UsageFault(f"--config.task.curriculum.{name}", "no such term", nearest(name, (*TERMS, "level")))
  if "color" not in schedules:
    raise UsageFault("--config.task.curriculum", "has no color", "add color=1.0")
  for name in ("eikonal", "curvature"):
    if name in schedules and field.sdf is None:
      raise UsageFault(f"--config.task.curriculum.{name}", "the field has no distance", "remove the term")
  for name, learned in corrected.items():
    if name in schedules and not learned:
      raise UsageFault(f"--config.task.curriculum.{name}", "no such corrections are learned",
                       "remove the term, or set refine_cameras or fit_exposure")
  if "interlevel" in schedules and renderer.levels == 1:
    raise UsageFault("--config.task.curriculum.interlevel", "the renderer has one level of sampling", "remove the term")
  if info["ndc"] and "depth" in schedules:
    raise UsageFault("--config.task.curriculum.depth", "there are no lengths in normalised device coordinates",
                     "remove the term, or set --config.data.ndc=False")
  if info["ndc"] and corrected["cameras"]:
    raise UsageFault("--config.task.refine_cameras", "no motion of a camera is one in normalised device coordinates",
                     "set it to False, or set --config.data.ndc=False")
  if info["ndc"] and field.sdf is not None:
    raise UsageFault("--config.task.field", "there are no distances in normalised device coordinates",
                     "use a field of densities, or set --config.data.ndc=False")
  if len(proposals) != renderer.levels - 1:
    raise UsageFault("--config.task.proposals", f"has {len(proposals)} fields, the renderer wants {renderer.levels - 1}",
                     "name one for each level of sampling but the last")
  if field.color is None:
    raise UsageFault("--config.task.field", "has no colour", "give another, as ngp; proposal is for levels before the last")
  for name, proposal in proposals.items():
    if proposal.color is None and renderer.shades_all:
      raise UsageFault(f"--config.task.proposals.{name}", "has no colour, which this renderer shows of every level",
                       "give a field as --config.task.field")
    if proposal.appearance_dim not in (0, field.appearance_dim):
      raise UsageFault(f"--config.task.proposals.{name}.appearance_dim", f"is {proposal.appearance_dim}, the field's is "
                       f"{field.appearance_dim}", "give the field's, or 0")


def _check_blurs(schedules: Mapping, renderer: Renderer, blurs: Sequence[float]) -> None:
  if blurs and "interlevel" not in schedules:
    raise UsageFault("--config.task.interlevel_blur", "the curriculum has no interlevel", "add the term, or set it to ()")
  if blurs and len(blurs) != renderer.levels - 1:
    raise UsageFault("--config.task.interlevel_blur", f"has {len(blurs)} widths for {renderer.levels - 1} proposals",
                     "give one each, or ()")


@dataclasses.dataclass(frozen=True)
class _FitRadiance:
  """The settings of `fit_radiance`, and the task's functions as methods."""
  field: RadianceField
  proposals: Mapping[str, RadianceField]
  renderer: Renderer
  info: Mapping[str, Any]
  curriculum: Mapping[str, Schedule]
  image_loss: str
  background: str
  sky: Any
  appearance_std: float
  refine_cameras: bool
  fit_exposure: bool
  outside_is_background: bool
  contraction: str
  interlevel_blur: tuple[float, ...]
  eikonal_points: int
  curvature_points: int
  curvature_step: float

  def init(self, key):
    field_key, code_key, sky_key, *keys = jax.random.split(key, 3 + len(self.proposals))
    own = {"field": self.field.init(field_key),
           "proposals": {name: f.init(k) for (name, f), k in zip(self.proposals.items(), keys, strict=True)}}
    views = self.info["num_views"]
    if self.field.appearance_dim:
      own["appearance"] = self.appearance_std * jax.random.normal(code_key, (views, self.field.appearance_dim))
    if self.refine_cameras:
      own["cameras"] = jnp.zeros((views, 6))
    if self.fit_exposure:
      own["exposures"] = jnp.zeros((views, 6))
    if self.sky is not None:
      own["background"] = self.sky.init(sky_key, 3, 3)
    return {"field": own}, {"renderer": self.renderer.init()} | self._level(jnp.zeros((), jnp.int32))

  def _level(self, step):
    """How many encoding levels are active, kept so that predictions use those that are trained."""
    return {"level": self.curriculum["level"](step)} if "level" in self.curriculum else {}

  def refresh(self, params, extra, batch, key, step):
    del batch
    density = lambda x: self._density(params, extra, x, None)
    return {"renderer": self.renderer.refresh(density, extra["renderer"], key, step)} | self._level(step)

  def loss(self, params, extra, batch, key, step):
    own, weights = params["field"], at(self.curriculum, step)
    weights.pop("level", None)
    render_key, sky_key, box_key = jax.random.split(key, 3)
    rays = _flat_rays(batch)
    if self.refine_cameras:
      rays = moved(rays, own["cameras"])
    seen = self.renderer.render(self._radiances(own, extra), extra["renderer"], rays, render_key, step)
    pixels, per = len(batch["rgb"]), len(rays.near) // len(batch["rgb"])
    mean = lambda values: jnp.mean(values.reshape(pixels, per, *values.shape[1:]), axis=1)
    counted, alpha = self._counted(batch, seen, pixels, per)
    recorded = lambda color: exposed(color, own["exposures"], batch["view"][:, 0]) if self.fit_exposure else color
    behind, photograph = self._backdrop(own, rays, batch, alpha, sky_key, mean)
    truth = photograph + (1 - alpha)[:, None] * jax.lax.stop_gradient(recorded(behind))
    pixel_colors = lambda rgb, covered: recorded(mean(rgb) + (1 - mean(covered))[:, None] * behind)
    shown = pixel_colors(seen.rgb, seen.opacity)
    against = lambda rgb: photometric(rgb, truth, self.image_loss, counted)
    terms = {"color": against(shown)}
    if "coarse" in weights:
      _given("coarse", seen.coarse)
      terms["coarse"] = sum(against(pixel_colors(rgb, w.sum(-1)))
                            for rgb, (_, w) in zip(seen.coarse, seen.levels, strict=False))
    if "mask" in weights:
      terms["mask"] = mean_where(counted, (mean(seen.opacity) - alpha) ** 2)
    if "depth" in weights:
      terms["depth"] = self._depth(batch, seen, mean, counted)
    terms |= self._regularisers(own, extra, seen, rays, weights, box_key)
    total = sum(weights[name] * term for name, term in terms.items())
    error = photometric(shown, truth, "l2", counted)
    return total, {**terms, "psnr": -10 * jnp.log10(jnp.maximum(error, 1e-10)), **seen.scalars}

  def _counted(self, batch, seen: Rendered, pixels: int, per: int):
    """Which pixels count, and the coverage of each."""
    counted, alpha = jnp.ones(pixels, bool), batch["alpha"]
    if seen.complete is not None:
      counted = jnp.all(seen.complete.reshape(pixels, per), axis=1)
    if "mask" not in batch:
      return counted, alpha
    return (counted, alpha * batch["mask"]) if self.outside_is_background else (counted & batch["mask"], alpha)

  def _backdrop(self, own, rays: Rays, batch, alpha, key, mean):
    """What lies behind each pixel, as it is, and the photograph's colours, as recorded, premultiplied."""
    if self.background == "random":
      behind = jax.random.uniform(key, (len(alpha), 3))
    elif self.sky is not None:
      behind = mean(self._sky(own, rays.viewdirs))
    else:
      behind = jnp.full((len(alpha), 3), SHADES[self.background])
    return behind, batch["rgb"] * (alpha / jnp.maximum(batch["alpha"], 1e-6))[:, None]

  def _depth(self, batch, seen: Rendered, mean, counted):
    if "depth" not in batch:
      raise UsageFault("--config.task.curriculum.depth", "the data has no depth", "remove the term")
    expected = mean(seen.depth) / jnp.maximum(mean(seen.opacity), 1e-3)
    return mean_where(counted & (batch["depth"] > 0), jnp.abs(expected - batch["depth"]))

  def _regularisers(self, own, extra, seen: Rendered, rays: Rays, weights, key):
    terms = {}
    if "curvature" in weights:
      key, turn_key = jax.random.split(key)
      terms["curvature"] = self._curvature(own, extra, seen, rays, turn_key)
    if "interlevel" in weights:
      last = seen.levels[-1]
      if self.interlevel_blur:
        terms["interlevel"] = sum(blurred_interlevel(*last, *level, blur)
                                  for level, blur in zip(seen.levels[:-1], self.interlevel_blur, strict=True))
      else:
        terms["interlevel"] = sum(interlevel(*last, *level) for level in seen.levels[:-1])
    if "distortion" in weights:
      _given("distortion", seen.levels)
      terms["distortion"] = distortion(*seen.levels[-1])
    if "eikonal" in weights:
      gradient = seen.section.gradient.reshape(-1, 3)
      valid = jnp.ones(len(gradient), bool) if seen.valid is None else seen.valid
      terms["eikonal"] = mean_where(valid, (norm(gradient) - 1) ** 2)
      if self.eikonal_points:
        x = jax.random.uniform(key, (self.eikonal_points, 3), minval=-1.0, maxval=1.0)
        terms["eikonal"] += eikonal(self._gradient(own, extra, x))
    terms |= {name: jnp.mean(own[name] ** 2) for name in ("cameras", "exposures") if name in weights}
    return terms

  def _curvature(self, own, extra, seen: Rendered, rays: Rays, key):
    """How far normals turn over a short step, where the first rays meet the surface."""
    first = lambda a: a[:self.curvature_points]
    opacity, depth, rays = jax.lax.stop_gradient((first(seen.opacity), first(seen.depth), jax.tree.map(first, rays)))
    x = rays.origins + (depth / jnp.maximum(opacity, 1e-6))[:, None] * rays.directions
    away = jax.random.normal(key, x.shape)
    there = x + self.curvature_step * away / norm(away)[:, None]
    normals = self._gradient(own, extra, self._place(jnp.stack([x, there]))[0])
    met = opacity > 0.5 if seen.complete is None else (opacity > 0.5) & first(seen.complete)
    return normal_variation(*normals, met)

  def _gradient(self, own, extra, x):
    """Of the distance, at points of the fields' box."""
    return jax.grad(lambda x: jnp.sum(self.field.sdf(own["field"], x, extra.get("level"))))(x)

  def _place(self, x):
    """Points of the model frame in the fields' box, and by how much lengths shrink on the way."""
    if self.info["unbounded"]:
      return contract(x, self.contraction), shrink(x, self.contraction)
    half = self.info["bounds"][1][0]
    return x / half, jnp.full(x.shape[:-1], 1 / half)

  def _footprint(self, x):
    """The radius of the narrowest pixel's cone that trained the field at points of the model frame, as far as is known.

    Without it a point is asked for, and encodings that know cones answer with details that none was narrow enough to train.
    """
    if "eyes" not in self.info:
      return jnp.zeros(x.shape[:-1])
    ones = (1,) * (x.ndim - 1)
    eyes = jnp.asarray(self.info["eyes"], jnp.float32).reshape(*ones, -1, 3)
    radii = jnp.asarray(self.info["radii"], jnp.float32).reshape(*ones, -1)
    return jnp.min(radii * norm(jax.lax.stop_gradient(x)[..., None, :] - eyes), axis=-1)

  def _radiances(self, own, extra) -> list[Radiance]:
    """The fields of all levels, bound to parameters, in the model frame."""
    level = extra.get("level")

    def bound(field, params, codes):
      def section(x, d, dt, radius):
        place, scale = self._place(x)
        if field.sdf is None:
          return Section(*field.section(params, place, d, dt, radius * scale, level))
        placed = lambda x: self._place(x)[0]  # the section as it lies in the box, where the field's distances are
        along = jax.jvp(placed, (x,), (d,))[1]
        length = norm(along)
        seen = Section(*field.section(params, place, along / length[..., None], dt * length, radius * scale, level))
        normal = jax.vjp(placed, x)[1](seen.gradient)[0]
        steepness = norm(normal)[..., None]
        return dataclasses.replace(seen, normal=normal / jnp.where(steepness > 0, steepness, 1.0))

      def shade(section, d, view):
        return field.color(params, section.features, d, None if codes is None else _codes(codes, view))

      return Radiance(section, shade)

    levels = [(field, own["proposals"][name]) for name, field in self.proposals.items()] + [(self.field, own["field"])]
    return [bound(field, params, own["appearance"] if field.appearance_dim else None) for field, params in levels]

  def _sky(self, own, d):
    return jax.nn.sigmoid(self.sky.apply(own["background"], d))

  def predict(self) -> dict[str, Callable]:
    fns = {"render": self._render, "density": self._density, "radiance": self._radiance, "code": self._code}
    return fns if self.field.sdf is None else {**fns, "sdf": self._sdf}

  def _render(self, params, extra, rays):
    own = params["field"]
    seen = self.renderer.render(self._radiances(own, extra), extra["renderer"], rays, None, jnp.zeros((), jnp.int32))
    behind = self._sky(own, rays.viewdirs) if self.sky is not None else SHADES.get(self.info["background"], 1.0)
    rgb = seen.rgb + (1 - seen.opacity)[:, None] * behind
    out = {"rgb": rgb, "opacity": seen.opacity, "depth": seen.depth / jnp.maximum(seen.opacity, 1e-6)}
    return out if seen.normal is None else {**out, "normal": seen.normal}

  def _density(self, params, extra, x, z):
    del z
    place, scale = self._place(x)
    density = self.field.density(params["field"]["field"], place, extra.get("level"), self._footprint(x) * scale)
    return density if self.field.sdf is None else density * scale

  def _sdf(self, params, extra, x, z):
    del z
    place, scale = self._place(x)
    return self.field.sdf(params["field"]["field"], place, extra.get("level"), self._footprint(x) * scale) / scale

  def _radiance(self, params, extra, x, d):
    radiance = self._radiances(params["field"], extra)[-1]
    n = x.shape[:-1]
    return radiance.shade(radiance.section(x, d, jnp.ones(n), self._footprint(x)), d, jnp.full(n, -1))

  def _code(self, params, extra, index):
    """A radiance field has no code."""
    del params, extra, index
    return jnp.zeros((0,), jnp.float32)


def _given(name: str, values: tuple) -> None:
  if not values:
    raise UsageFault(f"--config.task.curriculum.{name}", "the renderer gives nothing to hold it against", "remove the term")


def _flat_rays(batch: Mapping[str, jax.Array]) -> Rays:
  """The rays of a batch, pixel after pixel."""
  names = [f.name for f in dataclasses.fields(Rays)]
  return Rays(*(batch[name].reshape(-1, *batch[name].shape[2:]) for name in names))


def _codes(codes: jax.Array, view: jax.Array) -> jax.Array:
  """Each view's appearance code; the mean of all for unknown views."""
  own = codes[jnp.maximum(view, 0)]
  return jnp.where((view < 0)[..., None], jnp.broadcast_to(jnp.mean(codes, axis=0), own.shape), own)
