"""The evaluate command: record, files, tables, report of a run; a seed repeats; one fault loses no other's results."""

import argparse
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.commands import experiment, main, rundir
from fields3d.core.errors import BadData
from fields3d.core.strict_json import read
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.results import Evaluation, Row


def ball(name, radius):
  sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius)
  mesh = Mesh(np.asarray(sphere.vertices, np.float64), np.asarray(sphere.faces, np.int64))
  return Shape(name, "ball", lambda x: np.linalg.norm(x, axis=1) - radius, lambda: mesh, dict)


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run of two balls, the second of which has no surface, at step 7."""
  workdir = tmp_path / "a <b> run"
  workdir.mkdir()
  section = {"name": "geometry", "resolution": 24, "points": 300, "iou_points": 2000, "picture": 16}
  config = {"data": {}, "task": {}, "seed": 1, "evals": {"train": section}}
  (workdir / "config.json").write_text(json.dumps({"config": config}))
  (workdir / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 7, "loss": 0.5}\n')
  radii = jnp.array([0.5, -1.0])
  predict = {"code": lambda index: radii[index], "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z}
  shapes = [ball("good", 0.5), ball("none", 0.4)]
  dataset = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: shapes)
  opened = argparse.Namespace(workdir=workdir, config=config, step=7, predict=predict, dataset=dataset)
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None, overrides=(): opened)
  return opened


def test_record_report_and_meshes_are_written_and_their_paths_end_the_output(run, capsys):
  assert main.main(["evaluate", str(run.workdir)]) == 0
  lines = capsys.readouterr().out.splitlines()
  mesh = run.workdir / "eval" / "7" / "train" / "0000_good.glb"
  written = [run.workdir / "eval" / f"7.{suffix}" for suffix in ("json", "md", "tex")]
  assert lines[-5:] == [str(path) for path in (mesh, *written, run.workdir / "report.html")]
  assert trimesh.load(mesh, force="mesh").is_watertight
  assert any("volumetric_iou/mean" in line for line in lines)
  assert any(line.startswith("warning: 1 of 2 shapes failed") and "none" in line for line in lines)
  assert "a &lt;b&gt; run" in (run.workdir / "report.html").read_text()


def test_the_report_shows_the_config_that_the_run_was_trained_with(run, monkeypatch):
  monkeypatch.setattr(experiment, "check_arguments", lambda *_: None)
  assert main.main(["evaluate", str(run.workdir), "--config.seed=4321", "--config.evals.train.points=200"]) == 0
  page = (run.workdir / "report.html").read_text()
  assert "&quot;seed&quot;: 1" in page and "&quot;seed&quot;: 4321" not in page
  assert "--config.seed=4321" in page


def test_the_record_says_how_to_repeat_it(run):
  assert main.main(["evaluate", str(run.workdir), "--seed", "5"]) == 0
  record = read(run.workdir / "eval" / "7.json")
  assert record["step"] == 7 and record["command"] == f"fields3d evaluate '{run.workdir}' --seed 5"
  assert record["environment"]["packages"]["jax"] and record["environment"]["cpu"]
  found = record["evaluations"]["train"]
  assert found["settings"]["seed"] == 5 and found["settings"]["resolution"] == 24
  assert {m["seed"] for m in found["metrics"]} == {5} and all(m["protocol"] for m in found["metrics"])
  assert [row["status"] == "ok" for row in found["rows"]] == [True, False]


def test_a_run_is_measured_with_other_settings_and_the_record_says_so(run, monkeypatch):
  config = {"config": {**run.config, "data": {"name": "spheres"}, "task": {"name": "fit"}}}
  (run.workdir / "config.json").write_text(json.dumps(config))
  monkeypatch.setattr(experiment, "check_arguments", lambda *_: None)
  opened = []
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step, overrides: opened.append(overrides) or run)
  flag = "--config.evals.train.resolution=16"
  assert main.main(["evaluate", str(run.workdir), flag]) == 0
  record = read(run.workdir / "eval" / "7.json")
  assert record["evaluations"]["train"]["settings"]["resolution"] == 16 and record["command"].endswith(flag)
  assert opened == [[]]  # what an evaluator is told is not the run's


def test_the_same_seed_gives_the_same_record(run):
  records = []
  for seed in ("3", "3", "4"):
    assert main.main(["evaluate", str(run.workdir), "--seed", seed]) == 0
    records.append(read(run.workdir / "eval" / "7.json")["evaluations"]["train"]["metrics"])
  assert records[0] == records[1] != records[2]


def test_files_of_an_earlier_evaluation_go_and_those_of_the_user_stay(run):
  here = run.workdir / "eval" / "7" / "train"
  here.mkdir(parents=True)
  (here / "0099_old.glb").write_text("old")
  (here / "mine.glb").write_text("mine")
  assert main.main(["evaluate", str(run.workdir)]) == 0
  assert not (here / "0099_old.glb").exists() and (here / "mine.glb").read_text() == "mine"


def test_files_of_shapes_without_a_latin_letter_go_too(run):
  here, files = run.workdir / "eval" / "7" / "train", []
  for name in ("椅子", "good"):
    run.dataset = dataclasses.replace(run.dataset, shapes=lambda split, name=name: [ball(name, 0.5)])
    assert main.main(["evaluate", str(run.workdir)]) == 0
    files.append({path.name for path in here.iterdir()})
  assert files[0] and not files[0] & files[1]


def facts_only(fault=None):
  """A factory of an evaluator without metrics, that raises `fault` if there is one."""
  def factory(seed: int = 0):
    def evaluate(inputs):
      if fault is not None:
        raise fault
      (inputs.out_dir / "sheet.png").write_bytes(b"")
      return Evaluation("quality", (), [Row("all", "", 0, "ok", facts={"genus": 3})], (), {"seed": seed}, "sample")
    return evaluate
  return factory


def set_evals(run, **evals):
  run.config["evals"] = evals
  (run.workdir / "config.json").write_text(json.dumps({"config": run.config}))


def test_one_failing_evaluator_loses_no_others_results(run, capsys, monkeypatch):
  monkeypatch.setitem(EVALUATORS, "quality", facts_only())
  monkeypatch.setitem(EVALUATORS, "broken", facts_only(BadData("weights.npz", "is torn", "fetch it again")))
  monkeypatch.setitem(EVALUATORS, "bug", facts_only(ZeroDivisionError("of ours")))
  set_evals(run, first={"name": "broken"}, second={"name": "quality"}, third={"name": "bug"})
  assert main.main(["evaluate", str(run.workdir)]) == 65
  errors = capsys.readouterr().err.splitlines()
  assert errors == ["fields3d: ZeroDivisionError: of ours", "fields3d: weights.npz: is torn; fetch it again"]
  record = read(run.workdir / "eval" / "7.json")
  assert list(record["evaluations"]) == ["second"]
  assert record["failed"] == {"first": "weights.npz: is torn; fetch it again", "third": "ZeroDivisionError: of ours"}
  page = (run.workdir / "report.html").read_text()
  assert "first has no results: weights.npz: is torn" in page and "genus" in page and "By sample" in page


def test_only_some_evaluators_run_and_the_others_results_stay(run, capsys, monkeypatch):
  monkeypatch.setitem(EVALUATORS, "quality", facts_only())
  set_evals(run, train=run.config["evals"]["train"], use={"name": "quality"})
  assert main.main(["evaluate", str(run.workdir)]) == 0
  before = read(run.workdir / "eval" / "7.json")
  monkeypatch.setitem(EVALUATORS, "geometry", facts_only(AssertionError("must not run")))
  for only in ("use", "quality"):
    assert main.main(["evaluate", str(run.workdir), "--seed", "9", "--only", only]) == 0
    after = read(run.workdir / "eval" / "7.json")
    assert list(after["evaluations"]) == ["train", "use"]
    assert after["evaluations"]["train"] == before["evaluations"]["train"]
    assert after["evaluations"]["train"]["provenance"]["command"] == before["command"] != after["command"]
  assert "volumetric" in (run.workdir / "report.html").read_text()
  assert r"volumetric\_iou" in (run.workdir / "eval" / "7.md").read_text()
  capsys.readouterr()
  assert main.main(["evaluate", str(run.workdir), "--only", "trian"]) == 2
  assert "did you mean 'train'?" in capsys.readouterr().err


def test_what_another_command_finds_meanwhile_stays_and_an_older_result_until_there_is_a_newer(run, monkeypatch):
  monkeypatch.setitem(EVALUATORS, "quality", facts_only())
  def meanwhile(seed: int = 0):
    def evaluate(inputs):
      assert main.main(["evaluate", str(run.workdir), "--only", "use"]) == 0
      return Evaluation("other", (), [], (), {"seed": seed}, "sample")
    return evaluate
  monkeypatch.setitem(EVALUATORS, "other", meanwhile)
  set_evals(run, slow={"name": "other"}, use={"name": "quality"})
  assert main.main(["evaluate", str(run.workdir), "--only", "slow"]) == 0
  before = read(run.workdir / "eval" / "7.json")["evaluations"]
  assert list(before) == ["slow", "use"]
  monkeypatch.setitem(EVALUATORS, "other", facts_only(BadData("weights.npz", "is torn", "fetch it again")))
  assert main.main(["evaluate", str(run.workdir), "--seed", "3"]) == 65
  after = read(run.workdir / "eval" / "7.json")
  assert after["evaluations"]["slow"] == before["slow"] and after["evaluations"]["use"]["provenance"]["command"].endswith("--seed 3")
  assert "slow has no newer results: weights.npz" in (run.workdir / "report.html").read_text()


def test_an_evaluator_that_the_config_does_not_name_is_run_and_its_results_stay(run, capsys, monkeypatch):
  monkeypatch.setitem(EVALUATORS, "quality", facts_only())
  monkeypatch.setattr(experiment, "check_arguments", lambda *_: None)
  assert main.main(["evaluate", str(run.workdir), "--only", "quality", "--config.evals.quality.seed=4"]) == 0
  assert read(run.workdir / "eval" / "7.json")["evaluations"]["quality"]["settings"]["seed"] == 4
  assert main.main(["evaluate", str(run.workdir)]) == 0
  assert list(read(run.workdir / "eval" / "7.json")["evaluations"]) == ["train", "quality"]
  assert main.main(["evaluate", str(run.workdir), "--only", "qualty"]) == 2
  assert "did you mean 'quality'?" in capsys.readouterr().err


def test_results_of_another_checkpoint_do_not_stay(run, monkeypatch):
  monkeypatch.setitem(EVALUATORS, "quality", facts_only())
  set_evals(run, train=run.config["evals"]["train"], use={"name": "quality"})
  assert main.main(["evaluate", str(run.workdir)]) == 0
  (run.workdir / "checkpoints" / "7").mkdir(parents=True)
  (run.workdir / "checkpoints" / "7" / "manifest.json").write_text("{}")
  assert main.main(["evaluate", str(run.workdir), "--only", "use"]) == 0
  assert list(read(run.workdir / "eval" / "7.json")["evaluations"]) == ["use"]


def test_only_none_writes_tables_and_report_again(run, capsys):
  assert main.main(["evaluate", str(run.workdir), "--only", "none"]) == 66
  assert "holds no evaluation" in capsys.readouterr().err
  assert main.main(["evaluate", str(run.workdir)]) == 0
  for name in ("report.html", "eval/7.md", "eval/7.tex"):
    (run.workdir / name).unlink()
  (run.workdir / "eval" / "7" / "train" / "0000_good.mesh_picture.png").unlink()
  assert main.main(["evaluate", str(run.workdir), "--only", "none"]) == 0
  for name in ("report.html", "eval/7.md", "eval/7.tex"):
    assert (run.workdir / name).is_file()


@pytest.mark.parametrize(("evals", "code", "words"), [
    ({}, 2, "names no evaluators"),
    ({"train": {"name": "geometri"}}, 2, "evals.train.name: unknown name 'geometri'; did you mean 'geometry'?"),
    ({"train": {}}, 2, "--config.evals.train.name: has no name"),
    ({"train": {"name": "geometry", "pred": "sfd"}}, 2, "--config.evals.train.pred: the task predicts no 'sfd'; did you mean 'sdf'?"),
    ({"train": {"name": "geometry", "metrics": []}}, 2, "--config.evals.train.metrics: no metrics are asked for"),
    ({"few": {"name": "distribution", "num": 9}}, 2, "--config.evals.few.num: 9 shapes of split 'test'"),
    ({"few": {"name": "distribution"}}, 2, "--config.evals.few: the task cannot be sampled"),
])
def test_wrong_evaluators_are_one_line(run, capsys, evals, code, words):
  run.config["evals"] = evals
  (run.workdir / "config.json").write_text(json.dumps({"config": run.config}))
  assert main.main(["evaluate", str(run.workdir)]) == code
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and words in errors[0]


def test_a_directory_that_is_no_run_is_exit_66(tmp_path, capsys):
  assert main.main(["evaluate", str(tmp_path)]) == 66
  assert "not a run directory" in capsys.readouterr().err
