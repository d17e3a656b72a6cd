"""The contract: a task is four functions; a state is all that a checkpoint holds.

The names in `Task.predict`, over all tasks (an evaluator or command asks for one by name):

  code(params, extra, index) -> z                  the fitted latent code of training shape `index`, (d,)
  sdf(params, extra, x, z) -> (n,)                 signed distance at x (n, 3), negative inside
  color(params, extra, x, z) -> (n, 3)             sRGB in [0, 1]
  reconstruct(params, extra, x, sdf, key) -> z     the code of an unseen shape from samples x (n, 3), sdf (n,)
  interpolate(params, extra, za, zb, t) -> z       between two codes, t in [0, 1]
  sample(params, extra, key, num) -> (num, d)      new codes from the fitted distribution (num is static)
  latents(params, extra, batch, key) -> (rows, *z) the clean codes of a batch's rows: what a prior over this task learns
  encode(params, extra, points, key) -> z          the code of a cloud of points (n, 3) on a surface
  points(params, extra, z, key) -> (n, 3)          points of the shape of code z, on its surface; drawn by the key, or fixed
  sample_label(params, extra, key, label, num) -> (num, *z)   draws of one class (num is static)
  complete(params, extra, points, key, num) -> (num, *z)      draws that fit a partial scan (n, 3) (num is static)
  render(params, extra, rays) -> {"rgb" (n, 3), "opacity" (n,), "depth" (n,), "normal" (n, 3) if known}
                                                   what rays (`core.types.Rays`, n) see, over the task's background; depth is
                                                   the expected t, of the seen part
  render_code(params, extra, z, rays) -> as render   what rays see of the shape of one code z
  image_code(params, extra, rays, rgb, alpha, key) -> z  the code of an unseen shape from n posed pixels of one to a few pictures:
                                                   rays (n), rgb (n, 3) premultiplied by alpha (n,)
  image(params, extra, z, pose) -> {"rgb" (h, w, 3), "opacity", "depth" (h, w)}  the picture of a code from pose (3, 4), at the
                                                   dataset's size and angle of view, over white
  density(params, extra, x, z) -> (n,)             absorption per unit of length at x, in 1 / unit of the model frame
  radiance(params, extra, x, d) -> (n, 3)          colour at x seen along unit directions d, sRGB in [0, 1]
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.core.types import Field

PyTree = Any


def keep(params: PyTree, extra: PyTree, batch: PyTree, key: jax.Array, step: jax.Array) -> PyTree:
  """The refresh that changes nothing."""
  del params, batch, key, step
  return extra


@dataclasses.dataclass(frozen=True)
class Task:
  """An algorithm: what is learned, by which losses, and what can be asked of it.

  init: (key) -> (params: {group: pytree}, extra: pytree without gradients).
  losses: {group: (params, extra, batch, key, step) -> (loss, {name: scalar})}. Each loss differentiates its own
    group only, in this order, each seeing the groups updated before it; a group without a loss is frozen. For a scalar
    called "update" that is not above 0, as the mean over the step's microbatches, the group and its optimiser stay as they are
    for this step: critics that rest, generators that wait for their critic.
  predict: {name: (params, extra, ...) -> output}; names above.
  refresh: (params, extra, batch, key, step) -> extra, after the updates, without gradients.
  """
  init: Callable
  losses: Mapping[str, Callable]
  predict: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
  refresh: Callable = keep


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """Everything that a run is, as one pytree.

  step: int32 scalar, updates done. key: the run's PRNG key; a step uses fold_in(key, step).
  params: {group: pytree}. ema: {group: pytree} for the groups that keep an average. opt: {group: optimiser state}.
  extra: the task's own arrays without gradients.
  """
  step: jax.Array
  key: jax.Array
  params: PyTree
  ema: PyTree
  opt: PyTree
  extra: PyTree


def averaged(state: State) -> PyTree:
  """The parameters to predict with: the average where a group keeps one, else the last."""
  return {**state.params, **state.ema}


def bind(task: Task, state: State) -> dict[str, Callable]:
  """The predict functions with parameters and extra filled in and jitted."""
  params = averaged(state)
  static = {"sample": (3,), "sample_label": (4,), "complete": (4,)}  # num

  def close(name, fn):
    jitted = jax.jit(fn, static_argnums=static.get(name, ()))
    return lambda *arguments: jitted(params, state.extra, *arguments)

  return {name: close(name, fn) for name, fn in task.predict.items()}


def lookup(predict: Mapping[str, Callable], name: str, asker: str) -> Callable:
  """The predict function of that name, or a fault that lists the right ones.

  >>> lookup({"sdf": len}, "sfd", "evals.geometry.pred")
  Traceback (most recent call last):
  ...
  fields3d.core.errors.UsageFault: evals.geometry.pred: the task predicts no 'sfd'; did you mean 'sdf'?
  """
  if name not in predict:
    raise UsageFault(asker, f"the task predicts no {name!r}", nearest(name, predict))
  return predict[name]


def require(given: Mapping[str, Any], names: Sequence[str], what: str, remedy: str) -> None:
  """A fault where batches, or a dataset's facts, lack what a task reads.

  Args:
    what: "the batches have" or the like. remedy: which data have it.

  >>> require({"rgb": 0}, ("rgb", "pose"), "the batches have", "use pictures of shapes")
  Traceback (most recent call last):
  ...
  fields3d.core.errors.UsageFault: --config.data: the batches have no pose; use pictures of shapes
  """
  if missing := [name for name in names if name not in given]:
    raise UsageFault("--config.data", f"{what} no {', '.join(missing)}", remedy)


def field_of(predict: Mapping[str, Callable], z: jax.Array, info: Mapping[str, Any], pred: str = "sdf",
             asker: str = "field") -> Field:
  """The field of one code: the bound function `pred` (and "color" where there is one) at z.

  info: a dataset's facts; its "bounds" (2, 3), where given, say where the field means something, else [-1, 1]^3.
  asker: who wants it, for the message.

  Raises:
    UsageFault: the task predicts no `pred`.
  """
  if pred == "sdf" and pred not in predict and "points" in predict:
    raise UsageFault(asker, "the run draws clouds of points and no surfaces",
                     "evaluate and sample take --surfaces RUN, as experiments/classic/point_surfaces.py trains one")
  fn, color = lookup(predict, pred, asker), predict.get("color")
  bounds = np.asarray(info.get("bounds", ((-1.0,) * 3, (1.0,) * 3)), np.float64)
  return Field(lambda x: fn(x, z), bounds, None if color is None else lambda x: color(x, z))
