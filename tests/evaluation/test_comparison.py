"""Runs side by side: differences of known size, and refusals of what was not measured alike, naming what differs."""

import dataclasses

import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.comparison import compare_evaluations, comparison_table
from fields3d.evaluation.image_set import summarise_images
from fields3d.evaluation.results import Evaluation, Metric, Row

SETTINGS = {"split": "test", "points": 300, "seed": 0}


def evaluation(values, better="lower", names=None, **changes):
  """An evaluation of one metric, "chamfer", with a value for each shape."""
  def row(i, value):
    metric = Metric("chamfer", value, None, None, 300, 0, 0.1 + i, better, "mean distance; 300 points")
    return Row(names[i] if names else f"s{i}", "", i, "ok", (metric,))

  rows = [row(i, value) for i, value in enumerate(values)]
  return Evaluation("geometry", summarise(rows, 0), rows, (), SETTINGS | changes)


def noise(n, seed=0):
  return np.random.default_rng(seed).normal(1, 0.3, n).tolist()


def test_values_over_all_rows_are_the_records_own():
  a, b = evaluation(noise(20)), evaluation(noise(20, 1))
  found = compare_evaluations("test", {"a": a, "b": b}).metrics[0]
  for figure, e in zip(found.figures, (a, b), strict=True):
    mean = e.metrics[0]
    assert mean.name == "chamfer/mean" and (figure.value, figure.low, figure.high) == (mean.value, mean.low, mean.high)
  assert found.figures[1].test.difference == pytest.approx(b.metrics[0].value - a.metrics[0].value, rel=1e-12)


def test_a_run_against_itself_and_against_its_shift():
  values = np.round(noise(20), 3)
  runs = {"a": evaluation(values), "same": evaluation(values), "worse": evaluation(values + 0.5)}
  comparison = compare_evaluations("test", runs)
  same, worse = comparison.metrics[0].figures[1:]
  assert same.test.difference == 0 and same.test.p == same.p_holm == 1
  assert worse.test.difference == pytest.approx(0.5, rel=1e-12) and worse.p_holm == 2 * worse.test.p < 0.01
  lines = comparison_table(comparison).lines
  assert [line.cells[0] for line in lines] == ["a", "same", "worse"] and [line.cells[-1] for line in lines] == ["", "", "worse"]
  assert comparison_table(compare_evaluations("t", {"a": evaluation(values, "higher"), "b": evaluation(
      values + 0.5, "higher")})).lines[1].cells[-1] == "better"


def test_pictures_are_neutral_but_where_they_say_which_views_are_judged():
  a, b = (evaluation(noise(20), pictures=given) for given in ((1,), (1, 2, 3)))
  assert compare_evaluations("test", {"a": a, "b": b}).metrics[0].figures[1].test.difference == 0
  a, b = (dataclasses.replace(e, name="novel_views") for e in (a, b))
  with pytest.raises(UsageFault, match="settings pictures differ"):
    compare_evaluations("test", {"a": a, "b": b})


@pytest.mark.parametrize("given", [{"sheets": 0}, {"emd": "exact"}, {"trivial": True}, {"weights": "elsewhere.pth"}, {"crossings": False}])
def test_settings_that_add_figures_or_files_alone_are_neutral(given):
  a = evaluation(noise(20), sheets=8, emd="none", trivial=False, weights=None, crossings=True)
  b = dataclasses.replace(a, settings={**a.settings, **given})
  assert compare_evaluations("test", {"a": a, "b": b}).metrics[0].figures[1].test.difference == 0


def test_only_shared_shapes_with_a_value_in_every_run_count():
  a = evaluation([1.0, 2.0, 3.0, 5.0], names=["p", "q", "r", "s"])
  b = evaluation([None, 4.0, 2.0, 6.0, 9.0], names=["p", "q", "r", "s", "t"])
  found = compare_evaluations("test", {"a": a, "b": b})
  assert found.metrics[0].figures[0].n == 3 and found.metrics[0].figures[1].test.difference == pytest.approx(2 / 3)
  assert any("no value in 1 of b" in note for note in found.notes)
  assert any("4 shapes are shared" in note for note in found.notes)


@pytest.mark.parametrize(("changed", "words"), [
    (evaluation(noise(5), split="val"), "splits differ: test and val"),
    (evaluation(noise(5), seed=3), "seeds of points differ: 0 and 3"),
    (evaluation(noise(5), points=400), "settings points differ: 300 and 400"),
    (evaluation(noise(5), names=list("abcde")), "share no shape"),
    (dataclasses.replace(evaluation(noise(5)), name="views"), "evaluators differ: geometry and views"),
])
def test_what_was_not_measured_alike_is_refused_and_named(changed, words):
  with pytest.raises(UsageFault, match=words):
    compare_evaluations("test", {"a": evaluation(noise(5)), "b": changed})


def test_another_protocol_or_another_truth_is_refused():
  a = evaluation(noise(5))
  other = dataclasses.replace(a, metrics=[dataclasses.replace(m, protocol=m.protocol.replace("mean", "root mean"))
                                          for m in a.metrics])
  with pytest.raises(UsageFault, match="protocols of chamfer differ: mean distance; 300 points and root mean"):
    compare_evaluations("test", {"a": a, "b": other})
  rows = [dataclasses.replace(r, metrics=(dataclasses.replace(r.metrics[0], floor=0.2),)) for r in a.rows]
  with pytest.raises(UsageFault, match="the truth of 's0' or its points differ"):
    compare_evaluations("test", {"a": a, "b": dataclasses.replace(a, rows=rows)})


def test_views_are_paired_whatever_their_number_but_not_across_protocols():
  def viewed(n, words):
    rows = [Row(f"v{i}", "", i, "ok", (Metric("psnr", 20.0 + i, None, None, 1, 0, None, "higher", "dB"),))
            for i in range(n)]
    return Evaluation("views", summarise_images(rows, words, 0), rows, (), {"split": "test", "max_views": n}, "view")

  found = compare_evaluations("test", {"a": viewed(5, "mic test, white, 5 of 9 views"), "b": viewed(9, "mic test, white")})
  assert found.metrics[0].figures[1].n == 5 and found.metrics[0].figures[1].test.difference == 0
  with pytest.raises(UsageFault, match="protocols of psnr differ: .mic test, white.* and .mic test, black"):
    compare_evaluations("test", {"a": viewed(5, "mic test, white"), "b": viewed(5, "mic test, black")})


def test_figures_of_whole_sets_stand_side_by_side_without_a_test():
  def measured(value, control):
    metric = Metric("1-NNA-CD", value, value - 0.1, value + 0.1, 400, 0, control, "lower", "PointFlow")
    return Evaluation("distribution", [metric], [], (), SETTINGS, "sample", "real control")

  found = compare_evaluations("sets", {"a": measured(0.6, 0.5), "b": measured(0.7, 0.52)})
  assert [f.value for f in found.metrics[0].figures] == [0.6, 0.7] and found.metrics[0].figures[1].test is None
  assert any("real control differs (0.5, 0.52)" in note for note in found.notes)
  assert "No test" in comparison_table(found).footer[0]


def test_sets_of_which_some_samples_failed_are_compared_and_a_long_protocol_is_shown_where_it_differs():
  def measured(sizes):
    metric = Metric("mmd", 1.0, None, None, 8, 0, 0.5, "lower", f"{'mean over references; ' * 10}{sizes} against 8; pointflow")
    return Evaluation("distribution", [metric], [], (), SETTINGS, "sample", "real control")

  found = compare_evaluations("sets", {"a": measured("8 samples"), "b": measured("8 samples (2 of them failed)")})
  assert [f.value for f in found.metrics[0].figures] == [1, 1] and "the protocols of a and b differ in numbers" in found.notes[0]
  with pytest.raises(UsageFault, match=r"\.\.\..*8 samples against 8; pointflow and \.\.\..*8 shapes against"):
    compare_evaluations("sets", {"a": measured("8 samples"), "b": measured("8 shapes")})


def test_notes_stand_in_the_order_of_the_metrics():
  def measured(number):
    metrics = [Metric(name, 1.0, None, None, 8, 0, 0.5, "lower", f"of {number} things") for name in "hdbgacfe"]
    return Evaluation("distribution", metrics, [], (), SETTINGS, "sample", "real control")

  notes = compare_evaluations("sets", {"a": measured(3), "b": measured(4)}).notes
  assert [note[0] for note in notes] == list("hdbgacfe")


def test_samples_of_two_runs_are_not_pairs_and_measured_numbers_may_differ():
  def drawn(value, words, **changes):
    rows = [Row(f"sample {i}", "", i, "ok", (Metric("faces", value + i, None, None, 1, 0, None, "lower", "count"),))
            for i in range(4)]
    metric = Metric("sample/seconds", value, None, None, 5, 0, None, "lower", words)
    return Evaluation("efficiency", [metric], rows, (), SETTINGS | changes, "sample")

  a, b = drawn(1.0, "median of 5, load 0.5; on cpu"), drawn(2.0, "median of 5, load 1.25e-01; on cpu", new=1)
  found = compare_evaluations("cost", {"a": a, "b": b})
  assert [m.name for m in found.metrics] == ["sample/seconds"] and found.metrics[0].figures[1].test is None
  assert any("knows the settings new" in note for note in found.notes) and any("differ in numbers" in n for n in found.notes)
  with pytest.raises(UsageFault, match="protocols of sample/seconds differ: median of 5, load 0.5; on cpu and"):
    compare_evaluations("cost", {"a": a, "b": drawn(2.0, "median of 5, load 0.5; on TPU v5e")})


def test_a_metric_with_its_protocol_in_its_name_is_paired_once_and_keeps_its_words():
  def two(values):
    rows = [Row(f"s{i}", "", i, "ok", tuple(Metric(name, value + shift, None, None, 300, 0, 0.1, "lower", words) for name, shift, words in (
        ("iou", 0, "in the joint box"), ("iou [occnet]", 1, "in the cube")))) for i, value in enumerate(values)]
    return Evaluation("geometry", summarise(rows, 0), rows, (), SETTINGS)

  found = compare_evaluations("test", {"a": two(noise(9)), "b": two(noise(9, 1))}).metrics
  assert [(m.name, m.paired) for m in found] == [("iou", True), ("iou [occnet]", True)]
  assert "joint box" in found[0].protocol and "cube" not in found[0].protocol
  assert "cube" in found[1].protocol and "joint box" not in found[1].protocol
