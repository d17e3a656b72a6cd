"""Surfaces of a run's clouds by another run: the composed distance, what evaluate says of it, and runs that do not fit."""

import jax
import numpy as np
import pytest
import trimesh

from fields3d.commands.main import main
from fields3d.commands.rundir import open_run, with_surfaces
from fields3d.evaluation.samples import cloud_key
from fields3d.training.logging import read_json


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  root = tmp_path_factory.mktemp("surfaces")
  for name in ("point_surfaces", "point_gan"):
    config = f"experiments/classic/{name}.py:runlocal"
    assert main(["train", "--config", config, "--workdir", str(root / name), "--config.num_steps=2"]) == 0
  return root / "point_gan", root / "point_surfaces"


def test_a_cloud_has_the_distance_of_the_surface_that_the_other_run_makes_of_it(runs):
  clouds, maker = open_run(runs[0]), open_run(runs[1]).predict
  both = with_surfaces(clouds, runs[1])
  x, z = jax.random.uniform(jax.random.key(1), (5, 3)), both.predict["sample"](jax.random.key(2), 2)
  for code in (z[0], z[1], z[0]):
    want = maker["sdf"](x, maker["encode"](clouds.predict["points"](code, jax.random.key(0)), jax.random.key(0)))
    np.testing.assert_array_equal(both.predict["sdf"](x, code), want)
  assert "sdf" not in clouds.predict


def test_evaluate_measures_meshes_of_a_run_of_clouds_and_says_how(runs, capsys):
  asked = ["evaluate", str(runs[0]), "--only", "quality", "--config.evals.quality.num=2", "--config.evals.quality.resolution=16",
           "--config.evals.quality.references=2", "--config.evals.quality.crossings=False"]
  assert main(asked) == 2
  assert "draws clouds of points and no surfaces; evaluate and sample take --surfaces RUN" in capsys.readouterr().err
  assert main([*asked, "--surfaces", str(runs[1])]) == 0
  assert "watertight" in capsys.readouterr().out
  record = read_json(runs[0] / "eval" / "2.json")
  assert f"--surfaces {runs[1]}" in record["command"]
  assert record["evaluations"]["quality"]["warnings"][-1] == f"where a surface was asked for, {runs[1]} made it of the run's clouds"


@pytest.mark.parametrize("format", ["ply", "obj", "glb"])
def test_a_run_of_clouds_is_sampled_as_clouds(runs, tmp_path, format):
  assert main(["sample", str(runs[0]), "--num", "2", "--seed", "3", "--format", format, "--out", str(tmp_path)]) == 0
  predict = open_run(runs[0]).predict
  codes = predict["sample"](jax.random.key(3), 2)
  for i in range(2):
    found = trimesh.load(tmp_path / f"000{i}.{format}")
    points = found.geometry.popitem()[1].vertices if format == "glb" else found.vertices
    np.testing.assert_allclose(points, predict["points"](codes[i], cloud_key(3, i)), atol=1e-6)
  assert [row["vertices"] for row in read_json(tmp_path / "samples.json")["shapes"]] == [32, 32]


def test_runs_that_do_not_fit_are_usage_faults(runs, tmp_path, capsys):
  assert main(["sample", str(runs[0]), "--surfaces", str(runs[0]), "--out", str(tmp_path)]) == 2
  assert f"--surfaces: {runs[0]} makes no surfaces of clouds" in capsys.readouterr().err
  assert main(["sample", str(runs[1]), "--surfaces", str(runs[1]), "--out", str(tmp_path)]) == 2
  assert f"--surfaces: {runs[1]} draws no clouds" in capsys.readouterr().err
  assert main(["evaluate", str(runs[0]), "--surfaces", str(runs[1])]) == 2
  assert "--surfaces: none of draws, transport asks for a surface" in capsys.readouterr().err
  assert main(["sample", str(runs[0]), "--resolution", "32", "--out", str(tmp_path)]) == 2
  assert "--resolution" in capsys.readouterr().err
