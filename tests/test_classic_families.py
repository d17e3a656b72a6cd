"""benchmarks/classic_families.py: what it trains can be trained, and its table shows what its evaluations hold."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))

import classic_families
from classic_families import CODES, COLUMNS, FAMILIES, TRIVIAL, make, table

from fields3d.commands.main import main


@pytest.mark.parametrize("data", ["chairs", "furniture"])
@pytest.mark.parametrize("name", [*FAMILIES, *CODES])
def test_every_setting_of_a_family_is_one_of_its_config(name, data, capsys, tmp_path):
  family = {**FAMILIES, **CODES}[name]
  if data == "furniture" and not family.on_furniture:
    pytest.skip("the family is not trained on furniture")
  assert main(["train", *family.arguments(data), "--workdir", str(tmp_path / "run"), "--dry-run"]) == 0, capsys.readouterr().err
  assert family.first is None or family.first in {**FAMILIES, **CODES}


def test_the_table_has_a_cell_of_every_figure_and_the_hull_of_seeds(tmp_path):
  for seed, value in enumerate((2.0, 4.0)):
    sections = {section: {"metrics": []} for section, _, _ in COLUMNS.values()}
    for section, name, factor in COLUMNS.values():
      own = dict(value=value / factor, low=(value - 1) / factor, high=(value + 1) / factor, floor=7 / factor)
      sections[section]["metrics"] += [dict(own, name=f"{name} [words]")]
    sections["draws"]["metrics"] += [dict(value=100.0, low=None, high=None, floor=None, name=f"1nna_cd_percent/{poor} [words]")
                                     for poor in TRIVIAL]
    path = tmp_path / "chairs" / "dit" / str(seed) / "eval" / f"{FAMILIES['dit'].steps}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"evaluations": sections}))
  head, _, row, *poor, control = table(tmp_path, "chairs")
  assert row.count(" 3 [1, 5] (2, 4) |") == len(COLUMNS) == head.count("|") - 4
  assert [line.count("| 100 |") for line in poor] == [1] * len(TRIVIAL)
  assert control.count(" 7 |") == len(COLUMNS)


def test_sets_without_a_model_are_judged_once(tmp_path, monkeypatch):
  told = []

  def run(log, *words):
    told.append(words)
    if words[0] == "evaluate":
      path = words[1] / "eval" / f"{FAMILIES['rgan'].steps}.json"
      path.parent.mkdir(parents=True)
      metric = dict(name="1nna_cd_percent/one_shape [words]", value=100.0, low=None, high=None)
      path.write_text(json.dumps({"evaluations": {"draws": {"metrics": [metric]}}}))

  monkeypatch.setattr(classic_families, "run", run)
  make(tmp_path, "rgan", "chairs", 1, meshes=False)
  make(tmp_path, "rgan", "chairs", 2, meshes=False)
  assert [words[-1] for words in told if words[0] == "evaluate"] == [f"--config.evals.draws.trivial={first}" for first in (True, False)]
