"""Curves are what metrics.jsonl says, damaged lines apart."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fields3d.evaluation.curves import Series, read_curves, thin


def test_scalars_become_series_losses_first(tmp_path):
  path = tmp_path / "metrics.jsonl"
  rows = [{"step": s, "time": 1e9, "grad": 1.0, "loss": 0.5 / (s + 1), "bad": None, "nonfinite": ["bad"]}
          for s in (0, 5, 10)]
  path.write_text("".join(json.dumps(r) + "\n" for r in rows))
  curves = read_curves(path)
  assert [s.name for s in curves.series] == ["loss", "grad"] and not curves.warnings
  assert curves.series[0].step.tolist() == [0, 5, 10] and curves.series[0].value[0] == 0.5


def test_a_step_told_twice_counts_by_its_last_line(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 9}\n{"step": 2, "loss": 2}\n')
  assert read_curves(path).series[0].value.tolist() == [1, 2]


def test_damaged_lines_are_counted_and_notes_are_kept(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "loss": 1}\nnonsense\n[1]\n{"step": 2, "loss": 1e999}\n'
                  '{"time": 0, "note": "rolled back"}\n{"step": 3, "loss": 3}\n{"step": 4, "lo')
  curves = read_curves(path)
  assert curves.series[0].step.tolist() == [1, 3]
  assert curves.notes == ["rolled back"]
  assert curves.warnings == ["4 lines of metrics.jsonl are not readable and are left out"]


def test_no_file_is_no_curves(tmp_path):
  assert read_curves(tmp_path / "metrics.jsonl").series == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(6, 50))
def test_thinning_keeps_ends_extremes_and_order(values, num):
  series = Series("x", np.arange(len(values)), np.array(values))
  small = thin(series, num)
  assert len(small.step) <= max(num, 2)
  assert small.step[0] == 0 and small.step[-1] == len(values) - 1 and (np.diff(small.step) > 0).all()
  assert small.value.min() == min(values) and small.value.max() == max(values)
  assert (small.value == series.value[small.step]).all()
