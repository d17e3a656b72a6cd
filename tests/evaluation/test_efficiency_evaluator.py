"""The evaluator of efficiency on models whose operations can be counted; no time is asserted."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.types import Camera, Dataset, View
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.efficiency import logged_step_seconds
from fields3d.evaluation.results import EvaluationInput
from fields3d.extraction.sampling import CHUNK
from fields3d.metrics import programs

SIZE = (20, 10)
VIEW = View("v", Camera("PINHOLE", SIZE, (20.0, 20.0, 10.0, 5.0), (),
                        np.concatenate([np.eye(3), [[0.0], [0.0], [4.0]]], axis=1)), None)
MATRIX = jnp.eye(3)


def bound(fn):
  """A function with its parameters bound and jitted, as a run's are."""
  jitted = jax.jit(fn)
  return lambda *arguments: jitted(MATRIX, *arguments)


PREDICT = {
    "sample": lambda key, num: jnp.full((num, 1), 0.5),
    "sdf": bound(lambda p, x, z: jnp.linalg.norm(x @ p, axis=-1) - z[0]),
    "render": bound(lambda p, rays: {"rgb": rays.directions @ p, "opacity": rays.near, "depth": rays.near}),
}


def evaluate(tmp_path, predict, views=(VIEW,), update=None, **settings):
  out = tmp_path / "eval" / "7" / "cost"
  out.mkdir(parents=True)
  dataset = Dataset({"near": 2.0, "far": 6.0}, lambda *_: {}, lambda split: (), lambda split: views)
  evaluator = build(EVALUATORS, {"name": "efficiency", "repeats": 2, "resolution": 16, "tile": 64, **settings}, "evals.e")
  found = evaluator(EvaluationInput(predict, dataset, out, 7, update=update))
  assert json.dumps(found.to_json(), allow_nan=False)
  return found, {metric.name: metric for metric in found.metrics}


def test_a_view_costs_its_calls_of_whole_tiles(tmp_path):
  found, metrics = evaluate(tmp_path, PREDICT)
  tiles = -(-SIZE[0] * SIZE[1] // 64)
  assert metrics["view/flops"].value == tiles * 2 * 64 * 9 and metrics["view/parameters"].value == 9
  assert metrics["view/seconds"].n == 2 and metrics["view/seconds"].better == "lower"
  assert "20 x 10 pixels" in metrics["view/seconds"].protocol and "warm" in metrics["view/seconds"].protocol
  assert metrics["view/planned_memory"].value > 0 and metrics["view/peak_memory"].value > 0
  assert [row.name for row in found.rows] == ["sample", "view"] and "no step is measured" in found.warnings[-1]


def test_a_sample_costs_its_points_whether_it_has_a_surface_or_not(tmp_path):
  for i, radius in enumerate((0.5, -1.0)):
    predict = PREDICT | {"sample": lambda key, num, radius=radius: jnp.full((num, 1), radius)}
    found, metrics = evaluate(tmp_path / str(i), predict, views=())
    facts = next(row for row in found.rows if row.name == "sample").facts
    program = facts["program sdf"]
    assert program["calls"] > 0 and program["flops"] >= 2 * 9 * CHUNK
    expected = program["calls"] * program["flops"] + facts["program code"]["flops"]
    assert metrics["sample/flops"].value == pytest.approx(expected)
    assert f"{3 if radius > 0 else 0} of 3 draws had a surface" in metrics["sample/seconds"].protocol


def test_a_cloud_costs_its_code_and_its_points_and_no_extraction(tmp_path):
  predict = {"sample": PREDICT["sample"], "points": bound(lambda p, z, key: jax.random.normal(key, (30, 3)) @ p + z[0])}
  _, metrics = evaluate(tmp_path, predict, views=(), pred="points")
  assert metrics["sample/flops"].value >= 30 * 2 * 9 and metrics["sample/parameters"].value == 9
  assert "cloud of 30 points" in metrics["sample/seconds"].protocol and metrics["sample/seconds"].n == 2


def test_a_training_step_is_compiled_and_its_seconds_are_the_logs(tmp_path):
  lines = [{"step": 10, "time": 100.0}, {"time": 100.5, "note": "saved"}, {"step": 20, "time": 101.0},
           {"step": 30, "time": 102.0}, {"step": 15, "time": 300.0}, {"step": 25, "time": 303.0}]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')
  update = lambda: (lambda w, x: (w - (x @ w), w.sum()), (jnp.ones((4, 2)), jnp.ones((4, 4))))
  found, metrics = evaluate(tmp_path, {}, (), update)
  assert metrics["step/seconds"].value == pytest.approx(0.1) and metrics["step/seconds"].n == 3
  assert metrics["step/flops"].value == 2 * 4 * 4 * 2 + 8 + 8 and "step/energy" not in metrics
  assert len(found.warnings) == 2


def test_a_run_without_a_log_has_no_seconds_of_a_step(tmp_path):
  assert len(logged_step_seconds(tmp_path / "metrics.jsonl")) == 0
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 3.0}\n')
  assert len(logged_step_seconds(tmp_path / "metrics.jsonl")) == 0


def test_a_tpu_that_cannot_be_planned_is_a_warning(tmp_path, monkeypatch):
  monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
  found, _ = evaluate(tmp_path, {"render": PREDICT["render"]}, tpu="v5e:2x2")
  assert any("no libtpu" in line for line in found.warnings) and len(found.rows) == 1
