"""shape_vae: its loss, and spheres encoded from points on them, seen and unseen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind
from fields3d.losses.latent import kl_to_normal
from fields3d.tasks import TASKS
from fields3d.training.optim import adam
from fields3d.training.step import init_state, make_step

SECTION = dict(
    name="shape_vae", surface_points=32, kl=1e-4,
    autoencoder=dict(name="latent_set", latents=6, dim=4, width=32, heads=2, cross_heads=2, encoder_layers=0,
                     decoder_layers=1, factor=2, levels=2))
PLANES = dict(name="tri_plane", cells=8, halvings=1, doublings=1, dim=3, width=8, features=8, layers=1, hidden=16, depth=1,
              levels=2)


def make(**changes):
  return build(TASKS, {**SECTION, **changes}, "task", info={})


def spheres(rng, rows=4, radii=(0.2, 0.7), points=48):
  """Spheres about the origin: points on them, and distances near them and elsewhere."""
  def directions(n):
    d = rng.normal(size=(rows, n, 3))
    return d / np.linalg.norm(d, axis=-1, keepdims=True)
  radius = rng.uniform(*radii, (rows, 1))
  length = np.where(np.arange(points)[None] % 2, radius + rng.normal(0, 0.1, (rows, points)), rng.uniform(0, 1, (rows, points)))
  length = np.abs(length)
  f = lambda a: np.asarray(a, np.float32)
  return {"surface": f(directions(32) * radius[..., None]), "x": f(directions(points) * length[..., None]),
          "sdf": f(length - radius), "label": np.zeros(rows, np.int32), "shape": np.arange(rows, dtype=np.int32)}


@pytest.fixture(scope="module")
def trained():
  """The predict functions after a thousand steps on spheres."""
  task, optimisers = make(autoencoder=PLANES), {"model": adam(5e-3)}
  state = jax.jit(lambda key: init_state(task, optimisers, key))(jax.random.key(0))
  step, rng = jax.jit(make_step(task, optimisers)), np.random.default_rng(0)
  for _ in range(1000):
    state, _ = step(state, spheres(rng, rows=8))
  return bind(task, state)


@pytest.mark.parametrize("target", ["sdf", "occupancy"])
def test_the_loss_is_the_fit_of_a_drawn_code_and_its_weighted_divergence(target):
  task = make(target=target, kl=dict(name="linear", start=0.0, end=0.5, steps=10), latents="sample",
              occupancy=dict(temperature=0.1, near=0.05, near_weight=0.3))
  batch, key = spheres(np.random.default_rng(0)), jax.random.key(3)
  params, extra = jax.jit(task.init)(jax.random.key(0))
  loss, scalars = jax.jit(task.losses["model"])(params, extra, batch, key, jnp.int32(5))
  z = jax.jit(task.predict["latents"])(params, extra, batch, key)
  distance = jax.jit(task.predict["sdf"])
  predicted = np.stack([distance(params, extra, x, code) for x, code in zip(batch["x"], z, strict=True)])
  predicted, sdf = predicted.astype(np.float64), batch["sdf"].astype(np.float64)
  if target == "sdf":
    fit = np.mean(np.abs(predicted - np.clip(sdf, -0.1, 0.1)))
  else:
    right = np.where(sdf < 0, -predicted, predicted) / 0.1
    fit = np.mean(np.log1p(np.exp(-right)) * np.where(np.abs(sdf) <= 0.05, 0.3, 1.0))
  np.testing.assert_allclose(scalars[target], fit, rtol=1e-4)
  np.testing.assert_allclose(loss, fit + 0.25 * scalars["kl"], rtol=1e-4)
  np.testing.assert_allclose(scalars["wrong_side"], np.mean((predicted < 0) != (sdf < 0)), rtol=1e-5)


def test_noise_is_on_the_points_that_are_encoded_and_on_nothing_else():
  still, noisy, key = make(autoencoder=PLANES), make(autoencoder=PLANES, noise=0.05), jax.random.key(3)
  batch, (params, extra) = spheres(np.random.default_rng(0)), jax.jit(still.init)(jax.random.key(0))
  moved = batch["surface"] + 0.05 * jax.random.normal(jax.random.fold_in(key, 1), batch["surface"].shape)
  loss, loss_of_noisy = jax.jit(still.losses["model"]), jax.jit(noisy.losses["model"])
  want, _ = loss(params, extra, {**batch, "surface": moved}, key, jnp.int32(0))
  got, _ = loss_of_noisy(params, extra, batch, key, jnp.int32(0))
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert abs(got - loss(params, extra, batch, key, jnp.int32(0))[0]) > 1e-6


def test_latents_are_means_or_draws_about_them_whose_divergence_is_the_reported_one():
  batch = spheres(np.random.default_rng(0))
  mean_task, draw_task = make(latents="mean"), make()
  params, extra = jax.jit(mean_task.init)(jax.random.key(0))
  mean = mean_task.predict["latents"](params, extra, batch, jax.random.key(0))
  draw = jax.jit(jax.vmap(lambda key: draw_task.predict["latents"](params, extra, batch, key)))
  draws = draw(jax.random.split(jax.random.key(1), 400))
  variance = np.asarray(jnp.var(draws, axis=0))
  assert float(jnp.max(jnp.abs(jnp.mean(draws, axis=0) - mean) / jnp.sqrt(variance))) < 5.5 / 20  # deviations of 96 means
  _, scalars = jax.jit(draw_task.losses["model"])(params, extra, batch, jax.random.key(0), jnp.int32(0))
  np.testing.assert_allclose(kl_to_normal(mean, np.log(variance)), scalars["kl"], rtol=0.05)
  one = mean_task.predict["encode"](params, extra, batch["surface"][1], jax.random.key(0))
  np.testing.assert_allclose(one, mean[1], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_unseen_spheres_are_encoded_from_points_on_them(trained):
  for radius in (0.33, 0.52):
    batch = spheres(np.random.default_rng(9), rows=1, radii=(radius, radius), points=200)
    near = np.abs(batch["sdf"][0]) < 0.1
    z = trained["encode"](batch["surface"][0], jax.random.key(0))
    predicted = np.asarray(trained["sdf"](batch["x"][0], z))
    assert np.mean(np.abs(predicted - batch["sdf"][0])[near]) < 0.02
    assert np.mean((predicted < 0) == (batch["sdf"][0] < 0)) > 0.9
    samples = spheres(np.random.default_rng(4), rows=1, radii=(radius, radius), points=600)
    predicted = trained["sdf"](samples["x"][0], trained["reconstruct"](samples["x"][0], samples["sdf"][0], jax.random.key(0)))
    assert np.mean((predicted < 0) == (samples["sdf"][0] < 0)) > 0.9


def test_samples_alone_give_the_code_of_the_points_nearest_to_the_surface():
  task = make(surface_points=50)
  params, extra = task.init(jax.random.key(0))
  batch = spheres(np.random.default_rng(4), rows=1, points=600)
  x, sdf = batch["x"][0], batch["sdf"][0]
  nearest = x[np.argsort(np.abs(sdf))[:50]]
  z = task.predict["reconstruct"](params, extra, x, sdf, jax.random.key(0))
  np.testing.assert_allclose(z, task.predict["encode"](params, extra, nearest, jax.random.key(0)), rtol=1e-4, atol=1e-5)


def test_codes_are_interpolated_linearly_and_sampled_from_the_standard_normal():
  task = make()
  params, extra = task.init(jax.random.key(0))
  draws = task.predict["sample"](params, extra, jax.random.key(0), 500)
  assert draws.shape == (500, 6, 4)
  assert abs(float(jnp.mean(draws))) < 4 / np.sqrt(draws.size) and abs(float(jnp.var(draws)) - 1) < 4 * np.sqrt(2 / draws.size)
  between = task.predict["interpolate"](params, extra, draws[0], draws[1], 0.25)
  np.testing.assert_allclose(between, 0.75 * draws[0] + 0.25 * draws[1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_latent_set_fits_one_batch():
  task, optimisers = make(kl=0.0), {"model": adam(3e-3)}
  state = jax.jit(lambda key: init_state(task, optimisers, key))(jax.random.key(0))
  step, batch = jax.jit(make_step(task, optimisers)), spheres(np.random.default_rng(0))
  losses = []
  for _ in range(300):
    state, metrics = step(state, batch)
    losses.append(float(metrics["model/sdf"]))
  assert np.mean(losses[-5:]) < 0.25 * losses[0]


def test_batches_without_surfaces_are_refused():
  task = make()
  params, extra = task.init(jax.random.key(0))
  batch = spheres(np.random.default_rng(0))
  del batch["surface"]
  for ask in (lambda: task.losses["model"](params, extra, batch, jax.random.key(0), jnp.int32(0)),
              lambda: task.predict["latents"](params, extra, batch, jax.random.key(0))):
    with pytest.raises(UsageFault, match="config.data.surface"):
      ask()
