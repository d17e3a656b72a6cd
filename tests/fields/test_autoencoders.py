"""Every autoencoder of shapes holds the contract: order, chunks, gradients, memory; a row here for each in the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.fields import AUTOENCODERS

ROWS = {
    "anchored_set": dict(name="anchored_set", latents=6, dim=4, cells=8, halvings=1, doublings=1, width=8, features=6, layers=1,
                         hidden=8, depth=2, levels=2),
    "latent_set": dict(name="latent_set", latents=6, dim=3, width=8, heads=2, cross_heads=1, encoder_layers=1,
                       decoder_layers=2, factor=2, levels=2),
    "tri_plane": dict(name="tri_plane", cells=8, halvings=1, doublings=1, dim=3, width=8, features=6, layers=1, hidden=8,
                      depth=2, levels=2),
}
EVERY = {**ROWS, "learned": dict(ROWS["latent_set"], queries="learned")}


def make(name, **changes):
  return build(AUTOENCODERS, {**EVERY[name], **changes}, "task.autoencoder")


def run(model, params, points, x, key):
  """Codes, and values of a draw of each."""
  mean, log_variance = model.encode(params, points)
  z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
  return mean, log_variance, model.decode(params, z, x)


@pytest.fixture(scope="module", params=EVERY)
def made(request):
  model = make(request.param)
  rng, key = np.random.default_rng(0), jax.random.key(1)
  points, x = (rng.uniform(-0.9, 0.9, (2, n, 3)).astype(np.float32) for n in (20, 8))
  return request.param, model, jax.jit(model.init)(jax.random.key(0)), points, x, key


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # of values near 0.3


def test_every_autoencoder_has_a_row():
  assert set(ROWS) == set(AUTOENCODERS)


def test_order_neighbours_and_chunks_change_nothing(made):
  _, model, params, points, x, key = made
  ask = jax.jit(lambda points, x: run(model, params, points, x, key))
  mean, log_variance, values = ask(points, x)
  assert mean.shape == log_variance.shape == (2, *model.shape) and values.shape == (2, 8)
  rng = np.random.default_rng(1)
  for a, b in zip(ask(points[:, rng.permutation(20)], x), (mean, log_variance, values), strict=True):
    close(a, b)
  order = rng.permutation(8)
  close(ask(points, x[:, order])[2], values[:, order])
  other = x.copy()
  other[:, 4:] = rng.uniform(-0.9, 0.9, (2, 4, 3))  # As if the first four were a chunk of their own.
  close(ask(points, other)[2][:, :4], values[:, :4])
  others = points.copy()
  others[0] = rng.uniform(-0.9, 0.9, (20, 3))
  close(ask(others, x)[2][1], values[1])
  assert not np.allclose(ask(others, x)[2][0], values[0], atol=1e-4)


@pytest.mark.parametrize("name", ["latent_set", "anchored_set"])
def test_the_order_of_a_sets_vectors_changes_no_value(name):
  model, rng = make(name), np.random.default_rng(2)
  params = jax.jit(model.init)(jax.random.key(0))
  z, x = (rng.uniform(-0.9, 0.9, (2, *shape)).astype(np.float32) for shape in (model.shape, (8, 3)))
  decode = jax.jit(lambda z: model.decode(params, z, x))
  close(decode(z[:, rng.permutation(6)]), decode(z))
  assert not np.allclose(decode(z[::-1]), decode(z), atol=1e-4)


def test_vectors_stand_in_cells_that_the_cloud_passes_and_need_not_stand_exactly():
  model, rng = make("anchored_set"), np.random.default_rng(3)
  points, x = (rng.uniform(-0.9, 0.9, (1, n, 3)).astype(np.float32) for n in (20, 8))
  params = jax.jit(model.init)(jax.random.key(0))
  mean, log_variance = jax.jit(model.encode)(params, points)
  centres = {tuple(c) for c in np.round((np.floor((points[0] + 1) * 2) + 0.5) / 2 - 1, 4).tolist()}  # cells of 1/2
  assert {tuple(c) for c in np.round(mean[0, :, :3], 4).tolist()} <= centres
  assert float(jnp.max(log_variance[..., :3])) <= -8  # a tenth of a cell at the most
  moved = mean + np.pad(rng.uniform(-0.2, 0.2, (1, 6, 3)).astype(np.float32), ((0, 0), (0, 0), (0, 1)))
  decode = jax.jit(lambda z: model.decode(params, z, x))
  close(decode(moved), decode(mean))
  far = mean + np.pad(np.full((1, 6, 3), 0.5, np.float32), ((0, 0), (0, 0), (0, 1)))
  assert not np.allclose(decode(far), decode(mean), atol=1e-4)


@pytest.mark.slow
def test_a_gradient_reaches_every_parameter_and_remat_changes_none(made):
  name, model, params, points, x, key = made
  gradient_of = lambda model: jax.jit(jax.value_and_grad(
      lambda params: jnp.sum(jnp.sin(run(model, params, points, x, key)[2]))))(params)
  value, gradient = gradient_of(model)
  still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
           if not bool(jnp.any(leaf != 0))]
  assert not still, f"no gradient reaches {still}"
  again, recomputed = gradient_of(make(name, remat=True))
  np.testing.assert_allclose(again, value, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), recomputed, gradient)  # up to 1


def test_bfloat16_stays_near_float32(made):
  name, model, params, points, x, key = made
  values = [jax.jit(lambda points, x, m=m: run(m, params, points, x, key)[2])(points, x)
            for m in (model, make(name, compute="bfloat16"))]
  assert values[1].dtype == jnp.float32
  np.testing.assert_allclose(values[1], values[0], atol=0.03)  # of values near 0.3
  assert not np.array_equal(*values)


@pytest.mark.parametrize(("name", "changes", "says"), [
    ("latent_set", dict(heads=3), "3 heads do not divide a width of 8"),
    ("latent_set", dict(cross_heads=5), "cross_heads: 5 heads do not divide"),
    ("tri_plane", dict(doublings=40), "doublings: 40 is out of range"),
    ("anchored_set", dict(halvings=10**6), "halvings: 1000000 is out of range"),
    ("tri_plane", dict(cells=6, halvings=2), "6 cannot be halved 2 times"),
    ("anchored_set", dict(cells=6, halvings=2), "6 cannot be halved 2 times"),
    ("anchored_set", dict(dim=3), "above 3"),
    ("latent_set", dict(queries="fps"), "points")])
def test_impossible_autoencoders_are_refused(name, changes, says):
  with pytest.raises(UsageFault, match=says):
    make(name, **changes)


@pytest.mark.parametrize("cells", [8, 64, 256])
def test_drawn_anchors_stay_in_their_cells(cells):
  """A cell of n a side is 2 / n wide; at 64 a deviation of 0.018 left it three times of four."""
  model = make("anchored_set", cells=cells, halvings=0, doublings=0)
  log_variance = model.encode(model.init(jax.random.key(0)), jnp.ones((1, 20, 3)) / 3)[1][..., :3]
  assert jnp.exp(log_variance / 2).max() <= 0.301 / cells


@pytest.mark.parametrize("name", ["latent_set", "anchored_set"])
def test_fewer_points_than_latents_are_refused_by_name(name):
  model = make(name, latents=21)
  with pytest.raises(UsageFault, match="a surface has 20"):
    jax.eval_shape(lambda key: model.encode(model.init(key), jnp.zeros((1, 20, 3))), jax.random.key(0))
