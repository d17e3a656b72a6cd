"""Batches of signed distances: a pure function of the position, the same for any division over processes."""

import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.data import pipeline
from fields3d.data.pipeline import SdfSamples, sdf_batches


def shapes(num):
  return [SdfSamples(np.full((4, 3), i, np.float32), np.array([1, 2, -1, -2], np.float32), 2) for i in range(num)]


@pytest.mark.parametrize("position", [0, 3, 10**12])
@pytest.mark.parametrize("num", [3, 5, 16])
def test_any_position_is_the_plain_formula_and_any_division_the_whole_batch(position, num):
  batch = sdf_batches(shapes(num), rows=8, points=6, seed=7)
  whole = batch(position)
  expected = [int(pipeline.generator(7, 0, row // num).permutation(num)[row % num])
              for row in range(position * 8, position * 8 + 8)]
  assert whole["shape"].tolist() == expected and (whole["x"][:, 0, 0] == expected).all()
  for parts in (1, 2, 4, 8):
    cut = [batch(position, shard, parts) for shard in range(parts)]
    for name in whole:
      np.testing.assert_array_equal(np.concatenate([part[name] for part in cut]), whole[name])


def test_every_shape_is_visited_once_an_epoch():
  batch = sdf_batches(shapes(12), rows=4, points=2, seed=0)
  seen = np.concatenate([batch(position)["shape"] for position in range(6)]).reshape(2, 12)
  assert (np.sort(seen, axis=1) == np.arange(12)).all() and (seen[0] != seen[1]).any()


def test_an_epochs_order_is_drawn_once_not_for_every_row(monkeypatch):
  drawn, generator = [], pipeline.generator
  monkeypatch.setattr(pipeline, "generator", lambda seed, *counters: drawn.append(counters) or generator(seed, *counters))
  batch = sdf_batches(shapes(100), rows=10, points=2, seed=0)
  for position in range(20):
    batch(position)
  assert [c for c in drawn if c[0] == 0] == [(0, 0), (0, 1)]


def test_rows_that_do_not_divide_over_processes_are_refused():
  with pytest.raises(UsageFault, match="6 rows do not divide over 4 processes"):
    sdf_batches(shapes(2), rows=6, points=2, seed=0)(0, 0, 4)


def test_rows_without_points_are_of_the_same_shapes():
  whole, bare = (sdf_batches(shapes(12), rows=4, points=n, seed=0, labels=range(12)) for n in (2, 0))
  for position in range(5):
    assert set(bare(position)) == {"shape", "label"}
    np.testing.assert_array_equal(bare(position)["shape"], whole(position)["shape"])
    np.testing.assert_array_equal(bare(position)["label"], bare(position)["shape"])
