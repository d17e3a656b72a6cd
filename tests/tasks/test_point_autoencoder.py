"""point_autoencoder: its loss, what it is asked for, and clouds made again by both of its decoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind
from fields3d.generative.diffusion import diffusion
from fields3d.generative.noise import flow
from fields3d.generative.samplers import ddim
from fields3d.losses.latent import kl_to_normal
from fields3d.networks.denoiser import DenoiserNetwork
from fields3d.tasks import TASKS
from fields3d.tasks.point_autoencoder import point_autoencoder
from fields3d.tasks.point_decoders import POINT_DECODERS, dense_decoder, diffusion_decoder
from fields3d.training.optim import adam
from fields3d.training.step import init_state, make_step

DENSE = dict(name="dense", points=24, widths=(16, 32))
DIFFUSION = dict(name="diffusion", points=24, diffusion=dict(noise=dict(name="flow"), target="flow", sigma_data=0.5),
                 network=dict(name="pointwise", widths=(32, 64, 32)), sampler=dict(name="ddim", steps=8))
DECODERS = {"dense": DENSE, "diffusion": DIFFUSION}  # a row per entry of the table
FLOW = dict(name="realnvp", layers=2, width=8)


def make(**changes):
  section = dict(name="point_autoencoder", decoder=DENSE, code_dim=5, widths=(8, 16))
  return build(TASKS, section | changes, "task", info={})


def boxes(rng, rows=16, points=24):
  """Clouds in boxes of their own places and sizes."""
  middle, half = rng.uniform(-0.6, 0.6, (rows, 1, 3)), rng.uniform(0.05, 0.3, (rows, 1, 3))
  return {"surface": np.asarray(middle + half * rng.uniform(-1, 1, (rows, points, 3)), np.float32)}


def trained(task, steps, rate=5e-3):
  optimisers = {"model": adam(rate)}
  state = jax.jit(lambda key: init_state(task, optimisers, key))(jax.random.key(0))
  step, rng = jax.jit(make_step(task, optimisers)), np.random.default_rng(0)
  for _ in range(steps):
    state, metrics = step(state, boxes(rng))
  assert metrics["skipped"] == 0
  return bind(task, state)


def slow_chamfer(a, b):
  squares = scipy.spatial.distance.cdist(a, b, "sqeuclidean")
  return squares.min(0).mean() + squares.min(1).mean()


def test_the_table_and_these_tests_name_the_same_decoders():
  assert set(DECODERS) == set(POINT_DECODERS)


@pytest.mark.parametrize("loss", ["chamfer", "emd"])
def test_the_plain_loss_is_the_distance_of_the_clouds_made_of_the_codes(loss):
  task, batch, key = make(decoder=DENSE | dict(loss=loss)), boxes(np.random.default_rng(0), rows=3), jax.random.key(1)
  params, extra = jax.jit(task.init)(jax.random.key(0))
  value, scalars = jax.jit(task.losses["model"])(params, extra, batch, key, jnp.int32(0))
  codes = task.predict["latents"](params, extra, batch, key)
  made = [np.asarray(task.predict["points"](params, extra, z, key), np.float64) for z in codes]
  if loss == "chamfer":
    want = [slow_chamfer(a, b) for a, b in zip(made, batch["surface"], strict=True)]
  else:
    costs = [scipy.spatial.distance.cdist(a, b) for a, b in zip(made, batch["surface"], strict=True)]
    want = [c[scipy.optimize.linear_sum_assignment(c)].mean() for c in costs]
  np.testing.assert_allclose(value, np.mean(want), rtol=1e-5)
  assert set(scalars) == {"fit"} and "head" not in params["model"]


def test_every_parameter_is_learned_and_the_divergence_has_its_weight():
  task = make(kl=dict(name="linear", start=0.0, end=0.5, steps=10), latents="sample")
  batch, key = boxes(np.random.default_rng(0), rows=4), jax.random.key(1)
  params, extra = jax.jit(task.init)(jax.random.key(0))
  differentiated = jax.jit(jax.value_and_grad(task.losses["model"], has_aux=True))
  (value, scalars), grads = differentiated(params, extra, batch, key, jnp.int32(5))
  np.testing.assert_allclose(value, scalars["fit"] + 0.25 * scalars["kl"], rtol=1e-5)
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
  draws = jax.jit(jax.vmap(lambda key: task.predict["latents"](params, extra, batch, key)))(jax.random.split(key, 500))
  mean, log_variance = np.mean(draws, axis=0), np.log(np.var(draws, axis=0))
  np.testing.assert_allclose(kl_to_normal(mean, log_variance), scalars["kl"], rtol=0.05)  # variances of 500 draws


def test_a_diffusion_whose_network_says_the_code_draws_points_at_it():
  net = DenoiserNetwork(init=lambda key, shape, classes, token_dim, self_condition: {"scale": jnp.ones(())},
                        apply=lambda params, x, c, label, tokens, key, previous: params["scale"] * tokens[..., :3] + 0 * x)
  decoder = diffusion_decoder(diffusion(flow(), target="x0"), net, ddim(steps=3), points=6)
  params, surface = decoder.init(jax.random.key(0), 4), jnp.asarray(boxes(np.random.default_rng(0), rows=3)["surface"])
  code = jnp.arange(12.0).reshape(3, 4)
  np.testing.assert_allclose(decoder.points(params, code[1], jax.random.key(0)), np.tile([4, 5, 6], (6, 1)), rtol=1e-5)
  want = np.mean((np.asarray(code)[:, None, :3] - surface) ** 2, axis=(1, 2))
  np.testing.assert_allclose(decoder.loss(params, code, surface, jax.random.key(1)), want, rtol=1e-5)
  scaled = diffusion_decoder(diffusion(flow(), target="x0"), net, ddim(steps=3), points=6, deviation=0.5)
  np.testing.assert_allclose(scaled.points(params, code[1], jax.random.key(0)), np.tile([2, 2.5, 3], (6, 1)), rtol=1e-5)
  np.testing.assert_allclose(scaled.loss(params, code, surface / 2, jax.random.key(1)), want, rtol=1e-5)


def test_the_divergence_from_a_flow_that_is_normal_is_on_average_the_exact_one():
  exact, drawn = make(kl=1.0), make(kl=1.0, flow=FLOW)
  params, extra = jax.jit(drawn.init)(jax.random.key(0))
  params["model"]["head"]["b"] = jnp.array([0.5, -1, 0, 2, 1, 0, 0.5, -1, -2, 1.0])
  batch = boxes(np.random.default_rng(0), rows=8)
  one = lambda key: drawn.losses["model"](params, extra, batch, key, jnp.int32(0))[1]["kl"]
  draws = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(0), 800)))
  want = exact.losses["model"](params, extra, batch, jax.random.key(0), jnp.int32(0))[1]["kl"]
  assert abs(draws.mean() - want) < 4 * draws.std() / np.sqrt(len(draws))
  assert draws.std() / np.sqrt(len(draws)) < 0.02 * want


def test_a_weight_may_be_a_number_to_callers_from_python_too():
  task = point_autoencoder(dense_decoder(24, (4,)), 4, (4,), kl=0.5)
  params, extra = task.init(jax.random.key(0))
  scalars = task.losses["model"](params, extra, boxes(np.random.default_rng(0)), jax.random.key(1), 3)[1]
  assert float(scalars["kl_weight"]) == 0.5


@pytest.mark.parametrize("settings", [dict(), dict(kl=0.1)])
def test_a_code_depends_on_the_points_and_not_on_their_order(settings):
  task, batch = make(**settings), boxes(np.random.default_rng(0), rows=2)
  params, extra = jax.jit(task.init)(jax.random.key(0))
  codes = task.predict["latents"](params, extra, batch, jax.random.key(0))
  one = task.predict["encode"](params, extra, jnp.asarray(batch["surface"][1, ::-1]), jax.random.key(0))
  np.testing.assert_allclose(one, codes[1], rtol=1e-5, atol=1e-6)  # entries of order 0.1 to 1
  assert np.abs(codes[0] - codes[1]).max() > 1e-3


def test_the_plain_code_of_two_clouds_together_is_the_larger_of_theirs():
  task, (a, b) = make(), jnp.asarray(boxes(np.random.default_rng(0), rows=2)["surface"])
  params, extra = jax.jit(task.init)(jax.random.key(0))
  code = lambda points: task.predict["encode"](params, extra, points, jax.random.key(0))
  np.testing.assert_allclose(code(jnp.concatenate([a, b])), jnp.maximum(code(a), code(b)), rtol=1e-5)


@pytest.mark.parametrize("name, steps, least", [("dense", 200, 0.6), pytest.param("diffusion", 800, 0.5, marks=pytest.mark.slow)])
def test_unseen_clouds_are_made_again(name, steps, least):
  predict = trained(make(decoder=DECODERS[name], kl=1e-4), steps)
  batch = boxes(np.random.default_rng(5), rows=12)["surface"]
  made = np.stack([predict["points"](predict["encode"](x, jax.random.key(0)), jax.random.key(i)) for i, x in enumerate(batch)])
  assert made.shape == batch.shape
  middles, truth = made.mean(axis=1), batch.mean(axis=1)
  found = 1 - np.mean((middles - truth) ** 2) / np.var(truth)  # the share of the variance of the clouds' middles
  assert found > least, found


def test_sample_draws_from_the_flow_and_a_prior_can_be_learned_over_the_codes():
  section = dict(name="point_autoencoder", decoder=DENSE, code_dim=5, widths=(8,), kl=0.1, flow=FLOW)
  base = build(TASKS, section, "task", info={})
  params, extra = jax.jit(base.init)(jax.random.key(0))
  params["model"]["flow"]["shift"] = jnp.full(5, 7.0)
  assert 6 < float(base.predict["sample"](params, extra, jax.random.key(0), 64).mean()) < 8
  prior = build(TASKS, dict(name="latent_prior", base=section, prior=dict(name="flow", flow=FLOW)), "task", info={})
  params, extra = jax.eval_shape(prior.init, jax.random.key(0))
  made = jax.eval_shape(lambda params, extra, key: prior.predict["points"](
      params, extra, prior.predict["sample"](params, extra, key, 2)[0], key), params, extra, jax.random.key(1))
  assert made.shape == (24, 3)


def test_what_does_not_fit_is_one_line():
  with pytest.raises(UsageFault, match="set kl"):
    make(flow=FLOW)
  for task, batch, says in ((make(), {}, "config.data.surface"),
                            (make(decoder=DENSE | dict(loss="emd", points=9)), boxes(np.random.default_rng(0)), "9 points")):
    params, extra = jax.jit(task.init)(jax.random.key(0))
    with pytest.raises(UsageFault, match=says):
      task.losses["model"](params, extra, batch, jax.random.key(0), jnp.int32(0))
  with pytest.raises(UsageFault, match="config.data.surface"):
    task.predict["latents"](params, extra, {}, jax.random.key(0))
