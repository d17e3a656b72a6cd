"""The adversarial task: every switch trains, groups see what they should, and predictions agree with each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind
from fields3d.core.types import Rays
from fields3d.fields.styled import style_planes
from fields3d.geometry.transforms import look_at
from fields3d.networks import UPSAMPLERS
from fields3d.networks.discriminator import Discriminator
from fields3d.networks.equalised import enlarged, reduced
from fields3d.rendering.patches import patch_rays, whole
from fields3d.tasks import TASKS
from fields3d.tasks.adversarial_radiance import adversarial_radiance
from fields3d.training.optim import adam
from fields3d.training.step import init_state, make_step

INFO = {"camera": {"half_view": math.radians(20.0), "distance": 3.0}}
UPSAMPLED = dict(upsample=dict(name="styled", width=4, fine=4))
PLANES = dict(name="style_planes", features=2, size=8, width=4, hidden=4)
LAYERS = dict(name="style_layers", width=8, encoding=dict(name="fourier", levels=2))
SMALL = dict(name="adversarial_radiance", code_dim=8, size=8, samples=4, field=PLANES,
             discriminator=dict(name="convolutional", width=4, widest=8))


def poses(num):
  rng = np.random.default_rng(0)
  return np.stack([look_at(3 * v / np.linalg.norm(v), np.zeros(3), np.array([0.0, 1, 0])) for v in rng.normal(size=(num, 3))])


@pytest.fixture(scope="module")
def batch():
  """Red discs of several sizes."""
  place = (2 * np.arange(16) + 1) / 16 - 1
  radius = np.array([0.4, 0.5, 0.6, 0.7])[:, None, None]
  alpha = (np.hypot(place[None, :, None], place[None, None]) < radius).astype(np.float32)
  return {"rgb": alpha[..., None] * np.float32([1, 0.1, 0.1]), "alpha": alpha, "pose": poses(4).astype(np.float32),
          "label": np.zeros(4, np.int32)}


def task_of(**settings):
  return build(TASKS, SMALL | settings, "task", info=INFO)


def trained(task, batch, steps, rate=1e-2):
  optimisers = {"discriminator": adam(learning_rate=rate, b1=0.0, b2=0.99),
                "generator": adam(learning_rate=rate, b1=0.0, b2=0.99, ema=0.5)}
  state, step, log = init_state(task, optimisers, jax.random.key(0)), jax.jit(make_step(task, optimisers)), []
  for _ in range(steps):
    state, metrics = step(state, batch)
    log.append({name: float(value) for name, value in metrics.items()})
  return state, log


@pytest.fixture(scope="module")
def run(batch):
  task = task_of(density_weight=0.1, density_points=16, penalty_every=2)
  return task, *trained(task, batch, 12)


@pytest.mark.slow
def test_no_step_is_skipped_and_penalties_come_every_so_many_steps(run):
  _, state, log = run
  assert not any(line["skipped"] for line in log)
  assert [line["discriminator/penalty"] > 0 for line in log[:4]] == [True, False, True, False]
  assert [line["generator/density"] > 0 for line in log[:5]] == [True, False, False, False, True]
  assert set(state.ema) == {"generator"}


def test_the_generator_descends_the_score_of_its_own_pictures_alone(batch):
  """With a critic that scores redness, its pictures become redder; the critic here is the loss's, not learned."""
  score = lambda params, x, known: 10 * jnp.mean(x[..., 0] - x[..., 1], axis=(1, 2))
  red = Discriminator(lambda *a: {"unused": jnp.zeros(())}, score, score)
  field = style_planes(features=2, size=8, width=4, hidden=4)
  task = adversarial_radiance(field, red, INFO, code_dim=8, size=8, samples=4)
  params, extra = task.init(jax.random.key(0))
  optimiser, own = optax.adam(3e-2), params["generator"]
  moments = optimiser.init(own)

  @jax.jit
  def update(own, moments, step):
    loss = lambda own: task.losses["generator"](params | {"generator": own}, extra, batch, jax.random.key(step), step)[0]
    value, gradient = jax.value_and_grad(loss)(own)
    change, moments = optimiser.update(gradient, moments)
    return optax.apply_updates(own, change), moments, value

  values = []
  for step in range(15):
    own, moments, value = update(own, moments, step)
    values.append(float(value))
  assert values[-1] < values[0] - 0.2


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    dict(game="wgan", penalty="wgan_gp", alpha=False, condition="none", blur=1.5),
    dict(game="hinge", penalty="none", field=LAYERS, discriminator=SMALL["discriminator"] | dict(spectral_norm=True, group=0),
         size=16, patch=8, patch_scale=dict(name="linear", start=1.0, end=0.5, steps=2), consistency_weight=1.0),
    dict(UPSAMPLED, size=16, field=LAYERS | dict(channels=2), mirror=True, rays=0.5, penalty_rows=1, penalty_every=1),
], ids=["wgan", "hinge", "upsampled"])
def test_every_switch_gives_both_groups_a_finite_gradient(settings, batch):
  task = task_of(**settings)
  params, extra = task.init(jax.random.key(0))

  @jax.jit
  def gradients(params):
    of = lambda group: jax.grad(lambda own: task.losses[group](params | {group: own}, extra, batch, jax.random.key(1), 1)[0])
    return {group: of(group)(params[group]) for group in task.losses}

  for gradient in gradients(params).values():
    length = float(optax.tree.norm(gradient))
    assert np.isfinite(length) and length > 0


def made(critic, **settings):
  """The task at 16 pixels with three features, judged by a critic of its own: (pictures) -> scores."""
  score = lambda own, pictures, known: critic(pictures)
  network = Discriminator(lambda *a: {}, score, score)
  return adversarial_radiance(style_planes(features=2, size=8, width=4, hidden=4, channels=3), network, INFO,
                              **dict(code_dim=8, samples=4, size=16, penalty="none") | settings)


def test_a_wasserstein_critic_is_right_by_its_middle_whatever_it_adds(batch):
  shares = []
  for shift in (0.0, 100.0):
    task = made(lambda pictures, shift=shift: shift + jnp.mean(pictures[..., :3], axis=(1, 2, 3)), game="wgan")
    params, extra = task.init(jax.random.key(0))
    scalars = jax.jit(task.losses["discriminator"])(params, extra, batch, jax.random.key(0), 0)[1]
    shares.append([float(scalars[name]) for name in ("right_on_real", "right_on_fake")])
  assert shares[0] == shares[1] and min(shares[0]) > 0


def test_batches_without_poses_are_refused_in_one_line(batch):
  task = made(lambda pictures: jnp.mean(pictures, axis=(1, 2, 3)))
  params, extra = task.init(jax.random.key(0))
  with pytest.raises(UsageFault, match="config.data: the batches have no pose; draw pictures"):
    task.losses["discriminator"](params, extra, {k: v for k, v in batch.items() if k != "pose"}, jax.random.key(0), 0)


def shown_to_the_critic(**settings):
  """A function of the generator's parameters and the batch: what the discriminator is shown of real pictures and of made ones."""
  shown = []
  task = made(lambda pictures: shown.append(pictures) or jnp.mean(pictures, axis=(1, 2, 3)), **settings)

  def look(own, batch):
    shown.clear()
    task.losses["discriminator"]({"generator": own, "discriminator": {}}, {}, batch, jax.random.key(3), 0)
    return tuple(shown)

  return jax.jit(look)


@pytest.fixture(scope="module")
def upsample():
  return UPSAMPLERS["styled"](width=4, fine=4)


@pytest.fixture(scope="module")
def generators(upsample):
  """A new generator, and the same with what the upsampler adds not 0."""
  own = jax.jit(made(None, upsample=upsample).init)(jax.random.key(0))[0]["generator"]
  change = lambda a: a + 0.1 * np.random.default_rng(a.size).normal(size=a.shape).astype(np.float32)
  return own, own | {"upsampler": jax.tree.map(change, own["upsampler"])}


def test_the_discriminator_sees_a_picture_beside_what_was_rendered_enlarged(upsample, generators, batch):
  look = shown_to_the_critic(upsample=upsample)
  (real, fake), (_, later) = (look(own, batch) for own in generators)
  assert real.shape == fake.shape == (4, 16, 16, 8)
  truth = np.concatenate([batch["rgb"] + 1 - batch["alpha"][..., None], batch["alpha"][..., None]], axis=-1)
  np.testing.assert_allclose(real[..., :4], truth, atol=1e-6)  # in [0, 1]
  np.testing.assert_allclose(real[..., 4:], enlarged(reduced(jnp.asarray(truth), 2), 2), atol=1e-6)  # in [0, 1]
  np.testing.assert_array_equal(fake[..., :4], fake[..., 4:])  # at first both are the same
  np.testing.assert_array_equal(later[..., 4:], fake[..., 4:])  # what was rendered is the field's alone
  assert float(jnp.abs(later[..., :4] - fake[..., :4]).max()) > 1e-3


def test_an_upsampled_image_has_the_fields_depth_and_its_own_colours(upsample, generators, batch):
  first, moved = generators
  image = lambda task, own: jax.jit(task.predict["image"])({"generator": own}, {}, np.ones(8, np.float32), batch["pose"][0])
  task, plain, small = made(None, upsample=upsample), image(made(None), first), image(made(None, size=8), first)
  before, after = image(task, first), image(task, moved)
  for name in ("depth", "opacity"):
    np.testing.assert_allclose(after[name], plain[name], atol=1e-5)  # of order 1
  np.testing.assert_allclose(before["rgb"], enlarged(small["rgb"][None], 2)[0], atol=1e-5)  # in [0, 1]
  assert float(jnp.abs(after["rgb"] - before["rgb"]).max()) > 1e-3
  assert 0 <= float(after["rgb"].min()) and float(after["rgb"].max()) <= 1


def test_scores_of_upsampled_pictures_reach_the_fields_density_colours_and_features(upsample, generators, batch):
  task = made(lambda pictures: jnp.mean(pictures[..., :3] ** 2, axis=(1, 2, 3)), upsample=upsample)
  loss = lambda own: task.losses["generator"]({"generator": own, "discriminator": {}}, {}, batch, jax.random.key(3), 0)[0]
  gradient = jax.jit(jax.grad(loss))(generators[1])["field"]["out"]["w"]
  assert gradient.shape == (4, 4 + 3) and float(np.abs(gradient).max(axis=0).min()) > 1e-6


def test_rays_that_miss_the_box_need_not_be_marched(generators, batch):
  """Half of the rays of a narrow box: none that hits it is left out, so pictures are the same."""
  every, half, few = (shown_to_the_critic(extent=(0.35, 0.35, 0.35), rays=share)(generators[0], batch)[1]
                      for share in (1.0, 0.5, 0.05))
  assert float(every[..., 3].max()) > 0.01
  np.testing.assert_allclose(half, every, atol=1e-6)  # in [0, 1]
  assert float(jnp.abs(few - every).max()) > 1e-3


@pytest.mark.slow
def test_nothing_is_outside_the_box(batch):
  task = task_of(extent=(0.3, 0.5, 0.4))
  params, extra = task.init(jax.random.key(0))
  z = task.predict["sample"](params, extra, jax.random.key(1), 1)[0]
  x = jax.random.uniform(jax.random.key(2), (500, 3), minval=-1.0, maxval=1.0)
  inside = np.all(np.abs(np.asarray(x)) <= [0.3, 0.5, 0.4], axis=1)
  np.testing.assert_array_equal(np.asarray(task.predict["density"](params, extra, x, z)) > 0, inside)
  one = lambda *v: jnp.asarray([v], jnp.float32)
  aside = Rays(one(0.31, 0, 3), one(0, 0, -1), one(0, 0, -1), *(jnp.asarray([v]) for v in (0.01, 0.0, 9.0)), jnp.asarray([-1]))
  assert float(task.predict["render_code"](params, extra, z, aside)["opacity"][0]) == 0


def test_a_penalty_at_some_pictures_is_that_of_these_alone(generators, batch):
  """Of a critic whose gradient is the picture, half its mean squared length."""
  scored = made(lambda pictures: 0.5 * jnp.sum(pictures**2, axis=(1, 2, 3)), penalty="r1", penalty_every=1, penalty_rows=2)
  params = {"generator": generators[0], "discriminator": {}}
  _, scalars = jax.jit(scored.losses["discriminator"])(params, {}, batch, jax.random.key(1), 0)
  real = np.concatenate([batch["rgb"] + 1 - batch["alpha"][..., None], batch["alpha"][..., None]], axis=-1)
  np.testing.assert_allclose(scalars["penalty"], 0.5 * np.sum(real[:2] ** 2) / 2, rtol=1e-5)


def test_the_log_tells_that_all_pictures_made_are_one(generators, batch):
  """Of codes that no picture depends on, seen from one pose, nothing varies."""
  blind = jax.tree.map(jnp.zeros_like, generators[0])
  scored = made(lambda pictures: jnp.sum(pictures, axis=(1, 2, 3)))
  seen = batch | {"pose": np.repeat(batch["pose"][:1], 4, axis=0)}
  told = jax.jit(scored.losses["discriminator"])({"generator": blind, "discriminator": {}}, {}, seen, jax.random.key(1), 0)[1]
  assert float(told["spread"]) == 0 and float(told["coverage"]) == 0.5 == float(told["coverage_real"])


def test_an_image_is_what_its_rays_see_one_by_one(run, batch):
  task, state, _ = run
  predict, pose = bind(task, state), jnp.asarray(batch["pose"][1])
  z = predict["sample"](jax.random.key(1), 2)[1]
  origins, d = patch_rays(pose[None], INFO["camera"]["half_view"], whole(1), 8)
  full = lambda value: jnp.full(64, value)
  rays = Rays(origins[0], d[0], d[0], full(0.01), full(0.0), full(9.0), jnp.full(64, -1))
  image, seen = predict["image"](z, pose), predict["render_code"](z, rays)
  for name in ("rgb", "opacity", "depth"):
    np.testing.assert_allclose(np.asarray(image[name]).reshape(seen[name].shape), seen[name], atol=1e-5)  # of order 1
  short = predict["render_code"](z, Rays(origins[0], d[0], d[0], full(0.01), full(0.0), full(1.0), jnp.full(64, -1)))
  assert float(short["opacity"].max()) == 0 and float(short["rgb"].min()) == 1  # nothing before the ball


def test_opacity_is_the_densitys_integral_along_the_ray(run):
  """One ray through the middle, against a slow sum in float64."""
  task, state, _ = run
  predict = bind(task, state)
  z = predict["sample"](jax.random.key(1), 2)[0]
  ends = np.linspace(-1, 1, 9)  # 2 x 4 samples across the ball
  x = np.stack([np.zeros(8), np.zeros(8), -(ends[1:] + ends[:-1]) / 2], axis=1).astype(np.float32)
  density = np.asarray(predict["density"](x, z), np.float64)
  one = lambda *v: jnp.asarray([v], jnp.float32)
  rays = Rays(one(0, 0, 3), one(0, 0, -1), one(0, 0, -1), *(jnp.asarray([v]) for v in (0.01, 0.0, 9.0)), jnp.asarray([-1]))
  want = 1 - np.exp(-np.sum(density) * 0.25)
  np.testing.assert_allclose(predict["render_code"](z, rays)["opacity"], [want], atol=1e-5)  # of order 1


def test_the_field_for_extraction_is_negative_exactly_where_the_density_is_above_the_level(run):
  task, state, _ = run
  predict = bind(task, state)
  z = predict["sample"](jax.random.key(1), 1)[0]
  x = jax.random.uniform(jax.random.key(2), (500, 3), minval=-1.0, maxval=1.0)
  density, sdf = (np.asarray(predict[name](x, z)) for name in ("density", "sdf"))
  np.testing.assert_array_equal(sdf < 0, density > 10.0)
  assert np.abs(sdf).max() <= 0.01 + 1e-6
  assert density[np.linalg.norm(x, axis=1) > 1].max() == 0
  color = np.asarray(predict["color"](x, z))
  assert color.shape == (500, 3) and color.min() >= 0 and color.max() <= 1


def test_data_without_a_camera_and_a_patch_that_is_too_large_are_usage_faults():
  with pytest.raises(UsageFault, match="no pictures of shapes"):
    build(TASKS, SMALL, "task", info={})
  with pytest.raises(UsageFault, match="32 pixels are more than"):
    task_of(patch=32)
  with pytest.raises(UsageFault, match="patch: has patches"):
    task_of(patch=4, **UPSAMPLED)
  with pytest.raises(UsageFault, match="patch_scale: there are no patches"):
    task_of(patch_scale=0.5)
  with pytest.raises(UsageFault, match="size: is not divided by 16"):
    task_of(upsample=dict(name="styled", doublings=4))
