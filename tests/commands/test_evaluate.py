"""The evaluate command: record, files, table and report of a run; the same seed repeats; faults are one line."""

import argparse
import json

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.commands import main, rundir
from fields3d.core.strict_json import read
from fields3d.core.types import Dataset, Mesh, Shape


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
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  return opened


def test_record_report_and_meshes_are_written_and_their_paths_end_the_output(run, capsys):
  assert main.main(["evaluate", str(run.workdir)]) == 0
  lines = capsys.readouterr().out.splitlines()
  mesh = run.workdir / "eval" / "7" / "train" / "0000_good.glb"
  assert lines[-3:] == [str(mesh), str(run.workdir / "eval" / "7.json"), str(run.workdir / "report.html")]
  assert trimesh.load(mesh, force="mesh").is_watertight
  assert any("volumetric_iou/mean" in line for line in lines)
  assert any(line.startswith("warning: 1 of 2 shapes failed") and "none" in line for line in lines)
  assert "a &lt;b&gt; run" in (run.workdir / "report.html").read_text()


def test_the_record_says_how_to_repeat_it(run):
  assert main.main(["evaluate", str(run.workdir), "--seed", "5"]) == 0
  record = read(run.workdir / "eval" / "7.json")
  assert record["step"] == 7 and record["command"] == f"fields3d evaluate '{run.workdir}' --seed 5"
  assert record["environment"]["packages"]["jax"] and record["environment"]["cpu"]
  found = record["evaluations"]["train"]
  assert found["settings"]["seed"] == 5 and found["settings"]["resolution"] == 24
  assert {m["seed"] for m in found["metrics"]} == {5} and all(m["protocol"] for m in found["metrics"])
  assert [row["status"] == "ok" for row in found["rows"]] == [True, False]


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


@pytest.mark.parametrize(("evals", "code", "words"), [
    ({}, 2, "names no evaluators"),
    ({"train": {"name": "geometri"}}, 2, "evals.train.name: unknown name 'geometri'; did you mean 'geometry'?"),
    ({"train": {"name": "geometry", "pred": "sfd"}}, 2, "no 'sfd'; did you mean 'sdf'?"),
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
