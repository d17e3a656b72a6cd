"""Checkpoints of a distributed run: all processes save, one commits, all agree on what is sound."""

import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.training.checkpoint import Checkpoints
from fields3d.training.manifest import steps, verify

WORKER = """
import os, sys
os.environ.update(JAX_PLATFORMS="cpu", XLA_FLAGS=os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2")
import jax, jax.numpy as jnp, numpy as np
port, process, directory, answers = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
def say(*words):  # to a file: Gloo's own lines break into stdout anywhere
  with open(answers, "a") as file:
    print(*words, file=file)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from fields3d.core.errors import Fault
from fields3d.training import checkpoint
mesh = Mesh(np.asarray(jax.devices()), ("d",), axis_types=(AxisType.Auto,))
rows, same = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
def tree(step):
  table = jax.make_array_from_callback((8, 3), rows, lambda i: (step + np.arange(24.0).reshape(8, 3))[i])
  key = jax.jit(lambda: jax.random.key(step), out_shardings=same)()
  return {"state": {"table": table.astype(jnp.float32), "key": key}, "loop": {"data": np.asarray([step])}}
abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
                        if isinstance(a, jax.Array) else a, tree(0))
with checkpoint.Checkpoints(directory, keep=2) as checkpoints:
  assert checkpoints.restore(abstract) is None
  for step in (1, 2, 3):
    checkpoints.save(step, tree(step))
  checkpoints.wait()
  assert checkpoints.committed == 3
  bad = tree(4)
  if process == 1:
    bad["loop"]["data"] = np.asarray([np.nan])
  else:
    bad["loop"]["data"] = np.asarray([0.0])
  try:
    checkpoints.save(4, bad)
  except Fault as fault:
    say("refused", type(fault).__name__)
  if process == 0:
    (checkpoints.directory / "3" / "manifest.json").unlink()
  step, got = checkpoints.restore(abstract)
  assert step == 2, step
  for shard in got["state"]["table"].addressable_shards:
    np.testing.assert_array_equal(shard.data, (2 + np.arange(24.0).reshape(8, 3))[shard.index])
say("done")
"""


def test_two_processes_save_agree_on_faults_and_fall_back_together(tmp_path):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = str(probe.getsockname()[1])
  files = [tmp_path / f"process{process}.txt" for process in (0, 1)]
  workers = [subprocess.Popen([sys.executable, "-c", WORKER, port, str(process), str(tmp_path / "c"), str(files[process])],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for process in (0, 1)]
  try:
    answers = [worker.communicate(timeout=120) for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
  said = [file.read_text().splitlines() if file.exists() else [] for file in files]
  assert said == [["refused IOFault", "done"], ["refused Diverged", "done"]], answers
  assert steps(tmp_path / "c") == [2] and verify(tmp_path / "c" / "2") == []
  abstract = {"state": {"table": jax.ShapeDtypeStruct((8, 3), jnp.float32),
                        "key": jax.eval_shape(lambda: jax.random.key(0))}, "loop": {"data": np.zeros(1, int)}}
  with Checkpoints(tmp_path / "c") as checkpoints:
    _, tree = checkpoints.restore(abstract)
  np.testing.assert_array_equal(tree["state"]["table"], 2 + np.arange(24.0).reshape(8, 3))
  assert tree["state"]["key"] == jax.random.key(2)
