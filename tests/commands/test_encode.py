"""Encoding: every training shape's latents, as the run itself gives them, and never of other parameters than the prior's base has."""

import shutil
import types

import jax
import numpy as np
import pytest

from fields3d.commands import rundir
from fields3d.commands.main import main
from fields3d.commands.rundir import open_run
from fields3d.data.npz import read_npz

VAE = "experiments/generative/tri_plane_vae.py:runlocal"
PRIOR = "experiments/generative/tri_plane_prior.py:runlocal"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  path = tmp_path_factory.mktemp("encode") / "base"
  assert main(["train", "--config", VAE, "--workdir", str(path)]) == 0
  return path


def prior(base, workdir, *more):
  return main(["train", "--config", PRIOR, "--workdir", str(workdir), f"--config.init_from={base}",
               f"--config.data.path={base / 'latents.npz'}", "--config.num_steps=2", *more])


def test_every_shape_has_latents_near_those_of_its_mean_code(base, capsys):
  assert main(["encode", str(base), "--draws", "3"]) == 0
  assert "latents (48, 2) of 4 shapes, 3 of each, of step 4" in capsys.readouterr().out
  found = read_npz(base / "latents.npz")
  assert found["latents"].shape == (3, 4, 48, 2) and found["step"] == 4
  run = open_run(base)
  z = np.asarray(run.predict["latents"](run.dataset.batch(0, 0, 1), jax.random.fold_in(jax.random.key(0), 0)))
  for row, shape in enumerate(run.dataset.batch(0, 0, 1)["shape"]):
    np.testing.assert_array_equal(found["latents"][0, shape], z[row])
  first = (base / "latents.npz").read_bytes()
  assert main(["encode", str(base), "--draws", "3"]) == 0 and (base / "latents.npz").read_bytes() == first


def test_a_prior_trains_on_them_and_a_run_that_went_on_asks_for_new_ones(base, tmp_path, capsys):
  assert main(["encode", str(base)]) == 0
  assert prior(base, tmp_path / "prior") == 0
  shutil.copytree(base / "checkpoints", tmp_path / "twin" / "checkpoints")
  assert main(["train", "--config", VAE, "--workdir", str(base), "--config.num_steps=6", "--config.train.checkpoint_every=2"]) == 0
  capsys.readouterr()
  assert prior(base, tmp_path / "later") == 2
  said = capsys.readouterr().err.replace("\n", " ")
  assert "is of step 4 of a run, the parameters are those of" in said and f"checkpoints/6; fields3d encode {base}" in said
  assert prior(base, tmp_path / "other", f"--config.init_from={tmp_path / 'twin'}") == 0
  assert prior(base, tmp_path / "prior", "--config.num_steps=3") == 0  # it began with both
  assert main(["encode", str(base)]) == 0
  capsys.readouterr()
  assert prior(base, tmp_path / "prior", "--config.num_steps=4") == 2
  assert "another file than the run began with" in capsys.readouterr().err


def test_a_run_whose_shapes_have_no_latents_is_a_usage_fault(tmp_path, monkeypatch, capsys):
  opened = types.SimpleNamespace(predict={"sdf": None}, step=1)
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  assert main(["encode", str(tmp_path)]) == 2
  assert "the task's shapes have no latents" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_encoded(tmp_path, monkeypatch, capsys):
  dataset = types.SimpleNamespace(shapes=lambda split: pytest.fail("the data is asked for"))
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: types.SimpleNamespace(predict={"latents": None}, dataset=dataset))
  (tmp_path / "folder").mkdir()
  assert main(["encode", str(tmp_path), "--out", str(tmp_path / "folder")]) == 73
  assert f"{tmp_path / 'folder'}: is a directory" in capsys.readouterr().err
  assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
