"""What a compiled program costs before it runs: FLOPs, bytes, memory, parameters; on this device, or planned for a TPU."""

import dataclasses
import importlib.util
import math
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import SingleDeviceSharding

from fields3d.core.errors import Unavailable
from fields3d.core.task import State

_NO_TPU_HERE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
_FREE = frozenset("""reshape squeeze broadcast_in_dim transpose slice dynamic_slice dynamic_update_slice concatenate pad
gather rev iota convert_element_type bitcast_convert_type copy copy_p device_put stop_gradient split expand_dims
random_bits random_wrap random_unwrap random_seed random_fold_in random_split threefry2x32 optimization_barrier""".split())


@dataclasses.dataclass(frozen=True)
class Cost:
  """A program's cost.

  target: the kind of device it was compiled for.
  flops: floating-point operations of one call, counted in the program as written: 2 a multiply-add of a matrix product,
    1 for every number that anything else makes or reduces (a tanh too); moves are free; a scan counts as often as it
    runs. open_loops: loops of unknown length, whose bodies count once: then flops is a lower bound.
  compiled_flops, compiled_bytes: XLA's cost analysis of the optimised program: operations, and bytes that its kernels
    read and write. The bodies of all loops count once.
  argument_bytes, output_bytes, temporary_bytes: XLA's memory plan; peak_bytes: their sum, what is aliased once.
  parameters: numbers of the arrays that the function closes over, or of the `params` of a `State` that it is given.
  compile_seconds: tracing and compiling.
  """
  target: str
  flops: float
  open_loops: int
  compiled_flops: float | None
  compiled_bytes: float | None
  argument_bytes: int
  output_bytes: int
  temporary_bytes: int
  peak_bytes: int
  parameters: int
  compile_seconds: float


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled function. call: (*args) -> output; its arguments' shapes are fixed."""
  call: Callable
  cost: Cost


def compile_program(fn: Callable, *args: Any, device: Any = None, donate: bool = False) -> Program:
  """Compiles a function ahead of its calls. Arrays that it closes over are passed as arguments, not baked in.

  Args:
    fn: jittable. args: arrays, or `jax.ShapeDtypeStruct`s to plan without data.
    device: to compile for; the default one when None. A planned device (`tpu_device`) cannot be called.
    donate: the first argument's memory is taken for the output, as training steps do; a call then ends that argument.

  >>> w = jax.numpy.ones((4, 8))
  >>> program = compile_program(lambda x: x @ w, jax.numpy.ones((2, 4)))
  >>> program.cost.flops, program.cost.parameters, program.call(jax.numpy.ones((2, 4))).shape
  (128.0, 32, (2, 8))
  """
  begin = time.perf_counter()
  closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
  tree = jax.tree.structure(shape)
  given = (closed.consts, jax.tree.leaves(args[:1]), jax.tree.leaves(args[1:]))

  def run(consts, first, rest):
    return jax.tree.unflatten(tree, jax.core.eval_jaxpr(closed.jaxpr, consts, *first, *rest))

  if device is not None:
    place = SingleDeviceSharding(device)
    given = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), given)
  compiled = jax.jit(run, donate_argnums=(1,) if donate else ()).lower(*given).compile()
  seconds = time.perf_counter() - begin
  flops, loops = count_flops(closed.jaxpr)
  target = jax.local_devices()[0] if device is None else device
  model = [arg.params for arg in args if isinstance(arg, State)] or closed.consts
  parameters = sum(int(np.size(array)) for array in jax.tree.leaves(model))
  return Program(lambda *new: compiled(closed.consts, jax.tree.leaves(new[:1]), jax.tree.leaves(new[1:])),
                 _cost(compiled, target.device_kind, flops, loops, parameters, seconds))


def _cost(compiled: Any, target: str, flops: float, loops: int, parameters: int, seconds: float) -> Cost:
  found, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
  found = found[0] if isinstance(found, list) else found
  sizes = [int(getattr(memory, f"{kind}_size_in_bytes")) for kind in ("argument", "output", "temp", "alias")]
  return Cost(target, float(flops), loops, found.get("flops"), found.get("bytes accessed"), *sizes[:3],
              sum(sizes[:3]) - sizes[3], parameters, seconds)


def tpu_device(topology: str = "v5e:2x2") -> Any:
  """A device of a TPU that need not be there, to compile for.

  Raises:
    Unavailable: libtpu is not installed, or knows no such topology.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise Unavailable("TPU", "not planned: no libtpu", "pip install 'fields3d[tpu]'")
  for name, value in _NO_TPU_HERE.items():
    os.environ.setdefault(name, value)
  try:
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
  except Exception as error:  # whatever libtpu says
    raise Unavailable("TPU", f"not planned: {str(error).splitlines()[0][:120]}", "see jax.experimental.topologies") from error


def count_flops(jaxpr: Any) -> tuple[float, int]:
  """(FLOPs, loops of unknown length) of a program as written; see `Cost.flops`. The dearest branch of a condition counts.

  >>> body = lambda c, _: (c @ c, None)
  >>> program = jax.make_jaxpr(lambda x: jax.lax.scan(body, x, None, length=10)[0])(jax.numpy.ones((4, 4)))
  >>> count_flops(program.jaxpr)
  (1280, 0)
  """
  total, loops = 0, 0
  for eqn in jaxpr.eqns:
    name, inner = eqn.primitive.name, [count_flops(sub) for sub in _inner(eqn)]
    if name == "cond":
      flops, open_loops = max(inner)
    elif inner:
      times = eqn.params["length"] if name == "scan" else _grid(eqn) if name == "pallas_call" else 1
      flops, open_loops = times * sum(f for f, _ in inner), sum(n for _, n in inner) + (name == "while")
    else:
      flops, open_loops = _own_flops(name, eqn), 0
    total, loops = total + flops, loops + open_loops
  return total, loops


def _own_flops(name: str, eqn: Any) -> int:
  """The operations of one primitive without a body."""
  made = sum(math.prod(out.aval.shape) for out in eqn.outvars)
  if name == "dot_general":
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return 2 * made * math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
  if name == "conv_general_dilated":
    numbers, kernel = eqn.params["dimension_numbers"], eqn.invars[1].aval.shape
    return 2 * made * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
  floating = [v for v in (*eqn.invars, *eqn.outvars) if jax.numpy.issubdtype(v.aval.dtype, jax.numpy.inexact)]
  if name in _FREE or not floating:
    return 0
  if name.startswith(("reduce_", "scatter")):
    return math.prod(eqn.invars[0 if name.startswith("reduce_") else 2].aval.shape)
  return made


def _inner(eqn: Any) -> list:
  """The programs that a primitive holds: of a scan, a loop, a condition, a call."""
  found = []
  for value in eqn.params.values():
    for part in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(part, ClosedJaxpr):
        part = part.jaxpr
      if isinstance(part, Jaxpr):
        found.append(part)
  return found


def _grid(eqn: Any) -> int:
  """How often a kernel's body runs."""
  return math.prod(eqn.params["grid_mapping"].grid)
