"""The contract: one step carries any number of groups, frozen groups, a refresh, and survives non-finite values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from fields3d.core.errors import UsageFault
from fields3d.core.task import Task, averaged, bind, lookup
from fields3d.training.optim import adam, sgd
from fields3d.training.step import init_state, make_step


def run(task, optimisers, steps, batch=None, accumulate=1):
  state = init_state(task, optimisers, jax.random.key(0))
  step = jax.jit(make_step(task, optimisers, accumulate))
  data = toys.line_data()
  for i in range(steps):
    state, metrics = step(state, batch or data.batch(i))
  return state, metrics


def test_a_regression_reaches_its_closed_form():
  state, _ = run(toys.regression(), {"model": sgd(0.5)}, 200)
  np.testing.assert_allclose(state.params["model"]["w"], 3.0, rtol=1e-4)
  np.testing.assert_allclose(state.params["model"]["b"], -1.0, rtol=1e-4)


def test_two_opposed_groups_reach_their_saddle():
  state, metrics = run(toys.adversarial(), {"discriminator": sgd(0.1), "generator": sgd(0.1)}, 400)
  np.testing.assert_allclose(state.params["generator"]["g"], 2.0, rtol=1e-3)
  np.testing.assert_allclose(state.params["discriminator"]["d"], 0.0, atol=2e-3)  # the saddle of a value of size 1
  assert {"discriminator/loss", "generator/loss", "discriminator/grad_norm"} <= set(metrics)


def test_a_later_group_sees_the_earlier_group_updated():
  task = toys.adversarial()
  state, _ = run(task, {"discriminator": sgd(0.1), "generator": sgd(0.1)}, 1)
  d = 1.0 + 0.1 * ((0.0 - 2.0) - 1.0)  # the ascended discriminator
  np.testing.assert_allclose(state.params["discriminator"]["d"], d, rtol=1e-6)
  np.testing.assert_allclose(state.params["generator"]["g"], 0.0 - 0.1 * d, rtol=1e-6)


def test_a_group_without_a_loss_stays_frozen_and_refresh_runs_without_gradient():
  state, _ = run(toys.frozen_and_refreshed(), {"student": sgd(0.1)}, 50)
  np.testing.assert_array_equal(state.params["teacher"]["w"], [5.0, 5.0])
  np.testing.assert_allclose(state.params["student"]["w"], [5.0, 5.0], rtol=1e-3)
  assert int(state.extra["seen"]) == 50
  total = sum(toys.line_data().batch(i)["x"].sum() for i in range(50))
  np.testing.assert_allclose(state.extra["sum"], total, rtol=1e-5)


def test_a_group_that_says_no_update_keeps_its_parameters_and_moments():
  task = toys.regression()
  loss = lambda params, extra, batch, key, step: (task.losses["model"](params, extra, batch, key, step)[0], {"update": step % 3 == 2})
  waiting = Task(task.init, {"model": loss})
  state, metrics = run(waiting, {"model": adam(0.1)}, 2)
  fresh = init_state(waiting, {"model": adam(0.1)}, jax.random.key(0))
  kept = jax.tree.map(np.array_equal, (state.params, state.opt), (fresh.params, fresh.opt))
  assert all(jax.tree.leaves(kept)) and metrics["model/update"] == 0 and metrics["skipped"] == 0
  state, metrics = run(waiting, {"model": adam(0.1)}, 3)
  assert metrics["model/update"] == 1 and np.all(state.params["model"]["w"] != fresh.params["model"]["w"])


def test_a_batch_in_parts_decides_as_a_whole_whether_a_group_is_updated():
  task, batch = toys.regression(), toys.line_data().batch(0)
  for threshold in (float(np.mean(batch["x"])) + d for d in (-0.01, 0.01)):
    def loss(params, extra, batch, key, step, threshold=threshold):
      return task.losses["model"](params, extra, batch, key, step)[0], {"update": jnp.mean(batch["x"]) - threshold}
    waiting = Task(task.init, {"model": loss})
    for accumulate in (1, 8):  # some of the eight are above both and some below
      state, metrics = run(waiting, {"model": adam(0.1)}, 1, batch, accumulate)
      fresh = init_state(waiting, {"model": adam(0.1)}, jax.random.key(0))
      moved = bool(state.params["model"]["w"] != fresh.params["model"]["w"])
      assert moved == (threshold < np.mean(batch["x"])) == float(metrics["model/update"])


def test_the_rate_that_is_told_is_the_one_that_is_used_where_a_group_waits():
  task = toys.regression()
  loss = lambda params, extra, batch, key, step: (task.losses["model"](params, extra, batch, key, step)[0], {"update": step % 3 == 2})
  falling = sgd(lambda count: 1.0 - count / 10)
  told = [float(run(Task(task.init, {"model": loss}), {"model": falling}, steps)[1]["model/lr"]) for steps in (3, 4, 6, 7)]
  np.testing.assert_allclose(told, [1.0, 0.9, 0.9, 0.8], rtol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulated_gradients_equal_the_whole_batch(accumulate):
  whole, _ = run(toys.regression(), {"model": adam(0.05)}, 20)
  parts, _ = run(toys.regression(), {"model": adam(0.05)}, 20, accumulate=accumulate)
  np.testing.assert_allclose(whole.params["model"]["w"], parts.params["model"]["w"], rtol=1e-4)


def test_a_non_finite_step_changes_nothing_but_the_step():
  task, optimisers = toys.regression(), {"model": adam(0.05, ema=0.9)}
  state = init_state(task, optimisers, jax.random.key(0))
  step = jax.jit(make_step(task, optimisers))
  state, _ = step(state, toys.line_data().batch(0))
  after, metrics = step(state, toys.line_data(poison=(1,)).batch(1))
  assert float(metrics["skipped"]) == 1 and not np.isfinite(metrics["loss"]) and int(after.step) == 2
  for old, new in zip(jax.tree.leaves((state.params, state.opt, state.ema)),
                      jax.tree.leaves((after.params, after.opt, after.ema)), strict=True):
    np.testing.assert_array_equal(old, new)


def test_a_non_finite_gradient_under_a_finite_loss_is_skipped_too():
  task = toys.regression()
  infinite = lambda params, *rest: (jnp.sum(jnp.sqrt(params["model"]["w"] - params["model"]["w"])), {})
  task = type(task)(task.init, {"model": infinite})
  state, metrics = run(task, {"model": sgd(0.1)}, 1)
  assert float(metrics["skipped"]) == 1 and np.isfinite(metrics["loss"]) and np.all(np.isfinite(state.params["model"]["w"]))


def test_noise_follows_the_step_not_the_call():
  task, optimisers = toys.regression(noise=1.0), {"model": sgd(0.1)}
  step = jax.jit(make_step(task, optimisers))
  first = init_state(task, optimisers, jax.random.key(0))
  batch = toys.line_data().batch(0)
  one, _ = step(first, batch)
  again, _ = step(first, batch)
  two, _ = step(one, batch)
  np.testing.assert_array_equal(one.params["model"]["w"], again.params["model"]["w"])
  assert not np.array_equal(one.params["model"]["w"] - first.params["model"]["w"],
                            two.params["model"]["w"] - one.params["model"]["w"])


def test_the_average_is_the_warmed_up_recursion_and_is_what_predicts():
  task, optimisers = toys.regression(), {"model": sgd(0.1, ema=0.99)}
  state = init_state(task, optimisers, jax.random.key(0))
  step, average = jax.jit(make_step(task, optimisers)), float(state.params["model"]["w"])
  for i in range(10):
    state, _ = step(state, toys.line_data().batch(i))
    decay = min(0.99, (1 + i) / (10 + i))
    average = decay * average + (1 - decay) * float(state.params["model"]["w"])
  np.testing.assert_allclose(state.ema["model"]["w"], average, rtol=1e-5)
  np.testing.assert_array_equal(averaged(state)["model"]["w"], state.ema["model"]["w"])
  line = bind(task, state)["line"]
  np.testing.assert_allclose(line(jnp.ones(())), state.ema["model"]["w"] + state.ema["model"]["b"], rtol=1e-6)


def test_an_optimiser_for_no_group_and_a_group_without_optimiser_are_named():
  with pytest.raises(UsageFault, match="generator.*is not set"):
    make_step(toys.adversarial(), {"discriminator": sgd(0.1)})
  with pytest.raises(UsageFault, match="modle.*did you mean 'model'"):
    make_step(toys.regression(), {"model": sgd(0.1), "modle": sgd(0.1)})


def test_a_wrong_predict_name_lists_the_right_ones():
  with pytest.raises(UsageFault, match="did you mean 'line'"):
    lookup(bind(toys.regression(), init_state(toys.regression(), {"model": sgd(0.1)}, jax.random.key(0))), "lime", "pred")
