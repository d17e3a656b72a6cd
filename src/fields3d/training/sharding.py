"""Where arrays live: one (data, model) mesh, the batch over data, large tables over model, the rest everywhere.

The compiler inserts the collectives (jit + NamedSharding). Axis types are explicitly Auto: jax's default since 0.9
refuses ordinary gathers.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fields3d.core.errors import UsageFault
from fields3d.core.task import PyTree
from fields3d.training.optim import path_of

# (a part of the path, the axes that may be cut over "model", best first). A hash table is (levels, features, rows):
# it is cut by rows, since levels are scanned over; the codes of an auto-decoder (shapes, dim) by shapes.
RULES = (("table", (2,)), ("codes", (0,)))


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


def state_shardings(shapes: PyTree, mesh: jax.sharding.Mesh, rules=RULES) -> PyTree:
  """The sharding of each leaf of a state (parameters, averages and optimiser moments alike, by their path).

  A leaf that a rule names is cut over the model axis along the rule's first axis that the axis size divides; every
  other leaf is replicated.
  """
  size = mesh.shape["model"]

  def of(path, leaf):
    parts = path_of(path).split("/")
    for part, axes in rules if size > 1 else ():
      for axis in axes if part in parts else ():
        if axis < len(leaf.shape) and leaf.shape[axis] % size == 0:
          return NamedSharding(mesh, P(*(None,) * axis, "model"))
    return NamedSharding(mesh, P())

  return jax.tree_util.tree_map_with_path(of, shapes)


def check_rows(rows: int, mesh: jax.sharding.Mesh, accumulate: int) -> None:
  """The batch's rows must divide over microbatches, processes and the data axis."""
  parts = accumulate * mesh.shape["data"]
  if rows % parts:
    raise UsageFault("--config.data.rows", f"{rows} rows do not divide over {mesh.shape['data']} devices x "
                     f"{accumulate} microbatches", f"give a multiple of {parts}")


def put_batch(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """This process's rows of a batch as global arrays, cut over the data axis."""
  sharding = NamedSharding(mesh, P("data"))
  return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
