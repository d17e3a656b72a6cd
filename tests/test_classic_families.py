"""benchmarks/classic_families.py: what it trains can be trained, and its table shows what its evaluations hold."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))

from classic_families import CODES, COLUMNS, FAMILIES, TRIVIAL, table

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
  assert row.count(" 3 [1, 5] |") == len(COLUMNS) == head.count("|") - 4
  assert [line.count("| 100 |") for line in poor] == [1] * len(TRIVIAL)
  assert control.count(" 7 |") == len(COLUMNS)
