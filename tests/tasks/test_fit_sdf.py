"""fit_sdf: its terms, exactness under microbatches and blocks, and learning spheres well enough to answer questions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind
from fields3d.tasks import TASKS
from fields3d.training.optim import adam
from fields3d.training.step import init_state, make_step

RADII = np.linspace(0.25, 0.65, 8)
SECTION = dict(
    name="fit_sdf", field=dict(name="deepsdf", width=32, depth=4, skip=2, code_dim=4, dropout=0.0),
    curriculum=dict(distance=1.0, code=1e-4), reconstruct=dict(steps=300, samples=256))


def make(info=None, **changes):
  return build(TASKS, {**SECTION, **changes}, "task", info={"num_shapes": len(RADII)} if info is None else info)


def spheres(rng, rows, points):
  """A batch of spheres about the origin, half its points near the surface."""
  shape = rng.integers(len(RADII), size=rows)
  direction = rng.normal(size=(rows, points, 3))
  direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
  near = RADII[shape][:, None] + rng.normal(0, 0.05, (rows, points))
  length = np.where(np.arange(points)[None] % 2, near, rng.uniform(0.01, 1, (rows, points)))
  f = lambda a: np.asarray(a, np.float32)
  return {"shape": shape.astype(np.int32), "x": f(direction * length[..., None]),
          "sdf": f(length - RADII[shape][:, None]), "normals": f(direction), "colors": f(0.5 + 0.5 * direction)}


@pytest.fixture
def batch():
  return spheres(np.random.default_rng(0), 4, 48)


def loss_of(task, batch, key=0, step=0):
  params, extra = task.init(jax.random.key(0))
  run_key, run_step = jax.random.key(key), jnp.int32(step)
  f = jax.jit(jax.value_and_grad(lambda p, batch: task.losses["field"](p, extra, batch, run_key, run_step), has_aux=True))
  return params, *f(params, batch)


EVERY_TERM = dict(field={**SECTION["field"], "channels": 4, "activation": "softplus"},
                  curriculum=dict(distance=1.0, color=0.1, eikonal=0.1, normal=0.05, code=1e-4))


def test_parameters_are_a_decoder_and_a_code_for_each_shape_within_the_bound():
  task = make(code_std=3.0)
  params, extra = task.init(jax.random.key(0))
  assert set(params) == {"field"} and set(params["field"]) == {"decoder", "codes"} and extra == {}
  assert params["field"]["codes"].shape == (8, 4)
  assert float(jnp.max(jnp.linalg.norm(params["field"]["codes"], axis=1))) <= 1 + 1e-6


def test_codes_start_with_variance_one_over_their_dimension():
  task = make(info={"num_shapes": 4000}, field={**SECTION["field"], "code_dim": 16}, code_bound=None)
  codes = np.asarray(task.init(jax.random.key(0))[0]["field"]["codes"])
  assert abs(codes.var() * 16 - 1) < 4 * np.sqrt(2 / codes.size)


def test_the_loss_is_the_weighted_sum_of_its_terms_in_float64(batch):
  task = make(**{**EVERY_TERM, "code_std": 0.5}, gradient_points=12)
  params, (value, scalars), _ = loss_of(task, batch)
  weights = EVERY_TERM["curriculum"]
  assert set(scalars) == set(weights)
  np.testing.assert_allclose(value, sum(weights[name] * scalars[name] for name in weights), rtol=1e-5)
  z = np.asarray(params["field"]["codes"])[batch["shape"]]
  predicted = np.stack([task.predict["sdf"](params, {}, x, code) for x, code in zip(batch["x"], z, strict=True)])
  clip = lambda v: np.clip(v, -0.1, 0.1)
  np.testing.assert_allclose(scalars["distance"], np.mean(np.abs(clip(predicted) - clip(batch["sdf"]))), rtol=1e-4)
  np.testing.assert_allclose(scalars["code"], np.mean(np.linalg.norm(z, axis=1)), rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, EVERY_TERM])
@pytest.mark.parametrize("block", [4, 24])
def test_blocks_change_nothing(batch, changes, block):
  _, (value, scalars), gradient = loss_of(make(**changes), batch)
  _, (in_blocks, scalars_in_blocks), gradient_in_blocks = loss_of(make(**changes, block=block), batch)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # gradients are near 0.01
  jax.tree.map(close, (value, scalars, gradient), (in_blocks, scalars_in_blocks, gradient_in_blocks))


def test_microbatches_of_rows_change_nothing(batch):
  task, optimisers = make(code_std=2.0), {"field": adam(1e-3)}
  state = init_state(task, optimisers, jax.random.key(0))
  whole, _ = jax.jit(make_step(task, optimisers))(state, batch)
  parts, _ = jax.jit(make_step(task, optimisers, accumulate=4))(state, batch)
  moment = lambda s: jax.tree.leaves(s.opt)[1:]
  for a, b in zip(moment(whole), moment(parts), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)  # first moments are near 1e-3


def test_only_the_codes_of_the_batch_get_a_gradient(batch):
  _, _, gradient = loss_of(make(), batch)
  touched = np.flatnonzero(np.any(np.asarray(gradient["field"]["codes"]) != 0, axis=1))
  assert set(touched) == set(batch["shape"].tolist())


def test_a_stored_code_outside_the_bound_acts_as_if_on_it_and_is_drawn_back(batch):
  task = make(curriculum=dict(distance=1.0), code_std=0.5)
  params, extra = task.init(jax.random.key(0))
  codes = params["field"]["codes"]
  length = jnp.linalg.norm(codes, axis=1, keepdims=True)
  loss = jax.jit(jax.value_and_grad(lambda codes: task.losses["field"](
      {"field": {**params["field"], "codes": codes}}, extra, batch, jax.random.key(0), jnp.int32(0))[0]))
  on_it, _ = loss(codes / length)
  outside, gradient = loss(1.5 * codes / length)
  np.testing.assert_allclose(outside - on_it, 0.5 * 0.5**2, rtol=1e-4)
  radial = np.sum(gradient * codes / length, axis=1) * len(batch["shape"])
  np.testing.assert_allclose(radial, 0.5 * np.bincount(batch["shape"], minlength=8), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [None, 8])
def test_rows_may_lie_on_several_devices(batch, block):
  task = make(block=block, field={**SECTION["field"], "dropout": 0.2})
  mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # gradients are near 0.01
  jax.tree.map(close, loss_of(task, spread)[1:], loss_of(task, batch)[1:])


def test_dropout_is_drawn_anew_by_each_key(batch):
  task = make(field={**SECTION["field"], "dropout": 0.2})
  values = [float(loss_of(task, batch, key)[1][0]) for key in (0, 0, 1)]
  assert values[0] == values[1] != values[2]


def test_weights_follow_the_step_and_an_unnamed_term_is_not_computed(batch):
  task = make(curriculum=dict(distance=1.0, code=dict(name="linear", start=0.0, end=1.0, steps=10)), code_std=0.5)
  _, (start, scalars), _ = loss_of(task, batch, step=0)
  _, (end, _), _ = loss_of(task, batch, step=10)
  np.testing.assert_allclose(end - start, scalars["code"], rtol=1e-4)
  assert set(scalars) == {"distance", "code"}


def test_predictions_use_the_levels_that_were_trained():
  field = {**SECTION["field"], "code_dim": 0, "encoding": dict(name="fourier", levels=4)}
  task = make(field=field, curriculum=dict(distance=1.0, level=dict(name="linear", start=1.0, end=4.0, steps=30)))
  params, extra = task.init(jax.random.key(0))
  assert float(extra["level"]) == 1.0
  later = task.refresh(params, extra, None, None, jnp.int32(10))
  assert float(later["level"]) == 2.0
  x, z = jnp.asarray([[0.3, 0.1, -0.2]]), jnp.zeros(0)
  coarse, finer = (task.predict["sdf"](params, e, x, z) for e in (extra, later))
  assert not np.allclose(coarse, finer)
  np.testing.assert_allclose(task.predict["sdf"](params, extra, x + 2.0, z), coarse, rtol=1e-3, atol=1e-5)


def test_second_order_gradients_of_the_eikonal_term_match_differences(batch):
  task = make(field={**SECTION["field"], "activation": "softplus"}, curriculum=dict(eikonal=1.0), gradient_points=16)
  params, extra = task.init(jax.random.key(0))
  loss = jax.jit(lambda p: task.losses["field"](p, extra, batch, jax.random.key(0), jnp.int32(0))[0])
  gradient = jax.grad(loss)(params)
  direction = jax.tree.map(lambda g: g / jnp.sqrt(sum(jnp.sum(a**2) for a in jax.tree.leaves(gradient))), gradient)
  moved = lambda h: loss(jax.tree.map(lambda p, d: p + h * d, params, direction))
  analytic = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
  np.testing.assert_allclose((moved(1e-2) - moved(-1e-2)) / 2e-2, analytic, rtol=0.02)


def test_a_field_of_one_shape_has_no_codes_and_nothing_to_sample(batch):
  task = make(info={"num_shapes": 1}, field={**SECTION["field"], "code_dim": 0})
  params, (value, _), _ = loss_of(task, {**batch, "shape": np.zeros(4, np.int32)})
  assert set(params["field"]) == {"decoder"} and np.isfinite(value)
  assert set(task.predict) == {"code", "sdf"}
  assert task.predict["code"](params, {}, 0).shape == (0,)


def test_noise_on_codes_moves_the_loss_by_its_second_order_alone(batch):
  losses = {}
  for noise in (0.0, 1e-2, 2e-2):
    task = make(code_noise=noise)
    params, extra = task.init(jax.random.key(0))
    loss = lambda key, task=task, params=params, extra=extra: task.losses["field"](params, extra, batch, key, jnp.int32(0))[0]
    losses[noise] = np.asarray(jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(1), 64)))
  assert losses[1e-2].std() > 0 and np.ptp(losses[0.0]) == 0
  np.testing.assert_allclose(losses[2e-2].std(), 2 * losses[1e-2].std(), rtol=0.3)  # of 64 draws
  growing = make(code_noise=dict(name="linear", start=0.0, end=1e-2, steps=10))
  at = lambda step: float(growing.losses["field"](*growing.init(jax.random.key(0)), batch, jax.random.key(2), jnp.int32(step))[0])
  np.testing.assert_allclose(at(0), losses[0.0][0], rtol=1e-6)
  assert at(0) != at(10)


@pytest.mark.parametrize("changes, says", [
    (dict(curriculum=dict(distence=1.0)), "curriculum.distence: no such term; did you mean 'distance'"),
    (dict(curriculum=dict(distance=1.0, color=1.0)), "channels=4"),
    (dict(curriculum=dict(code=1.0)), "add distance"),
    (dict(curriculum=dict(distance=-1.0)), "out of range"),
    (dict(reconstruct=dict(stepps=3)), "did you mean 'steps'"),
    (dict(distance="l2"), "clamped_l1"),
    (dict(clamp=0.0), "out of range")])
def test_impossible_settings_are_refused_when_built(changes, says):
  with pytest.raises(UsageFault, match=says):
    make(**changes)


def test_what_the_data_cannot_give_is_refused_at_the_first_step(batch):
  bare = {name: batch[name] for name in ("shape", "x", "sdf")}
  with pytest.raises(UsageFault, match="the data has no normals"):
    loss_of(make(curriculum=dict(distance=1.0, normal=1.0)), bare)
  with pytest.raises(UsageFault, match="5 does not divide the 48 points"):
    loss_of(make(block=5), bare)


@pytest.fixture(scope="module")
def trained():
  """Eight spheres, learned in 1,500 steps; the predict functions of the run."""
  task = make(field={**SECTION["field"], "channels": 4}, curriculum=dict(distance=1.0, color=0.05, code=1e-4))
  rate = lambda high: (lambda step: high * jnp.where(step < 1100, 1.0, 0.1))
  optimisers = {"field": adam(rate(3e-3), {"codes": rate(3e-3)})}
  state = jax.jit(lambda key: init_state(task, optimisers, key))(jax.random.key(0))
  rng = np.random.default_rng(0)
  batches = [spheres(rng, 8, 128) for _ in range(100)]
  stacked = {name: jnp.asarray(np.stack([b[name] for b in batches])) for name in batches[0]}
  step = make_step(task, optimisers)
  run = jax.jit(lambda state: jax.lax.scan(step, state, stacked)[0])
  for _ in range(15):
    state = run(state)
  return bind(task, state)


def near_surface(radius, num=400, seed=5):
  rng = np.random.default_rng(seed)
  direction = rng.normal(size=(num, 3))
  direction /= np.linalg.norm(direction, axis=1, keepdims=True)
  length = radius + rng.uniform(-0.08, 0.08, num)
  return (direction * length[:, None]).astype(np.float32), (length - radius).astype(np.float32)


def test_the_fitted_codes_give_the_training_shapes(trained):
  for index, radius in enumerate(RADII):
    x, sdf = near_surface(radius)
    z = trained["code"](index)
    assert np.mean(np.abs(trained["sdf"](x, z) - sdf)) < 0.01
    color = trained["color"](x, z)
    assert float(color.min()) >= 0 and float(color.max()) <= 1


def test_reconstruction_of_a_training_shape_is_as_good_as_its_own_code(trained):
  x, sdf = near_surface(RADII[3])
  z = trained["reconstruct"](x, sdf, jax.random.key(0))
  assert np.mean(np.abs(trained["sdf"](x, z) - sdf)) < 0.01


def test_an_unseen_sphere_is_reconstructed_from_all_of_it_and_completed_from_half(trained):
  radius = 0.45  # Halfway from the fourth to the fifth.
  x, sdf = near_surface(radius)
  nearest = min(np.mean(np.abs(trained["sdf"](x, trained["code"](i)) - sdf)) for i in range(len(RADII)))
  z = trained["reconstruct"](x, sdf, jax.random.key(0))
  assert np.mean(np.abs(trained["sdf"](x, z) - sdf)) < min(0.01, nearest)
  seen = x[:, 0] > 0
  z = trained["reconstruct"](x[seen], sdf[seen], jax.random.key(0))
  assert np.mean(np.abs(trained["sdf"](x[~seen], z) - sdf[~seen])) < 0.015


def test_interpolated_codes_give_spheres_in_between(trained):
  za, zb = trained["code"](0), trained["code"](7)
  np.testing.assert_allclose(trained["interpolate"](za, zb, 0.0), za, rtol=1e-6)
  np.testing.assert_allclose(trained["interpolate"](za, zb, 1.0), zb, rtol=1e-6)
  sizes = [radius_of(trained, trained["interpolate"](za, zb, t)) for t in (0.0, 0.5, 1.0)]
  assert sizes[0] < sizes[1] < sizes[2]


def radius_of(trained, z):
  """Where the mean distance along the axes changes its sign."""
  lengths = np.linspace(0.05, 0.95, 91)
  x = (np.concatenate([np.eye(3), -np.eye(3)])[:, None] * lengths[:, None]).reshape(-1, 3).astype(np.float32)
  return float(lengths[np.argmax(np.mean(np.asarray(trained["sdf"](x, z)).reshape(6, -1), axis=0) > 0)])


def test_sampled_codes_are_within_the_bound_and_give_spheres_of_the_familys_sizes(trained):
  codes = trained["sample"](jax.random.key(0), 16)
  assert codes.shape == (16, 4) and float(jnp.max(jnp.linalg.norm(codes, axis=1))) <= 1 + 1e-6
  radii = [radius_of(trained, z) for z in codes]
  assert 0.2 < np.median(radii) < 0.7 and np.std(radii) > 0.02
