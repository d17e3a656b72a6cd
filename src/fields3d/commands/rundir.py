"""A finished or running run, opened from its directory alone."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from fields3d.commands.experiment import apply_overrides, build_dataset, build_optimisers, build_task, read_run_config
from fields3d.core.errors import MissingInput, UsageFault
from fields3d.core.task import State, Task, bind
from fields3d.core.types import Dataset
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.step import init_state

Overrides = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Run:
  """A run's config, data, task and restored state, with its predict functions bound and jitted.

  Networks predict in float32 whatever they were trained in (`Policy`): rounded to bfloat16, a distance is a staircase, and its
  surface is terraced. An override of a section's `compute` holds.
  """
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


def with_surfaces(run: Run, workdir: str | pathlib.Path) -> Run:
  """The run with "sdf" of the surfaces that a shape autoencoder makes of its clouds.

  A cloud is the run's "points" of a code with key 0. The autoencoder's own data are not looked at; surfaces are extracted at
  its `extract_resolution`, where the run has none.

  Args:
    workdir: the autoencoder's run, as experiments/classic/point_surfaces.py trains one.

  Raises:
    MissingInput: no run or no checkpoint there. UsageFault: a run that draws no clouds, or that makes no surface of one.
  """
  if "points" not in run.predict:
    raise UsageFault("--surfaces", f"{run.workdir} draws no clouds", "leave it out: the run has surfaces of its own")
  points = run.predict["points"]
  config = read_run_config(pathlib.Path(workdir))["config"]
  if not {"encode", "sdf"} <= set(build_task(config, run.dataset).predict):
    raise UsageFault("--surfaces", f"{workdir} makes no surfaces of clouds", "give a run of experiments/classic/point_surfaces.py")
  maker = next(_opened(pathlib.Path(workdir), config, _in_float32(config), run.dataset, [None])).predict
  encode, distance = maker["encode"], maker["sdf"]
  last = [None, None]  # a code and its surface's: one shape is asked for many times

  def sdf(x, z):
    if last[0] is not z:
      last[:] = z, encode(points(z, jax.random.key(0)), jax.random.key(0))
    return distance(x, last[1])

  resolution = {"extract_resolution": config["extract_resolution"]} if "extract_resolution" in config else {}
  return dataclasses.replace(run, config={**resolution, **run.config}, predict={**run.predict, "sdf": sdf})


def open_steps(workdir: str | pathlib.Path, wanted: Sequence[int | None], overrides: Overrides = ()) -> Iterator[Run]:
  """Yields the run at each of several steps: the same data and task, and programs compiled once. See `open_run`."""
  workdir = pathlib.Path(workdir)
  config = read_run_config(workdir)["config"]
  exact = _in_float32(config)
  config, exact = (apply_overrides(c, overrides) if overrides else c for c in (config, exact))
  yield from _opened(workdir, config, exact, build_dataset(config), wanted)


def _in_float32(config: dict) -> dict:
  """The config with every network's `compute` as float32."""
  return {name: _in_float32(value) if isinstance(value, dict) else "float32" if name == "compute" else value
          for name, value in config.items()}


def _opened(workdir: pathlib.Path, config: dict, exact: dict, dataset: Dataset, wanted: Sequence[int | None]) -> Iterator[Run]:
  task = build_task(config, dataset)
  predicting = task if exact == config else build_task(exact, dataset)
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
    yield Run(workdir, config, dataset, task, tree["state"], step, bind(predicting, tree["state"]))
