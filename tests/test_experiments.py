"""Every experiment trains with `:runlocal`, those that compile for long among the slow tests, and says what it is in its docstring."""

import ast
import json
import pathlib
import re

import pytest

from fields3d.commands.experiment import read_config
from fields3d.commands.main import main
from fields3d.core.errors import UsageFault

ROOT = pathlib.Path(__file__).parents[1] / "experiments"
CONFIGS = sorted(ROOT.rglob("*.py"))
# whose :runlocal starts from another's
BASES = {"code_prior": "generative/deepsdf_codes.py", "latent_set_prior": "generative/latent_set.py",
         "latent_point_diffusion": "classic/dpm.py", "latent_point_gan": "classic/cloud_codes.py",
         "tri_plane_prior": "generative/tri_plane_vae.py"}
ENCODED = ("tri_plane_prior",)  # which read the latents that the other's run keeps
QUICK = ("armadillo_hash", "cloud_codes", "deepsdf_codes", "gaussian_codes", "mic_nerf", "radiance_codes", "tri_plane_vae",
         "voxel_gan")  # one of each kind; the others compile for a third of the suite's time


@pytest.mark.parametrize("config", [
    pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in CONFIGS])
def test_every_experiment_runs_locally(config, tmp_path, capsys):
  run, more = tmp_path / "run", []
  if config.stem in BASES:
    base = tmp_path / "base"
    assert main(["train", "--config", f"{ROOT / BASES[config.stem]}:runlocal", "--workdir", str(base)]) == 0
    more = [f"--config.init_from={base}"]
  if config.stem in ENCODED:
    assert main(["encode", str(base)]) == 0
    more += [f"--config.data.path={base / 'latents.npz'}"]
  train = ["train", "--config", f"{config}:runlocal", "--workdir", str(run), *more]
  assert main(train) == 0, capsys.readouterr().err
  assert main(train) == 0  # again: nothing left to do
  records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  assert records and all(record["step"] > 0 for record in records if "loss" in record)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_experiment_says_source_expectation_and_commands(config):
  text = ast.get_docstring(ast.parse(config.read_text()))
  assert text.index("Source:") < text.index("Expect:") < text.index("fields3d train --config")
  assert ":runlocal" in text


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_variants_of_an_experiment_are_those_that_it_tells_of(config):
  text = config.read_text()
  names = ast.literal_eval(re.search(r"^VARIANTS = (.*)$", text, re.MULTILINE).group(1))
  told = ast.get_docstring(ast.parse(text))
  assert "runlocal" in names and all(read_config(f"{config}:{name}")["num_steps"] for name in names)
  assert all(name in told for name in names)
  assert {name for name in re.findall(r"\.py:(\w+)", told) if f"{config.name}:{name}" in told} <= set(names)
  assert set(re.findall(r"`:(\w+)`", told)) <= set(names)
  with pytest.raises(UsageFault, match="no such variant"):
    read_config(f"{config}:papr")
