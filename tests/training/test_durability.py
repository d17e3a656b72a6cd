"""A run cannot be lost: two runs in one directory, clock jumps, full and read-only disks, kills in the middle of a save."""

import contextlib
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import processes
import pytest
import toys

from fields3d.core.errors import CannotWrite, IOFault, TryAgain, UsageFault
from fields3d.training import lock
from fields3d.training.lock import locked
from fields3d.training.logging import RunLog, read_metrics
from fields3d.training.loop import Loop, LoopSettings
from fields3d.training.manifest import candidates, steps, verify
from fields3d.training.optim import adam

ROOT = pathlib.Path(__file__).parents[2]
# orbax leaves coroutines behind when a save fails, and tensorstore's threads call its loop after it is closed; some say so
# only in the test after theirs.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def make(workdir, num_steps=30, data=None, **settings):
  workdir.mkdir(exist_ok=True, parents=True)
  return Loop(toys.regression(noise=0.1), data or toys.line_data(), {"model": adam(0.05, ema=0.9)}, seed=3, num_steps=num_steps,
              workdir=workdir, log=RunLog(workdir, num_steps), settings=LoopSettings(log_every=1, checkpoint_every=5, **settings))


def content(state):
  return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state.step, state.params, state.ema, state.opt)))


def identity(**changes):
  return {**lock.identity(), "beats": "000000000000", **changes}


# --- two runs in one directory


def test_a_second_run_is_refused_with_the_name_of_the_first_and_a_dead_ones_lock_is_taken_over(tmp_path):
  code = "import sys, pathlib; from fields3d.training.lock import locked\nwith locked(pathlib.Path(sys.argv[1])):\n" \
         "  print('held', flush=True); sys.stdin.read()"
  child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
  assert child.stdout.readline() == "held\n"
  with pytest.raises(UsageFault, match=rf"is in use by another run \(process {child.pid} on host ") as caught, locked(tmp_path):
    pass
  assert caught.value.exit_code == 2
  child.send_signal(signal.SIGKILL)
  while pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
  with locked(tmp_path, patience=0):  # not even reaped yet
    assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
  child.communicate()
  assert not (tmp_path / lock.NAME).exists()


@pytest.mark.parametrize(("holder", "why"), [
    ({"boot": "another"}, "the machine was started anew"),
    ({"started": "1"}, "its number belongs to another process now"),
    ({"host": "elsewhere"}, "on another machine, and its counter stands still"),
    ({"pids": "pid:[1]"}, "in another container, and its counter stands still"),
    (None, "a file that its writer's death left empty"),
])
def test_a_lock_of_the_dead_is_taken_over(tmp_path, holder, why):
  (tmp_path / lock.NAME).write_text("" if holder is None else json.dumps(identity(**holder)))
  with locked(tmp_path, patience=0.3):
    assert json.loads((tmp_path / lock.NAME).read_text())["started"] == lock._started(os.getpid()), why
  assert not (tmp_path / lock.NAME).exists()


def test_a_directory_in_the_locks_place_cannot_be_written(tmp_path):
  (tmp_path / lock.NAME).mkdir()
  with pytest.raises(CannotWrite, match="run.lock: is a directory"), locked(tmp_path):
    pass


def test_a_run_on_another_machine_that_shows_life_is_respected(tmp_path):
  path, stop = tmp_path / lock.NAME, threading.Event()
  path.write_text(json.dumps(identity(host="elsewhere", pid=77)))

  def live():
    beats = 0
    while not stop.wait(0.1):
      beats += 1
      (tmp_path / "new").write_text(json.dumps(identity(host="elsewhere", pid=77, beats=f"{beats:012d}")))
      (tmp_path / "new").rename(path)

  thread = threading.Thread(target=live)
  thread.start()
  try:
    with pytest.raises(UsageFault, match="process 77 on host elsewhere"), locked(tmp_path, patience=5):
      pass
  finally:
    stop.set()
    thread.join()
  assert json.loads(path.read_text())["pid"] == 77


def test_of_eight_that_find_a_dead_lock_at_once_exactly_one_gets_it(tmp_path):
  code = "import sys, pathlib, time; from fields3d.training.lock import locked\n" \
         "while not pathlib.Path(sys.argv[2]).exists(): pass\n" \
         "with locked(pathlib.Path(sys.argv[1])):\n  print('held', flush=True); time.sleep(3)"
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / lock.NAME).write_text(json.dumps(identity(boot="another")))
  children = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "run", tmp_path / "go"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
  time.sleep(2)
  (tmp_path / "go").touch()
  said = [child.communicate(timeout=60) for child in children]
  assert sum(out == "held\n" for out, _ in said) == 1
  assert all("in use by another run" in err for out, err in said if not out)


def test_the_command_refuses_a_second_run_and_sigterm_saves_within_30_seconds(tmp_path):
  workdir = tmp_path / "run"
  command = [sys.executable, "-m", "fields3d", "train", "--config", f"{ROOT}/experiments/deepsdf/quickstart.py:runlocal",
             "--workdir", str(workdir), "--config.num_steps=100000", "--config.train.log_every=1",
             "--config.data.num_shapes=2", "--config.data.families=mug,table"]
  (first,) = processes.start(1, command, folder=tmp_path)
  processes.wait_for(lambda: (workdir / "metrics.jsonl").exists() and len(read_metrics(workdir)["step"]) > 3)
  second = subprocess.run(command, capture_output=True, text=True, check=False)
  assert second.returncode == 2 and second.stderr.count("\n") == 1
  assert f"is in use by another run (process {first.pid} on host " in second.stderr
  first.send_signal(signal.SIGTERM)
  since = time.monotonic()
  assert processes.end([first], 60) == [75]
  took = time.monotonic() - since
  print(f"SIGTERM: saved and ended after {took:.1f} s; second run: {second.stderr.strip()}")
  assert took < 30 and not (workdir / lock.NAME).exists()
  (last,) = steps(workdir / "checkpoints")[-1:]
  assert last >= read_metrics(workdir)["step"][-1] and verify(workdir / "checkpoints" / str(last)) == []


# --- clocks and disks


def test_a_clock_that_jumps_by_years_changes_nothing_of_the_run(tmp_path, monkeypatch):
  """Nineteen years forth or back, three times a second, and files dated against their order: the same run, the newest step.

  orbax waits by the wall clock: a jump within a save can fail that save (exit 74). The same command goes on.
  """
  whole = content(make(tmp_path / "whole").run())
  real, began = time.time, time.monotonic()
  monkeypatch.setattr(time, "time", lambda: real() + (-1) ** int(3 * (time.monotonic() - began)) * 3e8)

  def to_the_end(num_steps):
    for failed in range(10):
      try:
        return make(tmp_path / "cut", num_steps=num_steps).run(), failed
      except IOFault as fault:
        assert "the step is not saved" in str(fault)
    raise AssertionError("ten saves in a row failed")

  failed = to_the_end(20)[1]
  checkpoints = tmp_path / "cut" / "checkpoints"
  for age, step in enumerate(candidates(checkpoints)):
    for path in [*(checkpoints / str(step)).rglob("*"), checkpoints / str(step)]:
      os.utime(path, (1e9 - 1e6 * age, 1e9 - 1e6 * age))
  loop = make(tmp_path / "cut")
  assert loop._restore() and loop.step == 20
  state, more = to_the_end(30)
  assert content(state) == whole and list(read_metrics(tmp_path / "cut")["step"]) == list(range(1, 31))
  print(f"clock jumps of 19 years, {int(3 * (time.monotonic() - began))} of them: bit-equal; {failed + more} saves failed with exit 74")
  gc.collect()


@contextlib.contextmanager
def small_disk(path, size="600k"):
  path.mkdir()
  if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=False,
                                         capture_output=True).returncode:
    pytest.skip("a small tmpfs cannot be mounted here")
  try:
    yield path
  finally:
    subprocess.run(["umount", "-l", path], check=True)


def test_a_disk_that_fills_up_ends_the_run_with_74_and_the_same_command_goes_on(tmp_path):
  whole = content(make(tmp_path / "whole").run())
  with small_disk(tmp_path / "disk", "2m") as disk:
    make(disk / "run", num_steps=10).run()
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
      while True:
        file.write(bytes(4096))
    with pytest.raises(IOFault, match="no space left") as caught:
      make(disk / "run").run()
    ballast.unlink()
    left = steps(disk / "run" / "checkpoints")
    assert caught.value.exit_code == 74 and left and verify(disk / "run" / "checkpoints" / str(left[-1])) == []
    assert content(make(disk / "run").run()) == whole
    assert list(read_metrics(disk / "run")["step"]) == list(range(1, 31))
  gc.collect()


def test_a_disk_that_becomes_read_only_ends_the_run_with_73_and_the_same_command_goes_on(tmp_path):
  whole = content(make(tmp_path / "whole").run())
  with small_disk(tmp_path / "disk", "8m") as disk:
    make(disk / "run", num_steps=10).run()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(CannotWrite, match="read-only") as caught:
      make(disk / "run").run()
    with pytest.raises(CannotWrite), locked(disk / "run"):
      pass
    assert caught.value.exit_code == 73
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert content(make(disk / "run").run()) == whole
  gc.collect()


@pytest.mark.parametrize("damage", ["flip", *(pytest.param(d, marks=pytest.mark.slow) for d in ("truncate", "remove", "manifest"))])
def test_a_damaged_newest_step_costs_steps_but_not_the_run(tmp_path, damage):
  whole = content(make(tmp_path / "whole").run())
  make(tmp_path / "cut", num_steps=20).run()
  newest = tmp_path / "cut" / "checkpoints" / "20"
  largest = max((p for p in (newest / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
  if damage == "flip":
    held = bytearray(largest.read_bytes())
    held[len(held) // 2] ^= 1
    largest.write_bytes(held)
  elif damage == "truncate":
    os.truncate(largest, largest.stat().st_size // 2)
  else:
    (largest if damage == "remove" else newest / "manifest.json").unlink()
  assert content(make(tmp_path / "cut").run()) == whole


# --- kills in the middle of a save

NURSERY = f"""
import json, os, sys, pathlib
sys.path.insert(0, {str(ROOT / "tests")!r})
sys.path.insert(0, {str(ROOT / "tests" / "training")!r})
import test_durability  # everything is imported once; each child makes its own devices
for line in sys.stdin:
  child = os.fork()
  if child == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    loop = test_durability.make(pathlib.Path(line.strip()), num_steps=40, keep=2)
    object.__setattr__(loop.settings, "checkpoint_every", 1)
    loop.run()
    os._exit(0)
  print(child, flush=True)
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def kill_mid_save(tmp_path, kills):
  """Kills a run that saves at every step while a save is under way, until so many kills have landed."""
  rng = np.random.default_rng(0)
  loop = make(tmp_path / "whole", num_steps=40)
  whole, landed, rounds, runs = content(loop.run()), 0, 0, 0
  environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
  nursery = subprocess.Popen([sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=environment)
  try:
    while landed < kills:
      workdir = tmp_path / f"cut{runs}"
      checkpoints = workdir / "checkpoints"
      print(workdir, file=nursery.stdin, flush=True)
      child, rounds, before = int(nursery.stdout.readline()), rounds + 1, set(candidates(checkpoints))
      wait_until = time.monotonic() + 120
      alive = lambda child=child: pathlib.Path(f"/proc/{child}/stat").exists()
      while alive() and set(candidates(checkpoints)) == before and time.monotonic() < wait_until:
        time.sleep(0.002)
      time.sleep(float(rng.uniform(0, 0.1)))
      while alive() and not any(checkpoints.glob("*.tmp")):
        time.sleep(0.001)
      time.sleep(float(rng.uniform(0, 0.03)))
      with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
      ended = int(nursery.stdout.readline())
      assert ended in (0, -signal.SIGKILL)
      landed += any(checkpoints.glob("*.tmp"))
      if ended == 0 or landed == kills or max(candidates(checkpoints), default=0) >= 35:
        assert content(make(workdir, num_steps=40).run()) == whole
        runs += 1
  finally:
    nursery.kill()
    nursery.communicate()
  print(f"{landed} kills in the middle of a save ({rounds} in all, {runs} runs): all ends bit-equal")


def test_two_kills_in_the_middle_of_a_save_end_bit_equal(tmp_path):
  kill_mid_save(tmp_path, 2)


@pytest.mark.slow
def test_fifty_kills_in_the_middle_of_a_save_end_bit_equal(tmp_path):
  kill_mid_save(tmp_path, 50)


def test_saves_do_not_wait_for_the_disk(tmp_path, monkeypatch):
  """Off the critical path: while a save's hashing is held up, steps go on; only the next save waits."""
  from fields3d.training import checkpoint
  real, held, stepped = checkpoint.write_manifest, threading.Event(), []
  data = toys.line_data()

  def slow(step_dir, facts):
    held.wait(60)
    real(step_dir, facts)

  loop = make(tmp_path / "run", num_steps=30)
  loop.settings = LoopSettings(log_every=1, checkpoint_every=20)
  advance = loop.step_fn

  def step(state, batch):
    stepped.append(loop.step)
    if loop.step == 10:  # ten steps after the first save began, and it is still under way
      assert loop.checkpoints.committed is None and not steps(tmp_path / "run" / "checkpoints")
      held.set()
    return advance(state, batch)

  loop.step_fn = step
  monkeypatch.setattr(checkpoint, "write_manifest", slow)
  loop.run()
  assert stepped == list(range(30)) and data.info == {}


def test_a_stop_in_the_middle_of_a_save_waits_for_it(tmp_path):
  loop = make(tmp_path / "run", num_steps=30)
  advance = loop.step_fn

  def step(state, batch):
    if loop.step == 10:
      os.kill(os.getpid(), signal.SIGTERM)
    return advance(state, batch)

  loop.step_fn = step
  with pytest.raises(TryAgain, match="stopped at step 11"):
    loop.run()
  assert steps(tmp_path / "run" / "checkpoints")[-2:] == [10, 11]
