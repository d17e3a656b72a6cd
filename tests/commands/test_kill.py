"""kill -9 at random moments, the same command again: the end is bit-equal to the undisturbed run."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from fields3d.commands.rundir import open_run

CONFIG = pathlib.Path(__file__).parents[2] / "experiments" / "deepsdf" / "quickstart.py"
STEPS = 200
FLAGS = [f"--config.num_steps={STEPS}", "--config.train.checkpoint_every=20", "--config.data.num_shapes=2",
         "--config.data.families=mug,table"]


def command(workdir):
  return [sys.executable, "-m", "fields3d", "train", "--config", f"{CONFIG}:runlocal", "--workdir", str(workdir), *FLAGS]


def final_bytes(workdir):
  run = open_run(workdir)
  assert run.step == STEPS
  leaves = jax.tree.leaves((run.state.params, run.state.opt, run.state.ema))
  return b"".join(np.asarray(leaf).tobytes() for leaf in leaves)


def kill_and_resume(tmp_path, kills, seed):
  environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"}
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  start = time.monotonic()
  subprocess.run(command(whole), check=True, capture_output=True, env=environment)
  usual = time.monotonic() - start
  moments, landed = random.Random(seed), 0
  for _ in range(kills):
    process = subprocess.Popen(command(cut), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
      process.wait(moments.uniform(0.1, 0.5) * usual)
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      landed += process.wait() == -signal.SIGKILL
  done = subprocess.run(command(cut), capture_output=True, text=True, env=environment)
  assert done.returncode == 0, done.stderr
  assert landed > 0 and final_bytes(whole) == final_bytes(cut)
  return landed


def test_a_killed_run_ends_bit_equal_to_the_undisturbed_one(tmp_path):
  kill_and_resume(tmp_path, kills=2, seed=0)


@pytest.mark.slow
def test_twenty_kills_end_bit_equal_to_the_undisturbed_run(tmp_path):
  """Ten runs, each killed twice at random moments: start, compilation, steps, saves."""
  landed = 0
  for seed in range(10):
    (tmp_path / str(seed)).mkdir()
    landed += kill_and_resume(tmp_path / str(seed), kills=2, seed=seed)
  print(f"{landed} kills, all ends bit-equal")
  assert landed == 20
