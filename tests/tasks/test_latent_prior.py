"""Priors over latents: what they learn, what stays frozen, and what they are asked for."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind
from fields3d.generative import DIFFUSIONS
from fields3d.networks.denoiser import DenoiserNetwork
from fields3d.tasks import TASKS
from fields3d.tasks.latent_prior import one_sided
from fields3d.tasks.priors import diffusion_prior
from fields3d.training.optim import OPTIMISERS
from fields3d.training.step import init_state, make_step

INFO = {"num_shapes": 64, "classes": ["chair", "table"], "labels": ["chair"] * 48 + ["table"] * 16}
BASE = dict(name="fit_sdf", code_bound=None, field=dict(name="deepsdf", width=8, depth=2, skip=1, code_dim=3))
DIFFUSION = dict(name="diffusion", diffusion=dict(noise=dict(name="edm"), target="edm"), sampler=dict(name="heun", steps=12),
                 network=dict(name="residual_mlp", width=32, depth=2, heads=4))
PRIORS = {"diffusion": DIFFUSION, "flow": dict(name="flow", flow=dict(name="spline"))}


def make(prior, **settings):
  return build(TASKS, dict(name="latent_prior", base=BASE, prior=prior, calibrate=50, **settings), "task", info=INFO)


def trained(task, steps, codes, rate=3e-3):
  """The task's state after some steps on codes that are known, the base's."""
  optimisers = {"prior": build(OPTIMISERS, dict(name="adam", learning_rate=rate), "optim.prior")}
  state = init_state(task, optimisers, jax.random.key(0))
  state.params["field"]["codes"] = jnp.asarray(codes)
  step = jax.jit(make_step(task, optimisers))
  rng = np.random.default_rng(0)
  for _ in range(steps):
    shape = rng.integers(64, size=32)
    batch = {"shape": shape.astype(np.int32), "label": (shape >= 48).astype(np.int32),
             "surface": rng.normal(size=(32, 16, 3)).astype(np.float32)}
    state, metrics = step(state, batch)
  return state, metrics


@pytest.fixture(scope="module")
def codes():
  """Two classes of codes, far apart: chairs at -3, tables at 5 along the first axis, of deviation 1/2."""
  away = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32) / 2
  away[:, 0] += np.where(np.arange(64) < 48, -3, 5)
  return away


@pytest.mark.parametrize("name", PRIORS)
def test_draws_have_the_moments_of_the_codes_by_class_and_in_all(name, codes):
  task = make(PRIORS[name], by_class=True)
  state, metrics = trained(task, 400, codes)
  predict = bind(task, state)
  assert np.isfinite(metrics["loss"]) and metrics["skipped"] == 0
  assert all(leaf.size for leaf in jax.tree.leaves(state.params)), "a checkpoint holds no empty array"
  for label, centre in ((0, -3), (1, 5)):
    draws = np.asarray(predict["sample_label"](jax.random.key(1), label, 256))
    np.testing.assert_allclose(draws.mean(axis=0), [centre, 0, 0], atol=0.4)  # of deviation 1/2, and what 64 codes have
  draws = np.asarray(predict["sample"](jax.random.key(2), 512))
  assert abs(np.mean(draws[:, 0] > 1) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 512)


def test_the_base_is_frozen_and_answers_as_before(codes):
  task = make(DIFFUSION)
  before = init_state(task, {"prior": build(OPTIMISERS, dict(name="adam", learning_rate=1e-3), "o")}, jax.random.key(0))
  state, _ = trained(task, 3, codes)
  for old, new in zip(jax.tree.leaves(before.params["field"]["decoder"]), jax.tree.leaves(state.params["field"]["decoder"])):
    np.testing.assert_array_equal(old, new)
  base = bind(build(TASKS, BASE, "task", info=INFO), state)
  x, predict = jnp.ones((5, 3)) / 3, bind(task, state)
  z = predict["code"](7)
  np.testing.assert_array_equal(predict["sdf"](x, z), base["sdf"](x, z))


def test_latents_that_a_batch_brings_are_learned_in_place_of_the_bases(codes):
  task = make(DIFFUSION)
  optimisers = {"prior": build(OPTIMISERS, dict(name="adam", learning_rate=1e-3), "optim.prior")}
  state = init_state(task, optimisers, jax.random.key(0))
  batch = {"shape": np.zeros(8, np.int32), "latents": np.full((8, 3), 7, np.float32) + np.arange(8, dtype=np.float32).reshape(8, 1)}
  state, _ = jax.jit(make_step(task, optimisers))(state, batch)
  np.testing.assert_allclose(state.extra["moments"]["mean"], 10.5, rtol=1e-6)
  with pytest.raises(UsageFault, match=r"holds latents \(4,\), the base's are \(3,\)"):
    make_step(task, optimisers)(state, batch | {"latents": np.zeros((8, 4), np.float32)})


def test_latents_are_standardised_by_the_first_batches_alone(codes):
  task = make(DIFFUSION)
  state, _ = trained(task, 60, codes)
  moments = state.extra["moments"]
  assert moments["batches"] == 50
  np.testing.assert_allclose(moments["mean"], codes.mean(axis=0), atol=4 * codes.std() / np.sqrt(50 * 32))
  np.testing.assert_allclose(np.sqrt(moments["variance"]), codes.std(axis=0), rtol=0.1)


def test_channels_far_from_zero_keep_their_deviation():
  task = make(PRIORS["flow"])
  state = init_state(task, {"prior": build(OPTIMISERS, dict(name="adam"), "optim.prior")}, jax.random.key(0))
  far = np.float32(20 + 0.01 * np.random.default_rng(2).normal(size=(64, 3)))
  state.params["field"]["codes"], extra = jnp.asarray(far), state.extra
  for i in range(30):
    shape = np.random.default_rng(i).integers(64, size=32)
    extra = task.refresh(state.params, extra, {"shape": jnp.asarray(shape)}, jax.random.key(i), jnp.int32(i))
  np.testing.assert_allclose(np.sqrt(extra["moments"]["variance"]), far.std(axis=0), rtol=0.1)


def test_a_scan_steers_the_draws_of_a_prior_that_reads_scans(codes):
  task = make(DIFFUSION, scan_points=4, scan_width=8)
  state, _ = trained(task, 3, codes)
  out = state.params["prior"]["model"]["out"]  # starts at 0: so many steps move it little
  out["w"] = jax.random.normal(jax.random.key(0), out["w"].shape)
  predict = bind(task, state)
  draw = lambda scan: np.asarray(predict["complete"](scan, jax.random.key(0), 2))
  one = draw(jnp.ones((9, 3)))
  assert one.shape == (2, 3) and not np.allclose(one, draw(-jnp.ones((9, 3))))
  np.testing.assert_array_equal(one, draw(jnp.ones((9, 3))))


@pytest.mark.parametrize("by_class, by_scan, expected", [
    (True, True, {(True, False): 0.18, (False, True): 0.8, (False, False): 0.02}), (True, False, {(True, False): 0.9, (False, False): 0.1}),
    (False, True, {(False, True): 0.8, (False, False): 0.2})])
def test_rows_are_trained_under_the_conditions_that_draws_are_asked_for(by_class, by_scan, expected):
  seen = []
  def apply(params, x, c, label, tokens, key=None, previous=None):
    with_label = np.zeros(len(x), bool) if label is None else np.asarray(label) == 1
    with_scan = np.zeros(len(x), bool) if tokens is None else np.asarray(jnp.any(tokens != 0, axis=(1, 2)))
    seen.extend(zip(with_label.tolist(), with_scan.tolist()))
    return 0 * x
  diffusion = build(DIFFUSIONS, DIFFUSION["diffusion"], "diffusion")
  prior = diffusion_prior(diffusion, DenoiserNetwork(lambda *_: {}, apply), None, label_dropout=0.1, token_dropout=0.2)
  num = 10_000
  prior.loss({}, jnp.ones((num, 2)), jnp.ones(num, jnp.int32) if by_class else None, jnp.ones((num, 3, 4)) if by_scan else None,
             jax.random.key(0))
  shares = {condition: count / num for condition, count in collections.Counter(seen).items()}
  assert set(shares) == set(expected)
  for condition, share in expected.items():
    assert abs(shares[condition] - share) < 4 * np.sqrt(share * (1 - share) / num)


def test_a_scan_is_a_half_of_its_cloud_seen_from_one_side():
  cloud = jax.random.normal(jax.random.key(0), (5, 40, 3))
  scan = np.asarray(one_sided(cloud, 10, jax.random.key(1)))
  direction = np.asarray(jax.random.normal(jax.random.key(1), (5, 3)))
  for whole, part, way in zip(np.asarray(cloud), scan, direction, strict=True):
    rank = {point.tobytes(): i for i, point in enumerate(whole[np.argsort(whole @ way)])}
    assert [rank[point.tobytes()] for point in part] == list(range(0, 20, 2))  # ten of the half of forty


def test_files_without_a_folder_of_their_class_have_none_to_condition_on():
  section = dict(name="latent_prior", base=BASE, prior=DIFFUSION, by_class=True)
  flat = {**INFO, "classes": [""], "labels": [""] * INFO["num_shapes"]}
  with pytest.raises(UsageFault, match="by_class: the data names no classes; set it to False"):
    build(TASKS, section, "task", info=flat)


@pytest.mark.parametrize("settings, says", [
    (dict(prior=PRIORS["flow"], scan_points=4), "prior.name=diffusion"),
    (dict(prior={**DIFFUSION, "token_dropout": 0.0}, scan_points=4), "token_dropout: no row is trained without its scan"),
    (dict(prior={**DIFFUSION, "label_dropout": 0.0, "guidance": 2.0}, by_class=True), "label_dropout: no row is trained without"),
    (dict(prior=DIFFUSION, base={**BASE, "field": {**BASE["field"], "code_dim": 0}}), "no latents"),
])
def test_what_does_not_fit_is_one_line(settings, says):
  section = dict(name="latent_prior", base=BASE) | settings
  with pytest.raises(UsageFault, match=says):
    build(TASKS, section, "task", info=INFO).init(jax.random.key(0))


def test_a_base_is_used_as_at_the_end_of_its_schedules():
  """It is not trained here: levels that come in one after another are all in."""
  levels = dict(name="linear", start=1.0, end=4.0, steps=100)
  base = dict(name="fit_sdf", curriculum=dict(distance=1.0, level=levels), field=dict(
      name="encoded", code_dim=3, width=8, encoding=dict(name="fourier", levels=4)))
  _, extra = build(TASKS, dict(name="latent_prior", base=base, prior=DIFFUSION), "task", info=INFO).init(jax.random.key(0))
  assert float(extra["base"]["level"]) == 4
  gan = dict(name="latent_gan", base=base, generator=dict(name="code_generator", dim=3, widths=(8,)), critic=dict(name="code_critic"))
  assert float(build(TASKS, gan, "task", info=INFO).init(jax.random.key(0))[1]["level"]) == 4
