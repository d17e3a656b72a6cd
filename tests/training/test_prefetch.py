"""Batches made ahead: in order whatever the threads, faults in their place, and how long the device waits for them."""

import dataclasses
import random
import threading
import time

import pytest
import test_loop
import toys

from fields3d.core.errors import BadData
from fields3d.training.logging import read_metrics
from fields3d.training.prefetch import Idle, Prefetch


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_order_from_any_position_and_any_number_of_threads(threads):
  rng, running, most = random.Random(0), [], []

  def make(position):
    running.append(position)
    most.append(len(running))
    time.sleep(rng.random() * 0.002)
    running.remove(position)
    return position

  with Prefetch(make, 1_000_000_007, threads) as batches:
    assert [batches.next() for _ in range(40)] == list(range(1_000_000_007, 1_000_000_047))
  assert max(most) <= threads


def test_no_more_batches_are_made_ahead_than_said_and_none_after_the_end():
  made = []
  with Prefetch(made.append, 0, threads=1) as batches:
    batches.next()
    while len(made) < 4:
      time.sleep(0.001)
    time.sleep(0.05)
    assert len(made) == 4  # the one taken and threads + 2
  time.sleep(0.05)
  assert len(made) == 4


def test_a_fault_is_raised_at_its_own_place_in_the_order():
  def make(position):
    if position == 2:
      raise BadData("x", "is broken")
    return position

  with Prefetch(make, 0, threads=3) as batches:
    assert [batches.next(), batches.next()] == [0, 1]
    with pytest.raises(BadData, match="is broken"):
      batches.next()


class Simulated:
  """A host that needs `batch` seconds for each batch, three ahead, and a device that needs `step`; time is counted, not spent."""

  def __init__(self, batch, step):
    self.now, self.batch, self.step, self.host, self.device, self.taken = 0.0, batch, step, batch, 0.0, []

  def ready(self, seconds=0.0):
    if self.host > self.now + seconds:
      self.now += seconds
      return False
    self.now = max(self.now, self.host)
    return True

  def next(self):
    self.now = max(self.now, self.host)
    self.taken.append(self.now)
    free = self.taken[-3] if len(self.taken) >= 3 else 0.0
    self.host = max(self.host, free) + self.batch
    return len(self.taken)

  def dispatch(self):
    last = self.device
    self.device = max(self.now, self.device) + self.step
    self.now = max(self.now, last)  # the loop settles the step before the one in flight


@pytest.mark.parametrize("batch, step", [(3.0, 1.0), (1.0, 0.8), (1.0, 1.1), (0.1, 2.0)])
def test_the_idle_share_is_that_of_a_pipeline_whose_slower_side_is_the_host(batch, step):
  world = Simulated(batch, step)
  idle = Idle(clock=lambda: world.now)
  shares = []
  for _ in range(10):
    for _ in range(50):
      idle.take(world, lambda: world.device > world.now)
      world.dispatch()
    shares.append(idle.read()[0])
  expected = max(0.0, batch - step) / max(batch, step)
  assert shares[-1] == pytest.approx(expected, abs=0.004)  # 2 ms of polling a step of about one second


class Clock:
  """Seconds that pass only when told."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


class WatchedIdle(Idle):
  """Says when the device waits, so that a test's dataset can be late on purpose."""

  def __init__(self, clock):
    self.starved = threading.Event()
    super().__init__(clock)

  def take(self, batches, busy):
    if self._since is None:
      self.starved.set()
    return super().take(Announced(batches, self.starved), busy)


@dataclasses.dataclass
class Announced:
  batches: Prefetch
  starved: threading.Event

  def ready(self, seconds=0.0):
    return self.batches.ready(seconds)

  def next(self):
    self.starved.set()
    return self.batches.next()


def run_with_clock(workdir, late):
  """A real run: each step takes one second of the clock, each batch `late` more seconds once the device waits for it."""
  clock, line = Clock(), toys.line_data()
  idle = WatchedIdle(clock)

  def batch(position, shard=0, num_shards=1):
    if late and threading.current_thread() is not threading.main_thread():
      while not idle.starved.wait(0.02) and loop.step < loop.num_steps:
        pass
      idle.starved.clear()
      clock.now += late
    return line.batch(position, shard, num_shards)

  loop = test_loop.make(workdir, 40, dataclasses.replace(line, batch=batch))
  loop.idle, step = idle, loop.step_fn

  def timed(*arguments):
    clock.now += 1
    return step(*arguments)

  loop.step_fn = timed
  loop.run()
  return read_metrics(workdir)["idle"], (workdir / "metrics.jsonl").read_text()


def test_a_slow_dataset_shows_as_idle_time_in_the_log_and_is_warned_of_once(tmp_path, capsys):
  shares, text = run_with_clock(tmp_path, late=3.0)
  assert shares[1:] == pytest.approx([0.75] * 7, abs=0.05)
  assert text.count("the device waits for batches") == 1 and "--config.train.prefetch" in text
  assert "idle 0.7" in capsys.readouterr().out


def test_a_fast_dataset_shows_no_idle_time(tmp_path):
  shares, text = run_with_clock(tmp_path, late=0.0)
  assert shares.tolist() == [0.0] * 8 and "the device waits" not in text


def test_a_warning_wants_three_high_readings_in_a_row():
  clock, said = Clock(), []

  class Late:
    ready = staticmethod(lambda seconds=0.0: False)

    @staticmethod
    def next():
      clock.now += late

  idle, late = Idle(clock), 0.0
  idle.take(Late, lambda: False)
  for late in (0.2, 0.2, 0.0, 0.2, 0.2, 0.2, 0.2, 0.2):  # noqa: B007 read by Late.next
    idle.take(Late, lambda: False)
    clock.now += 1
    said.append(idle.read()[1])
  assert said == [False] * 5 + [True, False, False]
