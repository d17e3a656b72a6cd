"""One loop: resumes bit for bit, skips, rolls back, gives up with a name, and runs alike on one or four devices."""

import contextlib
import dataclasses
import io
import itertools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from fields3d.core.errors import Diverged, TryAgain, UsageFault
from fields3d.training import loop
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.logging import RunLog, read_metrics
from fields3d.training.loop import Loop, LoopSettings, stop_requests
from fields3d.training.manifest import steps
from fields3d.training.optim import adam, sgd

SETTINGS = LoopSettings(log_every=5, checkpoint_every=10, max_skips=3, max_rollbacks=2)


def make(workdir, num_steps=40, data=None, settings=SETTINGS, task=None, optimiser=None, **arguments):
  workdir.mkdir(exist_ok=True)
  data = data or toys.line_data()
  return Loop(task or toys.regression(noise=0.1), data, {"model": optimiser or adam(0.05, ema=0.9)}, seed=3,
              num_steps=num_steps, workdir=workdir, log=RunLog(workdir, num_steps),
              settings=settings, **arguments)


def assert_equal_states(one, two):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


def stopping_data(position, number):
  """Data that sends this process a signal while it makes the batch of one position, once."""
  data, sent = toys.line_data(), []

  def batch(at, shard=0, num_shards=1):
    if at == position and not sent:
      sent.append(at)
      os.kill(os.getpid(), number)
    return data.batch(at, shard, num_shards)

  return dataclasses.replace(data, batch=batch)


def test_two_runs_are_identical(tmp_path):
  assert_equal_states(make(tmp_path / "a").run(), make(tmp_path / "b").run())


def test_ctrl_c_in_one_of_several_processes_asks_jax_to_stop_them_all(monkeypatch):
  heard, own = [], signal.getsignal(signal.SIGINT)
  old = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))  # where jax's service listens
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  try:
    with stop_requests():
      for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
  finally:
    signal.signal(signal.SIGTERM, old)
  assert heard == [signal.SIGTERM] * 2 and signal.getsignal(signal.SIGINT) is own


def test_several_processes_agree_to_stop_whatever_step_a_run_resumes_at(monkeypatch):
  """JAX's service chooses a number one above the largest that it has seen, and says yes there alone."""
  seen, chosen = [-1], []
  def reached(number):
    if not chosen:
      chosen.append(max(seen) + 1)
    seen.append(number)
    return number == chosen[0]
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(loop.multihost_utils, "reached_preemption_sync_point", reached)
  monkeypatch.setattr(loop, "_ASKED", itertools.count())
  with stop_requests() as stop:
    assert stop(False) and stop(False)  # and stays so, should a rollback come between


def test_a_run_whose_output_nobody_reads_any_more_is_saved_and_stopped(tmp_path):
  class Gone(io.StringIO):
    def write(self, text):
      raise BrokenPipeError
  run = make(tmp_path / "cut")
  run.log.close()
  run.log = RunLog(tmp_path / "cut", 40, stream=Gone())
  with pytest.raises(TryAgain, match="stopped at step 7 of 40, saved"):
    run.run()
  assert steps(tmp_path / "cut" / "checkpoints")[-1] == 7 and read_metrics(tmp_path / "cut")["step"].tolist() == [5]
  assert_equal_states(make(tmp_path / "whole").run(), make(tmp_path / "cut").run())


@pytest.mark.parametrize("ignored", [False, True])
def test_the_end_of_its_terminal_stops_a_run_unless_it_is_ignored(tmp_path, ignored):
  old = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
  try:
    with contextlib.nullcontext() if ignored else pytest.raises(TryAgain):
      make(tmp_path / "run", data=stopping_data(17, signal.SIGHUP)).run()
  finally:
    signal.signal(signal.SIGHUP, old)


@pytest.mark.parametrize("position", [3, 17, 38])
def test_a_run_stopped_by_sigterm_and_resumed_equals_the_undisturbed_one(tmp_path, position):
  whole = make(tmp_path / "whole").run()
  with pytest.raises(TryAgain, match="run the same command again"):
    make(tmp_path / "cut", data=stopping_data(position, signal.SIGTERM)).run()
  assert_equal_states(whole, make(tmp_path / "cut").run())


def test_a_run_past_its_last_step_is_left_as_it_is(tmp_path):
  whole, data = make(tmp_path / "run").run(), toys.line_data()

  def batch(position, shard=0, num_shards=1):
    assert position < 50, "trains on"
    return data.batch(position, shard, num_shards)

  before = steps(tmp_path / "run" / "checkpoints")
  assert_equal_states(whole, make(tmp_path / "run", 20, dataclasses.replace(data, batch=batch)).run())
  assert steps(tmp_path / "run" / "checkpoints") == before


def test_resuming_from_an_older_checkpoint_gives_the_same_run(tmp_path):
  whole = make(tmp_path / "run").run()
  newest = tmp_path / "run" / "checkpoints" / "40" / "manifest.json"
  newest.write_text(newest.read_text().replace("a", "b", 1))
  assert_equal_states(whole, make(tmp_path / "run").run())


def test_one_poisoned_batch_is_skipped_and_counted(tmp_path):
  state = make(tmp_path / "run", data=toys.line_data(poison=(7,))).run()
  assert np.isfinite(state.params["model"]["w"]) and int(state.step) == 40
  metrics = read_metrics(tmp_path / "run")
  assert metrics["skipped"][-1] == 1 and metrics["rollbacks"][-1] == 0


def test_many_poisoned_batches_roll_back_past_them(tmp_path):
  loop = make(tmp_path / "run", data=toys.line_data(poison=tuple(range(14, 20))))
  state = loop.run()
  assert loop.rollbacks == 1 and loop.offset > 0 and np.isfinite(state.params["model"]["w"])


def test_endless_non_finite_values_stop_the_run_and_name_the_scalar(tmp_path):
  with pytest.raises(Diverged, match="'model/mse' was not finite") as caught:
    make(tmp_path / "run", data=toys.line_data(poison=tuple(range(14, 400)))).run()
  assert caught.value.exit_code == 76
  loop = make(tmp_path / "other")
  loop.log.close()
  with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
    step, tree = checkpoints.restore({"state": loop.abstract})
  assert step == 10 and np.isfinite(tree["state"].params["model"]["w"])


def test_a_lasting_loss_spike_rolls_back(tmp_path):
  data = toys.line_data()

  def batch(position, shard=0, num_shards=1):
    made = data.batch(position, shard, num_shards)
    return {**made, "y": made["y"] + (1e3 if 150 <= position < 156 else 0)}

  settings = dataclasses.replace(SETTINGS, spike_factor=20.0, spike_patience=3)
  loop = make(tmp_path / "run", 200, dataclasses.replace(data, batch=batch), settings, toys.regression(noise=0.1))
  loop.run()
  assert loop.rollbacks == 1 and float(read_metrics(tmp_path / "run")["loss"][-1]) < 1


def wrecking_data(number=None):
  """One batch, of position 87, wrecks the parameters for 40 steps; a signal is sent, once, a few steps after it."""
  data = toys.line_data() if number is None else stopping_data(96, number)

  def batch(position, shard=0, num_shards=1):
    made = data.batch(position, shard, num_shards)
    return {**made, "y": made["y"] + (1e4 if position == 87 else 0)}

  return dataclasses.replace(data, batch=batch)


@pytest.mark.parametrize("keep", [1, 3])
def test_no_rollback_ends_at_a_checkpoint_of_the_streak_that_asked_for_it(tmp_path, keep):
  settings = dataclasses.replace(SETTINGS, checkpoint_every=15, keep=keep, spike_factor=20.0)
  more = {"num_steps": 160, "settings": settings, "optimiser": sgd(0.05)}
  loop = make(tmp_path / "whole", data=wrecking_data(), **more)
  whole = loop.run()
  assert loop.rollbacks == 1 and loop.offset == 99 - 75 and float(read_metrics(tmp_path / "whole")["loss"][-1]) < 1
  with pytest.raises(TryAgain):
    make(tmp_path / "cut", data=wrecking_data(signal.SIGTERM), **more).run()
  assert 75 in steps(tmp_path / "cut" / "checkpoints") and 88 < steps(tmp_path / "cut" / "checkpoints")[-1] < 98
  assert_equal_states(whole, make(tmp_path / "cut", data=wrecking_data(), **more).run())


def test_a_checkpoint_that_falls_into_a_streak_is_saved_after_it(tmp_path):
  make(tmp_path / "run", 28, data=toys.line_data(poison=(18, 19, 20))).run()
  assert steps(tmp_path / "run" / "checkpoints")[-2:] == [23, 28]  # 22 is good; 23 was in flight


def test_rows_that_do_not_divide_over_the_devices_are_named(tmp_path):
  with RunLog(tmp_path, 1) as log, pytest.raises(UsageFault, match=r"--config.data: batches of 6 \(rows, .*multiple of 4"):
    Loop(toys.regression(), toys.line_data(rows=6), {"model": sgd(0.1)}, seed=0, num_steps=1, workdir=tmp_path, log=log,
         settings=SETTINGS)


@pytest.mark.parametrize(("optimisers", "says"), [
    ({"model": adam(0.05, learning_rates={"bias": 0.0})}, "model.learning_rates.bias: no parameter has the part 'bias'; known: b, w"),
    ({}, "--config.optim.model: is not set"),
])
def test_optimisers_that_do_not_fit_the_parameters_are_named_before_the_first_step(tmp_path, optimisers, says):
  with RunLog(tmp_path, 1) as log, pytest.raises(UsageFault, match=says):
    Loop(toys.regression(), toys.line_data(), optimisers, seed=0, num_steps=1, workdir=tmp_path, log=log, settings=SETTINGS)


def test_four_devices_follow_one_device(tmp_path):
  state = make(tmp_path / "run", optimiser=sgd(0.1), task=toys.regression()).run()
  from fields3d.training.step import init_state, make_step
  task, optimisers = toys.regression(), {"model": sgd(0.1)}
  alone, step = init_state(task, optimisers, jax.random.key(3)), jax.jit(make_step(task, optimisers))
  for i in range(40):
    alone, _ = step(alone, toys.line_data().batch(i))
  np.testing.assert_allclose(state.params["model"]["w"], alone.params["model"]["w"], rtol=1e-5)


def test_a_run_that_starts_from_another_averages_its_parameters_where_they_lie_in_buffers_of_its_own(tmp_path):
  seen = []

  def transfer(params):
    return jax.tree.map(lambda a: 2 * a, params)

  loop = make(tmp_path / "run", 3, task=toys.tables(), transfer=transfer,
              settings=dataclasses.replace(SETTINGS, model_parallel=2))
  step = loop.step_fn
  loop.step_fn = lambda state, batch: (seen.append(jax.tree.map(jnp.copy, state.ema)), step(state, batch))[1]
  fresh = jax.jit(loop._fresh, out_shardings=loop.shardings)(loop._key)
  state = loop.run()
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2 * b), seen[0], {"model": fresh.params["model"]})
  assert jax.tree.map(lambda a: a.sharding, state.ema) == loop.shardings.ema
  assert np.abs(np.subtract(state.ema["model"]["table"], state.params["model"]["table"])).max() > 0


def test_a_table_is_cut_over_the_model_axis_with_its_moments_and_trains_alike(tmp_path):
  from fields3d.core.task import Task

  def init(key):
    return {"model": {"table": jax.random.normal(key, (2, 2, 8)), "w": jnp.ones(())}}, {}

  def loss(params, extra, batch, key, step):
    rows = (jnp.abs(batch["x"][:, 0]) * 7).astype(jnp.int32)
    read = params["model"]["table"][:, :, rows].sum((0, 1)) * params["model"]["w"]
    return jnp.mean((read - batch["y"][:, 0]) ** 2), {}

  task = Task(init, {"model": loss})
  cut = make(tmp_path / "cut", task=task, settings=dataclasses.replace(SETTINGS, model_parallel=2))
  tables = [s for p, s in jax.tree_util.tree_leaves_with_path(cut.shardings) if "table" in jax.tree_util.keystr(p)]
  assert len(tables) == 4 and all(s.spec == jax.sharding.PartitionSpec(None, None, "model") for s in tables)  # params, ema, mu, nu
  whole = make(tmp_path / "whole", task=task).run()
  np.testing.assert_allclose(cut.run().params["model"]["table"], whole.params["model"]["table"], rtol=1e-5, atol=1e-6)
