"""The one training loop: batches in, checkpoints and scalars out, resumable at any moment.

Where the run is: `State.step` updates are done, and the next batch is at data position step + offset. The offset
grows only when a rollback leaves bad batches behind. Both, and the guard's memory, are in every checkpoint, so that
the same command continues the same run, bit for bit, on one topology.
"""

import collections
import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from fields3d.core.config import Count, From, Index, Range
from fields3d.core.errors import TryAgain
from fields3d.core.task import PyTree, State, Task
from fields3d.core.types import Dataset
from fields3d.training import sharding
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.guard import Guard
from fields3d.training.logging import RunLog
from fields3d.training.optim import Optimiser
from fields3d.training.prefetch import Idle, Prefetch
from fields3d.training.sharding import Sharding
from fields3d.training.step import init_state
from fields3d.training.symptoms import Symptoms


@dataclasses.dataclass(frozen=True)
class LoopSettings:
  """The section `train` of a config: periods, guards, devices.

  log_every, checkpoint_every: steps. keep: newest checkpoints kept; every keep_every-th step is kept for good.
  accumulate: microbatches a step. prefetch: threads of the host that make batches ahead.
  model_parallel: devices on the model axis; the rest share the batch. sharding: `training.sharding.Sharding`.
  The guards are explained in `training.guard`.
  """
  log_every: Count = 50
  checkpoint_every: Count = 1000
  keep: Count = 3
  keep_every: Count | None = None
  accumulate: Count = 1
  prefetch: Count = 1
  model_parallel: Count = 1
  sharding: Annotated[Sharding, From({"sharding": Sharding})] | None = None  # None: its defaults
  max_skips: Index = 10
  spike_factor: Annotated[float, Range(gt=1)] | None = None
  spike_patience: Index = 10
  max_rollbacks: Index = 2


_ASKED = itertools.count()  # how often this process has asked the others whether to stop


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[bool], bool]]:
  """Yields (whether this process asks) -> whether that, SIGTERM, SIGINT or the end of its terminal (SIGHUP, but under nohup) has
  asked to stop; a second SIGINT interrupts a run of one process at once.

  With several processes, which all ask equally often, they agree on the same time of asking through jax's preemption service,
  which then handles SIGTERM; the others, however often they come, are passed on to it. The service is told how often it was asked: of
  steps, that start anywhere and are set back by a rollback, it would miss the one that it has chosen.
  """
  asked = threading.Event()

  def handle(number, frame):
    del frame
    if not alone:
      return os.kill(os.getpid(), signal.SIGTERM)
    if number == signal.SIGINT and asked.is_set():
      raise KeyboardInterrupt
    asked.set()

  def stop(now):
    if now and not asked.is_set():
      handle(signal.SIGTERM, None)
    if not alone and not asked.is_set() and multihost_utils.reached_preemption_sync_point(next(_ASKED)):
      asked.set()
    return asked.is_set()

  alone = jax.process_count() == 1
  main = threading.current_thread() is threading.main_thread()
  numbers = [signal.SIGINT, *[signal.SIGTERM] * alone]
  if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
    numbers.append(signal.SIGHUP)
  old = {number: signal.signal(number, handle) for number in numbers if main}
  try:
    yield stop
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)


class Loop:
  """A run in progress. `run()` trains to the end; everything else is its parts."""

  def __init__(self, task: Task, dataset: Dataset, optimisers: Mapping[str, Optimiser], *, seed: int, num_steps: int,
               workdir: pathlib.Path, log: RunLog, settings: LoopSettings,
               transfer: Callable[[PyTree], PyTree] | None = None, allow_nonfinite: bool = False):
    """Args: transfer: (fresh params) -> params, for a new run that starts from another."""
    self.dataset, self.num_steps, self.workdir, self.log, self.settings = dataset, num_steps, workdir, log, settings
    self.mesh = sharding.make_mesh(settings.model_parallel)
    self.own_rows = sharding.own_rows(self.mesh)
    first = dataset.batch(0, *self.own_rows)
    rows = len(next(iter(first.values()))) * self.own_rows[1]
    sharding.check_rows(rows, self.mesh, settings.accumulate)
    self._fresh, self._key, self._transfer = (lambda key: init_state(task, optimisers, key)), jax.random.key(seed), transfer
    self.step_fn, self.abstract = sharding.sharded_step(
        task, optimisers, self.mesh, settings.sharding or Sharding(), settings.accumulate)
    self.shardings = jax.tree.map(lambda a: a.sharding, self.abstract)
    self.guard = Guard(settings.max_skips, settings.spike_factor, settings.spike_patience, settings.max_rollbacks)
    self.allow_nonfinite = allow_nonfinite
    self.pending, self.sums, self.counts = collections.deque(), collections.Counter(), collections.Counter()
    self.step = self.offset = self.rollbacks = 0
    self.saved_step, self.due = -1, False
    self.idle, self.symptoms = Idle(), Symptoms()
    self.checkpoints = Checkpoints(workdir / "checkpoints", settings.keep, settings.keep_every)
    self.state = None

  def run(self) -> State:
    """Trains from the newest sound checkpoint, or from the start, to the last step; not at all where it is past that.

    Raises:
      TryAgain: asked to stop; the state is saved.
      Diverged: rolling back did not cure it.
    """
    with self.log, self.checkpoints, stop_requests() as stop:
      if not self._restore():
        self.state = jax.jit(self._fresh, out_shardings=self.shardings)(self._key)
        if self._transfer:
          params = jax.device_put(self._transfer(self.state.params), self.shardings.params)
          copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=self.shardings.ema)  # its own buffers
          self.state = dataclasses.replace(self.state, params=params, ema=copy({g: params[g] for g in self.state.ema}))
      self.log.start(self.step)
      while self._advance(stop):
        pass
      self._save(blocking=True)
    return self.state

  def _advance(self, stop: Callable[[bool], bool]) -> bool:
    """Steps from here to the next rollback or to the end; returns whether there is more to do."""
    self.idle.start()
    with Prefetch(self._make_batch, self.step + self.offset, self.settings.prefetch) as batches:
      while True:
        stopping = stop(self.log.unread)
        boundary = stopping or self.step >= self.num_steps or self.step % self.settings.checkpoint_every == 0
        self.due |= boundary
        reason = self._settle(0 if boundary else 1)
        if self.due and self.guard.steady:
          reason = self._settle(0)
        if reason is not None:
          self._roll_back(reason)
          return True
        if stopping:
          self._save(blocking=True)
          raise TryAgain(self.workdir, f"stopped at step {self.step} of {self.num_steps}, saved",
                         "run the same command again to resume")
        if self.step >= self.num_steps:
          return False
        if self.due and self.guard.steady:
          self._save()
        self.state, metrics = self.step_fn(self.state, self.idle.take(batches, self._busy))
        self.step += 1
        self.pending.append((self.step, metrics))

  def _busy(self) -> bool:
    """Whether the device still works on the step given to it last."""
    return bool(self.pending) and not self.pending[-1][1]["loss"].is_ready()

  def _make_batch(self, position: int) -> dict[str, jax.Array]:
    local = self.dataset.batch(position, *self.own_rows)
    return sharding.put_batch(local, self.mesh)

  def _settle(self, leave: int) -> str | None:
    """Takes the scalars of finished steps, all but the last `leave`; returns why to roll back, or None.

    One step is left in flight, so that the host prepares the next while the device computes.
    """
    while len(self.pending) > leave:
      step, metrics = self.pending.popleft()
      metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
      if (reason := self.guard.watch(step, metrics)) is not None:
        return reason
      for name, value in metrics.items():
        if math.isfinite(value):
          self.sums[name] += value
          self.counts[name] += 1
      if step % self.settings.log_every == 0 or step == self.num_steps:
        means = {name: self.sums[name] / count for name, count in self.counts.items()}
        share, warn = self.idle.read()
        self.log.scalars(step, {**means, "skipped": self.guard.total_skipped, "rollbacks": self.rollbacks, "idle": share})
        if warn:
          self.log.note(f"the device waits for batches {share:.0%} of the time: raise --config.train.prefetch (now "
                        f"{self.settings.prefetch}), or make batches cheaper")
        for text in self.symptoms.watch(means):
          self.log.note(text)
        self.sums.clear(), self.counts.clear()
    return None

  def _tree(self, state: PyTree) -> dict:
    counts = np.asarray([self.offset, self.rollbacks], np.int32)
    return {"state": state, "loop": {"data": counts, **self.guard.as_arrays()}}

  def _save(self, blocking: bool = False) -> None:
    """One that is due in a streak of bad steps waits for its end; the last one of a run or of a stop does not, and
    then those before it stay for a rollback."""
    self.due = False
    if self.step == self.saved_step:
      return self.checkpoints.wait() if blocking else None
    self.guard.saved()
    self.checkpoints.save(self.step, self._tree(self.state), blocking=blocking, prune=self.guard.steady)
    self.saved_step = self.step

  def _restore(self, before: int | None = None) -> bool:
    """Loads the newest sound checkpoint, or the one before the one that is given up; False where there is none."""
    self.checkpoints.wait()
    found = self.checkpoints.restore(self._tree(self.abstract), allow_nonfinite=self.allow_nonfinite, before=before)
    if found is None:
      return False
    self.step, tree = found
    self.state = tree["state"]
    self.offset, self.rollbacks = (int(n) for n in tree["loop"]["data"])
    self.guard.load(tree["loop"])
    self.saved_step, self.due = self.step, not self.guard.steady
    return True

  def _roll_back(self, reason: str) -> None:
    """Goes back to the last checkpoint that is of no streak of bad steps, past the batches and noise that led here."""
    self.guard.roll_back(reason, self.workdir)
    reached, position, rollbacks = self.step, self.step + self.offset, self.rollbacks + 1
    self.pending.clear(), self.sums.clear(), self.counts.clear()
    self._restore()
    while not self.guard.steady and self._restore(before=self.step):
      pass
    self.rollbacks = rollbacks
    self.offset = position - self.step
    self.state = dataclasses.replace(self.state, key=jax.random.fold_in(self.state.key, rollbacks))
    self.log.note(f"rolled back from step {reached} to {self.step}: {reason}")
    self.log.start(self.step)
