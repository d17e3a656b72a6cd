"""Codes of radiance: rendered sections against a slow loop, rows that do not mix, codes found again from pictures."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind
from fields3d.core.types import Camera, Rays
from fields3d.fields.field import NeuralField
from fields3d.geometry.rays import camera_rays
from fields3d.geometry.transforms import look_at
from fields3d.tasks import TASKS
from fields3d.tasks.radiance_codes import picture_rays, radiance_codes
from fields3d.training.optim import adam
from fields3d.training.step import init_state, make_step

CAMERA = {"distance": 3.0, "half_view": math.radians(20.0), "near": 2.0, "far": 4.0, "width": 12}
INFO = {"num_shapes": 6, "camera": CAMERA}
PLANES = dict(name="generated_planes", code_dim=4, features=4, coarsest=4, doublings=1, generator_width=8, width=8, channels=4)
FILM = dict(name="modulated", code_dim=4, width=8, depth=2, encoding=dict(name="fourier", levels=2), channels=4)
POSE = jnp.asarray(look_at(np.array([1.8, 1.0, 2.2]) / math.sqrt(9.08) * 3, np.zeros(3), np.array([0.0, 1.0, 0.0])), jnp.float32)


def make(field=PLANES, **changes):
  return build(TASKS, dict(name="radiance_codes", field=field, samples=16) | changes, "task", info=INFO)


def batch_of(shapes, seed=0):
  """Some pixels of one picture for each of the shapes, of any colours."""
  rng, rays = np.random.default_rng(seed), picture_rays(CAMERA, POSE, jnp.arange(12))
  pick = rng.integers(144, size=(len(shapes), 9))
  alpha = rng.random((len(shapes), 9)).astype(np.float32)
  return {**{name: np.asarray(value)[pick] for name, value in vars(rays).items()}, "shape": np.asarray(shapes, np.int32),
          "alpha": alpha, "rgb": (alpha[..., None] * rng.random((len(shapes), 9, 3))).astype(np.float32)}


def balls(color=True):
  """A field whose code is a ball's radius and its colour's logits, as a distance less that of a ball of 0.5."""
  def apply(params, x, z, key=None, level=None):
    sdf = jnp.broadcast_to((0.5 - z[..., :1])[..., None, :], (*x.shape[:-1], 1)) + 0 * params["unused"]
    return jnp.concatenate([sdf, jnp.broadcast_to(z[..., None, 1:4], (*x.shape[:-1], 3))], axis=-1)
  return NeuralField(lambda key: {"unused": jnp.zeros(())}, apply, 4, 4)


def test_a_ball_is_seen_as_a_slow_loop_sees_it():
  task = radiance_codes(balls(), INFO, samples=32, beta=0.05)
  params, extra = task.init(jax.random.key(0))
  z = jnp.asarray([0.4, 1.0, 0.0, -1.0])
  rays = picture_rays(CAMERA, POSE, jnp.arange(12))
  seen = jax.jit(task.predict["render_code"])(params, extra, z, rays)
  color, beta = 1 / (1 + np.exp(-np.array([1.0, 0.0, -1.0]))), 0.05 + 1e-4
  for i in (0, 40, 66, 78):
    o, d = (np.asarray(a[i], np.float64) for a in (rays.origins, rays.directions))
    middle = -o @ d
    half = math.sqrt(max(1 - np.sum((o + middle * d) ** 2), 0))
    passed, step = 1.0, 2 * half / 32
    for k in range(32):
      away = np.linalg.norm(o + (middle - half + (k + 0.5) * step) * d) - 0.4
      share = 0.5 * math.exp(-away / beta) if away > 0 else 1 - 0.5 * math.exp(away / beta)
      passed *= math.exp(-share / beta * step)
    np.testing.assert_allclose(seen["opacity"][i], 1 - passed, atol=2e-4)  # of opacities up to 1, float32 distances at 3
    np.testing.assert_allclose(seen["rgb"][i], (1 - passed) * color + passed, atol=2e-4)
  density = task.predict["density"](params, extra, jnp.zeros((1, 3)), z)
  np.testing.assert_allclose(density, (1 - 0.5 * math.exp(-0.4 / beta)) / beta, rtol=1e-5)
  np.testing.assert_allclose(task.predict["sdf"](params, extra, jnp.asarray([[0.0, 0.6, 0.0]]), z), [0.2], rtol=1e-5)


def test_rays_of_a_picture_are_those_of_the_camera():
  focal = 6 / math.tan(CAMERA["half_view"])
  camera = Camera("PINHOLE", (12, 12), (focal, focal, 6.0, 6.0), (), np.asarray(POSE, np.float64))
  place = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2) + 0.5
  expected = camera_rays([camera], np.zeros(144, np.int32), place, CAMERA, label=False)
  for name, value in vars(picture_rays(CAMERA, POSE, jnp.arange(12))).items():
    np.testing.assert_allclose(value, getattr(expected, name), rtol=2e-5, atol=1e-6, err_msg=name)  # unit directions, float32


@pytest.mark.parametrize("field", [PLANES, FILM], ids=["planes", "film"])
def test_rows_do_not_mix_and_gradients_reach_the_codes_of_the_batch_and_the_decoder(field):
  task = make(field, curriculum=dict(color=1.0, mask=0.1, eikonal=0.1))
  params, extra = task.init(jax.random.key(0))
  slope = jax.jit(jax.grad(lambda p, batch: task.losses["field"](p, extra, batch, jax.random.key(1), jnp.int32(0))[0]))
  gradient = slope(params, batch_of([1, 4]))["field"]
  reached = np.abs(gradient["codes"]).sum(axis=1) > 0
  assert reached.tolist() == [False, True, False, False, True, False]
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert bool(jnp.all(jnp.isfinite(leaf))) and bool(jnp.any(leaf != 0)), path
  seen = jax.jit(task.predict["render_code"])
  both = batch_of([1, 4])
  rays = [Rays(*(both[name][i] for name in vars(Rays(*range(7))))) for i in range(2)]
  own = [seen(params, extra, params["field"]["codes"][k], r)["rgb"] for k, r in zip((1, 4), rays)]
  changed = {"field": {**params["field"], "codes": params["field"]["codes"].at[4].set(9.0)}}
  again = [seen(changed, extra, changed["field"]["codes"][k], r)["rgb"] for k, r in zip((1, 4), rays)]
  np.testing.assert_array_equal(own[0], again[0])
  assert not np.allclose(own[1], again[1])


@pytest.mark.slow
@pytest.mark.parametrize("density", ["distance", "logarithm"])
def test_a_batch_of_two_shapes_costs_the_mean_of_each_alone(density):
  task = make(density=density, curriculum=dict(color=1.0, mask=0.1, code=1e-3))
  params, extra = task.init(jax.random.key(0))
  batch = batch_of([1, 4])
  # one ray's own random shift must not depend on the batch's size: the field's values are the same along all of it
  params["field"]["decoder"]["network"] = jax.tree.map(jnp.zeros_like, params["field"]["decoder"]["network"])
  if density == "distance":
    params["field"]["beta"] = jnp.float32(50.0)
  loss = lambda batch: float(task.losses["field"](params, extra, batch, jax.random.key(1), jnp.int32(0))[0])
  alone = [loss({name: value[i:i + 1] for name, value in batch.items()}) for i in range(2)]
  assert alone[0] != alone[1]
  np.testing.assert_allclose(loss(batch), np.mean(alone), rtol=1e-4)


@pytest.mark.slow
def test_a_planted_code_is_found_from_one_picture():
  task = radiance_codes(balls(), INFO, samples=24, beta=0.03, reconstruct=dict(
      candidates=6, starts=2, explore=30, steps=120, learning_rate=0.1, rays=64, penalty=0.0))
  params, extra = task.init(jax.random.key(0))
  rng = np.random.default_rng(0)
  codes = np.concatenate([rng.uniform(0.3, 0.7, (6, 1)), rng.normal(0, 1, (6, 3))], axis=1).astype(np.float32)
  params["field"]["codes"] = jnp.asarray(codes)
  rays, z = picture_rays(CAMERA, POSE, jnp.arange(12)), jnp.asarray([0.55, 1.2, -0.8, 0.3])
  seen = task.predict["render_code"](params, extra, z, rays)
  rgb, alpha = seen["rgb"] - (1 - seen["opacity"])[:, None], seen["opacity"]
  found = jax.jit(task.predict["image_code"])(params, extra, rays, rgb, alpha, jax.random.key(2))
  np.testing.assert_allclose(found, z, atol=0.03)  # logits of a colour, of size 1: under 0.01 of the colour


def test_a_picture_is_what_its_rays_see_and_every_prediction_has_its_shape():
  task = make(reconstruct=dict(candidates=2, starts=1, explore=2, steps=2, rays=8))
  state = init_state(task, {"field": adam()}, jax.random.key(0))
  predict = bind(task, state)
  z = predict["code"](2)
  image, rays = predict["image"](z, POSE), picture_rays(CAMERA, POSE, jnp.arange(12))
  flat = predict["render_code"](z, rays)
  np.testing.assert_allclose(image["rgb"].reshape(-1, 3), flat["rgb"], rtol=1e-5, atol=1e-6)
  assert image["opacity"].shape == image["depth"].shape == (12, 12)
  x = jnp.zeros((5, 3))
  assert predict["sdf"](x, z).shape == predict["density"](x, z).shape == (5,) and predict["color"](x, z).shape == (5, 3)
  assert predict["sample"](jax.random.key(0), 3).shape == (3, 4)
  np.testing.assert_array_equal(predict["latents"](batch_of([2, 5]), jax.random.key(0)), state.params["field"]["codes"][jnp.array([2, 5])])
  assert predict["image_code"](rays, flat["rgb"], flat["opacity"], jax.random.key(0)).shape == (4,)


def test_training_lowers_the_loss_and_moves_the_shapes_that_are_seen():
  task = make()
  step = jax.jit(make_step(task, {"field": adam(learning_rate=1e-2)}))
  state = init_state(task, {"field": adam(learning_rate=1e-2)}, jax.random.key(0))
  batch, losses = batch_of([1, 4]), []
  for _ in range(40):
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
  assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("changes, word", [
    (dict(curriculum=dict(colour=1.0)), "no such term"), (dict(curriculum=dict(mask=1.0)), "has no color"),
    (dict(field=PLANES | dict(channels=1)), "no colours"), (dict(field=PLANES | dict(code_dim=0)), "no code"),
    (dict(density="logarithm", curriculum=dict(color=1.0, eikonal=0.1)), "no distance")])
def test_what_cannot_be_had_is_said_in_a_line(changes, word):
  with pytest.raises(UsageFault, match=word):
    make(**changes)
