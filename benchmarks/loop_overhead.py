"""What the training loop costs over the bare jitted step: prefetch, guard, log and asynchronous checkpoints, in one run.

Three ways take turns, each with the same compiled step of 8 layers of 512: bare (one batch that lies on the device, one step
left in flight), the loop without saves, the loop with saves. Points are chosen so that the bare step takes about 50 ms of CPU. The
first steps of each turn are not counted. Wall time is what a user waits; CPU time holds all that the host does besides,
overlapped or not. Both drift with what else the machine does, by more than the loop costs; the host's share does not: the CPU time
of the loop's own thread and of the one that makes batches, less the bare turn's own thread, over the bare step's CPU time.

  python benchmarks/loop_overhead.py [--steps 110] [--rounds 3] [--save-every 25] [--milliseconds 50]

Figures are in benchmarks/README.md.
"""

import argparse
import io
import os
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.task import Task
from fields3d.core.types import Dataset
from fields3d.data.pipeline import SdfSamples, sdf_batches
from fields3d.training.logging import RunLog
from fields3d.training.loop import Loop, LoopSettings
from fields3d.training.optim import adam

WARM = 8  # steps of each turn that are not counted
NEVER = 10**9
WIDTH, DEPTH, SHAPES = 512, 8, 8


def task() -> Task:
  """A network of 8 layers of 512 on the distances of a point, L1."""
  def init(key):
    sizes = [3, *[WIDTH] * (DEPTH - 1), 1]
    keys = jax.random.split(key, len(sizes))
    return {"field": [jax.random.normal(k, (a, b)) * np.sqrt(2 / a) for k, a, b in zip(keys, sizes[:-1], sizes[1:],
                                                                                       strict=False)]}, {}

  def loss(params, extra, batch, key, step):
    x = batch["x"].reshape(-1, 3)
    for i, w in enumerate(params["field"]):
      x = x @ w if i == DEPTH - 1 else jax.nn.relu(x @ w)
    return jnp.mean(jnp.abs(x[:, 0] - batch["sdf"].reshape(-1))), {}

  return Task(init, {"field": loss})


def dataset(points: int) -> Dataset:
  """Batches of 8 shapes and `points` points each, drawn as in training."""
  rng = np.random.default_rng(0)
  samples = []
  for _ in range(SHAPES):
    x = rng.uniform(-1, 1, (100_000, 3)).astype(np.float32)
    sdf = np.linalg.norm(x, axis=1) - 0.8
    order = np.argsort(sdf < 0, kind="stable")
    samples.append(SdfSamples(x[order], sdf[order].astype(np.float32), int((sdf >= 0).sum())))
  return Dataset({}, sdf_batches(samples, SHAPES, points, 0), lambda split: [])


def make_loop(workdir: pathlib.Path, data: Dataset, steps: int, save_every: int) -> Loop:
  return Loop(task(), data, {"field": adam(1e-4, ema=0.999)}, seed=0, num_steps=steps, workdir=workdir,
              log=RunLog(workdir, steps, stream=io.StringIO()),
              settings=LoopSettings(checkpoint_every=save_every))


def clocks() -> np.ndarray:
  return np.array([time.perf_counter(), time.process_time(), time.thread_time()])


def per_step(stamps: list[np.ndarray]) -> np.ndarray:
  """Seconds a step (wall, CPU, this thread's CPU) between the first counted call and the last."""
  return (stamps[-1] - stamps[WARM]) / (len(stamps) - 1 - WARM)


def bare(step_fn, state, batch, steps: int) -> np.ndarray:
  stamps, before = [], None
  for _ in range(steps):
    stamps.append(clocks())
    state, metrics = step_fn(state, batch)
    if before is not None:
      jax.block_until_ready(before)
    before = metrics
  jax.block_until_ready(before)
  return per_step(stamps)


def looped(data: Dataset, step_fn, steps: int, save_every: int) -> tuple[np.ndarray, int]:
  """(seconds a step, saves between the counted calls); the blocking save at the end is not counted."""
  stamps, making = [], []
  with tempfile.TemporaryDirectory() as folder:
    loop = make_loop(pathlib.Path(folder), data, steps, save_every)

    def stamped(state, batch):
      stamps.append(clocks())
      return step_fn(state, batch)

    def timed(position):
      begin = time.thread_time()
      made = make_batch(position)
      making.append(time.thread_time() - begin)
      return made

    make_batch, loop._make_batch, loop.step_fn = loop._make_batch, timed, stamped
    loop.run()
  return per_step(stamps) + [0, 0, statistics.mean(making[WARM:])], len([s for s in range(WARM + 1, steps) if s % save_every == 0])


def prepared(milliseconds: float):
  """(data, step, fresh state, batch): a bare step of about so many milliseconds of CPU."""
  points, took = 64, None
  for _ in range(3):
    data = dataset(points)
    with tempfile.TemporaryDirectory() as folder:
      loop = make_loop(pathlib.Path(folder), data, 1, NEVER)
      loop.log.close()
      fresh = jax.jit(loop._fresh, out_shardings=loop.shardings)
    batch = loop._make_batch(0)
    took = bare(loop.step_fn, fresh(jax.random.key(0)), batch, WARM + 8)[1] * 1e3
    if abs(took / milliseconds - 1) < 0.3:
      break
    points = max(8, int(points * milliseconds / took) // 8 * 8)
  return data, loop.step_fn, fresh, batch, points


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--steps", type=int, default=110)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--save-every", type=int, default=25)
  parser.add_argument("--milliseconds", type=float, default=50)
  arguments = parser.parse_args()
  data, step_fn, fresh, batch, points = prepared(arguments.milliseconds)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(fresh(jax.random.key(0))) if leaf.dtype != jax.random.key(0).dtype)
  bare(step_fn, fresh(jax.random.key(0)), batch, WARM + 2)
  print(f"{SHAPES} x {points} points, state of {size / 2**20:.0f} MiB, load {os.getloadavg()[0]:.1f}", flush=True)
  ratios, costs = {"without saves": [], "with saves": []}, []
  for _ in range(arguments.rounds):
    first = bare(step_fn, fresh(jax.random.key(0)), batch, arguments.steps)
    plain, _ = looped(data, step_fn, arguments.steps, NEVER)
    second = bare(step_fn, fresh(jax.random.key(0)), batch, arguments.steps)
    saving, saves = looped(data, step_fn, arguments.steps, arguments.save_every)
    third = bare(step_fn, fresh(jax.random.key(0)), batch, arguments.steps)
    for name, own, around in (("without saves", plain, (first + second) / 2), ("with saves", saving, (second + third) / 2)):
      ratios[name].append([*(own / around - 1)[:2], (own - around)[2] / around[1]])
    costs.append((saving - plain) * (arguments.steps - 1 - WARM) / saves)
    print("ms a step, wall (CPU, host's threads): " + ", ".join("{} {:.1f} ({:.1f}, {:.2f})".format(name, *t * 1e3) for name, t in (
        ("bare", first), ("loop", plain), ("bare", second), ("loop with saves", saving), ("bare", third)))
          + f"; load {os.getloadavg()[0]:.1f}", flush=True)
  for name, found in ratios.items():
    for kind, column in zip(("wall", "CPU", "the host's threads"), np.array(found).T, strict=True):
      print(f"overhead {name}, by {kind}: {statistics.median(column):+.1%} ({min(column):+.1%} to {max(column):+.1%})")
  for kind, column in zip(("wall", "CPU", "the loop's own thread"), np.array(costs).T, strict=True):
    print(f"one asynchronous save costs the steps, by {kind}: {statistics.median(column) * 1e3:.0f} ms "
          f"({min(column) * 1e3:.0f} to {max(column) * 1e3:.0f}); every 1000 steps of {arguments.milliseconds:g} ms that is "
          f"{statistics.median(column) / arguments.milliseconds:.2%}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
