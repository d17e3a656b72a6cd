"""A config's training step, compiled for chips that need not be here: what each holds, computes, moves and sends."""

import dataclasses
import importlib.util
import math
import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fields3d.commands.chips import Topology
from fields3d.commands.experiment import build_optimisers, build_settings, build_task
from fields3d.commands.plan_batch import planned_dataset
from fields3d.commands.plan_hlo import Collective, read_collectives
from fields3d.core.errors import Unavailable
from fields3d.metrics.programs import count_flops
from fields3d.training import sharding
from fields3d.training.step import make_step

_LIBTPU = "pip install 'jax[tpu]', or pip install libtpu into a folder and set TPU_LIBRARY_PATH to its libtpu.so"


@dataclasses.dataclass(frozen=True)
class Planned:
  """A compiled step. Bytes, FLOPs and collectives are of one chip and one step.

  mesh: {axis: chips}. rows: of the whole batch. parameters: numbers of the model. state: {part: bytes a chip}.
  arguments, temporaries, outputs, peak: bytes of the compiler's memory plan, what is aliased once.
  flops, moved: operations, and bytes to and from memory, at `rows` over the data axis. alone_flops, alone_moved: of one chip
  that has rows / chips rows and the whole model. compiled_flops, compiled_bytes: the compiler's own account, which counts
  loops once and a gather's whole operand. dtype: of the matrix products. compiler: whose. seconds: of compiling. gathered: bytes
  moved for parameters that are cut over data.
  """
  mesh: dict[str, int]
  rows: int
  parameters: int
  state: dict[str, int]
  arguments: int
  temporaries: int
  outputs: int
  peak: int
  flops: float
  moved: float
  alone_flops: float
  alone_moved: float
  compiled_flops: float | None
  compiled_bytes: float | None
  collectives: list[Collective]
  dtype: str
  compiler: str
  assumed: str
  seconds: float
  gathered: int = 0


def plan_step(config: Mapping, topology: Topology, count: int | None = None) -> Planned:
  """Compiles the training step of a checked config for a topology.

  Args:
    count: training shapes or photographs, where the config does not say (`plan_batch`).

  Raises:
    UsageFault: rows or model_parallel that do not fit the chips. Unavailable: no compiler for these chips.
  """
  dataset, spec, assumed = planned_dataset(config["data"], count)
  task, optimisers, settings = build_task(config, dataset), build_optimisers(config), build_settings(config)
  devices, compiler = chips_of(topology)
  mesh = sharding.make_mesh(settings.model_parallel, devices)
  rows = len(next(iter(spec.values())))
  sharding.check_rows(rows, mesh, settings.accumulate)
  cuts = settings.sharding or sharding.Sharding()
  step, shapes = sharding.sharded_step(task, optimisers, mesh, cuts, settings.accumulate)
  alike = make_step(task, optimisers, settings.accumulate)  # the same on one chip
  cut = NamedSharding(mesh, P("data"))
  batch = {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=cut) for name, a in spec.items()}
  begin = time.perf_counter()
  with warnings.catch_warnings():  # a program for chips that are not here cannot be read back from JAX's cache
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    compiled = step.lower(shapes, batch).compile()
  seconds = time.perf_counter() - begin
  parts, full, gathered = _state_bytes(shapes), _state_bytes(shapes, whole=True), _gathered_bytes(shapes, cuts)
  per_group = _counted(alike, shapes, spec, rows // mesh.shape["data"], settings.accumulate, topology)
  alone = per_group if settings.model_parallel == 1 else _counted(
      alike, shapes, spec, max(1, rows // topology.count), 1, topology)
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
  cost = cost[0] if isinstance(cost, list) else cost
  sizes = [int(getattr(memory, f"{kind}_size_in_bytes")) for kind in ("argument", "temp", "output", "alias")]
  return Planned(
      dict(mesh.shape), rows, sum(math.prod(a.shape) for a in jax.tree.leaves(shapes.params)), parts, *sizes[:3],
      sum(sizes[:3]) - sizes[3], per_group[0], per_group[1] + _update_bytes(parts) + gathered, alone[0],
      alone[1] + _update_bytes(full),
      cost.get("flops"), cost.get("bytes accessed"), read_collectives(compiled.as_text(), dict(mesh.shape)), _dtype(config), compiler,
      assumed, seconds, gathered)


def chips_of(topology: Topology) -> tuple[np.ndarray, str]:
  """Devices to compile for, (n,), and in words whose compiler it is.

  Raises:
    Unavailable: no libtpu, or it knows no such topology; too few fake devices (`plan` starts a process that has them).
  """
  chip = topology.chip
  if chip.platform != "tpu":
    devices = jax.devices("cpu")
    if len(devices) < topology.count:
      raise Unavailable(str(topology), f"this process has {len(devices)} CPU devices",
                        f"set XLA_FLAGS=--xla_force_host_platform_device_count={topology.count}")
    words = f"XLA's for {topology.count} fake CPU devices"
    if chip.platform != "cpu":
      words += f" (no {chip.platform} compiler here: the partitioning and its collectives are right, memory and fusion are CPU's)"
    return np.array(devices[:topology.count]), words
  if not os.environ.get("TPU_LIBRARY_PATH") and importlib.util.find_spec("libtpu") is None:
    raise Unavailable("libtpu", f"is not installed, so nothing compiles for {topology}", _LIBTPU)
  kind = {"v5e": f"v5litepod-{topology.count}", "v6e": f"v6e-{topology.count}"}.get(
      topology.name, f"{topology.name}-{2 * topology.count}")
  nothing_here = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": kind,
                  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # no chip is used, so several may plan at once
  for name, value in nothing_here.items():
    os.environ.setdefault(name, value)
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=str(topology), **chip.options).devices
  except Exception as error:  # whatever libtpu says
    raise Unavailable(str(topology), f"libtpu refuses it: {str(error).splitlines()[0][:160]}",
                      "give a topology that exists, such as v5e:16x16 or v4:4x4x4") from error
  return np.array(found), f"libtpu's for {found[0].device_kind}"


def _state_bytes(state: Any, whole: bool = False) -> dict[str, int]:
  """Bytes of a state's parts on a chip, or on one that has all of it."""
  size = lambda a: math.prod(a.shape if whole else a.sharding.shard_shape(a.shape)) * a.dtype.itemsize
  return {part: sum(map(size, jax.tree.leaves(getattr(state, part)))) for part in ("params", "ema", "opt", "extra")}


def _gathered_bytes(state: Any, settings: sharding.Sharding) -> int:
  """Bytes that a step moves for the parameters that are cut over data: a whole copy written as it arrives, a gradient as large written
  and read."""
  sizes = [(math.prod(a.shape), a.dtype.itemsize) for a in jax.tree.leaves(state.params) if "data" in a.sharding.spec]
  return sum(size * (np.dtype(settings.sent).itemsize + 2 * width) for size, width in sizes)


def _update_bytes(state: Mapping[str, int]) -> int:
  """Bytes that an update moves: the state read and written, the gradient written and read."""
  return 2 * sum(state.values()) + 2 * state["params"]


def _counted(step: Any, shapes: Any, spec: Any, rows: int, accumulate: int, topology: Topology) -> tuple[float, float]:
  """(FLOPs, bytes moved but for the state's) of a step of so many rows."""
  rows = max(rows, accumulate)
  batch = {name: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype) for name, a in spec.items()}
  jaxpr = jax.make_jaxpr(step)(shapes, batch).jaxpr
  return count_flops(jaxpr)[0], count_moved(jaxpr, topology.chip.granule)


def count_moved(jaxpr: Any, granule: int) -> float:
  """Bytes to and from memory of a program as written, if all that can be fused is: a lower bound.

  Matrix products and convolutions read their operands and write their result; a gather moves `granule` bytes at least for
  every slice and a scatter twice that, with what they write and read in order; everything else is fused into these. A
  scan counts as often as it runs, a loop of unknown length once, a condition's dearest branch.

  >>> program = jax.make_jaxpr(lambda a, b: jax.numpy.tanh(a @ b))(np.ones((4, 8), np.float32), np.ones((8, 2), np.float32))
  >>> count_moved(program.jaxpr, 32)
  224.0
  """
  size = lambda v: math.prod(v.aval.shape) * v.aval.dtype.itemsize
  total = 0.0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    inner = [count_moved(sub, granule) for sub in _programs_in(eqn)]
    if name == "cond":
      total += max(inner)
    elif inner and not name.startswith(("scatter", "reduce", "sort")):
      total += (eqn.params["length"] if name == "scan" else 1) * sum(inner)
    elif name in ("dot_general", "conv_general_dilated", "sort"):
      total += sum(map(size, (*eqn.invars, *eqn.outvars)))
    elif name == "gather":
      slices = math.prod(eqn.invars[1].aval.shape[:-1])
      total += max(slices * granule, size(eqn.outvars[0])) + size(eqn.outvars[0])
    elif name.startswith("scatter"):
      slices = math.prod(eqn.invars[1].aval.shape[:-1])
      total += 2 * max(slices * granule, size(eqn.invars[2])) + size(eqn.invars[2])
  return total


def _programs_in(eqn: Any) -> list:
  values = [part for value in eqn.params.values() for part in (value if isinstance(value, (tuple, list)) else (value,))]
  return [v.jaxpr if isinstance(v, ClosedJaxpr) else v for v in values if isinstance(v, (ClosedJaxpr, Jaxpr))]


def _dtype(config: Any) -> str:
  """The fastest that any network of the task multiplies in: a step takes at least as long as if all did."""
  found, left = {"float32"}, [config["task"]]
  while left:
    section = left.pop()
    left += [value for value in section.values() if isinstance(value, Mapping)]
    found |= {section["compute"]} if "compute" in section else set()
  return next(dtype for dtype in ("bfloat16", "tensorfloat32", "float32") if dtype in found)
