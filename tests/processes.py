"""Several real processes of one run on this machine: a worker that trains a toy, and how tests start and end it."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
WORKER = f"""
import dataclasses, hashlib, json, pathlib, signal, sys, time
sys.path.insert(0, {str(HERE)!r})
import jax, numpy as np
from fields3d.core.errors import Fault, IOFault
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.distributed import session
from fields3d.training.logging import RunLog
from fields3d.training.loop import Loop, LoopSettings
from fields3d.training.optim import adam
from fields3d.training.transfer import restore_partial
import toys
told = json.loads(sys.argv[1])
workdir = pathlib.Path(told["workdir"])
def say(**words):  # to a file: gloo's own lines break into stdout anywhere
  with open(workdir / f"answers{{jax.process_index()}}", "a") as file:
    print(json.dumps(words), file=file, flush=True)
data = toys.line_data()
def batch(position, shard=0, num_shards=1):
  made = data.batch(position, shard, num_shards)
  say(position=position, of=num_shards, rows=[row.tobytes().hex() for row in made["x"]])
  time.sleep(told.get("pause", 0))
  if [jax.process_index(), position] == told.get("refused"):
    raise IOFault("shard-7", "Input/output error", "check the disk")
  return made
def build(settings):
  return Loop(toys.tables() if told.get("tables") else toys.regression(noise=0.1), dataclasses.replace(data, batch=batch),
              {{"model": adam(0.05, ema=0.9)}}, seed=3, num_steps=told["steps"], workdir=workdir,
              log=RunLog(workdir, told["steps"]), settings=LoopSettings(**settings),
              transfer=(lambda params: restore_partial(told["base"], params)[0]) if told.get("base") else None)
def tell_state(loop, name):
  for number, leaf in enumerate(jax.tree.leaves(loop.state)):
    leaf = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    for shard in leaf.addressable_shards:
      index = [part.indices(size)[:2] for part, size in zip(shard.index, leaf.shape)]
      say(name=name, leaf=number, index=index, shape=leaf.shape, dtype=str(leaf.dtype),
          content=np.asarray(shard.data).tobytes().hex())
try:
  with session():
    for parallel in told.get("restore", ()):
      loop = build({{**told["settings"], "model_parallel": parallel}})
      assert loop._restore()
      tell_state(loop, f"{{jax.process_count()}} processes, mesh {{tuple(loop.mesh.shape.values())}}")
    if not told.get("restore"):
      loop = build(told["settings"])
      say(done=int(loop.run().step))
      tell_state(loop, "trained")
except Fault as fault:
  print(f"fields3d: {{fault}}", file=sys.stderr, flush=True)
  sys.exit(fault.exit_code)
"""


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def start(count: int, command: list[str], devices: int = 1, folder: pathlib.Path | None = None) -> list[subprocess.Popen]:
  """The processes of one run; what each prints goes to <folder>/out<i> and err<i>."""
  port, processes = free_port(), []
  for number in range(count):
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"}
    if count > 1:
      environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count),
                      "JAX_PROCESS_ID": str(number)}
    with open(folder / f"out{number}", "w") as out, open(folder / f"err{number}", "w") as err:
      processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=err))
  return processes


def worker(workdir: pathlib.Path, steps: int = 40, **more) -> list[str]:
  settings = {"log_every": 1, "checkpoint_every": 10, **more.pop("settings", {})}
  workdir.mkdir(exist_ok=True)
  return [sys.executable, "-c", WORKER, json.dumps({"workdir": str(workdir), "steps": steps, "settings": settings, **more})]


def end(processes: list[subprocess.Popen], seconds: float = 120) -> list[int]:
  """Their exit codes; whoever has not ended by then is killed and has the code -9."""
  until = time.monotonic() + seconds
  try:
    for process in processes:
      process.wait(max(0.1, until - time.monotonic()))
  except subprocess.TimeoutExpired:
    pass
  finally:
    for process in processes:
      process.kill()
  return [process.wait() for process in processes]


def wait_for(true, seconds: float = 120) -> None:
  until = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < until, "waited in vain"
    time.sleep(0.05)


def answers(workdir: pathlib.Path) -> list[dict]:
  """What the workers said, of all processes, in each one's order."""
  return [said for path in sorted(workdir.glob("answers*")) for said in answers_of(path)]


def answers_of(path: pathlib.Path) -> list[dict]:
  """What one worker said; a line that its death broke off is left out."""
  return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def errors(folder: pathlib.Path, count: int) -> list[str]:
  """Each process's own line on stderr (those of gloo and of jax's service left out)."""
  return ["".join(line for line in (folder / f"err{number}").read_text().splitlines() if line.startswith("fields3d: "))
          for number in range(count)]
