"""Functions of the step: learning rates, loss weights, noise levels, resolutions, active levels.

One kind of object for all of them: step (int array or int) -> float32 scalar, usable inside jit.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Annotated

import jax
import jax.numpy as jnp

from fields3d.core.config import From, Positive, Range, Table
from fields3d.core.errors import UsageFault

Schedule = Callable[[jax.Array | int], jax.Array]
LAST = 2 ** 31 - 1  # steps are int32
Step = Annotated[int, Range(ge=0, le=LAST)]
Steps = Annotated[int, Range(ge=1, le=LAST)]


def constant(value: float) -> Schedule:
  """The same value at every step.

  >>> float(constant(2.0)(7))
  2.0
  """
  return lambda step: jnp.full((), value, jnp.float32)


def linear(start: float, end: float, steps: Steps, begin: Step = 0) -> Schedule:
  """From `start` to `end` over `steps` steps after step `begin`, constant outside.

  >>> float(linear(0.0, 1.0, steps=10)(5))
  0.5
  """
  return lambda step: start + (end - start) * _progress(step, begin, steps)


def cosine(start: float, end: float, steps: Steps, warmup: Step = 0, begin: Step = 0) -> Schedule:
  """Half a cosine from `start` to `end`; before it, `warmup` steps rising linearly from 0 to `start`.

  >>> round(float(cosine(1.0, 0.0, steps=10)(5)), 6)
  0.5
  """
  def at(step):
    falling = end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * _progress(step, begin + warmup, steps)))
    return falling * (_progress(step, begin - 1, warmup + 1) if warmup else 1.0)
  return at


def exponential(start: Positive, end: Positive, steps: Steps, warmup: Step = 0) -> Schedule:
  """From `start` to `end` by a constant factor a step, after `warmup` steps rising linearly.

  >>> round(float(exponential(1.0, 0.01, steps=2)(1)), 6)
  0.1
  """
  def at(step):
    falling = start * (end / start) ** _progress(step, warmup, steps)
    return falling * (_progress(step, -1, warmup + 1) if warmup else 1.0)
  return at


def staircase(value: float, factor: Positive, every: Steps) -> Schedule:
  """`value` times `factor` for each `every` steps done: DeepSDF's halving is factor 0.5 every 500 epochs.

  >>> [float(staircase(1.0, 0.5, every=10)(s)) for s in (9, 10, 25)]
  [1.0, 0.5, 0.25]
  """
  return lambda step: jnp.float32(value) * jnp.float32(factor) ** (jnp.asarray(step) // every).astype(jnp.float32)


def piecewise(values: tuple[float, ...], boundaries: tuple[Step, ...]) -> Schedule:
  """values[i] from boundaries[i-1] on: active hash levels, resolutions.

  Raises:
    UsageFault: not one value more than boundaries, or boundaries that do not ascend.

  >>> [float(piecewise((1.0, 2.0), (5,))(s)) for s in (4, 5)]
  [1.0, 2.0]
  """
  if len(values) != len(boundaries) + 1:
    raise UsageFault("piecewise.values", f"{len(values)} values have {len(boundaries)} boundaries between them",
                     "give one value more than boundaries")
  if any(a >= b for a, b in itertools.pairwise(boundaries)):
    raise UsageFault("piecewise.boundaries", f"{', '.join(map(str, boundaries))} do not ascend", "sort them, each once")
  table, edges = jnp.asarray(values, jnp.float32), jnp.asarray(boundaries, jnp.int32)
  return lambda step: table[jnp.searchsorted(edges, jnp.asarray(step, jnp.int32), side="right")]


def _progress(step, begin: int, steps: int) -> jax.Array:
  return jnp.clip((jnp.asarray(step, jnp.float32) - float(begin)) / float(steps), 0.0, 1.0)


SCHEDULES: Table = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
    "staircase": staircase,
    "piecewise": piecewise,
}

# Parameters of factories: a schedule of numbers >= 0, or several by name. A bare number means a constant.
Rate = Annotated[Schedule, From(SCHEDULES, number="constant", holds=Range(ge=0))]
Curriculum = Annotated[Mapping[str, Schedule], From(SCHEDULES, each=True, number="constant", holds=Range(ge=0))]


def as_schedule(value: Schedule | float) -> Schedule:
  """A schedule as it is, a number as a constant.

  >>> float(as_schedule(0.5)(3))
  0.5
  """
  return value if callable(value) else constant(value)


def at(curriculum: Mapping[str, Schedule], step: jax.Array) -> dict[str, jax.Array]:
  """Every value of a curriculum at a step.

  >>> {k: float(v) for k, v in at({"eikonal": constant(0.1)}, 3).items()}["eikonal"] > 0
  True
  """
  return {name: schedule(step) for name, schedule in curriculum.items()}
