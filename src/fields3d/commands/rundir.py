"""A finished or running run, opened from its directory alone."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from fields3d.commands.experiment import apply_overrides, build_dataset, build_optimisers, build_task, read_run_config
from fields3d.core.errors import MissingInput
from fields3d.core.task import State, Task, bind
from fields3d.core.types import Dataset
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.step import init_state

Overrides = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Run:
  """A run's config, data, task and restored state, with its predict functions bound and jitted."""
  workdir: pathlib.Path
  config: dict
  dataset: Dataset
  task: Task
  state: State
  step: int
  predict: Mapping[str, Callable]


def open_run(workdir: str | pathlib.Path, step: int | None = None, overrides: Overrides = ()) -> Run:
  """Opens the run in `workdir` at its newest sound checkpoint, or at `step`.

  Only the state is restored, on the devices of this process.

  Args:
    overrides: settings other than those it was trained with, (path, text) each; the state must still fit.

  Raises:
    MissingInput: no run or no checkpoint there. BadData: no sound checkpoint. UsageFault: an override that is none.
  """
  return next(open_steps(workdir, [step], overrides))


def open_steps(workdir: str | pathlib.Path, wanted: Sequence[int | None], overrides: Overrides = ()) -> Iterator[Run]:
  """Yields the run at each of several steps: the same data and task, and programs compiled once. See `open_run`."""
  workdir = pathlib.Path(workdir)
  config = read_run_config(workdir)["config"]
  config = apply_overrides(config, overrides) if overrides else config
  dataset = build_dataset(config)
  task = build_task(config, dataset)
  optimisers = build_optimisers(config)
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = jax.eval_shape(lambda key: init_state(task, optimisers, key), jax.random.key(0))
  abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), shapes)
  for step in wanted:
    with Checkpoints(workdir / "checkpoints") as checkpoints:
      found = checkpoints.restore({"state": abstract}, step=step)
    if found is None:
      raise MissingInput(workdir / "checkpoints", "holds no finished checkpoint",
                         "let the train command reach its first")
    step, tree = found
    yield Run(workdir, config, dataset, task, tree["state"], step, bind(task, tree["state"]))
