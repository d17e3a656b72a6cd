"""Many processes train as one: same losses, same samples in the same order, and one death ends all with its name."""

import signal
import socket
import threading
import time

import numpy as np
import processes
import pytest

from fields3d.core.errors import UsageFault
from fields3d.training import distributed
from fields3d.training.distributed import settings
from fields3d.training.logging import read_metrics
from fields3d.training.manifest import steps

STEPS = 40


def run(tmp_path, name, count, devices=1, workdir=None, **more):
  """Trains to the end with `count` processes; returns the losses by step."""
  folder = tmp_path / name
  folder.mkdir()
  workdir = workdir or folder
  codes = processes.end(processes.start(count, processes.worker(workdir, **more), devices, folder))
  assert codes == [0] * count, [path.read_text()[-2000:] for path in sorted(folder.glob("err*"))]
  return read_metrics(workdir)["loss"]


def drawn(workdir):
  """{step: the rows of its global batch, in order}; a step that was drawn again must have been equal.

  What was drawn ahead of the last step is left out: how far depends on the threads' timing.
  """
  made = {}
  for path in sorted(workdir.glob("answers*"), key=lambda path: int(path.name.removeprefix("answers"))):
    for said in (a for a in processes.answers_of(path) if "rows" in a):
      made.setdefault((said["position"], said["of"]), {}).setdefault(path.name, set()).add(tuple(said["rows"]))
  whole = {}
  for (position, count), shares in sorted(made.items()):
    assert all(len(rows) == 1 for rows in shares.values())
    if len(shares) == count:  # a stopped run's processes need not have drawn equally far ahead
      whole.setdefault(position, set()).add(tuple(row for name in sorted(shares) for row in next(iter(shares[name]))))
  assert all(len(rows) == 1 for rows in whole.values()), "a batch depends on the number of processes"
  return {position: next(iter(rows)) for position, rows in whole.items() if position < STEPS}


def test_two_processes_give_the_losses_and_the_samples_of_one(tmp_path):
  one, two = run(tmp_path, "one", 1), run(tmp_path, "two", 2)
  np.testing.assert_allclose(two, one, rtol=1e-5)
  assert len(one) == STEPS and drawn(tmp_path / "one") == drawn(tmp_path / "two")
  assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == STEPS  # one writer


@pytest.mark.slow
def test_four_processes_of_two_devices_give_the_losses_of_one(tmp_path):
  np.testing.assert_allclose(run(tmp_path, "four", 4, devices=2), run(tmp_path, "one", 1), rtol=1e-5)
  assert drawn(tmp_path / "four") == drawn(tmp_path / "one")


@pytest.mark.slow
def test_four_then_two_then_four_processes_see_the_samples_of_one(tmp_path):
  whole = run(tmp_path, "whole", 1)
  workdir = tmp_path / "cut"
  for part, (count, end) in enumerate([(4, 20), (2, 30), (4, STEPS)]):
    losses = run(tmp_path, f"part{part}", count, workdir=workdir, steps=end)
  np.testing.assert_allclose(losses, whole, rtol=1e-5)
  assert drawn(workdir) == drawn(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_cut_over_two_processes_starts_from_another_as_one_process_does(tmp_path):
  run(tmp_path, "base", 1, tables=True, steps=10)
  more = {"tables": True, "base": str(tmp_path / "base"), "steps": 10}
  one, two = run(tmp_path, "one", 1, **more), run(tmp_path, "two", 2, settings={"model_parallel": 2}, **more)
  np.testing.assert_allclose(two, one, rtol=1e-5)


def kill_one(tmp_path, count, victim):
  """Kills one of `count` processes, and starts the same command again."""
  command = processes.worker(tmp_path / "run", steps=60, pause=0.1)
  started = processes.start(count, command, folder=tmp_path)
  processes.wait_for(lambda: steps(tmp_path / "run" / "checkpoints"))
  started[victim].send_signal(signal.SIGKILL)
  since = time.monotonic()
  codes = processes.end(started)
  took = time.monotonic() - since
  assert codes == [75 if number != victim else -signal.SIGKILL for number in range(count)], \
      [path.read_text()[-1500:] for path in sorted(tmp_path.glob("err*"))]
  said = processes.errors(tmp_path, count)
  for line in (line for number, line in enumerate(said) if number != victim):
    assert line.startswith(f"fields3d: process {victim} (host ") and f"pid {started[victim].pid}): has died" in line
    assert "run the same command again" in line
  before = steps(tmp_path / "run" / "checkpoints")[-1]
  assert processes.end(processes.start(count, command, folder=tmp_path)) == [0] * count
  print(f"process {victim} of {count} killed: all ended after {took:.1f} s, went on from step {before}")
  return read_metrics(tmp_path / "run")["loss"]


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_of_two_killed_ends_both_with_its_name_and_the_same_command_goes_on(tmp_path, victim):
  whole = run(tmp_path, "whole", 1, steps=60)
  np.testing.assert_allclose(kill_one(tmp_path, 2, victim), whole, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_one_of_four_killed_ends_all_with_its_name(tmp_path, victim):
  kill_one(tmp_path, 4, victim)


@pytest.mark.slow
def test_a_process_that_hangs_is_named_within_120_seconds(tmp_path):
  started = processes.start(2, processes.worker(tmp_path / "run", steps=2000, pause=0.05), folder=tmp_path)
  processes.wait_for(lambda: steps(tmp_path / "run" / "checkpoints"))
  started[1].send_signal(signal.SIGSTOP)
  since = time.monotonic()
  try:
    started[0].wait(120)
  finally:
    started[1].send_signal(signal.SIGKILL)
    codes = processes.end(started)
  print(f"a stopped process was named after {time.monotonic() - since:.1f} s")
  assert codes[0] == 75 and "process 1 (host" in processes.errors(tmp_path, 1)[0]
  assert "no sign of life" in processes.errors(tmp_path, 1)[0]


@pytest.mark.slow
def test_a_fault_of_one_of_two_after_a_checkpoint_ends_both_with_its_words(tmp_path):
  codes = processes.end(processes.start(2, processes.worker(tmp_path / "run", refused=[1, 25]), folder=tmp_path), 240)
  said = processes.errors(tmp_path, 2)
  assert codes == [75, 74] and said[1] == "fields3d: shard-7: Input/output error; check the disk"
  assert said[0].startswith("fields3d: process 1 (host") and "stopped: shard-7: Input/output error" in said[0]
  assert steps(tmp_path / "run" / "checkpoints")[:2] == [0, 10]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_sigterm_or_ctrl_c_to_one_of_two_saves_and_ends_both_with_75(tmp_path, number):
  started = processes.start(2, processes.worker(tmp_path / "run", steps=2000, pause=0.02,
                                                settings={"checkpoint_every": 10_000}), folder=tmp_path)
  processes.wait_for(lambda: len(list((tmp_path / "run").glob("metrics.jsonl"))) and
                     len(read_metrics(tmp_path / "run")["step"]) > 3)
  started[1].send_signal(number)
  since = time.monotonic()
  codes = processes.end(started, 60)
  took = time.monotonic() - since
  print(f"{number.name} to one of two: both saved and ended after {took:.1f} s")
  assert codes == [75, 75] and all("saved; run the same command again" in line for line in processes.errors(tmp_path, 2))
  assert took < 30 and steps(tmp_path / "run" / "checkpoints")[-1] > 3


@pytest.mark.parametrize(("change", "message"), [
    ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID: is not set, but JAX_COORDINATOR_ADDRESS is"),
    ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID: '2' of JAX_NUM_PROCESSES='2' is no process"),
    ({"JAX_NUM_PROCESSES": "two"}, "is no process"),
    ({"JAX_COORDINATOR_ADDRESS": "node1"}, "JAX_COORDINATOR_ADDRESS: 'node1' is not host:port"),
])
def test_variables_that_contradict_each_other_are_named(change, message):
  good = {"JAX_COORDINATOR_ADDRESS": "node1:80", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
  with pytest.raises(UsageFault, match=message):
    settings({**good, **change})


def test_the_watch_names_a_silent_and_a_closed_peer_and_forgives_a_farewell(monkeypatch):
  monkeypatch.setattr(distributed, "SILENCE", 1.0)
  for act, said in (("silent", "gave no sign of life"), ("closed", "has died"), ("farewell", None)):
    ours, theirs = socket.socketpair()
    lines = []

    def end(line, lines=lines):
      lines.append(line)
      threading.Event().wait()  # the real one ends the process

    watch = distributed.Watch({1: (ours, "host h, pid 7")}, end)
    if act == "farewell":
      theirs.sendall(b'{"left": null}\n')
    if act != "silent":
      theirs.close()
    until = time.monotonic() + 4
    while not lines and not watch._ended and time.monotonic() < until:
      time.sleep(0.05)
    assert (said is None and not lines) or (said in lines[0] and "process 1 (host h, pid 7)" in lines[0])
    theirs.close(), ours.close()
