"""Where arrays live: one (data, model) mesh, the batch over data, large tables over model, the rest by the mode.

The compiler inserts the collectives (jit + NamedSharding). Axis types are explicitly Auto: jax's default since 0.9
refuses ordinary gathers.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fields3d.core.config import Count
from fields3d.core.errors import UsageFault
from fields3d.core.task import PyTree
from fields3d.training.optim import path_of

# {a part of the path: the axis that is cut over "model"}. A hash table is (levels, features, rows): it is cut by rows,
# since levels are scanned over; the codes of an auto-decoder (shapes, dim) by shapes.
RULES = types.MappingProxyType({"table": 2, "codes": 0})


@dataclasses.dataclass(frozen=True)
class Sharding:
  """The section `train.sharding` of a config: what is cut over which axis of the mesh.

  mode: replicated (data parallel: what no rule names is on every device); fsdp (large leaves are cut over the data axis,
    parameters, moments and averages alike; parameters are gathered for the losses only); pmap (the legacy spelling of
    replicated: jax's own pmap has been jit and shard_map since 0.8, and it is the same program here).
  rules: {part of a path: axis cut over the model axis}; a leaf whose axis the model axis does not divide stays whole.
  fsdp_above: entries from which a leaf is cut under fsdp.
  """
  mode: Literal["replicated", "fsdp", "pmap"] = "replicated"
  rules: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(RULES))
  fsdp_above: Count = 2 ** 14


def make_mesh(model: int = 1) -> jax.sharding.Mesh:
  """A mesh of all devices, `model` of them along the model axis and the others along data.

  Raises:
    UsageFault: the number of devices is not a multiple of `model`.
  """
  count = jax.device_count()
  if count % model:
    raise UsageFault("--config.train.model_parallel", f"{model} does not divide the {count} devices",
                     "give a divisor of the number of devices")
  return jax.make_mesh((count // model, model), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))


def state_shardings(shapes: PyTree, mesh: jax.sharding.Mesh, settings: Sharding = Sharding()) -> PyTree:
  """The sharding of each leaf of a state (parameters, averages and optimiser moments alike, by path and shape).

  A leaf that a rule names is cut over the model axis; under fsdp every other large leaf over the data axis, along the
  largest dimension that it divides (the first of equals); all others are replicated.
  """
  model, data = mesh.shape["model"], mesh.shape["data"]

  def of(path, leaf):
    parts, shape = path_of(path).split("/"), leaf.shape
    for part, axis in settings.rules.items() if model > 1 else ():
      if part in parts and 0 <= axis < len(shape) and shape[axis] % model == 0:
        return NamedSharding(mesh, P(*(None,) * axis, "model"))
    fits = [axis for axis, size in enumerate(shape) if size % data == 0]
    if settings.mode == "fsdp" and data > 1 and fits and math.prod(shape) >= settings.fsdp_above:
      axis = max(fits, key=lambda axis: shape[axis])
      return NamedSharding(mesh, P(*(None,) * axis, "data"))
    return NamedSharding(mesh, P())

  return jax.tree_util.tree_map_with_path(of, shapes)


def gathers(places: PyTree) -> tuple[Callable[[str, PyTree], PyTree], Callable[[str, PyTree], PyTree]]:
  """How a step reads parameters that are cut over data, and where it leaves their gradients.

  Without these constraints the compiler may cut activations by the parameters' dimension, and then gather the batch
  instead ("Involuntary full rematerialization").

  Args:
    places: {group: the shardings of its parameters}, from `state_shardings`.

  Returns:
    gather: (group, parameters) -> the same, whole along data. scatter: (group, gradients) -> the same, cut again.
  """
  def gather(group, tree):
    whole = lambda s: NamedSharding(s.mesh, P(*(None if axis == "data" else axis for axis in s.spec)))
    return _constrain(tree, places[group], whole)

  return gather, lambda group, tree: _constrain(tree, places[group], lambda s: s)


def _constrain(tree: PyTree, places: PyTree, place: Callable[[NamedSharding], NamedSharding]) -> PyTree:
  """Constrains the leaves that are cut over data; all others are the compiler's."""
  one = lambda a, s: jax.lax.with_sharding_constraint(a, place(s)) if "data" in s.spec else a
  return jax.tree.map(one, tree, places)


def check_rows(rows: int, mesh: jax.sharding.Mesh, accumulate: int) -> None:
  """The batch's rows must divide over microbatches, processes and the data axis."""
  parts = accumulate * mesh.shape["data"]
  if rows % parts:
    raise UsageFault("--config.data.rows", f"{rows} rows do not divide over {mesh.shape['data']} devices x "
                     f"{accumulate} microbatches", f"give a multiple of {parts}")


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
