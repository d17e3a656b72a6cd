"""Optimisers: one per parameter group, as optax transformations built from a config section."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from fields3d.core.config import Fraction, NonNegative, Positive, Range, Table
from fields3d.core.errors import UsageFault, nearest
from fields3d.core.schedules import Curriculum, Rate, Schedule, as_schedule
from fields3d.core.task import PyTree

Decay = Annotated[float, Range(ge=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class Optimiser:
  """What one group is trained with.

  transform: gradient -> update; where there are learning rates, the last of its chain is `scale_by_schedules`.
  ema: decay of the averaged copy of the parameters, None for no copy.
  learning_rates: {"lr" or "lr/<path part>": schedule}, for the log.
  parts: (setting, path part) of each part that the settings name.
  """
  transform: optax.GradientTransformation
  ema: float | None
  learning_rates: Mapping[str, Schedule]
  parts: tuple[tuple[str, str], ...] = ()


def path_of(path: tuple) -> str:
  """A pytree path as text, parts joined by slashes: 'field/decoder/layer_0/kernel'."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def check_parts(group: str, optimiser: Optimiser, params: PyTree) -> None:
  """Every part that a group's learning_rates and decay name is part of a path of its parameters, or a fault that names it."""
  known = {part for path, _ in jax.tree_util.tree_leaves_with_path(params) for part in path_of(path).split("/")}
  for setting, part in optimiser.parts:
    if part not in known:
      raise UsageFault(f"--config.optim.{group}.{setting}", f"no parameter has the part {part!r}", nearest(part, known))


def scale_by_schedules(default: Schedule, by_path: Mapping[str, Schedule]) -> optax.GradientTransformation:
  """Multiplies each leaf's update by minus its learning rate.

  by_path: {part: schedule}; a leaf whose path has that part (a whole name, as "codes") takes that schedule, the
  first that fits; all others take `default`. A rate of 0 freezes the leaf.
  """
  def init(params):
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params=None):
    del params
    rates = {part: schedule(state.count) for part, schedule in by_path.items()}
    rest = default(state.count)

    def scale(path, leaf):
      parts = path_of(path).split("/")
      rate = next((rates[part] for part in rates if part in parts), rest)
      return -jnp.asarray(rate, leaf.dtype) * leaf

    scaled = jax.tree_util.tree_map_with_path(scale, updates)
    return scaled, optax.ScaleByScheduleState(count=state.count + 1)

  return optax.GradientTransformation(init, update)


def _optimiser(core: optax.GradientTransformation, learning_rate: Schedule, learning_rates: Mapping[str, Schedule] | None,
               clip_norm: float | None, weight_decay: float, decay: tuple[str, ...], ema: float | None) -> Optimiser:
  learning_rate = as_schedule(learning_rate)
  by_path = {part: as_schedule(rate) for part, rate in (learning_rates or {}).items()}

  def decayed(params: PyTree) -> PyTree:
    fits = lambda path, _: not decay or any(part in path_of(path).split("/") for part in decay)
    return jax.tree_util.tree_map_with_path(fits, params)

  chain = [optax.clip_by_global_norm(clip_norm)] if clip_norm is not None else []
  chain.append(core)
  if weight_decay:
    chain.append(optax.add_decayed_weights(weight_decay, mask=decayed))
  chain.append(scale_by_schedules(learning_rate, by_path))
  named = {"lr": learning_rate, **{f"lr/{part}": schedule for part, schedule in by_path.items()}}
  parts = (*((f"learning_rates.{part}", part) for part in by_path), *(("decay", part) for part in decay))
  return Optimiser(optax.chain(*chain), ema, named, parts)


def adam(learning_rate: Rate = 1e-3, learning_rates: Curriculum | None = None, b1: Decay = 0.9,
         b2: Decay = 0.999, eps: Positive = 1e-8, clip_norm: Positive | None = None, weight_decay: NonNegative = 0.0,
         decay: tuple[str, ...] = (), ema: Fraction | None = None) -> Optimiser:
  """Adam, decoupled weight decay (AdamW where weight_decay > 0), per-path learning rates, EMA of the parameters.

  Args:
    learning_rate: number or schedule section, per update: microbatches do not count, nor do steps at which the group is left
      as it is (critic_steps, a gate, a value that is not finite).
    learning_rates: {path part: number or schedule}, as {"codes": 1e-3}; 0 freezes.
    clip_norm: global norm of the group's gradient, None for no clipping.
    weight_decay: decoupled, times the learning rate; `decay` limits it to paths with one of these parts. It wears parameters
      whose gradient is always 0 too.
    ema: decay of the averaged parameters that predictions use; warmed up as min(ema, (1 + step) / (10 + step)).

  Source: Kingma & Ba 2015; Loshchilov & Hutter 2019.
  """
  return _optimiser(optax.scale_by_adam(b1, b2, eps), learning_rate, learning_rates, clip_norm, weight_decay, decay, ema)


def sgd(learning_rate: Rate = 1e-2, learning_rates: Curriculum | None = None, momentum: Decay = 0.0,
        clip_norm: Positive | None = None, weight_decay: NonNegative = 0.0, decay: tuple[str, ...] = (),
        ema: Fraction | None = None) -> Optimiser:
  """Gradient descent with momentum; arguments as in `adam`."""
  core = optax.trace(momentum) if momentum else optax.identity()
  return _optimiser(core, learning_rate, learning_rates, clip_norm, weight_decay, decay, ema)


def lion(learning_rate: Rate = 1e-4, learning_rates: Curriculum | None = None, b1: Decay = 0.9,
         b2: Decay = 0.99, clip_norm: Positive | None = None, weight_decay: NonNegative = 0.0,
         decay: tuple[str, ...] = (), ema: Fraction | None = None) -> Optimiser:
  """Lion (Chen et al. 2023): the sign of an interpolated momentum; arguments as in `adam`."""
  return _optimiser(optax.scale_by_lion(b1, b2), learning_rate, learning_rates, clip_norm, weight_decay, decay, ema)


OPTIMISERS: Table = {"adam": adam, "sgd": sgd, "lion": lion}
