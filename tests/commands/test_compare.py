"""The compare command: records of runs side by side in every form; what cannot be compared is one line."""

import json

import numpy as np
import pytest

from fields3d.commands import main
from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.records import Record, write_record
from fields3d.evaluation.results import Evaluation, Metric, Row


def write_run(workdir, shift=0.0, step=7, section="test", seed=0):
  values = np.random.default_rng(0).normal(1, 0.3, 8) + shift
  rows = [Row(f"s{i}", "", i, "ok", (Metric("chamfer", float(v), None, None, 300, seed, 0.1, "lower", "mean distance"),))
          for i, v in enumerate(values)]
  found = Evaluation("geometry", summarise(rows, seed), rows, (), {"split": "test", "seed": seed})
  command = f"fields3d evaluate {workdir.name}"
  write_record(workdir / "eval" / f"{step}.json", Record(step, command, {}, None, {section: found}))
  return str(workdir)


@pytest.fixture
def runs(tmp_path):
  return [write_run(tmp_path / "a"), write_run(tmp_path / "b", 0.5), write_run(tmp_path / "c" / "a", 0.25)]


def test_every_run_stands_against_the_first(runs, capsys):
  assert main.main(["compare", *runs, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert list(found["runs"]) == [f"{runs[0].split('/')[-2]}/a", f"{runs[0].split('/')[-2]}/b", "c/a"]
  first, second, third = found["sections"][0]["metrics"][0]["figures"]
  assert first["test"] is None and second["test"]["difference"] == pytest.approx(0.5)
  assert third["test"]["difference"] == pytest.approx(0.25) and second["p_holm"] == 2 * second["test"]["p"]


@pytest.mark.parametrize("change", [{"n": None}, {"seed": "x"}, {"protocol": 5}, {"name": None}])
def test_a_record_with_a_field_of_another_kind_is_bad_data_with_its_name(runs, tmp_path, capsys, change):
  path = tmp_path / "b" / "eval" / "7.json"
  record = json.loads(path.read_text())
  record["evaluations"]["test"]["metrics"][0] |= change
  path.write_text(json.dumps(record))
  assert main.main(["compare", *runs]) == 65
  assert f"{path}: is no record of an evaluation" in capsys.readouterr().err


def test_a_section_that_does_not_say_its_command_is_bad_data_with_its_name(runs, tmp_path, capsys):
  path = tmp_path / "b" / "eval" / "7.json"
  for made in ({"commit": "a"}, 5, {"command": 5}):
    record = json.loads(path.read_text())
    record["evaluations"]["test"]["provenance"] = made
    path.write_text(json.dumps(record))
    assert main.main(["compare", *runs]) == 65
    assert f"{path}: is no record of an evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "words"), [(None, "worse"), ("--markdown", "| chamfer ↓"), ("--latex", r"\toprule")])
def test_tables_say_how_they_were_made(runs, capsys, flag, words):
  assert main.main(["compare", *runs[:2], *([flag] if flag else [])]) == 0
  shown = capsys.readouterr().out
  assert words in shown and "Holm" in shown and "paired studentised bootstrap" in " ".join(shown.split())
  assert flag is None or "evaluate a" in shown and "evaluate b" in shown


def test_the_last_step_is_compared_or_the_chosen_one(runs, tmp_path, capsys):
  write_run(tmp_path / "a", 9.0, step=100)
  for words, difference in (([], -8.5), (["--step", "7"], 0.5)):
    assert main.main(["compare", *runs[:2], *words, "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)["sections"][0]["metrics"][0]["figures"][1]
    assert figure["test"]["difference"] == pytest.approx(difference)
  files = [str(tmp_path / "a" / "eval" / f"{step}.json") for step in (7, 100)]
  assert main.main(["compare", *files, "--json"]) == 0
  assert list(json.loads(capsys.readouterr().out)["runs"]) == ["7.json", "100.json"]


@pytest.mark.parametrize(("change", "code", "words"), [
    (lambda path: write_run(path, seed=1), 2, "seeds of points differ: 0 and 1"),
    (lambda path: write_run(path, section="main"), 2, "share no section of evals (a has test; other has main)"),
    (lambda path: path.mkdir(), 66, "holds no evaluation; run fields3d evaluate"),
    (lambda path: (path / "eval").mkdir(parents=True) or (path / "eval" / "7.json").write_text("{}"), 65, "has no 'command'"),
])
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, change, code, words):
  write_run(tmp_path / "a")
  change(tmp_path / "other")
  assert main.main(["compare", str(tmp_path / "a"), str(tmp_path / "other")]) == code
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and words in errors[0]


def test_wrong_usage_is_one_line(runs, capsys):
  assert main.main(["compare", runs[0]]) == 2
  assert main.main(["compare", *runs, "--evaluator", "tets"]) == 2
  assert main.main(["compare", *runs, "--step", "8"]) == 66
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 3 and "did you mean 'test'?" in lines[1] and "known: 7" in lines[2]
