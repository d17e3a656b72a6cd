"""Preparation: what is accepted and why not, caching by content, any number of workers, killed at any time."""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import trimesh

from fields3d.core import strict_json
from fields3d.core.errors import BadData, CannotWrite, Fault, UsageFault
from fields3d.core.types import Mesh
from fields3d.data import cache, deepsdf_files, quality
from fields3d.data.prepare import Recipe, entry_key, make, prepare
from fields3d.data.sdf_samples import Protocol, split_by_sign
from fields3d.data.sources import MeshSource, find_sources
from fields3d.geometry.distance import signed_distance

SMALL = Recipe(Protocol(2000))


def put(path, shape) -> MeshSource:
  path.parent.mkdir(parents=True, exist_ok=True)
  shape.export(path)
  return MeshSource(path.stem, path.parent.name, path)


def box(size=(1.0, 0.6, 0.4), shift=(0, 0, 0)):
  made = trimesh.creation.box(size)
  made.apply_translation(shift)
  return made


def open_box():
  made = box()
  made.update_faces(np.arange(12) > 1)
  return made


def content(root: pathlib.Path) -> dict[str, str]:
  return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
          for p in sorted(root.rglob("*")) if p.is_file()}


def shapes(folder, count=4):
  for i in range(count):
    put(folder / "boxes" / f"{i}.ply", box((1.0, 0.3 + 0.1 * i, 0.4)))
  return find_sources(folder)


def test_reports_that_are_written_at_once_are_each_whole(tmp_path):
  def report(label):
    rows = [quality.Row(f"{label}{i}", label, "accepted", (), "key") for i in range(50)]
    for _ in range(4):
      quality.write_report(rows, tmp_path)

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(report, "abcd"))
  (label,) = {row.label for row in quality.read_index(tmp_path)}
  assert list(strict_json.read(tmp_path / quality.SUMMARY)["labels"]) == [label] and f"{label}49," in (tmp_path / quality.TABLE).read_text()


def test_a_closed_mesh_is_accepted_in_the_model_frame_with_exact_distances(tmp_path):
  source = put(tmp_path / "in" / "a.ply", box((4.0, 2.0, 2.0), shift=(7, 8, 9)))
  row, = prepare([source], SMALL, tmp_path / "out")
  assert row.status == "accepted" and row.label == "in" and row.reasons == ()
  facts = row.facts
  assert facts["sign"] == "winding" and facts["exact"] and facts["boundary_edges"] == 0 and facts["components"] == 1
  np.testing.assert_allclose(facts["frame"]["offset"], [7, 8, 9], rtol=1e-6)
  np.testing.assert_allclose(facts["frame"]["scale"], 1.03 * np.sqrt(6), rtol=1e-6)
  mesh, exposed = cache.read_entry_mesh(tmp_path / "out", row.key)
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1 / 1.03, rtol=1e-6)
  samples = cache.read_entry_samples(tmp_path / "out", row.key)
  assert len(samples.sdf) == 2000 and exposed.all()
  np.testing.assert_allclose(samples.sdf, signed_distance(mesh, samples.x.astype(float)), rtol=1e-6, atol=1e-9)


def test_an_open_mesh_is_rejected_naming_its_boundary_edges_unless_its_sign_is_chosen(tmp_path):
  source = put(tmp_path / "in" / "open.ply", open_box())
  row, = prepare([source], SMALL, tmp_path / "out")
  assert row.status == "rejected" and row.key == ""
  assert "4 boundary edges" in row.reasons[0] and "--sign=winding" in row.reasons[0]
  row, = prepare([source], dataclasses.replace(SMALL, sign="winding"), tmp_path / "out")
  assert row.status == "warned" and row.facts["sign"] == "winding" and not row.facts["exact"]
  row, = prepare([source], dataclasses.replace(SMALL, sign="unsigned"), tmp_path / "out")
  assert row.facts["sign"] == "unsigned" and row.facts["num_outside"] == row.facts["num_samples"]
  row, = prepare([source], dataclasses.replace(SMALL, sign="winding", strict=True), tmp_path / "out")
  assert row.status == "rejected" and row.reasons[0].startswith("strict: 4 boundary edges")


def test_a_sheet_encloses_no_volume(tmp_path):
  sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
  row, = prepare([put(tmp_path / "in" / "sheet.ply", sheet)], dataclasses.replace(SMALL, sign="winding"), tmp_path / "o")
  assert row.status == "rejected" and "encloses no volume" in row.reasons[0]


def test_inner_shells_are_filled_and_their_faces_are_out_of_the_distance(tmp_path):
  source = put(tmp_path / "in" / "nested.ply", trimesh.util.concatenate([box(), box((0.3, 0.3, 0.3))]))
  row, = prepare([source], SMALL, tmp_path / "out")
  assert row.facts["inner_faces"] == 12 and row.facts["exact"] and row.facts["components"] == 2
  samples = cache.read_entry_samples(tmp_path / "out", row.key)
  half = np.array([0.5, 0.3, 0.2]) / row.facts["frame"]["scale"]
  q = np.abs(samples.x.astype(float)) - half
  truth = np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)
  np.testing.assert_allclose(samples.sdf, truth, atol=2e-7)  # float32 vertices of the file, in a frame of size one


def test_crumbs_are_kept_unless_the_largest_component_is_asked_for(tmp_path):
  source = put(tmp_path / "in" / "two.ply", trimesh.util.concatenate([box(), box((0.1, 0.1, 0.1), (2, 0, 0))]))
  assert prepare([source], SMALL, tmp_path / "out")[0].facts["components"] == 2
  row, = prepare([source], dataclasses.replace(SMALL, keep_largest=True), tmp_path / "out")
  assert row.facts["components"] == 1 and row.reasons == ("12 faces of smaller components dropped",)


@pytest.mark.parametrize("name, data, words", [
    ("empty.obj", b"", "empty file"), ("text.obj", b"hello\n", "no faces"), ("gone.ply", None, "no such file"),
    ("nan.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
    ("point.obj", b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "degenerate"),
    ("bad.npz", b"PK\x03\x04", "bad.npz"),
])
def test_a_bad_file_is_a_row_and_the_others_go_on(tmp_path, name, data, words):
  good = put(tmp_path / "in" / "good.ply", box())
  if data is not None:
    (tmp_path / "in" / name).write_bytes(data)
    bad = next(s for s in find_sources(tmp_path / "in") if s.name == name.split(".")[0])
  else:
    bad = MeshSource("gone", "", tmp_path / "in" / name)
  rows = prepare([bad, good], SMALL, tmp_path / "out", workers=1)
  assert [row.status for row in rows] == ["rejected", "accepted"]
  assert words in rows[0].reasons[0]
  assert [p.name for p in (tmp_path / "out").iterdir()] == [rows[1].key]


def test_the_same_content_is_prepared_once_and_another_recipe_apart(tmp_path, monkeypatch):
  sources = shapes(tmp_path / "in", 2)
  first = prepare(sources, SMALL, tmp_path / "out")
  before = content(tmp_path / "out")
  monkeypatch.setattr("fields3d.data.prepare.make", lambda *a: pytest.fail("made again"))
  assert prepare(sources, SMALL, tmp_path / "out") == first
  os.rename(sources[0].path, tmp_path / "in" / "boxes" / "renamed.ply")
  moved = find_sources(tmp_path / "in")
  assert {r.key for r in prepare(moved, SMALL, tmp_path / "out")} == {r.key for r in first}
  assert content(tmp_path / "out") == before
  digest = sources[1].digest()
  keys = {entry_key(digest, r) for r in (SMALL, dataclasses.replace(SMALL, seed=1), Recipe(None),
                                         dataclasses.replace(SMALL, protocol=Protocol(2000, (0.1,))))}
  assert len(keys) == 4


def test_two_workers_write_the_same_bytes_as_one(tmp_path):
  sources = shapes(tmp_path / "in", 3)
  seen = []
  serial = prepare(sources, SMALL, tmp_path / "a", workers=1)
  parallel = prepare(sources, SMALL, tmp_path / "b", workers=2, progress=seen.append)
  assert serial == parallel and len(seen) == 3
  assert content(tmp_path / "a") == content(tmp_path / "b")


SLOW = """
import sys, time
from fields3d.data import prepare as module
from fields3d.data.sdf_samples import Protocol
from fields3d.data.sources import find_sources

if __name__ == "__main__":
  write = module.cache.write_entry
  module.cache.write_entry = lambda *a: (time.sleep(0.2), write(*a))
  module.prepare(find_sources(sys.argv[1]), module.Recipe(Protocol(2000)), sys.argv[2], workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_at_any_point_is_finished_by_the_next(tmp_path, workers):
  sources = shapes(tmp_path / "in", 6)
  whole = prepare(sources, SMALL, tmp_path / "whole", workers=1)
  script = tmp_path / "slow.py"
  script.write_text(SLOW)
  root = tmp_path / "killed"
  process = subprocess.Popen([sys.executable, script, tmp_path / "in", root, str(workers)])
  deadline = time.monotonic() + 60
  while not list(root.glob("*/entry.json")) and time.monotonic() < deadline:
    assert process.poll() is None
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  time.sleep(0.5)  # workers see that their parent is gone, and end; on a busy machine it takes them longer
  while time.monotonic() < deadline and any(pathlib.Path("/proc", d.name.split(".")[-2]).exists() for d in root.glob(".*.*.*")):
    time.sleep(0.1)
  half_made = root / f".{os.uname().nodename}.{process.pid}.abc"
  half_made.mkdir()
  done = len(list(root.glob("*/entry.json")))
  assert 1 <= done < 6
  assert prepare(sources, SMALL, root, workers=1) == whole
  assert content(root) == content(tmp_path / "whole") and not half_made.exists()


DEADLY = """
import os, sys, time
from fields3d.data import prepare as module
from fields3d.data.sdf_samples import Protocol
from fields3d.data.sources import find_sources

make = module.make

def deadly(source, *rest):
  if source.name.endswith("1"):
    os.kill(os.getpid(), 9)
  if source.name.endswith("2"):
    time.sleep(1000)
  return make(source, *rest)

module.make = deadly
if __name__ == "__main__":
  rows = module.prepare(find_sources(sys.argv[1]), module.Recipe(Protocol(2000)), sys.argv[2], workers=2, timeout=10)
  print([(row.status, *row.reasons) for row in rows])
"""


def test_shapes_that_kill_or_hold_up_their_worker_are_named_and_tried_again(tmp_path):
  sources = shapes(tmp_path / "in", 4)
  script = tmp_path / "deadly.py"
  script.write_text(DEADLY)
  done = subprocess.run([sys.executable, script, tmp_path / "in", tmp_path / "out"], capture_output=True, text=True,
                        check=True, timeout=300)
  assert eval(done.stdout) == [
      ("accepted",), ("rejected", "took its worker process with it twice (SIGKILL: out of memory?)"),
      ("rejected", "took longer than 10 s; --timeout gives it longer"), ("accepted",)]
  assert "boxes/1: took its worker" in done.stderr and "boxes/2: took longer" in done.stderr
  assert prepare(sources, SMALL, tmp_path / "out", workers=1) == prepare(sources, SMALL, tmp_path / "whole", workers=1)
  assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_bug_or_too_little_memory_rejects_one_shape_and_the_others_go_on(tmp_path, monkeypatch):
  def faulty(source, *rest):
    if source.name.endswith("1"):
      raise MemoryError
    return make(source, *rest) if source.name.endswith("2") else {}[source.name]
  monkeypatch.setattr("fields3d.data.prepare.make", faulty)
  rows = prepare(shapes(tmp_path / "in", 3), SMALL, tmp_path / "out", workers=1)
  assert [row.status for row in rows] == ["rejected", "rejected", "accepted"]
  assert "a bug of ours: KeyError ('boxes/0') at test_prepare.py:" in rows[0].reasons[0]
  assert "more memory than there is" in rows[1].reasons[0]


def test_samples_of_the_wrong_sign_are_rejected_and_turned_when_declared(tmp_path):
  x = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
  inverted = split_by_sign(x, (0.6 - np.linalg.norm(x, axis=1)).astype(np.float32))
  deepsdf_files.write_samples(tmp_path / "SdfSamples" / "d" / "c" / "x.npz", inverted)
  row, = prepare(find_sources(tmp_path), SMALL, tmp_path / "out")
  assert row.status == "rejected" and "--sdf-sign" in row.reasons[0]
  row, = prepare(find_sources(tmp_path, "positive-inside"), SMALL, tmp_path / "out")
  assert row.status == "accepted" and row.facts["sign"] == "given" and not row.facts["mesh"]
  assert cache.read_entry_samples(tmp_path / "out", row.key).num_outside == (np.linalg.norm(x, axis=1) >= 0.6).sum()


def test_what_the_disk_has_no_room_for_is_refused_before_the_work(tmp_path):
  sources = shapes(tmp_path / "in", 2)
  with pytest.raises(CannotWrite, match="GiB are free"):
    prepare(sources, Recipe(Protocol(10**12)), tmp_path / "out")
  with pytest.raises(UsageFault, match="workers"):
    prepare(sources, SMALL, tmp_path / "out", workers=0)
  (tmp_path / "file").write_text("")
  with pytest.raises(Fault):
    prepare(sources, SMALL, tmp_path / "file")


def test_an_entry_of_another_version_is_not_taken(tmp_path, monkeypatch):
  row, = prepare(shapes(tmp_path / "in", 1), SMALL, tmp_path / "out")
  monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
  with pytest.raises(BadData, match="another version"):
    cache.read_facts(tmp_path / "out", row.key)
  assert prepare(find_sources(tmp_path / "in"), SMALL, tmp_path / "out")[0].key != row.key


def test_many_entries_are_read_with_few_open_files(tmp_path, monkeypatch):
  rows = prepare(shapes(tmp_path / "in", 3), SMALL, tmp_path / "out", workers=1)
  monkeypatch.setattr(cache, "_OPEN_FILES", 2)
  samples = cache.EntrySamples(tmp_path / "out", [row.key for row in rows])
  opened = len(os.listdir("/proc/self/fd"))
  for _ in range(5):
    for one in samples:
      assert one.normals.shape == (2000, 3) and one.colors is None
  del one
  assert len(os.listdir("/proc/self/fd")) <= opened + 3
  assert isinstance(samples[0].x, np.ndarray) and not samples[0].x.flags.writeable


def test_the_quality_table_counts_reasons_without_their_numbers(tmp_path):
  rows = [quality.Row("a", "chair", "accepted", (), "k1"),
          quality.Row("b", "chair", "warned", ("12 boundary edges: the surface is open",), "k2", facts={"faces": 3}),
          quality.Row("c", "sofa", "warned", ("7 boundary edges: the surface is open",), "k3"),
          quality.Row("d", "sofa", "rejected", ("/x/d.obj: empty file; fetch it",), "")]
  made = quality.summary(rows)
  assert made["status"] == {"accepted": 1, "warned": 2, "rejected": 1} and made["labels"] == {"chair": 2, "sofa": 1}
  assert made["reasons"] == {"boundary edges the surface is open": 2, "empty file": 1}
  quality.write_report(rows, tmp_path)
  assert quality.read_index(tmp_path) == rows[:3]
  assert (tmp_path / quality.TABLE).read_text().splitlines()[2].startswith("b,chair,warned,12 boundary edges")
  (tmp_path / quality.INDEX).write_text('[{"nam": 1}]')
  with pytest.raises(BadData, match="not the index"):
    quality.read_index(tmp_path)


@pytest.mark.parametrize("name, faces", [("classic/armadillo/armadillo.obj", 29_170), ("open_boundary/teapot.obj", 6_320)])
def test_real_meshes_are_prepared(real_data, tmp_path, name, faces):
  source, = find_sources(real_data / "meshes" / name)
  row, = prepare([source], dataclasses.replace(SMALL, sign="winding"), tmp_path)
  assert row.facts["faces"] == faces and row.status == ("warned" if "open" in name else "accepted")
  assert 0.2 < row.facts["num_outside"] / row.facts["num_samples"] < 0.9


def test_every_open_mesh_is_rejected_by_default(real_data, tmp_path):
  rows = prepare(find_sources(real_data / "meshes" / "open_boundary"), Recipe(None), tmp_path, workers=1)
  assert len(rows) == 7 and all("boundary edges" in row.reasons[0] for row in rows)


def test_the_distance_of_a_furniture_model_does_not_depend_on_its_inner_faces(real_data, tmp_path):
  model = next(m for m in find_sources(real_data / "shapes" / "furniture") if m.name.startswith("0087"))
  made = make(model, dataclasses.replace(SMALL, protocol=Protocol(300)), "0" * 32)
  assert made.facts["inner_faces"] > 100 and made.samples.colors is not None
  bare = Mesh(made.mesh.vertices, made.mesh.faces, made.mesh.colors)
  everything = np.abs(signed_distance(bare, made.samples.x.astype(float)))
  assert (np.abs(made.samples.sdf) >= everything - 1e-6).all()  # a subset of faces is never nearer
