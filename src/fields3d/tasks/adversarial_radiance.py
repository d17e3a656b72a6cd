"""Radiance fields that learn a family of shapes from pictures alone, against a discriminator: GRAF, pi-GAN, EG3D."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, From, Given, NonNegative, Positive, Range
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import norm
from fields3d.core.schedules import Rate, Schedule, as_schedule
from fields3d.core.task import Task, require
from fields3d.fields import STYLED_FIELDS
from fields3d.fields.styled import StyledField
from fields3d.losses.adversarial import (
  Game,
  Penalty,
  consistency,
  generator_loss,
  gradient_penalty,
  lazily,
  shifted,
  watched,
)
from fields3d.losses.collapse import collapse
from fields3d.networks import DISCRIMINATORS, UPSAMPLERS
from fields3d.networks.discriminator import Discriminator
from fields3d.networks.equalised import enlarged, init_mapping, mapping, reduced
from fields3d.networks.upsampler import Upsampler
from fields3d.rendering.patches import (
  Patches,
  cut_out,
  even_sections,
  mirrored,
  patch_rays,
  random_patches,
  whole,
)
from fields3d.rendering.quadrature import absorption, mean_depth
from fields3d.rendering.samplers import box_interval, sphere_interval
from fields3d.tasks.codes import between

_SDF = 0.01 / math.log(100.0)  # of a factor e in density
_WATCHED = 16  # pictures of a batch, real and made, whose variety is compared


class Seen(NamedTuple):
  """What b x n rays see: rgb (b, n, 3) and features (b, n, c) premultiplied, opacity (b, n), depth (b, n), the expected t
  times opacity."""
  rgb: jax.Array
  features: jax.Array
  opacity: jax.Array
  depth: jax.Array


def adversarial_radiance(
    field: Annotated[StyledField, From(STYLED_FIELDS)], discriminator: Annotated[Discriminator, From(DISCRIMINATORS)],
    info: Annotated[Mapping[str, Any], Given()], code_dim: Count = 64, mapping_depth: Count = 2, size: Count = 64,
    patch: Count | None = None, patch_scale: Rate | None = None, upsample: Annotated[Upsampler | None, From(UPSAMPLERS)] = None,
    extent: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0), rays: Annotated[float, Range(gt=0, le=1)] = 1.0,
    samples: Count = 24, mirror: bool = False, game: Game = "non_saturating", penalty: Penalty = "r1",
    penalty_weight: NonNegative = 1.0, penalty_every: Count = 8, penalty_rows: Count | None = None,
    consistency_weight: NonNegative = 0.0, consistency_shift: Count = 2, density_weight: NonNegative = 0.0,
    density_every: Count = 4, density_step: Positive = 0.01, density_points: Count = 512, blur: Rate = 0.0,
    alpha: bool = True, condition: Literal["pose", "none"] = "pose", level: Positive = 10.0) -> Task:
  """Learns to make a field for each random code whose pictures a discriminator cannot tell from real ones.

  Groups, in this order: "discriminator", and "generator": {"mapping", "field"}. Batches are pictures of `shape_views` (draws
  images): "rgb" (r, h, w, 3) premultiplied, "alpha" (r, h, w), "pose" (r, 3, 4). Which pictures show the same shape is never
  used. Made pictures are taken from the poses of the batch, in another order. A code is a style w, the mapping of a normal z.

  Args:
    info: the dataset's facts, "camera" among them.
    code_dim: of z and w. mapping_depth: layers between them.
    size: pixels a side of a picture, in training and predictions.
    patch: pixels a side of the square patches that are compared; None for whole pictures. patch_scale: their least side as
      a share of the picture's, a schedule (None: 1); a patch's own is uniform from there to 1 (GRAF; progressive where it falls).
    upsample: a network behind the rendering (EG3D): whole pictures of colours and features are rendered at the size over its
      factor, and it makes the picture. The discriminator sees that picture and the rendered one, enlarged, side by side, so
      that views of a shape stay of one shape. Depth, opacity, meshes and `render_code` are the field's alone.
    extent: half sides of the box about 0 that holds all matter, within the unit ball: the field's coordinates.
    rays: share of a picture's rays that are marched in training, those whose ways within the box are longest; the others see
      nothing.
    samples: of a ray within them, at one random place of their sections in each picture; predictions take twice as many, in
      their middles. mirror: every second picture and its pose, at random, mirrored in x: for shapes whose mirror images are
      as likely as they are.
    game, penalty: see `losses.adversarial`. penalty_weight: gamma of r1, lambda of wgan_gp; every `penalty_every` steps,
      that much heavier, at `penalty_rows` pictures, all by default. (On a CPU, few pictures at every step cost less: XLA runs
      convolutions of some steps only twenty times as slowly.)
    consistency_weight: of scores not changing when pictures are shifted by up to `consistency_shift` pixels.
    density_weight: of the difference of densities `density_step` apart (EG3D), at `density_points` points of a shape.
    blur: standard deviation, in pixels, of a blur of all that the discriminator sees; a schedule (EG3D fades it out).
    alpha: it sees coverage as a fourth channel. condition: whether it knows the pose (and the patch's place).
    level: density of the surface, for "sdf".

  Raises:
    UsageFault: the dataset has no camera of its own; a patch larger than the picture, or with `upsample`; a size that its
      factor does not divide.

  Source: GRAF (Schwarz et al. 2020); pi-GAN (Chan et al. 2021); EG3D (Chan et al. 2022), sections 4 and supplement 1.
  """
  if "camera" not in info:
    raise UsageFault("--config.data", "gives no pictures of shapes", 'use name="shape_views" with draws=dict(name="images")')
  if patch is None and patch_scale is not None:
    raise UsageFault("--config.task.patch_scale", "there are no patches", "set patch to their pixels a side, or leave it out")
  if patch is not None and patch > size:
    raise UsageFault("--config.task.patch", f"{patch} pixels are more than the picture's {size}", "lower it")
  if upsample and (patch or size % upsample.factor):
    what = "has patches, which are not upsampled" if patch else f"is not divided by {upsample.factor}"
    raise UsageFault(f"--config.task.{'patch' if patch else 'size'}", what, "set it to None" if patch else "give a multiple")
  scale = None if patch is None else as_schedule(1.0 if patch_scale is None else patch_scale)
  made = _Adversarial(field, discriminator, info["camera"]["half_view"], code_dim, mapping_depth, size, patch or size,
                      scale, upsample, np.asarray(extent, np.float32), rays, samples, mirror,
                      game, penalty, penalty_weight, penalty_every, penalty_rows,
                      consistency_weight, consistency_shift, density_weight, density_every, density_step, density_points,
                      as_schedule(blur), alpha, condition == "pose", level)
  predict = {"sample": made.sample, "interpolate": between, "image": made.image, "render_code": made.render_code,
             "density": made.density, "sdf": made.sdf, "color": made.color}
  return Task(made.init, {"discriminator": made.discriminator_loss, "generator": made.generator_loss}, predict)


@dataclasses.dataclass(frozen=True)
class _Adversarial:
  """The settings of `adversarial_radiance`, and the task's functions as methods."""
  field: StyledField
  network: Discriminator
  half_view: float
  code_dim: int
  mapping_depth: int
  size: int
  side: int
  patch_scale: Schedule | None
  upsample: Upsampler | None
  extent: np.ndarray
  rays: float
  samples: int
  mirror: bool
  game: str
  penalty: str
  penalty_weight: float
  penalty_every: int
  penalty_rows: int | None
  consistency_weight: float
  consistency_shift: int
  density_weight: float
  density_every: int
  density_step: float
  density_points: int
  blur: Schedule
  alpha: bool
  knows_pose: bool
  level: float

  def init(self, key):
    mapping_key, field_key, critic_key = jax.random.split(key, 3)
    own = {"mapping": init_mapping(mapping_key, self.code_dim, self.mapping_depth),
           "field": self.field.init(field_key, self.code_dim)}
    channels = 3 + self.alpha
    if self.upsample:
      own["upsampler"] = self.upsample.init(jax.random.fold_in(key, 3), self.code_dim, self.field.channels, channels)
    critic = self.network.init(critic_key, self.side, (1 + bool(self.upsample)) * channels, 15 if self.knows_pose else 0)
    return {"discriminator": critic, "generator": own}, {}

  def discriminator_loss(self, params, extra, batch, key, step):
    del extra
    require(batch, ("pose", "rgb", "alpha"), "the batches have", 'draw pictures, as with draws=dict(name="images")')
    patch_key, fake_key, penalty_key, shift_key = jax.random.split(key, 4)
    batch = self._turned(batch, key)
    patches = self._patches(patch_key, len(batch["pose"]), step)
    over_white = batch["rgb"] + (1 - batch["alpha"])[..., None]
    truth = jnp.concatenate([over_white, batch["alpha"][..., None]], axis=-1) if self.alpha else over_white
    real = cut_out(truth, patches, self.side)
    real = self._blurred(self._joined(real, reduced(real, self.upsample.factor)) if self.upsample else real, step)
    fake, seen_from = self._pictures(params["generator"], batch["pose"], fake_key, step)[:2]
    fake, known = jax.lax.stop_gradient(fake), self._condition(batch["pose"], patches)
    critic = lambda pictures: self.network.apply(params["discriminator"], pictures, known)
    critic_of_fakes = lambda pictures: self.network.apply(params["discriminator"], pictures, seen_from)
    on_real, on_fake = critic(real), critic_of_fakes(fake)
    scalars = {**watched(on_real, on_fake, self.game), **collapse(fake[:_WATCHED], real[:_WATCHED])}
    total = scalars["game"]
    if self.penalty != "none" and self.penalty_weight:
      among = slice(self.penalty_rows)
      own = lambda pictures: self.network.penalised(params["discriminator"], pictures, None if known is None else known[among])
      scalars["penalty"] = gradient_penalty(self.penalty, own, real[among], fake[among], penalty_key, step, self.penalty_every)
      total += self.penalty_weight * scalars["penalty"]
    if self.consistency_weight:
      changed = lambda pictures: shifted(shift_key, pictures, self.consistency_shift)
      scalars["consistency"] = consistency(critic, real, on_real, changed) + consistency(critic_of_fakes, fake, on_fake, changed)
      total += self.consistency_weight * scalars["consistency"]
    return total, scalars

  def generator_loss(self, params, extra, batch, key, step):
    del extra
    fake_key, density_key = jax.random.split(key)
    batch = self._turned(batch, key)
    fake, known, made = self._pictures(params["generator"], batch["pose"], fake_key, step)
    game = generator_loss(self.network.apply(params["discriminator"], fake, known), self.game)
    scalars = {"game": game, "coverage": jnp.mean(fake[..., 3]) if self.alpha else jnp.mean(fake)}
    if not self.density_weight:
      return game, scalars
    scalars["density"] = lazily(lambda: self._roughness(params["generator"], made, density_key), step, self.density_every)
    return game + self.density_weight * scalars["density"], scalars

  def _patches(self, key, num: int, step) -> Patches:
    return whole(num) if self.patch_scale is None else random_patches(key, num, self.patch_scale(step))

  def _turned(self, batch, key):
    if not self.mirror:
      return batch
    chosen = jax.random.bernoulli(jax.random.fold_in(key, 4), shape=(len(batch["pose"]),))
    return batch | mirrored(chosen, batch["rgb"], batch["alpha"], batch["pose"])

  def _joined(self, pictures, small):
    """What the discriminator is shown of pictures that were upsampled, or that might have been."""
    return jnp.concatenate([pictures, enlarged(small, self.upsample.factor)], axis=-1)

  def _pictures(self, own, pose, key, step):
    """Pictures (b, side, side, k) of new codes from the batch's poses in another order, what is known of each, and what its
    points share. k: 3 or 4, or twice that where they are upsampled."""
    z_key, pose_key, patch_key, place_key = jax.random.split(key, 4)
    num = len(pose)
    pose = jax.random.permutation(pose_key, pose)
    patches = self._patches(patch_key, num, step)
    style = mapping(own["mapping"], jax.random.normal(z_key, (num, self.code_dim)))
    made = self.field.make(own["field"], style)
    side = self.side // self.upsample.factor if self.upsample else self.side
    origins, d = patch_rays(pose, self.half_view, patches, side)
    seen = self._seen_by_some(own, made, origins, d, jax.random.uniform(place_key, (num, 1, 1)))
    pictures = _over_white(seen, self.alpha).reshape(num, side, side, -1)
    if self.upsample:
      pictures = self._joined(self._upsampled(own, seen, pictures, style), pictures)
    return self._blurred(pictures, step), self._condition(pose, patches), made

  def _upsampled(self, own, seen: Seen, pictures, style):
    features, opacity = (x.reshape(*pictures.shape[:3], -1) for x in (seen.features, seen.opacity))
    return self.upsample.apply(own["upsampler"], features, pictures, opacity, style)

  def _within(self, origins, d, near=0.0, far=math.inf):
    """Where between near and far rays enter and leave both the unit ball and the box."""
    return box_interval(origins, d, *sphere_interval(origins, d, near, far), self.extent)

  def _seen_by_some(self, own, made, origins, d, place) -> Seen:
    near, far = self._within(origins, d)
    num = math.ceil(self.rays * near.shape[1])
    if num == near.shape[1]:
      return self._march(own, made, origins, d, near, far, self.samples, place)
    chosen = jax.lax.top_k(far - near, num)[1]
    take = lambda x: jnp.take_along_axis(x, chosen.reshape(*chosen.shape, *(1,) * (x.ndim - 2)), axis=1)
    seen = self._march(own, made, take(origins), take(d), take(near), take(far), self.samples, place)
    row = jnp.arange(len(chosen))[:, None]
    return jax.tree.map(lambda x: jnp.zeros((*near.shape, *x.shape[2:]), x.dtype).at[row, chosen].set(x), seen)

  def _values(self, own, made, x):
    return self.field.apply(own["field"], made, x / self.extent[None, None])

  def _march(self, own, made, origins, d, near, far, samples: int, place) -> Seen:
    """place: where within its section a sample lies, in [0, 1], (b, 1, 1)."""
    ends = even_sections(near, far, samples)
    length = ends[..., 1:] - ends[..., :-1]
    t = ends[..., :-1] + place * length
    x = origins[:, :, None] + t[..., None] * d[:, :, None]
    density, values = self._values(own, made, x.reshape(len(x), -1, 3))
    weights, passed = absorption(density.reshape(t.shape) * length)
    seen = jnp.moveaxis(jnp.sum(weights[None] * values.reshape(-1, *t.shape), axis=-1), 0, -1)
    return Seen(seen[..., :3], seen[..., 3:], 1 - passed, mean_depth(ends, weights))

  def _condition(self, pose, patches: Patches):
    if not self.knows_pose:
      return None
    return jnp.concatenate([pose.reshape(len(pose), 12), patches.centre, patches.scale[:, None]], axis=1)

  def _blurred(self, pictures, step):
    """Under a Gaussian of this step's standard deviation, cut off at a quarter of the picture; edges are repeated."""
    side = pictures.shape[1]
    reach = side // 4
    sigma = jnp.maximum(self.blur(step), 1e-3)
    offset = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    kernel = jax.nn.softmax(-0.5 * (offset / sigma) ** 2)

    def blurred():
      padded = jnp.pad(pictures, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
      rows = sum(kernel[i] * padded[:, i:i + side] for i in range(2 * reach + 1))
      return sum(kernel[i] * rows[:, :, i:i + side] for i in range(2 * reach + 1))

    return jax.lax.cond(self.blur(step) > 0.05, blurred, lambda: pictures)

  def _roughness(self, own, made, key):
    """Mean difference of densities a random step of length `density_step` (per axis, normal) apart, within the box."""
    place_key, step_key = jax.random.split(key)
    shape = (len(jax.tree.leaves(made)[0]), self.density_points, 3)
    x = self.extent[None, None] * jax.random.uniform(place_key, shape, minval=-1.0, maxval=1.0)
    near = x + self.density_step * jax.random.normal(step_key, shape)
    density, _ = self._values(own, made, jnp.concatenate([x, near], axis=1))
    return jnp.mean(jnp.abs(density[:, :self.density_points] - density[:, self.density_points:]))

  def sample(self, params, extra, key, num):
    del extra
    return mapping(params["generator"]["mapping"], jax.random.normal(key, (num, self.code_dim)))

  def image(self, params, extra, z, pose):
    del extra
    own = params["generator"]
    out = _one(self._seen(own, z, *patch_rays(pose[None], self.half_view, whole(1), self.size)))
    out = {name: value.reshape(self.size, self.size, *value.shape[1:]) for name, value in out.items()}
    if not self.upsample:
      return out
    side = self.size // self.upsample.factor
    small = self._seen(own, z, *patch_rays(pose[None], self.half_view, whole(1), side))
    pictures = _over_white(small, self.alpha).reshape(1, side, side, -1)
    return out | {"rgb": jnp.clip(self._upsampled(own, small, pictures, z[None])[0, ..., :3], 0, 1)}

  def render_code(self, params, extra, z, rays):
    del extra
    return _one(self._seen(params["generator"], z, rays.origins[None], rays.directions[None], rays.near[None], rays.far[None]))

  def _seen(self, own, z, origins, d, near=0.0, far=math.inf) -> Seen:
    """Of one code, with the samples of predictions."""
    made = self.field.make(own["field"], z[None])
    return self._march(own, made, origins, d, *self._within(origins, d, near, far), 2 * self.samples, 0.5)

  def _at(self, params, x, z):
    own = params["generator"]
    density, values = self._values(own, self.field.make(own["field"], z[None]), x.reshape(1, -1, 3))
    return density.reshape(x.shape[:-1]), values[:3].reshape(3, -1).T.reshape(x.shape)

  def density(self, params, extra, x, z):
    """0 outside the unit ball and the box, which no ray asks for."""
    del extra
    held = (norm(x) <= 1) & jnp.all(jnp.abs(x) <= self.extent.reshape((1,) * (x.ndim - 1) + (3,)), axis=-1)
    return jnp.where(held, self._at(params, x, z)[0], 0.0)

  def sdf(self, params, extra, x, z):
    """No distance: 0.01 log(level / density) / log(100), within +-0.01; negative where the density is above the level."""
    density = self.density(params, extra, x, z)
    return _SDF * jnp.log(self.level / jnp.clip(density, self.level / 100, self.level * 100))

  def color(self, params, extra, x, z):
    del extra
    return jnp.clip(self._at(params, x, z)[1], 0, 1)


def _one(seen: Seen) -> dict[str, jax.Array]:
  """Over white, of one code."""
  depth = seen.depth[0] / jnp.maximum(seen.opacity[0], 1e-6)
  return {"rgb": _over_white(seen, False)[0], "opacity": seen.opacity[0], "depth": depth}


def _over_white(seen: Seen, alpha: bool):
  rgb = seen.rgb + (1 - seen.opacity)[..., None]
  return jnp.concatenate([rgb, seen.opacity[..., None]], axis=-1) if alpha else rgb
