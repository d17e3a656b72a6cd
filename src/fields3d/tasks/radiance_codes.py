"""Radiance fields of many shapes, a code for each: an auto-decoder that has seen nothing but posed pictures."""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, From, Given, Positive
from fields3d.core.errors import UsageFault, nearest
from fields3d.core.numerics import norm, truncated_exp
from fields3d.core.schedules import Curriculum, Schedule, as_schedule, at
from fields3d.core.task import Task, require
from fields3d.core.types import Rays
from fields3d.fields import FIELDS
from fields3d.fields.field import NeuralField
from fields3d.fields.volsdf import LEAST_BETA, laplace_density
from fields3d.losses.image import PhotometricLoss, photometric
from fields3d.losses.regularizers import eikonal
from fields3d.losses.surface import value_and_gradient
from fields3d.rendering.quadrature import absorption, composite, mean_depth
from fields3d.rendering.samplers import distances, sphere_interval, stratified
from fields3d.tasks.codes import between, sample_gaussian, shrunk_gaussian
from fields3d.tasks.image_codes import ImageFit, Prior, fit_image_code

TERMS = ("color", "mask", "code", "eikonal")
CURRICULUM = types.MappingProxyType({"color": 1.0, "mask": 0.1, "code": 1e-3})
CHUNK = 4096  # rays of a picture rendered at once


def radiance_codes(field: Annotated[NeuralField, From(FIELDS)], info: Annotated[Mapping[str, Any], Given()],
                   curriculum: Curriculum = CURRICULUM, density: Literal["distance", "logarithm"] = "distance",
                   samples: Count = 32, loss: PhotometricLoss = "l2", background: Literal["white", "random"] = "white",
                   beta: Positive = 0.1, start_radius: Positive = 0.5, eikonal_points: Count = 256,
                   code_std: Positive = 1.0,
                   reconstruct: Annotated[ImageFit, From({"adam": ImageFit})] = types.MappingProxyType({})) -> Task:
  """Fits a field with a code for each shape to pixels of shapes in the unit ball.

  Group "field": {"decoder", "codes" (num_shapes, code_dim), "beta" for distances}. Batches are {"shape" (r,), rays (r, p), "rgb"
  (r, p, 3) premultiplied, "alpha" (r, p)}. Colours do not depend on the direction. A ray is cut to the unit ball and asked in
  `samples` equal sections, moved at random in training. The loss is a sum of means over rows.

  Args:
    info: the dataset's facts: num_shapes; camera, for whole pictures.
    curriculum: weights of the terms, numbers or schedules of the step: color (over the background); mask (opacity against
      coverage); code (mean squared length of the codes); eikonal (distances only, at `eikonal_points` a row anywhere in
      the box). And level, no weight but the number of active encoding levels.
    density: what the field's first value says. "distance": a signed distance less that of a sphere of `start_radius`, and the
      density is VolSDF's, of learned width `beta` to begin with; "logarithm": minus the logarithm of the density.
    background: of training pixels; predictions are over white.
    code_std: codes start from N(0, code_std^2 / code_dim).
    reconstruct: see `ImageFit`.

  Raises:
    UsageFault: an unknown term, or one that the field cannot give; a field without codes or colours.

  Source: Park et al. 2019, "DeepSDF", for codes; Sitzmann et al. 2019, "Scene Representation Networks", section 3.3, for
    codes from pictures; NeRF (Mildenhall et al. 2020), equation 3; VolSDF (Yariv et al. 2021), equation 2.
  """
  require(info, ("camera",), "there is", "use pictures of shapes, name=shape_views")
  schedules = {name: as_schedule(value) for name, value in curriculum.items()}
  _check(schedules, field, density)
  settings = reconstruct if isinstance(reconstruct, ImageFit) else ImageFit(**reconstruct)
  fit = _RadianceCodes(field, info, schedules, density == "distance", samples, loss, background == "random", beta,
                       start_radius, eikonal_points, code_std, settings)
  return Task(fit.init, {"field": fit.loss}, fit.predict(), fit.refresh)


def _check(schedules: Mapping, field: NeuralField, density: str) -> None:
  for name in schedules:
    if name not in (*TERMS, "level"):
      raise UsageFault(f"--config.task.curriculum.{name}", "no such term", nearest(name, (*TERMS, "level")))
  if "color" not in schedules:
    raise UsageFault("--config.task.curriculum", "has no color", "add color=1.0")
  if "eikonal" in schedules and density != "distance":
    raise UsageFault("--config.task.curriculum.eikonal", "there is no distance", "set --config.task.density=distance")
  if field.channels != 4:
    raise UsageFault("--config.task.field.channels", "the field has no colours", "set it to 4")
  if not field.code_dim:
    raise UsageFault("--config.task.field.code_dim", "the field has no code", "set it to 64, say")


@dataclasses.dataclass(frozen=True)
class _RadianceCodes:
  """The settings of `radiance_codes`, and the task's functions as methods."""
  field: NeuralField
  info: Mapping[str, Any]
  curriculum: Mapping[str, Schedule]
  is_distance: bool
  samples: int
  image_loss: str
  random_background: bool
  beta: float
  start_radius: float
  eikonal_points: int
  code_std: float
  reconstruction: ImageFit

  def init(self, key):
    decoder_key, code_key = jax.random.split(key)
    d = self.field.code_dim
    codes = self.code_std / d**0.5 * jax.random.normal(code_key, (self.info["num_shapes"], d), jnp.float32)
    own = {"decoder": self.field.init(decoder_key), "codes": codes}
    own |= {"beta": jnp.float32(self.beta)} if self.is_distance else {}
    return {"field": own}, self.refresh(None, {}, None, None, jnp.zeros((), jnp.int32))

  def refresh(self, params, extra, batch, key, step):
    """Remembers how many encoding levels are active, so that predictions use those that are trained."""
    del params, extra, batch, key
    return {"level": self.curriculum["level"](step)} if "level" in self.curriculum else {}

  def loss(self, params, extra, batch, key, step):
    del extra
    own, weights = params["field"], at(self.curriculum, step)
    level = weights.pop("level", None)
    render_key, shade_key, box_key = jax.random.split(key, 3)
    require(batch, ("shape", "rgb", "alpha"), "the batches have", 'draw pixels, as with draws=dict(name="pixels")')
    z, alpha = own["codes"][batch["shape"]], batch["alpha"]
    seen = self._see(own, level, z, _rays_of(batch), render_key)
    behind = jax.random.uniform(shade_key, batch["rgb"].shape) if self.random_background else 1.0
    shown = seen["rgb"] + (1 - seen["opacity"])[..., None] * behind
    truth = batch["rgb"] + (1 - alpha)[..., None] * behind
    terms = {"color": photometric(shown, truth, self.image_loss)}
    if "mask" in weights:
      terms["mask"] = jnp.mean((seen["opacity"] - alpha) ** 2)
    if "code" in weights:
      terms["code"] = jnp.mean(jnp.sum(z * z, axis=-1))
    if "eikonal" in weights:
      x = jax.random.uniform(box_key, (len(z), self.eikonal_points, 3), minval=-1.0, maxval=1.0)
      terms["eikonal"] = eikonal(value_and_gradient(lambda x: self._values(own, level, x, z)[0], x)[1])
    total = sum(weights[name] * term for name, term in terms.items())
    error = photometric(shown, truth, "l2")
    return total, {**terms, "psnr": -10 * jnp.log10(jnp.maximum(error, 1e-10))}

  def _values(self, own, level, x, z):
    """At x (r, n, 3): signed distance or minus the logarithm of the density (r, n), colour logits (r, n, 3)."""
    out = self.field.apply(own["decoder"], x, z, None, level)
    first = out[..., 0] + norm(x) - self.start_radius if self.is_distance else out[..., 0]
    return first, out[..., 1:]

  def _thick(self, own, first):
    """The density per unit of length of a field's first value."""
    return laplace_density(first, jnp.abs(own["beta"]) + LEAST_BETA) if self.is_distance else truncated_exp(-first)

  def _see(self, own, level, z, rays: Rays, key):
    """What rays (r, p) see of the shapes with codes z (r, d), premultiplied, each row for itself."""
    near, far = sphere_interval(rays.origins, rays.directions, rays.near, rays.far)
    t = distances(stratified(near.shape, self.samples, key), near, far)
    middle = (t[..., 1:] + t[..., :-1]) / 2
    x = rays.origins[..., None, :] + middle[..., None] * rays.directions[..., None, :]
    first, logits = self._values(own, level, x.reshape(len(z), -1, 3), z)
    weights, passed = absorption(self._thick(own, first).reshape(middle.shape) * jnp.diff(t))
    opacity = 1 - passed
    rgb = composite(weights, jax.nn.sigmoid(logits).reshape(*middle.shape, 3))
    return {"rgb": rgb, "opacity": opacity, "depth": mean_depth(t, weights) / jnp.maximum(opacity, 1e-6)}

  def predict(self) -> dict[str, Callable]:
    fns = {"code": self._code, "render_code": self._render_code, "image": self._image, "density": self._density,
           "color": self._color, "image_code": self._image_code, "interpolate": between, "sample": self._sample,
           "latents": self._latents}
    return {**fns, "sdf": self._sdf} if self.is_distance else fns

  def _code(self, params, extra, index):
    del extra
    return params["field"]["codes"][index]

  def _latents(self, params, extra, batch, key):
    del extra, key
    return params["field"]["codes"][batch["shape"]]

  def _render_code(self, params, extra, z, rays):
    seen = self._see(params["field"], extra.get("level"), z[None], jax.tree.map(lambda a: a[None], rays), None)
    return _over_white(jax.tree.map(lambda a: a[0], seen))

  def _image(self, params, extra, z, pose):
    """A camera of the dataset's kind; as many rays at once as `CHUNK`, in whole rows of pixels."""
    width = self.info["camera"]["width"]
    rows = max(1, min(width, CHUNK // width))
    chunks = -(-width // rows)
    line = jnp.minimum(jnp.arange(chunks * rows), width - 1).reshape(chunks, rows)
    seen = jax.lax.map(lambda line: self._render_code(params, extra, z, picture_rays(self.info["camera"], pose, line)), line)
    return jax.tree.map(lambda a: a.reshape(chunks * rows, width, *a.shape[2:])[:width], seen)

  def _sdf(self, params, extra, x, z):
    return self._values(params["field"], extra.get("level"), x[None], z[None])[0][0]

  def _density(self, params, extra, x, z):
    return self._thick(params["field"], self._sdf(params, extra, x, z))

  def _color(self, params, extra, x, z):
    return jax.nn.sigmoid(self._values(params["field"], extra.get("level"), x[None], z[None])[1][0])

  def _image_code(self, params, extra, rays, rgb, alpha, key):
    own = params["field"]

    def render(z, rays, key):
      seen = _over_white(self._see(own, extra.get("level"), z, rays, key))
      return seen["rgb"], seen["opacity"]

    return fit_image_code(render, Prior(*shrunk_factor(own["codes"])), own["codes"], rays, rgb, alpha, self.reconstruction,
                          key)

  def _sample(self, params, extra, key, num):
    del extra
    return sample_gaussian(key, *shrunk_gaussian(params["field"]["codes"]), num)


def shrunk_factor(codes: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean and lower triangular factor of the codes' shrunk Gaussian, with a little more variance, as `sample_gaussian` has."""
  mean, covariance = shrunk_gaussian(codes)
  scale = jnp.maximum(jnp.trace(covariance) / len(mean), 1e-30)
  return mean, jnp.sqrt(scale) * jnp.linalg.cholesky(covariance / scale + 1e-6 * jnp.eye(len(mean)))


def picture_rays(camera: Mapping[str, Any], pose: jax.Array, line: jax.Array) -> Rays:
  """Rays through the middles of the pixels of some lines of a square picture, (lines x width,).

  Args:
    camera: "width", pixels; "half_view", half the angle of view; "near", "far". pose: (3, 4), camera to model frame.
    line: (lines,) row numbers.
  """
  width = camera["width"]
  focal = width / 2 / math.tan(camera["half_view"])
  across = (jnp.arange(width) + 0.5 - width / 2) / focal
  down = (line + 0.5 - width / 2) / focal
  x, y = jnp.broadcast_to(across[None, :], (len(line), width)), jnp.broadcast_to(down[:, None], (len(line), width))
  d = jnp.stack([x, -y, -jnp.ones_like(x)], axis=-1).reshape(-1, 3)
  length = norm(d)
  d = jnp.matmul(d / length[:, None], pose[:, :3].T, precision="highest")
  full = lambda value: jnp.full(len(d), value, jnp.float32)
  radii = jnp.sqrt(1 / (math.pi * focal**2 * length**3))  # a pixel's solid angle, as a disc
  return Rays(jnp.broadcast_to(pose[:, 3], d.shape), d, d, radii, full(camera["near"]), full(camera["far"]),
              jnp.full(len(d), -1, jnp.int32))


def _over_white(seen: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  return {**seen, "rgb": seen["rgb"] + (1 - seen["opacity"])[..., None]}


def _rays_of(batch: Mapping[str, jax.Array]) -> Rays:
  return Rays(*(batch[f.name] for f in dataclasses.fields(Rays)))
