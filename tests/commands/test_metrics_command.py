"""The metrics command: two mesh files in, every figure out; faults are one line."""

import json

import pytest
import trimesh

from fields3d.commands import main

FEW = ["--points", "2000", "--iou-points", "5000"]


@pytest.fixture
def balls(tmp_path):
  """Two files: a ball of radius 9 and one of radius 10, both about (100, 0, 0)."""
  paths = []
  for radius in (9, 10):
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    sphere.apply_translation([100, 0, 0])
    paths.append(str(tmp_path / f"ball{radius}.ply"))
    sphere.export(paths[-1])
  return paths


def figures(capsys, words):
  assert main.main(["metrics", "mesh", *words]) == 0
  record = json.loads(capsys.readouterr().out)
  return record, {m["name"]: m for m in record["metrics"]}


def test_distances_are_in_the_truths_frame_or_in_the_files_unit(balls, capsys):
  record, own = figures(capsys, [*balls, "--json", *FEW])
  _, world = figures(capsys, [*balls, "--json", "--frame", "world", *FEW])
  assert record["frame"]["scale"] == pytest.approx(10, rel=1e-3)
  expected = (0.1**2 + 4 / 2000) ** 0.5  # The gap, and the mean squared distance to the nearest of n points: 4 / n.
  assert own["chamfer_mean_unsquared"]["value"] == pytest.approx(expected, rel=0.03)
  assert world["chamfer_mean_unsquared"]["value"] == pytest.approx(10 * expected, rel=0.03)
  assert world["f_score@0.02"]["value"] == own["f_score@0.02"]["value"] == 0
  assert own["volumetric_iou"]["value"] == pytest.approx(0.9**3, abs=0.03)


def test_the_table_shows_values_intervals_floors_and_protocols(balls, capsys):
  assert main.main(["metrics", "mesh", *balls, "--thresholds", "0.2,0.05", "--seed", "3", *FEW]) == 0
  shown = capsys.readouterr().out
  assert "f_score@0.2 " in shown and "f_score@0.05" in shown and "f_score@0.01" not in shown
  assert "chamfer_deepsdf (seed 3): 1000 x" in shown and "95% interval" in shown and "floor" in shown


def test_a_mesh_against_itself_is_at_its_floor(balls, capsys):
  _, found = figures(capsys, [balls[0], balls[0], "--json", *FEW])
  for metric in found.values():
    assert metric["value"] == pytest.approx(metric["floor"], rel=0.2), metric["name"]


@pytest.mark.parametrize(("words", "code", "told"), [
    (["mesh", "A"], 2, "needs B"),
    (["mesh", "missing.obj", "missing.obj"], 66, "missing.obj: no such file"),
    (["mesh", "A", "B", "--points", "1"], 2, "--points"),
    (["mesh", "A", "B", "--thresholds", "0.1,nan"], 2, "--thresholds"),
    (["mesh", "A", "B", "--thresholds", "0"], 2, "--thresholds"),
    (["mesh", "A", "B", "--frame", "word"], 2, "did you mean 'world'"),
    (["mesh", "A", "B", "--poins", "5"], 2, "did you mean '--points'"),
    (["cloud", "A", "B"], 2, "unknown value 'cloud'"),
])
def test_wrong_usage_is_one_line(balls, capsys, words, code, told):
  words = [{"A": balls[0], "B": balls[1]}.get(word, word) for word in words]
  assert main.main(["metrics", *words]) == code
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and told in errors[0]


def test_an_empty_file_is_exit_65(balls, tmp_path, capsys):
  (tmp_path / "empty.obj").write_text("")
  assert main.main(["metrics", "mesh", str(tmp_path / "empty.obj"), balls[0]]) == 65
  assert "empty" in capsys.readouterr().err
