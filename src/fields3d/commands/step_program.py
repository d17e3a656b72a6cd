"""A run's training step as a program to compile and not to run: what its cost is planned from."""

from collections.abc import Callable

from fields3d.commands.experiment import build_optimisers, build_settings
from fields3d.commands.rundir import Run
from fields3d.training.step import make_step


def training_program(run: Run) -> tuple[Callable, tuple]:
  """The step (state, batch) -> (state, metrics) of a run on one device, and arguments of the right shapes."""
  step = make_step(run.task, build_optimisers(run.config), build_settings(run.config).accumulate)
  return step, (run.state, dict(run.dataset.batch(0, 0, 1)))
