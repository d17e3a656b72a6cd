"""Where arrays live: one (data, model) mesh, the batch over data, large tables over model, the rest by the mode.

The compiler inserts the collectives (jit + NamedSharding), but for hash grids, which cut themselves by the placement
(`core.placement`) that `sharded_step` traces in and by the copies of their tables that it hands in: leaves whose path
ends in HASH_TABLE. Axis types are explicitly Auto: jax's default since 0.9 refuses ordinary gathers.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.placement import Placement, placed
from fields3d.core.task import PyTree, State, Task
from fields3d.training.optim import Optimiser, check_parts, path_of
from fields3d.training.step import check_groups, init_state, make_step

# {a part of the path: the axis that is cut over "model"}. A hash table is (levels, features, rows): it is cut by rows,
# which any model axis divides; by levels, table=0, sends as much and computes less, where the model axis divides them.
# The codes of an auto-decoder (shapes, dim) are cut by shapes.
HASH_TABLE = "encoding/table"
RULES = types.MappingProxyType({"table": 2, "codes": 0})


@dataclasses.dataclass(frozen=True)
class Sharding:
  """The section `train.sharding` of a config: what is cut over which axis of the mesh.

  mode: replicated (data parallel: what no rule names is on every device); fsdp (large leaves are cut over the data axis,
    parameters, moments and averages alike; parameters are gathered for the losses only); pmap (the legacy spelling of
    replicated: jax's own pmap has been jit and shard_map since 0.8, and it is the same program here).
  rules: {part of a path: axis cut over the model axis}, None for RULES; a leaf whose axis the model axis does not divide stays whole.
  fsdp_above: entries from which a leaf is cut under fsdp.
  sent: what leaves cut over data are gathered in, and hash tables' gradients summed in. bfloat16 halves these
    messages; parameters, moments, gradients on a device and the update stay float32.
  """
  mode: Literal["replicated", "fsdp", "pmap"] = "replicated"
  rules: Mapping[str, int] | None = None
  fsdp_above: Count = 2 ** 14
  sent: Literal["float32", "bfloat16"] = "float32"

  @property
  def axes(self) -> Mapping[str, int]:
    """The rules in force."""
    return RULES if self.rules is None else self.rules


def make_mesh(model: int = 1, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
  """A mesh of all devices, `model` of them along the model axis and the others along data.

  Process after process, so that each makes rows of the batch that lie side by side: by their places in a TPU's torus, as
  `jax.make_mesh` has them, the chips of a host (2 x 2) do not.

  Raises:
    UsageFault: the number of devices is not a multiple of `model`.
  """
  devices = sorted(jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id))
  if len(devices) % model:
    raise UsageFault("--config.train.model_parallel", f"{model} does not divide the {len(devices)} devices",
                     "give a divisor of the number of devices")
  return jax.sharding.Mesh(np.array(devices).reshape(-1, model), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))


def state_shardings(shapes: PyTree, mesh: jax.sharding.Mesh, settings: Sharding = Sharding()) -> PyTree:
  """The sharding of each leaf of a state (parameters, averages and optimiser moments alike, by path and shape).

  A leaf that a rule names is cut over the model axis; under fsdp every other large leaf over the data axis, along the
  largest dimension that it divides (the first of equals); all others are replicated.
  """
  model, data = mesh.shape["model"], mesh.shape["data"]

  def of(path, leaf):
    parts, shape = path_of(path).split("/"), leaf.shape
    for part, axis in settings.axes.items() if model > 1 else ():
      if part in parts and 0 <= axis < len(shape) and shape[axis] % model == 0:
        return NamedSharding(mesh, P(*(None,) * axis, "model"))
    fits = [axis for axis, size in enumerate(shape) if size % data == 0]
    if settings.mode == "fsdp" and data > 1 and fits and math.prod(shape) >= settings.fsdp_above:
      axis = max(fits, key=lambda axis: shape[axis])
      return NamedSharding(mesh, P(*(None,) * axis, "data"))
    return NamedSharding(mesh, P())

  return jax.tree_util.tree_map_with_path(of, shapes)


def sharded_step(task: Task, optimisers: Mapping[str, Optimiser], mesh: jax.sharding.Mesh, settings: Sharding = Sharding(),
                 accumulate: int = 1) -> tuple[Callable, State]:
  """The jitted step of a task on a mesh, which takes over its state's memory, and the state that it is for.

  Returns:
    step: (state, batch) -> (state, metrics) of `step.make_step`. state: shapes, dtypes and shardings of all leaves.

  Raises:
    UsageFault: a group has no optimiser, or an optimiser names what the group has not.
  """
  check_groups(task, optimisers)
  shapes = jax.eval_shape(lambda key: init_state(task, optimisers, key), jax.random.key(0))
  for group, optimiser in optimisers.items():
    check_parts(group, optimiser, shapes.params[group])
  places = state_shardings(shapes, mesh, settings)
  plain = make_step(task, optimisers, accumulate, gathers(places.params, settings.sent))

  def step(state, batch):
    with placed(Placement(mesh, settings.axes.get("table"))):
      return plain(state, batch)

  state = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, places)
  return jax.jit(step, donate_argnums=0, out_shardings=(places, None)), state


def gathers(places: PyTree, sent: str = "float32") -> tuple[Callable[[str, PyTree], PyTree], Callable[[str, PyTree], PyTree]]:
  """How a step reads hash tables and parameters that are cut over data, and where it leaves their gradients.

  Without these constraints the compiler may cut activations by the parameters' dimension, and then gather the batch
  instead ("Involuntary full rematerialization").

  Args:
    places: {group: the shardings of its parameters}, from `state_shardings`. sent: see `Sharding`.

  Returns:
    gather: (group, parameters) -> the same, whole along data, hash tables as copies. scatter: (group, gradients) -> the
    same, cut again.
  """
  by_path = lambda table, other: lambda group, tree: jax.tree_util.tree_map_with_path(
      lambda path, a, s: (table if path_of(path).endswith(HASH_TABLE) else other)(a, s), tree, places[group])
  return by_path(functools.partial(_copies, sent), functools.partial(_whole, sent)), by_path(
      functools.partial(_summed, sent), lambda g, s: jax.lax.with_sharding_constraint(g, s) if "data" in s.spec else g)


def _whole(sent: str, a: jax.Array, s: NamedSharding) -> jax.Array:
  """A leaf that is cut over data, gathered by the compiler; all others are the compiler's."""
  if "data" not in s.spec:
    return a
  cut = jax.lax.with_sharding_constraint(a.astype(sent), s)  # rounded before it travels
  return jax.lax.with_sharding_constraint(cut, NamedSharding(s.mesh, P(*_but_data(s)))).astype(a.dtype)


def _but_data(s: NamedSharding) -> list[str | None]:
  return [None if axis == "data" else axis for axis in s.spec]


def _copies(sent: str, table: jax.Array, s: NamedSharding) -> jax.Array:
  """A hash table as a copy for each device along data, (devices, *shape): what `encodings.hashgrid` wants on a mesh."""
  if s.mesh.size == 1:
    return table

  def copy(a):
    if "data" not in s.spec:
      return jax.lax.pcast(a, "data", to="varying")[None]
    return jax.lax.all_gather(a.astype(sent), "data", axis=s.spec.index("data"), tiled=True).astype(a.dtype)[None]

  return jax.shard_map(copy, mesh=s.mesh, in_specs=s.spec, out_specs=P("data", *_but_data(s)))(table)


def _summed(sent: str, grads: jax.Array, s: NamedSharding) -> jax.Array:
  """The sum of the gradients of a hash table's copies, cut as the table is: one message."""
  if s.mesh.size == 1:
    return grads

  def add(g):
    if "data" not in s.spec:
      return jax.lax.psum(g[0].astype(sent), "data").astype(g.dtype)
    axis = s.spec.index("data")
    return jax.lax.psum_scatter(g[0].astype(sent), "data", scatter_dimension=axis, tiled=True).astype(g.dtype)

  return jax.shard_map(add, mesh=s.mesh, in_specs=P("data", *_but_data(s)), out_specs=s.spec)(grads)


def check_rows(rows: int, mesh: jax.sharding.Mesh, accumulate: int) -> None:
  """The batch's rows must divide over microbatches, processes and the data axis."""
  parts = accumulate * mesh.shape["data"]
  if rows % parts:
    raise UsageFault("--config.data", f"batches of {rows} (rows, draws.rows or draws.pixels) do not divide over {mesh.shape['data']} "
                     f"devices x {accumulate} microbatches", f"give a multiple of {parts}")


def own_rows(mesh: jax.sharding.Mesh) -> tuple[int, int]:
  """Which shard of how many this process makes of each batch: the part of the data axis that its devices stand on.

  Processes that share a part, because the model axis runs across them, make the same rows.

  Raises:
    UsageFault: this process's devices stand on no whole part of the data axis.
  """
  here = [row for row, devices in enumerate(mesh.devices) if any(d.process_index == jax.process_index() for d in devices)]
  size, data = len(here), mesh.shape["data"]
  if here != list(range(here[0], here[0] + size)) or data % size or here[0] % size:
    raise UsageFault("--config.train.model_parallel", f"{mesh.shape['model']} leaves this process rows {here} of {data}, no "
                     "whole part of the batch", "give a divisor or a multiple of a process's devices")
  return here[0] // size, data // size


def put_batch(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """This process's rows of a batch as global arrays, cut over the data axis."""
  sharding = NamedSharding(mesh, P("data"))
  return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
