"""Preparation in parts: disjoint, complete, resumed anywhere, merged to the undivided run's bytes, or refused by name."""

import json
import os
import pathlib
import subprocess
import sys
import tracemalloc

import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.commands.main import main
from fields3d.core.errors import BadData, TryAgain
from fields3d.data import cache, parts
from fields3d.data.parts import Part, PartFile, part_of, prepare_part
from fields3d.data.prepare import Done, Recipe, prepare, stream
from fields3d.data.quality import Row, read_index, write_report
from fields3d.data.sources import find_sources

WORDS = ["--samples=50", "--workers=1"]


@pytest.fixture
def meshes(tmp_path):
  folder = tmp_path / "in"
  for i in range(7):
    (folder / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
    trimesh.creation.box([1, 0.3 + 0.1 * i, 0.4]).export(folder / f"class{i % 2}" / f"m-{i}.ply")
  (folder / "broken.obj").write_bytes(b"")
  (folder / "m.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
  return folder


def content(root: pathlib.Path) -> dict[str, bytes]:
  return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*"))
          if p.is_file() and parts.FOLDER not in p.parts}


def shard(meshes, out, i, n, *more):
  return main(["prepare", str(meshes), "--out", str(out), "--shard", f"{i}/{n}", *WORDS, *more])


HEAD = {"format": parts.FORMAT, "part": 0, "of": 1, "own": 1, "shared": {"shapes": 1, "names": "x"}}
ROW = {"index": 0, "digest": "", "name": "a", "label": "", "status": "accepted", "reasons": [], "key": "k"}


@pytest.mark.parametrize(("head", "row", "text"), [
    ({**HEAD, "shared": {}}, ROW, ":1: is not the head of a part"), ({**HEAD, "own": None}, ROW, ":1: is not the head of a part"),
    ({**HEAD, "of": "1"}, ROW, ":1: is not the head of a part"), (HEAD, {**ROW, "key": "../k"}, "is not a row of a part"),
    (HEAD, {**ROW, "key": 3}, "is not a row of a part")])
def test_a_part_that_is_damaged_is_bad_data_and_no_entry_leads_out_of_the_folder(head, row, text, tmp_path):
  path = tmp_path / "in" / "parts" / "0-of-1.jsonl"
  path.parent.mkdir(parents=True)
  path.write_text(f"{json.dumps(head)}\n{json.dumps(row)}\n")
  cache.write_entry(tmp_path, "k", {}, None, None, None)
  (tmp_path / "out" / "below").mkdir(parents=True)
  with pytest.raises(BadData, match=text):
    parts.merge([tmp_path / "in"], tmp_path / "out" / "below")
  assert not (tmp_path / "out" / "k").exists()


@given(st.lists(st.text(min_size=1), unique=True, max_size=60), st.integers(1, 20), st.text(min_size=1))
@settings(max_examples=60)
def test_parts_are_disjoint_and_complete_and_another_shape_moves_none(names, num, other):
  found = [[name for name in names if part_of(name, num) == index] for index in range(num)]
  assert sorted(name for part in found for name in part) == sorted(names)
  assert part_of(other, num) == part_of(other, num) < num


def test_parts_are_about_equal_in_size():
  counts = [0] * 16
  for i in range(16_000):
    counts[part_of(f"shapes/model_{i}", 16)] += 1
  assert max(abs(count - 1000) for count in counts) < 4 * 1000 ** 0.5  # 4 sigma of a binomial


@pytest.mark.parametrize("apart", [False, True])
def test_merged_parts_equal_the_undivided_run_byte_for_byte(meshes, tmp_path, capsys, apart):
  assert main(["prepare", str(meshes), "--out", str(tmp_path / "whole"), *WORDS]) == 0
  homes = [tmp_path / (f"d{i}" if apart else "d") for i in range(3)]
  for i in (2, 0, 1):
    assert shard(meshes, homes[i], i, 3) == 0
  assert main(["prepare", "--merge", *map(str, homes if apart else homes[:1]), "--out", str(tmp_path / "d")]) == 0
  assert content(tmp_path / "whole") == content(tmp_path / "d")
  assert "7 of 9 shapes" in capsys.readouterr().out


def test_a_part_killed_in_the_middle_of_a_row_goes_on_and_makes_nothing_twice(meshes, tmp_path, monkeypatch):
  sources, recipe = find_sources(meshes), Recipe(None)
  whole = prepare(sources, recipe, tmp_path / "whole", workers=1)
  assert prepare_part(sources, Part(0, 1), recipe, tmp_path / "d", {}, workers=1) == whole
  path = Part(0, 1).path(tmp_path / "d")
  lines = path.read_bytes().splitlines(keepends=True)
  made = []
  monkeypatch.setattr("fields3d.data.prepare.make", lambda source, *_: made.append(source.name))
  assert prepare_part(sources, Part(0, 1), recipe, tmp_path / "d", {}, workers=1) == whole
  assert not made and path.read_bytes() == b"".join(lines)  # rejected shapes are known too
  for cut in (b"", lines[0][:30], lines[0], b"".join(lines[:4]) + lines[4][:20]):
    path.write_bytes(cut)
    monkeypatch.undo()
    assert prepare_part(sources, Part(0, 1), recipe, tmp_path / "d", {}, workers=1) == whole
    assert sorted(path.read_bytes().splitlines()[1:]) == sorted(line.rstrip(b"\n") for line in lines[1:])


def test_one_of_several_parts_goes_on_from_its_own_rows(meshes, tmp_path):
  sources, recipe, part = find_sources(meshes), Recipe(None), Part(1, 3)
  whole = prepare_part(sources, part, recipe, tmp_path / "d", {}, workers=1)
  lines = part.path(tmp_path / "d").read_bytes().splitlines(keepends=True)
  assert [row.name for row in whole] == [source.name for source in sources if part_of(source.name, 3) == 1]
  for kept in range(1, len(lines) + 1):
    part.path(tmp_path / "d").write_bytes(b"".join(lines[:kept]))
    assert prepare_part(sources, part, recipe, tmp_path / "d", {}, workers=1) == whole
    assert part.path(tmp_path / "d").read_bytes() == b"".join(lines)


def test_what_had_too_little_memory_is_tried_again(meshes, tmp_path, monkeypatch):
  def short(source, *rest):
    raise MemoryError
  part = find_sources(meshes), Part(0, 1), Recipe(None), tmp_path / "d", {}
  with monkeypatch.context() as m:
    m.setattr("fields3d.data.prepare.make", short)
    assert {row.status for row in prepare_part(*part, workers=1)} == {"rejected"}
  assert prepare_part(*part, workers=1) == prepare(find_sources(meshes), Recipe(None), tmp_path / "whole", workers=1)


def test_a_shape_that_changed_is_prepared_again_and_its_last_row_counts(meshes, tmp_path):
  recipe = Recipe(None)
  prepare_part(find_sources(meshes), Part(0, 1), recipe, tmp_path / "d", {}, workers=1)
  trimesh.creation.box([1, 1, 1]).export(meshes / "broken.obj")
  again = prepare_part(find_sources(meshes), Part(0, 1), recipe, tmp_path / "d", {}, workers=1)
  assert again == prepare(find_sources(meshes), recipe, tmp_path / "whole", workers=1)
  rows, _ = parts.merge([tmp_path / "d"], tmp_path / "d")
  assert list(rows) == again and rows[0].status == "accepted"


def test_what_cannot_be_merged_is_refused_by_name(meshes, tmp_path, capsys):
  def fails(words, code, text):
    capsys.readouterr()
    assert main(["prepare", *words]) == code
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("prepared ")]
    assert len(error) == 1 and text in error[0], error

  d, e = tmp_path / "d", tmp_path / "e"
  d.mkdir()
  fails(["--merge", str(d)], 66, "holds no parts")
  assert shard(meshes, d, 0, 2) == 0
  fails(["--merge", str(d)], 66, "part 1/2 is missing")
  fails([str(meshes), "--out", str(d), "--shard=0/2", "--samples=60"], 2, "protocol.num=50, not 60")
  fails([str(meshes), "--out", str(d), "--shard=0/2", *WORDS, "--sign=winding"], 2, "sign='auto', not 'winding'")
  fails([str(meshes), "--out", str(d), "--shard=0/3", *WORDS], 2, "another division")
  assert shard(meshes, e, 0, 2) == 0
  fails(["--merge", str(d), str(e), "--out", str(d)], 65, "is part 0/2, and so is")
  fails(["--merge", str(d), str(e)], 2, "--out")
  (e / "parts" / "0-of-2.jsonl").unlink()
  assert shard(meshes, e, 1, 2, "--seed=1") == 0
  fails(["--merge", str(d), str(e), "--out", str(d)], 2, "seed=1, not 0")
  (e / "parts" / "1-of-2.jsonl").unlink()
  assert shard(meshes, e, 1, 2) == 0
  path = e / "parts" / "1-of-2.jsonl"
  whole = path.read_text()
  path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
  fails(["--merge", str(d), str(e), "--out", str(d)], 66, "run --shard 1/2 again")
  first = json.loads((d / "parts" / "0-of-2.jsonl").read_text().splitlines()[1])
  swapped = json.loads(whole.splitlines()[-1])
  path.write_text("".join(whole.splitlines(keepends=True)[:-1]) + json.dumps({**swapped, "index": first["index"]}) + "\n")
  fails(["--merge", str(d), str(e), "--out", str(d)], 65, "stands in")
  (meshes / "new.obj").write_bytes(b"")
  fails([str(meshes), "--out", str(d), "--shard=0/2", *WORDS], 2, "shapes=9, not 10")


@pytest.mark.parametrize("words, text", [
    (["in", "--out=o", "--shard=2/2"], "--array=0-1"), (["in", "--out=o", "--shard=2"], "0/64"),
    (["in", "--out=o", "--shard=0/0"], "0/64"), (["in", "--merge", "in"], "takes no SOURCE"), (["--out=o"], "SOURCE"),
    (["in", "--out=o", "--shard=0/2", "--format=deepsdf"], "--merge"),
    (["in", "--out=o", "--engine=rye"], "did you mean 'ray'"),
])
def test_a_wrong_division_is_one_line(meshes, tmp_path, monkeypatch, capsys, words, text):
  monkeypatch.chdir(tmp_path)
  assert main(["prepare", *words]) == 2
  error = capsys.readouterr().err
  assert text in error and len(error.splitlines()) == 1


def test_two_processes_are_not_at_one_part(tmp_path):
  with PartFile(tmp_path, Part(0, 2), {"shapes": 1}, 1) as file:
    file.add(Done(0, "d", Row("a", "", "rejected", ("x",), "")))
    with pytest.raises(TryAgain, match="another process prepares part 0/2"):
      PartFile(tmp_path, Part(0, 2), {"shapes": 1}, 1)
  with PartFile(tmp_path, Part(0, 2), {"shapes": 1}, 1) as file:
    assert file.known[0].row.reasons == ("x",)


def test_the_memory_of_a_merge_does_not_grow_with_the_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(parts, "_adopt", lambda *_: None)

  def peak(num):
    root = tmp_path / str(num)
    shared = parts.describe([f"m-{i}" for i in range(num)], {})
    for k in range(2):
      with PartFile(root, Part(k, 2), shared, num // 2) as file:
        for i in reversed(range(k, num, 2)):
          file.add(Done(i, "d", Row(f"m-{i}", "c", "accepted", ("1 crumb",) * 20, f"{i}", facts={"faces": i})))
    tracemalloc.start()
    rows, _ = parts.merge([root], root)
    write_report(rows, root)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.name for row in read_index(root)] == [f"m-{i}" for i in range(num)]
    return most
  assert peak(1200) < peak(200) + 1000 * 600  # a row held takes over 1,700 bytes; json's garbage waits for collection


def test_the_merge_writes_deepsdfs_files_as_the_undivided_run_does(meshes, tmp_path, capsys):
  assert main(["prepare", str(meshes), "--out", str(tmp_path / "whole"), "--format=deepsdf", *WORDS]) == 0
  for i in range(2):
    assert shard(meshes, tmp_path / "d", i, 2) == 0
  assert main(["prepare", "--merge", str(tmp_path / "d"), "--format=deepsdf"]) == 0
  one, other = content(tmp_path / "whole"), content(tmp_path / "d")
  assert {n for n in one if not n.endswith(".npz")} == {n for n in other if not n.endswith(".npz")}
  assert one["in.json"] == other["in.json"] and set(one) == set(other)
  capsys.readouterr()


def test_shapes_are_given_one_at_a_time_and_few_wait_for_a_worker(meshes, tmp_path):
  class Counting:
    """Sources that count how many were asked for."""
    asked = 0

    def __init__(self, sources):
      self.sources = sources

    def __len__(self):
      return 1000

    def __getitem__(self, place):
      if isinstance(place, slice):
        return range(1000)[place]
      Counting.asked += 1
      if place >= 1000:
        raise IndexError
      return self.sources[place % len(self.sources)]

  rows = stream(Counting(find_sources(meshes)), Recipe(None), tmp_path / "d", workers=1)
  for _ in range(5):
    next(rows)
  assert Counting.asked == 5
  rows.close()


RAY = """
import sys
from fields3d.commands.main import main
if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ray_in_its_local_mode_makes_the_same_bytes(meshes, tmp_path):
  pytest.importorskip("ray", reason="Ray is not installed: pip install 'fields3d[ray]'")
  assert main(["prepare", str(meshes), "--out", str(tmp_path / "whole"), *WORDS]) == 0
  script = tmp_path / "go.py"
  script.write_text(RAY)
  words = ["prepare", str(meshes), "--out", str(tmp_path / "d"), "--samples=50", "--workers=2", "--engine=ray"]
  done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=300, check=False,
                        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
  assert done.returncode == 0, done.stderr
  assert content(tmp_path / "whole") == content(tmp_path / "d")
  assert cache.has_entry(tmp_path / "d", json.loads((tmp_path / "d" / "index.json").read_text())[0]["key"])


def test_an_engine_that_is_not_installed_is_named(meshes, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "ray", None)
  assert main(["prepare", str(meshes), "--out", str(tmp_path / "d"), "--samples=50", "--engine=ray"]) == 69
  assert "pip install 'fields3d[ray]'" in capsys.readouterr().err
