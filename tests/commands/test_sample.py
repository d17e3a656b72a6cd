"""Sampling: the same seed gives the same files, and a draw without a surface is said, not written."""

import argparse
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.commands import main, rundir, sample
from fields3d.core.errors import BadData, UsageFault
from fields3d.core.types import Dataset
from fields3d.training.logging import read_json


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run of spheres whose radius is the code; sampled radii below 0 have no surface."""
  workdir = tmp_path / "run"
  workdir.mkdir()
  predict = {"sample": lambda key, num: jax.random.uniform(key, (num, 1), minval=-0.3, maxval=0.8),
             "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z[0],
             "color": lambda x, z: jnp.broadcast_to(jnp.asarray([1.0, 0.5, 0.0]), x.shape)}
  opened = argparse.Namespace(workdir=workdir, config={"extract_resolution": 16}, step=7, predict=predict,
                              dataset=Dataset({}, None, None))
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  return opened


def test_the_same_seed_gives_the_same_files(run, tmp_path, capsys):
  for out in ("a", "b"):
    assert main.main(["sample", str(run.workdir), "--num", "6", "--seed", "3", "--out", str(tmp_path / out)]) == 0
  text = capsys.readouterr().out
  first = read_json(tmp_path / "a" / "samples.json")
  assert first["seed"] == 3 and first["step"] == 7 and first["resolution"] == 16 and len(first["shapes"]) == 6
  files = [row["file"] for row in first["shapes"] if row["file"]]
  assert 0 < len(files) < 6 and f"{len(files)} of 6 shapes of step 7, seed 3" in text
  assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted([*files, "samples.json"])
  for name in files:
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj"])
def test_every_format_lands_in_the_run_directory_by_default(run, suffix):
  assert main.main(["sample", str(run.workdir), "--format", suffix, "--num", "2", "--resolution", "12"]) == 0
  assert list((run.workdir / "samples").glob(f"*.{suffix}"))
  assert read_json(run.workdir / "samples" / "samples.json")["resolution"] == 12


def test_earlier_samples_do_not_stay_among_new_ones(run):
  samples, box = run.workdir / "samples", lambda x, z: jnp.linalg.norm(x, axis=-1) - 0.5
  run.predict["sdf"] = box
  for flags, names in ((["--num", "4"], [f"000{i}.glb" for i in range(4)]), (["--num", "2", "--seed", "1"], ["0000.glb", "0001.glb"])):
    assert main.main(["sample", str(run.workdir), *flags]) == 0
    assert sorted(path.name for path in samples.iterdir()) == [*names, "samples.json"]
  run.predict["sdf"] = lambda x, z: box(x, z) + 2
  assert main.main(["sample", str(run.workdir), "--num", "2"]) == 65
  assert [path.name for path in samples.iterdir()] == ["samples.json"]
  assert [row["file"] for row in read_json(samples / "samples.json")["shapes"]] == [None] * 2


def test_specks_are_taken_off_the_files(run):
  away = lambda x, place: jnp.linalg.norm(x - jnp.array([place, 0.0, 0.0]).reshape(1, 3), axis=-1)
  run.predict["sdf"] = lambda x, z: jnp.minimum(away(x, -0.4) - 0.5, away(x, 0.7) - 0.12)
  faces = []
  for share in ("0.01", "0.3"):
    assert main.main(["sample", str(run.workdir), "--num", "1", "--resolution", "32", "--specks", share]) == 0
    found = read_json(run.workdir / "samples" / "samples.json")
    assert found["specks"] == float(share)
    faces.append(found["shapes"][0]["faces"])
  assert faces[1] < faces[0]
  assert main.main(["sample", str(run.workdir), "--specks", "1"]) == 2


def test_no_surface_at_all_is_exit_65_and_no_sampler_is_exit_2(run, capsys):
  run.predict["sdf"] = lambda x, z: jnp.linalg.norm(x, axis=-1) + 1
  assert main.main(["sample", str(run.workdir), "--num", "1"]) == 65
  assert "none of the 1 draws has a surface" in capsys.readouterr().err
  del run.predict["sample"]
  assert main.main(["sample", str(run.workdir)]) == 2
  assert "predicts no 'sample'" in capsys.readouterr().err


def stub(**predict):
  """What `_draw` needs of an opened run."""
  return types.SimpleNamespace(predict=predict, dataset=types.SimpleNamespace(info={"classes": ["chair", "table"]}))


def asked(**flags):
  return argparse.Namespace(**{"workdir": "run", "num": 2, "seed": 0, "label": None, "scan": None, **flags})


def test_a_label_is_drawn_by_its_number_and_an_unknown_one_is_named():
  opened = stub(sample_label=lambda key, label, num: (key, label, num))
  assert sample._draw(opened, asked(label="table"), "key") == ("key", 1, 2)
  with pytest.raises(UsageFault, match="no class 'tabel'; did you mean 'table'"):
    sample._draw(opened, asked(label="tabel"), "key")
  with pytest.raises(UsageFault, match="predicts no 'sample_label'"):
    sample._draw(stub(), asked(label="table"), "key")


def test_a_scan_is_read_in_the_frame_of_the_run_or_refused(tmp_path):
  opened, path = stub(complete=lambda points, key, num: points), tmp_path / "scan.npy"
  points = np.random.default_rng(0).uniform(-0.5, 0.5, (7, 3))
  np.save(path, points)
  np.testing.assert_array_equal(sample._draw(opened, asked(scan=path), None), np.float32(points))
  np.save(path, 100 * points)
  with pytest.raises(BadData, match="outside the run's frame"):
    sample._draw(opened, asked(scan=path), None)
  np.save(path, points)
  np.save(tmp_path / "another.npy", points)
  with pytest.raises(UsageFault, match=r"is a set of clouds \(2\)"):
    sample._draw(opened, asked(scan=tmp_path), None)
  np.save(path, np.stack([points, points + 0.1]))
  with pytest.raises(UsageFault, match=r"is a set of clouds \(2\)"):
    sample._draw(opened, asked(scan=path), None)


@pytest.mark.parametrize("clouds", [False, True])
def test_a_draw_that_is_not_finite_costs_itself_alone(run, clouds, capsys):
  draw = jnp.array([[0.5], [jnp.nan], [0.3]])
  run.predict["sample"] = lambda key, num: draw
  if clouds:
    del run.predict["sdf"]
    run.predict["points"] = lambda z, key: jnp.broadcast_to(z, (8, 3))
  assert main.main(["sample", str(run.workdir), "--num", "3"]) == 76
  out, error = capsys.readouterr()
  assert "2 of 3 shapes of step 7" in out and "1 of 3 draws have values that are not finite; use an earlier" in error
  rows = read_json(run.workdir / "samples" / "samples.json")["shapes"]
  assert [bool(row["file"]) for row in rows] == [True, False, True]
