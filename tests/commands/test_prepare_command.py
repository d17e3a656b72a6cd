"""The prepare command, run as a user does: its table, its exit codes, its two formats."""

import json

import numpy as np
import pytest
import trimesh

from fields3d.commands.main import main
from fields3d.data import deepsdf_files


@pytest.fixture
def meshes(tmp_path):
  folder = tmp_path / "in"
  (folder / "box").mkdir(parents=True)
  made = trimesh.creation.box([1, 0.6, 0.4])
  made.export(folder / "box" / "closed.ply")
  made.update_faces(np.arange(12) > 1)
  made.export(folder / "open.ply")
  (folder / "empty.obj").write_bytes(b"")
  return folder


def test_the_table_says_what_was_rejected_and_why(meshes, tmp_path, capsys):
  assert main(["prepare", str(meshes), "--out", str(tmp_path / "out"), "--samples", "500", "--workers", "1"]) == 0
  out = capsys.readouterr().out
  assert "4 boundary edges" in out and "empty file" in out and "1 accepted, 0 warned, 2 rejected" in out
  assert "1 of 3 shapes" in out
  table = (tmp_path / "out" / "quality.csv").read_text().splitlines()
  assert len(table) == 4 and table[0].startswith("name,label,status,reasons")
  assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"]["rejected"] == 2
  index = json.loads((tmp_path / "out" / "index.json").read_text())
  assert [row["name"] for row in index] == ["box/closed"]
  assert (tmp_path / "out" / index[0]["key"] / "samples.npy").is_file()


def test_an_open_mesh_alone_is_bad_data_and_its_sign_can_be_chosen(meshes, tmp_path, capsys):
  words = ["prepare", str(meshes / "open.ply"), "--out", str(tmp_path / "out"), "--samples", "500"]
  assert main(words) == 65
  error = capsys.readouterr().err
  assert "4 boundary edges" in error and "--sign=winding" in error and len(error.splitlines()) == 1
  assert main([*words, "--sign=winding"]) == 0
  assert main([*words, "--sign=winding", "--strict"]) == 65


def test_the_deepsdf_format_reads_back_and_can_be_prepared_again(meshes, tmp_path, capsys):
  out = tmp_path / "out"
  assert main(["prepare", str(meshes), "--out", str(out), "--samples", "500", "--format=deepsdf", "--workers=1"]) == 0
  (dataset, label, name), = deepsdf_files.read_split(out / "in.json")
  assert (dataset, label) == ("in", "box")
  samples, warnings = deepsdf_files.read_samples(out / "SdfSamples" / dataset / label / f"{name}.npz")
  assert len(samples.sdf) == 500 and warnings == []
  frame = deepsdf_files.read_normalization(out / "NormalizationParameters" / dataset / label / f"{name}.npz")
  np.testing.assert_allclose(frame.scale, 1.03 * np.linalg.norm([0.5, 0.3, 0.2]), rtol=1e-6)
  assert main(["prepare", str(out / "SdfSamples"), "--out", str(tmp_path / "again")]) == 0
  capsys.readouterr()


def test_names_that_differ_in_what_no_path_has_keep_their_samples_apart(meshes, tmp_path):
  for name in ("b (1)", "b [1]"):
    (meshes / "box" / f"{name}.ply").write_bytes((meshes / "box" / "closed.ply").read_bytes())
  out = tmp_path / "out"
  assert main(["prepare", str(meshes / "box"), "--out", str(out), "--samples", "50", "--format=deepsdf", "--workers=1"]) == 0
  assert sorted(name for _, _, name in deepsdf_files.read_split(out / "box.json")) == ["b_1_", "b_1__2", "closed"]
  assert len(list((out / "SdfSamples").rglob("*.npz"))) == 3


@pytest.mark.parametrize("words, code, text", [
    (["no", "--out", "o"], 66, "no such file"),
    ([".", "--out", "o", "--samples", "-1"], 2, "--samples"),
    (["in", "--out", "o", "--sign", "windng"], 2, "did you mean 'winding'"),
    (["in", "--out", "o", "--classes", "sofa"], 2, "known: box"),
    (["in", "--out", "in/open.ply"], 73, "is a file"),
    (["in", "--out", "o", "--samples", "0", "--format", "deepsdf"], 2, "--samples"),
    (["in"], 2, "--out"),
])
def test_a_wrong_command_is_one_line_and_its_exit_code(meshes, tmp_path, monkeypatch, capsys, words, code, text):
  monkeypatch.chdir(tmp_path)
  assert main(["prepare", *words]) == code
  error = capsys.readouterr().err
  assert text in error and len(error.splitlines()) == 1


def test_a_class_a_limit_and_no_samples_choose_what_is_prepared(meshes, tmp_path, capsys):
  assert main(["prepare", str(meshes), "--out", str(tmp_path / "o"), "--classes", "box", "--limit=1", "--samples=0"]) == 0
  index = json.loads((tmp_path / "o" / "index.json").read_text())
  assert len(index) == 1 and not (tmp_path / "o" / index[0]["key"] / "samples.npy").exists()
  assert "1 of 1 shapes" in capsys.readouterr().out
