"""Runs opened from their directory: what a network predicts does not depend on the precision that it was trained in."""

import jax.numpy as jnp
import numpy as np

from fields3d.commands.main import main
from fields3d.commands.rundir import open_run


def test_a_run_trained_in_bfloat16_predicts_in_float32(tmp_path):
  """Rounded to bfloat16, coordinates of a thousandth of the box have a handful of values, and so has the distance."""
  config = "experiments/deepsdf/quickstart.py:runlocal"
  flags = ["--config.num_steps=2", "--config.task.field.compute=bfloat16", "--workdir", str(tmp_path / "run")]
  assert main(["train", "--config", config, *flags]) == 0
  x = jnp.stack([jnp.linspace(0.6, 0.602, 1001), jnp.full(1001, 0.1), jnp.full(1001, -0.2)], axis=-1)
  number = lambda run: len(np.unique(run.predict["sdf"](x, run.predict["code"](0))))
  run = open_run(tmp_path / "run")
  assert number(run) > 900 and run.config["task"]["field"]["compute"] == "bfloat16"
  assert number(open_run(tmp_path / "run", overrides=[("task.field.compute", "bfloat16")])) < 100
