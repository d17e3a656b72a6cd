"""Tables of results: nothing is lost or becomes markup, LaTeX compiles, and a record read back is what was written."""

import dataclasses
import json
import re
import shutil
import subprocess

import pytest

from fields3d.core.errors import BadData, MissingInput
from fields3d.evaluation import records, tables
from fields3d.evaluation.records import Record, read_record, with_files_of, write_record
from fields3d.evaluation.results import Evaluation, Metric, Row

EVIL = r"\input{/etc/passwd} 100% a_b & c#d {e} ~ ^ $x$ | <b> [t] *s* `q` \\ é 中 −1"
PROTOCOL = "distance; 2,048 points; over 3 of 4 shapes"


def metric(name="chamfer [set a/b]/mean", value=1.25e-5, low=1e-5, high=2e-5, **changes):
  return Metric(name, value, low, high, 3, 5, 0.5, "lower", PROTOCOL, **changes)


def record_of(*metrics, rows=(), **changes):
  found = Evaluation("geometry", tuple(metrics), tuple(rows), ("1 of 4 failed",), {"seed": 5}, "shape", "real control")
  made = records.provenance("fields3d evaluate 'a b' --seed 5", {"git": {"commit": "0123456789ab", "dirty": True},
                                                                 "time": "2026-01-02"})
  return Record(7, made["command"], {}, None, {"main": found}, {"main": made}, **changes)


def test_every_figure_stands_with_interval_control_n_protocol_seed_command_and_commit():
  record = record_of(metric(), metric("iou/mean", 0.5, None, None), metric("iou/mean", 0.25, subject="improvement"))
  table = tables.record_tables(record, "run")[0]
  assert table.columns == ("Metric", "Value", "95% interval", "Real control", "n", "Improvement")
  assert table.lines[0].cells == ("1.25e-05", "[1e-05, 2e-05]", "0.5", "3", "")
  assert table.lines[1].cells == ("0.5", "", "0.5", "3", "0.25 [1e-05, 2e-05]")
  assert table.lines[0].head == "chamfer/mean ↓" and table.notes[table.lines[0].marks[0] - 1].endswith("[set a/b]")
  for written in (tables.markdown([table]), tables.latex([table])):
    plain = re.sub(r"[\\{}]", "", written)
    for part in ("over 3 of 4 shapes", "seed 5", "0123456789", "with changes", "1 of 4 failed"):
      assert part in plain, part
  assert "fields3d evaluate 'a b' --seed 5" in tables.markdown([table])


def test_markdown_shows_text_as_it_stands():
  written = tables.markdown([tables.Table(EVIL, ("a|b", "c"), (tables.Line(EVIL, (1,), (EVIL,)),), (EVIL,))])
  assert "<b>" not in written and "&lt;b&gt;" in written
  heads = [line for line in written.splitlines() if line.startswith("|")]
  assert {len(re.findall(r"(?<!\\)\|", line)) for line in heads} == {3}  # No cell is split by its own text.


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles_and_shows_text_as_it_stands(tmp_path):
  lines = tuple(tables.Line(f"{EVIL} {k}", (1,), (EVIL, "-0.5")) for k in range(2))
  many = tables.record_tables(record_of(*(metric(f"m_{k}/mean") for k in range(90))), EVIL)
  text = tables.latex([tables.Table(EVIL, ("a_b", "c", "%"), lines, (EVIL,), (EVIL,)), *many])
  assert text.count(r"\begin{table}") == 4 and text.count("(continued)") == 2
  (tmp_path / "t.tex").write_text(text)
  (tmp_path / "doc.tex").write_text("\\documentclass{article}\\usepackage{booktabs}\n\\begin{document}\\input{t}"
                                    "\\end{document}")
  done = subprocess.run(["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "doc"],
                        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60, check=False)
  assert done.returncode == 0, done.stdout[-2000:]
  assert "Missing character" not in (tmp_path / "doc.log").read_text(errors="replace")
  if shutil.which("pdftotext"):
    shown = subprocess.run(["pdftotext", "doc.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "/etc/passwd" in shown.stdout and "root:" not in shown.stdout


def test_a_record_read_back_is_what_was_written(tmp_path):
  own = tuple(dataclasses.replace(metric("chamfer"), floor=0.25 * k, protocol=PROTOCOL) for k in (1,))
  row = Row("chair", "", 0, "ok", own, (), {"faces": 3}, {"mesh": "0.glb"})
  record = record_of(metric(), rows=[row], failed={"other": "a: line"})
  write_record(tmp_path / "eval" / "7.json", record)
  assert read_record(tmp_path / "eval" / "7.json") == record
  assert records.recorded_steps(tmp_path) == [7]


def test_a_record_of_the_older_form_is_read(tmp_path):
  write_record(tmp_path / "7.json", record_of(metric(), rows=[Row("a", "", 0, "ok", (metric("chamfer"),))]))
  old = json.loads((tmp_path / "7.json").read_text())
  del old["checkpoint"], old["failed"], old["evaluations"]["main"]["provenance"], old["evaluations"]["main"]["control"]
  del old["evaluations"]["main"]["rows"][0]["metrics"]["chamfer"]["better"]
  (tmp_path / "7.json").write_text(json.dumps(old))
  found = read_record(tmp_path / "7.json")
  assert found.evaluations["main"].rows[0].metrics[0].better == "lower"
  assert found.evaluations["main"].control == "floor" and found.provenance["main"]["command"] == old["command"]


@pytest.mark.parametrize("damage", [
    lambda found: found.pop("evaluations"),
    lambda found: found["evaluations"]["main"]["metrics"][0].update(value="1"),
    lambda found: found["evaluations"]["main"]["metrics"][0].update(better="more"),
    lambda found: found["evaluations"]["main"].update(rows=3),
    lambda found: found.update(environment=[]),
])
def test_a_damaged_record_is_one_line(tmp_path, damage):
  write_record(tmp_path / "7.json", record_of(metric()))
  found = json.loads((tmp_path / "7.json").read_text())
  damage(found)
  (tmp_path / "7.json").write_text(json.dumps(found))
  with pytest.raises(BadData, match=r"7.json: is no record of an evaluation.*evaluate the run again"):
    read_record(tmp_path / "7.json")
  with pytest.raises(MissingInput):
    read_record(tmp_path / "8.json")


def test_files_that_are_gone_or_lie_elsewhere_are_left_out(tmp_path):
  (tmp_path / "eval").mkdir()
  (tmp_path / "eval" / "0.png").touch()
  (tmp_path / "out.png").touch()
  files = {"picture": "0.png", "gone": "1.png", "up": "../out.png", "root": str(tmp_path / "out.png")}
  found = Evaluation("quality", (), [Row("a", "", 0, "ok", files=files)])
  assert dict(with_files_of(found, tmp_path / "eval").rows[0].files) == {"picture": "0.png"}
