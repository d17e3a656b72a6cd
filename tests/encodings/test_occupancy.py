"""The report of a hash grid's use against a dictionary filled one corner at a time."""

import collections
import itertools

import numpy as np
import pytest

from fields3d.encodings.hashgrid import resolutions
from fields3d.encodings.occupancy import describe, grid_report

SETTINGS = {"levels": 3, "log2_rows": 9, "coarsest": 4, "finest": 40}


def brute_force(points, cells, rows, shift):
  """Nodes, rows used and colliding share, in python integers."""
  per_axis, readers = cells + 1 + bool(shift), collections.defaultdict(set)
  for point in points:
    position = [(min(max(c, -1), 1) + 1) / 2 * cells + shift for c in point.tolist()]
    low = [min(int(p), per_axis - 2) for p in position]
    for corner in itertools.product((0, 1), repeat=3):
      i, j, k = node = tuple(a + b for a, b in zip(low, corner, strict=True))
      dense = per_axis**3 <= rows
      row = i + per_axis * (j + per_axis * k) if dense else (i ^ j * 2654435761 ^ k * 805459861) % 2**32 % rows
      readers[row].add(node)
  nodes = sum(map(len, readers.values()))
  return nodes, len(readers), sum(len(r) for r in readers.values() if len(r) > 1) / nodes


@pytest.mark.parametrize("kind", ["linear", "quintic"])
def test_it_counts_what_a_dictionary_counts(kind):
  points = np.concatenate([np.random.default_rng(0).uniform(-1.1, 1.1, (300, 3)), np.ones((1, 3)), -np.ones((1, 3))])
  report = grid_report(points, **SETTINGS, interpolation=kind)
  assert [use.dense for use in report] == [True, False, False]
  for use, cells in zip(report, resolutions(3, 4, 40), strict=True):
    expected = brute_force(points, int(cells), 512, 0.5 if kind == "quintic" else 0.0)
    assert (use.nodes, use.rows_used, pytest.approx(use.collisions)) == expected


def test_a_dense_level_never_collides():
  use = grid_report(np.random.default_rng(0).uniform(-1, 1, (5000, 3)), levels=1, log2_rows=9, coarsest=7, finest=7)[0]
  assert (use.nodes, use.rows_used, use.collisions, use.expected) == (512, 512, 0.0, 0.0)


def test_scattered_points_collide_as_a_random_hash_would():
  use = grid_report(np.random.default_rng(0).uniform(-1, 1, (500, 3)), levels=1, log2_rows=14, coarsest=512,
                    finest=512)[0]
  # The eight corners of a cell fall in 4 pairs of neighbours, so that at least 500 draws are independent.
  assert abs(use.collisions - use.expected) < 4 * np.sqrt(use.expected * (1 - use.expected) / 500)


def test_the_table_has_a_line_for_each_level():
  lines = describe(grid_report(np.zeros((1, 3)), **SETTINGS)).splitlines()
  assert len(lines) == 4 and "dense" in lines[1] and "hashed" in lines[3]
