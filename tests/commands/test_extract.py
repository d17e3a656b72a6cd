"""The extract command: files, table and record of a run; faults with their exit codes."""

import argparse

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.commands import main, rundir
from fields3d.core.types import Frame
from fields3d.training.logging import read_json


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run of three shapes whose code is a radius; the last has no surface. The second comes from another frame."""
  workdir = tmp_path / "run"
  workdir.mkdir()
  radii = jnp.array([[0.5], [0.3], [-1.0]])
  predict = {"code": lambda index: radii[index],
             "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z[0],
             "color": lambda x, z: jnp.broadcast_to(jnp.asarray([1.0, 0.5, 0.0]), x.shape)}
  shapes = [argparse.Namespace(name=name, frame=frame) for name, frame in
            (("ball", Frame()), ("a/b c", Frame((5.0, 0.0, 0.0), 2.0)), ("none", Frame()))]
  dataset = argparse.Namespace(info={}, shapes=lambda split: {"train": shapes}[split])
  opened = argparse.Namespace(workdir=workdir, config={"extract_resolution": 16}, step=7, predict=predict,
                              dataset=dataset)
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  return opened


def test_chosen_shapes_become_files_in_the_frame_of_the_data(run, tmp_path, capsys):
  out = tmp_path / "out"
  assert main.main(["extract", str(run.workdir), "--index", "1,0", "--format", "ply", "--out", str(out)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == "file vertices faces components watertight genus evaluations seconds".split()
  assert lines[1].split()[0] == "0001_a_b_c.ply" and lines[1].split()[3:6] == ["1", "yes", "0"]
  assert lines[-1] == f"step 7: 2 of 2 shapes are in {out}"
  mesh = trimesh.load(out / "0001_a_b_c.ply", process=False)
  # atol: chords of a sphere of radius 0.6 at this resolution.
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices - [5, 0, 0], axis=1), 0.6, rtol=0, atol=0.02)
  record = read_json(out / "extract.json")
  assert record["resolution"] == 16 and record["step"] == 7 and record["method"] == "sparse"
  assert [row["index"] for row in record["shapes"]] == [1, 0]


def test_all_shapes_by_default_and_one_without_surface_is_named_and_exit_65(run, capsys):
  assert main.main(["extract", str(run.workdir)]) == 65
  captured = capsys.readouterr()
  assert "0002 none: no zero crossing" in captured.out
  assert "1 of 3 shapes have no surface" in captured.err
  names = sorted(p.name for p in (run.workdir / "meshes").iterdir())
  assert names == ["0000_ball.glb", "0001_a_b_c.glb", "extract.json"]


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj"])
def test_both_methods_write_the_same_mesh(run, tmp_path, suffix):
  for method in ("sparse", "dense"):
    assert main.main(["extract", str(run.workdir), "--index", "0", "--method", method, "--format", suffix,
                      "--out", str(tmp_path / method)]) == 0
  files = [tmp_path / method / f"0000_ball.{suffix}" for method in ("sparse", "dense")]
  meshes = [trimesh.load(file, force="mesh", process=False) for file in files]
  np.testing.assert_array_equal(meshes[0].vertices, meshes[1].vertices)
  np.testing.assert_array_equal(meshes[0].faces, meshes[1].faces)


def test_the_largest_component_alone_is_kept_when_asked(run, tmp_path):
  run.predict["sdf"] = lambda x, z: jnp.minimum(jnp.linalg.norm(x, axis=-1) - z[0],
                                                jnp.linalg.norm(x - 0.7, axis=-1) - 0.2)
  for flags, components in ([], 2), (["--largest-component"], 1):
    assert main.main(["extract", str(run.workdir), "--index", "0", "--resolution", "32", *flags]) == 0
    assert read_json(run.workdir / "meshes" / "extract.json")["shapes"][0]["components"] == components


def test_a_field_steeper_than_promised_is_said(run, capsys):
  run.predict["sdf"] = lambda x, z: 4 * (jnp.linalg.norm(x, axis=-1) - z[0])
  assert main.main(["extract", str(run.workdir), "--index", "0"]) == 0
  assert "1 of 1 fields are somewhere steeper than --lipschitz 1.2" in capsys.readouterr().out
  assert main.main(["extract", str(run.workdir), "--index", "0", "--lipschitz", "4.1"]) == 0
  assert "somewhere steeper" not in capsys.readouterr().out


@pytest.mark.parametrize("flags, code, text", [
    (["--index", "3"], 2, "--index: there is no training shape 3; give indices from 0 to 2"),
    (["--index", "0,-1"], 2, "--index"),
    (["--resolution", "7"], 2, "at least 8"),
    (["--resolution", "4096"], 2, "at most 2048"),
    (["--lipschitz", "nan"], 2, "--lipschitz"),
    (["--format", "gbl"], 2, "did you mean 'glb'?"),
    (["--method", "spars"], 2, "did you mean 'sparse'?"),
])
def test_wrong_options_are_one_line_and_exit_2(run, capsys, flags, code, text):
  assert main.main(["extract", str(run.workdir), *flags]) == code
  captured = capsys.readouterr()
  assert text in captured.err and captured.err.count("\n") == 1


def test_a_dense_grid_that_cannot_fit_is_refused_with_its_bytes(run, capsys, monkeypatch):
  from fields3d.core import errors
  monkeypatch.setattr(errors, "available_memory", lambda: 2**30)
  assert main.main(["extract", str(run.workdir), "--index", "0", "--method", "dense", "--resolution", "2048"]) == 2
  assert "--resolution: needs 64.0 GiB, 1.0 GiB are free" in capsys.readouterr().err
