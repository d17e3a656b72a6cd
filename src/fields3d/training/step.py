"""One step for every task: each loss updates its own group, a non-finite step changes nothing."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from fields3d.core.errors import UsageFault, nearest
from fields3d.core.task import PyTree, State, Task
from fields3d.training.optim import Optimiser


def init_state(task: Task, optimisers: Mapping[str, Optimiser], key: jax.Array) -> State:
  """The state before the first step. Pure: jit it with out_shardings to build it in place."""
  init_key, run_key = jax.random.split(key)
  params, extra = task.init(init_key)
  opt = {group: optimisers[group].transform.init(params[group]) for group in task.losses}
  ema = {group: params[group] for group in task.losses if optimisers[group].ema is not None}
  return State(jnp.zeros((), jnp.int32), run_key, params, ema, opt, extra)


def check_groups(task: Task, optimisers: Mapping[str, Optimiser]) -> None:
  """Every loss has its optimiser and every optimiser its loss, or a fault that names the group."""
  for group in task.losses:
    if group not in optimisers:
      raise UsageFault(f"--config.optim.{group}", "is not set", "the task has a loss for this group: give it an optimiser")
  for group in optimisers:
    if group not in task.losses:
      raise UsageFault(f"--config.optim.{group}", "the task has no such group", nearest(group, task.losses))


def make_step(task: Task, optimisers: Mapping[str, Optimiser], accumulate: int = 1, gathers: tuple[Callable, Callable] =
              (lambda group, tree: tree,) * 2) -> Callable:
  """The update of a state by one batch, pure and jittable.

  The groups are updated in the order of `task.losses`, each loss differentiated by its own group alone and seeing
  the groups updated before it; then `refresh`. If any loss, gradient or refreshed value is not finite the whole
  step is skipped (the state keeps all but its step number) and the metric "skipped" is 1.

  Args:
    accumulate: microbatches a step: the rows of the batch are dealt into as many equal parts, whose gradients are
      averaged. Exact for losses that are means over rows.
    gathers: (group, parameters) -> parameters as the losses read them, (group, gradients) -> gradients as the
      optimiser wants them: same values, other places (`sharding.gathers`).

  Returns:
    (state, batch) -> (state, metrics): "loss" (summed over groups), "<group>/loss", "<group>/grad_norm",
    "<group>/lr...", "<group>/<scalar>" of the loss's own scalars, "skipped".
  """
  check_groups(task, optimisers)
  gather, scatter = gathers

  def step(state: State, batch: PyTree) -> tuple[State, dict[str, jax.Array]]:
    key = jax.random.fold_in(state.key, state.step)
    params, opt, metrics, total = dict(state.params), dict(state.opt), {}, 0.0
    for i, (group, loss) in enumerate(task.losses.items()):
      read = {name: gather(name, tree) for name, tree in params.items()}
      grads, value, scalars = _gradient(loss, group, read, state, batch, jax.random.fold_in(key, i), accumulate)
      grads = scatter(group, grads)
      rates = {name: rate(opt[group][-1].count) for name, rate in optimisers[group].learning_rates.items()}
      updates, moments = optimisers[group].transform.update(grads, opt[group], params[group])
      new = optax.apply_updates(params[group], updates), moments
      if "update" in scalars:
        chosen = scalars["update"] > 0
        new, scalars = _where(chosen, new, (params[group], opt[group])), {**scalars, "update": chosen.astype(jnp.float32)}
      params[group], opt[group] = new
      total = total + value
      scalars = {**scalars, "loss": value, "grad_norm": optax.tree.norm(grads), **rates}
      metrics.update({f"{group}/{name}": scalar for name, scalar in scalars.items()})
    read = {name: gather(name, tree) for name, tree in params.items()}
    extra = task.refresh(read, state.extra, batch, jax.random.fold_in(key, len(task.losses)), state.step)
    ema = {group: _average(optimisers[group].ema, state.step, old, params[group]) for group, old in state.ema.items()}
    new = State(state.step + 1, state.key, params, ema, opt, extra)
    finite = jnp.isfinite(total) & all_finite(params) & all_finite(extra)
    for group in task.losses:
      finite &= jnp.isfinite(metrics[f"{group}/grad_norm"])
    kept = State(state.step + 1, state.key, state.params, state.ema, state.opt, state.extra)
    return _where(finite, new, kept), {"loss": total, **metrics, "skipped": 1.0 - finite.astype(jnp.float32)}

  return step


def _gradient(loss: Callable, group: str, params: PyTree, state: State, batch: PyTree, key: jax.Array,
              accumulate: int) -> tuple[PyTree, jax.Array, dict]:
  """Gradient by one group, loss and scalars, averaged over microbatches."""
  def of_group(own, part, part_key):
    return loss({**params, group: own}, state.extra, part, part_key, state.step)

  grad = jax.value_and_grad(of_group, has_aux=True)
  if accumulate == 1:
    (value, scalars), grads = grad(params[group], batch, key)
    return grads, value, scalars
  # Every accumulate-th row makes a microbatch, so that each device cuts up its own rows and none travel.
  parts = jax.tree.map(lambda a: a.reshape(-1, accumulate, *a.shape[1:]).swapaxes(0, 1), batch)
  indexed = (parts, jax.random.split(key, accumulate))
  shapes = jax.eval_shape(grad, params[group], jax.tree.map(lambda a: a[0], parts), key)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  add = lambda total, part: (jax.tree.map(jnp.add, total, grad(params[group], *part)), None)
  total, _ = jax.lax.scan(add, zeros, indexed)
  (value, scalars), grads = jax.tree.map(lambda a: a / accumulate, total)
  return grads, value, scalars


def _where(chosen: jax.Array, a: PyTree, b: PyTree) -> PyTree:
  """Of two trees alike, a where `chosen` holds, else b."""
  return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), a, b)


def _average(decay: float, step: jax.Array, old: PyTree, new: PyTree) -> PyTree:
  """Exponential moving average, warmed up: min(decay, (1 + step) / (10 + step))."""
  rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
  return jax.tree.map(lambda a, b: (rate * a + (1 - rate) * b).astype(a.dtype), old, new)


def all_finite(tree: PyTree) -> jax.Array:
  """Whether every floating-point entry of a pytree is finite: a bool scalar.

  >>> bool(all_finite({"a": jnp.ones(2), "n": jnp.int32(1)}))
  True
  """
  floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
  return jnp.all(jnp.asarray([True, *(jnp.all(jnp.isfinite(leaf)) for leaf in floats)]))
