"""A folder holds what its record lists: earlier files go, and nothing else does."""

import json

import pytest

from fields3d.commands.folder_records import write_record


def shapes(*files, step=1):
  return {"run": "r", "step": step, "shapes": [{"index": i, "name": "b.glb", "file": file} for i, file in enumerate(files)]}


def names(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path):
  """A folder with files of ours and of others, inside it, below it and beside it."""
  (tmp_path / "out" / "below").mkdir(parents=True)
  for name in ("a.glb", "b.glb", "c.obj", "c.mtl", "notes.txt", "below/a.glb", "../a.glb"):
    (tmp_path / "out" / name).write_text(name)
  return tmp_path / "out"


def test_files_that_only_the_record_before_lists_are_deleted(folder):
  before = shapes("a.glb", "b.glb", "c.obj", None, "gone.glb")
  before["shapes"][2]["beside"] = ["c.mtl"]
  write_record(folder / "x.json", before)
  assert len(names(folder)) == 7
  write_record(folder / "x.json", shapes("b.glb", None, step=2))
  assert names(folder) == ["b.glb", "below/a.glb", "notes.txt", "x.json"] and (folder.parent / "a.glb").is_file()
  assert json.loads((folder / "x.json").read_text())["shapes"][0]["file"] == "b.glb"


def test_what_the_same_run_step_and_settings_made_stays_and_is_listed_on(folder):
  """Another index, and another format; but not what has no surface now."""
  write_record(folder / "x.json", shapes("a.glb", "b.glb"))
  write_record(folder / "x.json", shapes("c.obj", None))
  assert "a.glb" in names(folder) and "b.glb" not in names(folder)
  rows = json.loads((folder / "x.json").read_text())["shapes"]
  assert [(row["index"], row["file"]) for row in rows] == [(0, "a.glb"), (0, "c.obj"), (1, None)]


@pytest.mark.parametrize("before", [
    shapes("below/a.glb", "../a.glb", "below", "notes.txt", "x.json", "./a.glb", 7, ["a.glb"], ""),
    {"shapes": [{"file": "a.glb"}]}, {"run": "r", "step": 1, "shapes": ["a.glb"]}, {"run": "r", "step": 1, "shapes": 3},
    {"run": "r", "step": 1, "shapes": [{"name": "a.glb"}]}, ["a.glb"], None])
def test_paths_and_other_records_delete_nothing(folder, before):
  there = [*names(folder), "x.json"]
  (folder / "x.json").write_text(json.dumps(before))
  write_record(folder / "x.json", shapes(None))
  assert names(folder) == sorted(there) and (folder.parent / "a.glb").is_file()


@pytest.mark.parametrize("before", [json.dumps(shapes("a.glb"))[:-1], json.dumps(shapes("a.glb") | {"run": "another"})])
def test_a_damaged_record_or_another_runs_deletes_nothing(folder, before):
  (folder / "x.json").write_text(before)
  write_record(folder / "x.json", shapes("b.glb"))
  assert (folder / "a.glb").is_file()
