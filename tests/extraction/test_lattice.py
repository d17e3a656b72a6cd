"""The grid's numbering and positions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fields3d.extraction.lattice import MARGIN, OUTSIDE, Lattice, crossings

SHAPES = st.tuples(*[st.integers(2, 2048)] * 3)
BOX = np.array([[-1.0, 0, 3], [1, 5, 3.5]])


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_keys_and_nodes_are_inverse_and_steps_are_strides(shape, seed):
  grid = Lattice(BOX, shape)
  nodes = np.random.default_rng(seed).integers(-1, np.array(shape) + 1, size=(20, 3))
  keys = grid.keys(nodes)
  np.testing.assert_array_equal(grid.nodes(keys), nodes)
  assert np.all(keys >= 0) and np.all(keys < np.prod(np.array(grid.padded, object)))
  inner = nodes[grid.contains(nodes)]
  for axis in range(3):
    step = np.eye(3, dtype=np.int64)[axis]
    np.testing.assert_array_equal(grid.keys(inner + step), grid.keys(inner) + grid.strides[axis])


@given(SHAPES)
def test_the_boxs_corners_are_met_exactly_and_cells_are_equal(shape):
  grid = Lattice(BOX, shape)
  ends = np.array([[0, 0, 0], np.array(shape) - 1])
  np.testing.assert_array_equal(grid.positions(ends), BOX)
  np.testing.assert_allclose(grid.positions(np.ones(3)), BOX[0] + grid.cell, rtol=1e-12)


def test_crossings_interpolate_linearly_and_keep_off_the_ends():
  grid = Lattice(np.array([[0.0, 0, 0], [4, 4, 4]]), (5, 5, 5))
  values = np.array([-1.0, 3, 0, 1e30, -2])  # at the nodes along x; the last is followed by the outer layer
  edges = 3 * grid.keys(np.array([[0, 0, 0], [3, 0, 0], [4, 0, 0]]))

  def at(keys):
    x = grid.nodes(keys)[:, 0]
    return np.where(x < 5, values[np.minimum(x, 4)], OUTSIDE)

  places = crossings(grid, edges, at, 0.0)
  np.testing.assert_allclose(places, [[0.25, 0, 0], [4 - MARGIN, 0, 0], [4 + MARGIN, 0, 0]], rtol=0, atol=1e-12)
