"""Runs in an object store, held against a stand-in: what is there is whole, and a run goes on from it on another machine."""

import importlib.util
import json
import pathlib
import shutil
import threading

import jax
import numpy as np
import object_store
import pytest
import toys

from fields3d.commands import main as command_line
from fields3d.core.errors import BadData, Fault, IOFault, UsageFault
from fields3d.training import lock, manifest, storage
from fields3d.training.checkpoint import Checkpoints
from fields3d.training.logging import RunLog, read_metrics
from fields3d.training.loop import Loop, LoopSettings
from fields3d.training.optim import adam
from fields3d.training.storage import Mirror, mirrored, spool

ROOT = pathlib.Path(__file__).parents[2]
URL = "gs://bucket/runs/one"


@pytest.fixture
def store(tmp_path, monkeypatch):
  monkeypatch.setenv("FIELDS3D_SPOOL", str(tmp_path / "spool"))
  return object_store.stand_in(monkeypatch, tmp_path / "store")


def saved(folder, *steps):
  with Checkpoints(folder / "checkpoints", keep=9) as checkpoints:
    for step in steps:
      checkpoints.save(step, {"w": np.full(5, step)}, blocking=True)


def content(state):
  return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state.step, state.params, state.ema, state.opt)))


def train(workdir, num_steps):
  workdir.mkdir(exist_ok=True, parents=True)
  (workdir / "config.json").write_text("{}")
  return Loop(toys.regression(noise=0.1), toys.line_data(), {"model": adam(0.05, ema=0.9)}, seed=3, num_steps=num_steps,
              workdir=workdir, log=RunLog(workdir, num_steps), settings=LoopSettings(log_every=1, checkpoint_every=5)).run()


def flip(store, step, suffix="state"):
  """One bit of the largest object of a step."""
  path = max((p for p in store.folder.iterdir() if f"checkpoints%2F{step}%2F{suffix}" in p.name), key=lambda p: p.stat().st_size)
  held = bytearray(path.read_bytes())
  held[len(held) // 2] ^= 1
  path.write_bytes(held)


def test_a_run_goes_on_bit_equal_on_another_machine_past_a_damaged_step(store, tmp_path):
  whole = content(train(tmp_path / "whole", 20))
  with mirrored(URL, 3, None) as workdir:
    train(workdir, 12)
  shutil.rmtree(tmp_path / "spool")
  flip(store, 12)
  warnings = []
  with mirrored(URL, 3, None, warn=warnings.append) as workdir:
    assert manifest.steps(workdir / "checkpoints") == [10]
    assert content(train(workdir, 20)) == whole
  assert len(warnings) == 1 and "step 12 is damaged" in warnings[0]
  shutil.rmtree(tmp_path / "spool")
  mirror = Mirror(URL, tmp_path / "third")
  mirror.fetch_files()
  assert list(read_metrics(tmp_path / "third")["step"]) == list(range(1, 21))
  assert mirror.fetch_step(20) == [] and mirror.steps() == [10, 12, 15, 20] and not any("lock" in n for n in store.names())


def test_wherever_sending_breaks_off_a_whole_step_is_there(store, tmp_path):
  """Cut off after every possible number of changes, of a first send and of one that replaces a damaged step and prunes."""
  source = tmp_path / "source"
  saved(source, 1, 2)
  mirror = Mirror(URL, source)
  mirror.send(2, None)
  before = {p.name: p.read_bytes() for p in store.folder.iterdir()}
  saved(source, 3)
  store.done.clear()
  mirror.send(2, None)
  changes = len(store.done)
  assert changes > 10
  for left in range(changes + 1):
    for path in store.folder.iterdir():
      path.unlink()
    for name, held in before.items():
      (store.folder / name).write_bytes(held)
    store.left = left
    try:
      Mirror(URL, source).send(2, None)
      assert left >= changes
    except object_store.Cut:
      pass
    store.left = None
    other = Mirror(URL, tmp_path / f"copy{left}")
    newest = other.steps()[-1]
    assert other.fetch_step(newest) == [] and newest in (2, 3)
    with Checkpoints(other.local / "checkpoints") as checkpoints:
      step, tree = checkpoints.restore({"w": np.zeros(5, int)})
    assert step == newest and (tree["w"] == step).all()
    shutil.rmtree(other.local)
  assert newest == 3


def test_pruning_in_the_store_is_that_of_a_disk_and_removes_manifests_first(store, tmp_path):
  saved(tmp_path / "source", 2, 4, 6, 7, 8)
  mirror = Mirror(URL, tmp_path / "source")
  mirror.send(2, 4)
  assert mirror.steps() == [4, 7, 8]
  assert not [name for name in store.names() if "/checkpoints/2/" in name or "/checkpoints/6/" in name]
  removed = [path for kind, path in store.done if kind == "remove" and "/6/" in path]
  assert removed[0].endswith("/6/manifest.json") and len(removed) > 3
  written = [path for kind, path in store.done if kind == "write" and "/8/" in path]
  assert written[-1].endswith("/8/manifest.json")


@pytest.mark.parametrize("when", ["listed", "copied"])
def test_a_step_that_the_run_replaces_while_it_is_fetched_is_not_damaged(store, tmp_path, monkeypatch, when):
  source, warnings, due = tmp_path / "source", [], [2]
  saved(source, 1)
  mirror, reader = Mirror(URL, source), Mirror(URL, tmp_path / "copy", warnings.append)
  mirror.send(1, None)
  original = {"listed": reader.fetch_step, "copied": storage._copy}[when]

  def meanwhile(*arguments):
    for step in [due.pop()] if due else []:
      saved(source, step)
      mirror.send(1, None)
    return original(*arguments)

  monkeypatch.setattr(*{"listed": (reader, "fetch_step"), "copied": (storage, "_copy")}[when], meanwhile)
  reader.fetch_newest()
  assert manifest.steps(tmp_path / "copy" / "checkpoints") == [2] and not warnings


def test_with_no_sound_step_in_the_store_nothing_is_trained_silently(store, tmp_path):
  saved(tmp_path / "source", 1, 2)
  Mirror(URL, tmp_path / "source").send(9, None)
  flip(store, 1), flip(store, 2)
  with pytest.raises(BadData, match="none of its 2 checkpoints is sound"), mirrored(URL, 3, None, warn=lambda line: None):
    pass


def test_a_copy_that_is_behind_the_store_or_of_another_run_is_not_taken_up(store, tmp_path):
  with mirrored(URL, 3, None) as workdir:
    (workdir / "config.json").write_text("{}")
    saved(workdir, 1)
  ahead = Mirror(URL, tmp_path / "elsewhere")
  ahead.take_up()
  saved(ahead.local, 2)
  ahead.send(3, None)
  with mirrored(URL, 3, None) as workdir:
    assert manifest.steps(workdir / "checkpoints")[-1] == 2
    saved(workdir, 3)
  for name in store.names():
    store.at(name).unlink()
  with mirrored(URL, 3, None) as workdir:
    assert not list(workdir.iterdir())
  assert manifest.steps(workdir.with_name("one.old") / "checkpoints") == [1, 2, 3]


@pytest.mark.parametrize("sent", [None, "{}"])
def test_what_never_reached_the_store_is_moved_aside_whole(store, monkeypatch, sent):
  """The same command again after every send failed, of a run that the store never had, and of one that had another config."""
  real, warnings = store.open, []

  def refuse(path, mode):
    if "w" in mode and not str(path).endswith(lock.NAME):
      raise RuntimeError("403 Forbidden")
    return real(path, mode)

  for number, aside in ((1, "one.old"), (2, "one.old.old")):
    if sent:
      store.at(f"{URL}/config.json").write_text(sent)
    with monkeypatch.context() as patch, pytest.raises(IOFault, match="403"), mirrored(URL, 3, None, warn=warnings.append) as workdir:
      patch.setattr(store, "open", refuse)
      (workdir / "config.json").write_text('{"num_steps": 9}')
      saved(workdir, number)
    with mirrored(URL, 3, None, warn=warnings.append) as workdir:
      assert not manifest.steps(workdir / "checkpoints")
    assert manifest.steps(workdir.with_name(aside) / "checkpoints") == [number]
    assert len(warnings) == number and URL in warnings[-1] and str(workdir.with_name(aside)) in warnings[-1]


def test_a_second_run_is_refused_and_a_dead_ones_lock_is_taken_over(store):
  with mirrored(URL, 3, None), pytest.raises(UsageFault, match="is in use by another run"), mirrored(URL, 3, None):
    pass
  store.at(f"{URL}/{lock.NAME}").write_text(json.dumps({**lock.identity(), "host": "elsewhere", "beats": "0"}))
  with mirrored(URL, 3, None, patience=0.3):
    assert json.loads(store.at(f"{URL}/{lock.NAME}").read_text())["host"] == lock.identity()["host"]
  assert not store.names()


def test_a_run_whose_upload_takes_longer_than_the_patience_lives(store, monkeypatch):
  real, sending, done, other = store.open, threading.Event(), threading.Event(), {**lock.identity(), "host": "elsewhere"}

  def slow(path, mode):
    if "w" in mode and str(path).endswith("notes.txt"):
      sending.set()
      assert done.wait(60)
    return real(path, mode)

  monkeypatch.setattr(store, "open", slow)
  with mirrored(URL, 3, None, period=0.02, patience=3.0) as workdir:
    (workdir / "notes.txt").write_text("here")
    assert sending.wait(60)
    monkeypatch.setattr(lock, "identity", lambda: other)
    try:
      with pytest.raises(UsageFault, match="is in use by another run"), mirrored(URL, 3, None, patience=3.0):
        pass
    finally:
      done.set()
  assert store.at(f"{URL}/notes.txt").read_text() == "here"


def test_a_run_that_lost_its_lock_sends_nothing_at_its_end(store, monkeypatch):
  with pytest.raises(UsageFault, match="was taken by another run"), mirrored(URL, 3, None) as workdir:
    theirs = lock.text({**lock.identity(), "host": "elsewhere"}, 0)
    store.at(f"{URL}/{lock.NAME}").write_text(theirs)
    saved(workdir, 1)
  assert store.names() == [f"bucket/runs/one/{lock.NAME}"] and store.at(f"{URL}/{lock.NAME}").read_text() == theirs


def test_a_store_that_fails_is_tried_again_and_named_at_the_end(store, monkeypatch):
  warnings = []
  real = store.open

  def refuse(path, mode):
    if "w" in mode and not str(path).endswith(lock.NAME):
      raise RuntimeError("503 Service Unavailable")
    return real(path, mode)

  with mirrored(URL, 3, None, warn=warnings.append, period=0.02) as workdir:
    saved(workdir, 1)
    with monkeypatch.context() as patch:
      patch.setattr(store, "open", refuse)
      (workdir / "notes.txt").write_text("here")
      while not warnings:
        pass
  assert len(warnings) == 1 and "503 Service Unavailable" in warnings[0] and "tried again" in warnings[0]
  assert store.at(f"{URL}/notes.txt").read_text() == "here"
  monkeypatch.setattr(store, "open", refuse)
  with pytest.raises(IOFault, match="503 Service Unavailable"), mirrored(URL, 3, None) as workdir:
    (workdir / "notes.txt").write_text("later")


def test_what_does_not_read_back_is_not_committed(store, tmp_path, monkeypatch):
  saved(tmp_path / "source", 1)
  real = store.open
  monkeypatch.setattr(store, "open", lambda path, mode: object_store.io.BytesIO(b"x") if "/state/" in str(path) and
                      mode == "rb" else real(path, mode))
  mirror = Mirror(URL, tmp_path / "source")
  with pytest.raises(Fault, match="does not read back"):
    mirror.send(3, None)
  assert mirror.steps() == []


@pytest.mark.parametrize("url", ["gs://", "gs://bucket/../../etc", "gs://bucket//run"])
def test_a_url_cannot_leave_the_folder_of_copies(store, url):
  with pytest.raises(UsageFault, match="is not a path in a bucket"):
    spool(url)


def test_the_commands_take_urls_and_send_what_they_write(store, tmp_path, capsys):
  config = f"{ROOT}/experiments/deepsdf/quickstart.py:runlocal"
  words = ["train", "--config", config, "--workdir", URL, "--config.num_steps=2", "--config.data.num_shapes=2",
           "--config.data.families=chair,mug"]
  assert command_line.main(words) == 0, capsys.readouterr().err
  assert f"next: fields3d evaluate {URL}" in capsys.readouterr().out
  names = [name.removeprefix("bucket/runs/one/") for name in store.names()]
  assert {"config.json", "environment.json", "metrics.jsonl", "checkpoints/2/manifest.json"} <= set(names)
  assert any(name.startswith("tb/") for name in names)
  shutil.rmtree(tmp_path / "spool")
  assert command_line.main(["inspect", "run", URL]) == 0, capsys.readouterr().err
  capsys.readouterr()
  assert command_line.main(["extract", URL, "--step", "7"]) == 66
  assert "has no step 7" in capsys.readouterr().err


def test_what_a_command_writes_is_sent_and_nothing_else(store, tmp_path):
  saved(tmp_path / "source", 1, 2)
  (tmp_path / "source" / "config.json").write_text("{}")
  Mirror(URL, tmp_path / "source").send(9, None)
  store.done.clear()
  for number in (1, 2):
    with pytest.raises(BadData), storage.at_hand([URL, "--step", "1", "--out=gs://bucket/out"]) as words:
      run, out = pathlib.Path(words[0]), pathlib.Path(words[3].removeprefix("--out="))
      assert (run / "config.json").read_text() == "{}" and manifest.steps(run / "checkpoints") == [1]
      assert sorted(p.name for p in (run / "meshes").glob("*")) == ["1.glb"] * (number == 2)
      (run / "meshes").mkdir(exist_ok=True)
      (run / "meshes" / f"{number}.glb").write_text("mesh")
      assert out.is_dir() == (number == 2)
      out.mkdir(exist_ok=True)
      (out / "table.json").write_text(str(number))
      raise BadData("a fault", "after the rest was written")
  wrote = [(kind, path.removeprefix("gs://bucket/")) for kind, path in store.done]
  assert sorted(wrote) == sorted(("write", path) for path in ("runs/one/meshes/1.glb", "runs/one/meshes/2.glb", "out/table.json",
                                                            "out/table.json"))


def test_a_curve_brings_every_step_and_a_run_beside_the_commands_own_its_newest(store, tmp_path):
  saved(tmp_path / "source", 1, 2)
  Mirror(URL, tmp_path / "source").send(9, None)
  for words, steps in ((["--step=1"], [1]), (["--step", "1", "--curve=20"], [1, 2])):
    with storage.at_hand(["evaluate", URL, *words]) as (_, run, *_):
      assert manifest.steps(pathlib.Path(run) / "checkpoints") == steps
    shutil.rmtree(run)
  with storage.at_hand(["evaluate", "runs/here", "--step=1", f"--surfaces={URL}"]) as words:
    assert manifest.steps(pathlib.Path(words[-1].removeprefix("--surfaces=")) / "checkpoints") == [2]


@pytest.mark.parametrize("words", [["--out", "gs://bucket/lr=0.1/film.mp4"], ["--out=gs://bucket/lr=0.1/film.mp4"]])
def test_one_file_is_fetched_where_it_is_and_sent_where_it_changed(store, words):
  url = "gs://bucket/lr=0.1/film.mp4"
  for before in (None, "first"):
    with storage.at_hand(["render", "gs://bucket/scan.ply", *words]) as (_, scan, *option):
      path = pathlib.Path(option[-1].removeprefix("--out="))
      assert path.parent.is_dir() and (path.read_text() if path.exists() else None) == before
      path.write_text("second" if before else "first")
      assert not pathlib.Path(scan).exists()
    assert store.at(url).read_text() == path.read_text()
  store.done.clear()
  with storage.at_hand(["compare", url]):
    pass
  assert store.done == []


def test_a_copy_of_what_is_gone_from_the_store_is_not_taken_for_it(store):
  path = spool(URL, "read")
  store.at(f"{URL}/mesh.glb").write_text("mesh")
  with storage.at_hand([URL]):
    assert (path / "mesh.glb").exists()
  store.at(f"{URL}/mesh.glb").unlink()
  with storage.at_hand([URL]):
    assert not path.exists()
    path.write_text("a file")
  with storage.at_hand([URL]):
    assert path.read_text() == "a file"
  store.at(URL).unlink()
  store.at(f"{URL}/mesh.glb").write_text("mesh")
  with storage.at_hand([URL]):
    assert (path / "mesh.glb").read_text() == "mesh"


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_without_the_library_a_url_is_exit_69_with_the_remedy(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("FIELDS3D_SPOOL", str(tmp_path))
  assert command_line.main(["extract", URL]) == 69
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "pip install 'fields3d[gcs]'" in said and storage.is_remote(URL)
