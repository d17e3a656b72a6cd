"""The inspect command: its table, its strict JSON, its exit codes."""

import json
import pathlib

import pytest

from fields3d.commands.main import main

CUBE = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1)) + (
    "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n")


@pytest.fixture
def cube(tmp_path) -> pathlib.Path:
  path = tmp_path / "cube.obj"
  path.write_text(CUBE + "f 1 1 2\nf 1 2 3\n")
  return path


def test_a_mesh_is_shown_as_it_is_and_as_mended(cube, capsys):
  assert main(["inspect", "mesh", str(cube)]) == 0
  out = capsys.readouterr().out
  cells = [[c.strip() for c in line.split("│")[1:4]] for line in out.splitlines() if "│" in line]
  rows = {name: values for name, *values in cells}
  assert rows["degenerate faces"] == ["1", "0"] and rows["watertight"] == ["no", "no"]
  assert "warning: 1 degenerate faces dropped" in out


def test_json_is_strict_and_complete(cube, capsys):
  assert main(["inspect", "mesh", "--json", str(cube)]) == 0
  found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
  assert found["file"]["faces"] == 14 and found["mended"]["faces"] == 13 and found["mended"]["crossing_faces"] == 0
  assert found["file"].keys() == found["mended"].keys() and found["warnings"]


@pytest.mark.parametrize("arguments, code, text", [
    (["mesh", "{cube}", "--strict"], 65, "rejected as strict: 1 degenerate faces dropped"),
    (["mesh", "{folder}/none.obj"], 66, "none.obj"),
    (["mesh", "{folder}/none"], 66, "none: no such file"),
    (["mesh", "{folder}"], 66, "is not a file"),
    (["run", "{folder}"], 66, "is not a run directory"),
    (["checkpoint", "{folder}"], 66, "no checkpoint there"),
    (["meshes", "{cube}"], 2, "did you mean 'mesh'"),
])
def test_faults_are_one_line_with_their_exit_code(arguments, code, text, cube, capsys):
  words = [a.format(cube=cube, folder=cube.parent) for a in arguments]
  assert main(["inspect", *words]) == code
  err = capsys.readouterr().err
  assert text in err and err.count("\n") == 1


def test_a_run_and_its_checkpoints_are_summed_up_and_damage_found(tmp_path, capsys):
  from fields3d.training.manifest import write_manifest
  record = {"config": {"seed": 0, "data": {"name": "toy"}, "task": {"name": "toy", "rate": 0.5}}, "source": "a.py",
            "overrides": ["seed=0"]}
  (tmp_path / "config.json").write_text(json.dumps(record))
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 5.0, "loss": 2.0}\n'
                                           '{"step": 2, "time": 6.0, "loss": 0.5}\n')
  for step in (1, 2):
    folder = tmp_path / "checkpoints" / str(step)
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "array").write_bytes(bytes(100))
    write_manifest(folder, {"step": step, "tree": {}})
  assert main(["inspect", "run", str(tmp_path)]) == 0
  out = capsys.readouterr().out
  assert "task.rate" in out and "0.5" in out and "checkpoint 2: complete" in out
  assert main(["inspect", "run", str(tmp_path), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["metrics"]["loss"] == 0.5 and found["config"] == record["config"]
  assert main(["inspect", "checkpoint", str(tmp_path)]) == 0
  (tmp_path / "checkpoints" / "2" / "state" / "array").write_bytes(bytes(99) + b"\1")
  capsys.readouterr()
  assert main(["inspect", "checkpoint", str(tmp_path), "--json"]) == 65
  out, err = capsys.readouterr()
  assert [bool(s["problems"]) for s in json.loads(out)["steps"]] == [False, True] and "1 of 2 checkpoints" in err
  assert main(["inspect", "checkpoint", str(tmp_path / "checkpoints" / "1")]) == 0
