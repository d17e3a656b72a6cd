"""Symptoms of failing training are told once, after some lines, and not of healthy runs."""

import pytest
import toys

from fields3d.training.symptoms import Symptoms

HEALTHY = {"critic/right_on_real": 0.9, "critic/right_on_fake": 0.99, "generator/spread": 0.8, "generator/coverage": 0.5,
           "generator/coverage_real": 0.6, "generator/grad_norm": 3.0, "loss": 1.0}


def told(lines):
  symptoms = Symptoms()
  return [symptoms.watch(line) for line in lines]


def test_a_healthy_run_is_told_nothing():
  assert not any(told([HEALTHY] * 100))


@pytest.mark.parametrize("change, word", [
    ({"generator/spread": 0.05}, "mode collapse"), ({"generator/coverage": 0.2}, "few data"),
    ({"critic/right_on_real": 0.995}, "critic is right on 99%"),
    ({"critic/right_on_real": 0.01, "critic/right_on_fake": 0.19}, "critic is right on 10% of all, less than by chance"),
    ({"generator/grad_norm": 400.0}, "times its usual 3")])
def test_each_symptom_is_told_once_after_three_lines_and_again_when_it_comes_back(change, word):
  sick = HEALTHY | change
  found = told([HEALTHY] * 10 + [sick] * 6 + [HEALTHY] + [sick] * 3)
  lines = [i for i, texts in enumerate(found) if texts]
  assert lines == [12, 19] and all(word in found[i][0] and len(found[i]) == 1 for i in lines)


def test_the_first_gradients_after_many_that_are_0_have_not_exploded():
  line = lambda value: {"model/grad_norm": value}
  assert not any(told([line(0.0)] * 10 + [line(1e-3)] * 10))
  assert sum(map(len, told([line(0.0)] * 10 + [line(1e-3)] * 80 + [line(1.0)] * 3))) == 1


def test_a_line_without_the_scalar_says_nothing():
  without = {name: value for name, value in HEALTHY.items() if "spread" not in name}
  sick = HEALTHY | {"generator/spread": 0.0}
  assert [bool(t) for t in told([sick, without, sick, without, sick])] == [False] * 4 + [True]


def test_a_run_notes_what_it_is_told(tmp_path):
  import io

  from fields3d.core.task import Task
  from fields3d.training.logging import RunLog
  from fields3d.training.loop import Loop, LoopSettings
  from fields3d.training.optim import sgd
  task = toys.regression()
  loss = lambda *arguments: (task.losses["model"](*arguments)[0], {"spread": 0.01})
  out = io.StringIO()
  Loop(Task(task.init, {"model": loss}), toys.line_data(), {"model": sgd(0.1)}, seed=0, num_steps=8, workdir=tmp_path,
       log=RunLog(tmp_path, 8, stream=out), settings=LoopSettings(log_every=2, checkpoint_every=8)).run()
  assert out.getvalue().count("mode collapse?") == 1
