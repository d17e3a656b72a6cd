"""Adversaries over latents: who is updated when, what is learned, and shapes as they are as latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.task import bind, field_of
from fields3d.extraction.sparse import extract
from fields3d.losses.collapse import apart, collapse
from fields3d.tasks import TASKS
from fields3d.tasks.representations import point_cloud, voxel_grid
from fields3d.training.optim import OPTIMISERS
from fields3d.training.step import init_state, make_step

CLOUDS = dict(name="latent_gan", base=dict(name="point_cloud", points=8), code_dim=3, generator=dict(
    name="point_generator", points=8, widths=(16,)), critic=dict(name="point_critic", widths=(16, 16), dense=(8,)))


def trained(steps, batches, rate=1e-3, section=CLOUDS, **settings):
  task = build(TASKS, {**section, **settings}, "task", info={})
  optimisers = {name: build(OPTIMISERS, dict(name="adam", learning_rate=rate, b1=0.5), "optim") for name in task.losses}
  state, step, seen = init_state(task, optimisers, jax.random.key(0)), jax.jit(make_step(task, optimisers)), []
  for i in range(steps):
    old = state.params
    state, metrics = step(state, batches(i))
    changed = {group: any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (old[group], state.params[group])), strict=True))
               for group in task.losses}
    seen.append({**jax.device_get(metrics), "changed": changed})
  return task, state, seen


def clouds(i):
  """Of 8 points around (1, 0, -1), of deviation 0.1."""
  rng = np.random.default_rng(i)
  return {"surface": (0.1 * rng.normal(size=(16, 8, 3)) + [1, 0, -1]).astype(np.float32)}


def test_the_generator_waits_for_its_critic():
  _, _, seen = trained(6, clouds, critic_steps=3)
  assert [s["changed"]["generator"] for s in seen] == [False, False, True] * 2
  assert all(s["changed"]["critic"] for s in seen)


def test_the_critic_rests_where_it_is_right_often_enough():
  _, _, seen = trained(40, clouds, rate=1e-2, gate=0.8, game="non_saturating", penalty="none")
  right = [0.5 * (s["critic/right_on_real"] + s["critic/right_on_fake"]) for s in seen]
  assert [s["changed"]["critic"] for s in seen] == [r < 0.8 for r in right]
  assert 0 < sum(s["changed"]["critic"] for s in seen) < 40


@pytest.mark.parametrize("game, penalty", [("wgan", "wgan_gp"), ("non_saturating", "r1"), ("hinge", "none")])
def test_made_clouds_come_to_lie_where_the_real_ones_do(game, penalty):
  task, state, seen = trained(300, clouds, rate=3e-3, game=game, penalty=penalty, penalty_weight=1.0)
  made = np.asarray(bind(task, state)["sample"](jax.random.key(1), 64))
  assert np.isfinite(seen[-1]["loss"])
  np.testing.assert_allclose(made.mean((0, 1)), [1, 0, -1], atol=0.35)  # from 0 at the start; games go on around their end


def test_the_look_at_a_fixed_batch_is_taken_at_some_steps():
  _, _, seen = trained(5, clouds, watch_every=4)
  assert [bool(np.isfinite(s["generator/spread"])) for s in seen] == [True, False, False, False, True]
  assert all(s["skipped"] == 0 for s in seen)


def test_a_generator_of_another_size_is_refused():
  with pytest.raises(UsageFault, match=r"makes \(8, 3\), the base's latents are \(9, 3\)"):
    trained(1, clouds, base=dict(name="point_cloud", points=9))
  with pytest.raises(UsageFault, match="have not 9 points on surfaces"):
    trained(1, clouds, base=dict(name="point_cloud", points=9), generator=dict(name="point_generator", points=9))


def test_one_datum_again_and_again_has_no_spread_and_covers_one():
  real = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
  found = collapse(np.repeat(real[:1], 16, axis=0), real)
  assert found["spread"] == 0 and found["coverage"] == 1 / 8
  assert found["coverage_real"] > 0.25
  found = collapse(real[:8], real)  # the very data
  assert found["coverage"] == 1 and 0.5 < found["spread"] < 2
  assert all(np.isnan(value) for value in collapse(real[:3], real[:3]).values()), "too few rows say nothing"


def test_sets_are_apart_by_their_nearest_elements_whatever_their_order():
  a = np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32)
  far = apart(a, a[:, ::-1])
  np.testing.assert_allclose(np.diag(far), 0, atol=1e-6)
  want = np.linalg.norm(a[0][:, None].astype(float) - a[1][None], axis=-1)
  np.testing.assert_allclose(far[0, 1], 0.5 * (want.min(0).mean() + want.min(1).mean()), rtol=1e-5)


def test_the_field_of_a_voxelised_ball_is_a_closed_ball():
  middles = (np.arange(24) + 0.5) / 12 - 1
  x = np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1)
  z = (np.linalg.norm(x - [0.1, 0, -0.2], axis=-1) < 0.6)[..., None].astype(np.float32)
  info = {"voxels": 24, "bounds": [[-1.0] * 3, [1.0] * 3]}
  task = voxel_grid(info)
  predict = {name: lambda *arguments, fn=fn: fn({}, {}, *arguments) for name, fn in task.predict.items()}
  mesh = extract(field_of(predict, jnp.asarray(z), info), 64)[0]
  corners = mesh.vertices[mesh.faces]
  volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
  assert abs(volume / (z.sum() * (2 / 24) ** 3) - 1) < 0.03  # the smoothed surface of whole cells
  np.testing.assert_allclose(mesh.vertices.mean(0), [0.1, 0, -0.2], atol=0.02)  # cells are 0.083 wide
  far_and_middle = task.predict["sdf"]({}, {}, jnp.array([[0.99, 0.99, 0.99], [0.1, 0, -0.2]]), jnp.asarray(z))
  np.testing.assert_allclose(far_and_middle, [1 / 24, -1 / 24], rtol=1e-5)


def test_clouds_are_their_own_latents():
  batch = {"surface": np.arange(30, dtype=np.float32).reshape(1, 10, 3)}
  z = point_cloud(4).predict["latents"]({}, {}, batch, None)
  np.testing.assert_array_equal(z, batch["surface"][:, :4])
