"""Figures over a set: failures are counted, comparisons are paired, one shape keeps its own metrics."""

import numpy as np
import pytest

from fields3d.evaluation.aggregate import summarise
from fields3d.evaluation.results import Metric, Row


def metric(name, value, better, floor=0.1):
  return Metric(name, value, value, value, 100, 0, floor, better, "how")


def row(index, distance, score, baseline=None):
  made = lambda d, s: (metric("chamfer", d, "lower"), metric("iou", s, "higher", 1.0))
  return Row(f"shape-{index}", "a", index, "ok", made(distance, score), made(*baseline) if baseline else ())


def failed(index):
  return Row("bad", "a", index, "empty", (metric("chamfer", None, "lower"), metric("iou", 0.0, "higher", 1.0)))


def by_name(metrics, subject="prediction"):
  return {m.name: m for m in metrics if m.subject == subject}


def test_means_and_medians_are_over_shapes():
  found = by_name(summarise([row(0, 1.0, 0.9), row(1, 2.0, 0.8), row(2, 6.0, 0.1)], seed=0))
  assert found["chamfer/mean"].value == 3 and found["chamfer/median"].value == 2
  assert found["iou/mean"].value == pytest.approx(0.6)
  assert found["chamfer/mean"].n == 3 and found["chamfer/mean"].floor == pytest.approx(0.1)
  assert found["chamfer/mean"].low < 3 < found["chamfer/mean"].high


def test_a_failed_shape_scores_zero_and_has_no_distance():
  found = by_name(summarise([failed(0), row(1, 1.0, 0.9), row(2, 3.0, 0.6)], seed=0))
  assert found["iou/mean"].value == pytest.approx(0.5) and found["iou/mean"].n == 3
  assert found["chamfer/mean"].value == 2 and found["chamfer/mean"].n == 2
  assert "over 2 of 3 shapes" in found["chamfer/mean"].protocol


def test_improvement_is_paired_and_positive_where_the_prediction_is_better():
  rows = [row(i, 1.0 + i, 0.8, baseline=(2.0 + i, 0.5)) for i in range(8)]
  gain = by_name(summarise(rows, seed=0), "improvement")
  assert gain["chamfer/mean"].value == gain["chamfer/mean"].low == gain["chamfer/mean"].high == 1
  assert gain["iou/mean"].value == pytest.approx(0.3)
  assert all(m.better == "higher" for m in gain.values())
  theirs = by_name(summarise(rows, seed=0), "nearest_training_shape")
  assert theirs["chamfer/mean"].value == np.mean([2.0 + i for i in range(8)])


def test_one_shape_keeps_its_own_metrics_and_intervals():
  alone = row(0, 1.0, 0.9)
  assert summarise([alone], seed=0) == list(alone.metrics)


def test_where_every_shape_failed_scores_are_zero_and_distances_none():
  found = by_name(summarise([failed(0), failed(1)], seed=0))
  assert found["iou/mean"].value == 0 and found["iou/mean"].n == 2
  assert found["chamfer/mean"].value is None and found["chamfer/mean"].n == 0 and found["chamfer/mean"].low is None
