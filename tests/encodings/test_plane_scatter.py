"""Points scattered to planes against a loop over points, and what the planes see of each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.encodings.plane_lookup import lookup_planes
from fields3d.encodings.plane_scatter import at_planes, cell_centres, cell_offsets, other_planes, scatter_to_planes
from fields3d.encodings.planes import PLANES

CELLS = 4


@pytest.fixture
def cloud():
  rng = np.random.default_rng(0)
  x = rng.uniform(-1, 1, (2, 30, 3)).astype(np.float32)
  x[0, :3] = [[-1, -1, -1], [1, 1, 1], [0, 0.5, -0.5]]  # corners, and a point on the cells' own borders
  return rng.normal(size=(2, 30, 5)).astype(np.float32), x


def dense(features, x):
  """Point by point in float64."""
  total = np.zeros((len(x), 3, CELLS, CELLS, features.shape[-1]))
  count = np.zeros((len(x), 3, CELLS, CELLS, 1))
  for row in range(len(x)):
    for point, feature in zip(np.asarray(x[row], np.float64), features[row], strict=True):
      cell = np.clip(np.floor((point + 1) / 2 * CELLS).astype(int), 0, CELLS - 1)
      for i, (a, b) in enumerate(PLANES):
        total[row, i, cell[b], cell[a]] += feature
        count[row, i, cell[b], cell[a]] += 1
  return total / np.maximum(count, 1)


def test_scattered_features_are_the_means_of_a_dense_loop(cloud):
  np.testing.assert_allclose(scatter_to_planes(*cloud, CELLS), dense(*cloud), rtol=1e-5, atol=1e-6)  # of values near 1


def test_the_order_of_the_points_does_not_matter(cloud):
  order = np.random.default_rng(1).permutation(30)
  features, x = cloud
  np.testing.assert_allclose(scatter_to_planes(features[:, order], x[:, order], CELLS), scatter_to_planes(features, x, CELLS),
                             rtol=1e-5, atol=1e-6)


def test_a_point_alone_in_its_cells_finds_there_what_it_wrote():
  x = jnp.asarray([[[-0.9, -0.4, 0.1], [0.1, 0.6, -0.9], [0.9, 0.1, 0.6]], [[0.4, 0.4, 0.4], [-0.4, -0.9, 0.9], [0.9, 0.9, -0.1]]])
  features = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
  found = at_planes(scatter_to_planes(features, x, CELLS), x)
  np.testing.assert_allclose(found, np.broadcast_to(features[:, None], (2, 3, 3, 5)), rtol=1e-6)


def test_centres_lie_in_the_middle_of_the_cells_that_points_project_into(cloud):
  _, x = cloud
  slow = (np.clip(np.floor((x.astype(np.float64) + 1) / 2 * CELLS), 0, CELLS - 1) + 0.5) * 2 / CELLS - 1
  np.testing.assert_allclose(cell_centres(jnp.asarray(x), CELLS), slow, atol=1e-6)  # of values below 1


def test_scatter_and_look_up_agree_on_which_axis_is_which():
  x = jnp.asarray([[[0.7, -0.2, 0.1]]])
  planes = scatter_to_planes(jnp.ones((1, 1, 1)), x, CELLS)
  seen = lambda at: float(lookup_planes(planes.transpose(0, 2, 3, 1, 4), at)[0, 0, 0])
  assert seen(x) > max(seen(x[..., jnp.asarray(order)]) for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1)))


def test_other_planes_are_the_means_along_the_shared_lines():
  planes = np.random.default_rng(0).normal(size=(2, 3, CELLS, CELLS, 2)).astype(np.float32)
  found = other_planes(jnp.asarray(planes))
  xy, xz, yz = (planes[:, i] for i in range(3))  # each (rows of its second axis, columns of its first)
  for i, (rows, columns) in enumerate([(yz.mean(1), xz.mean(1)), (yz.mean(2), xy.mean(1)), (xz.mean(2), xy.mean(2))]):
    np.testing.assert_allclose(found[:, i, :, 0, :2], rows, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, i, 0, :, 2:], columns, rtol=1e-5, atol=1e-6)
    assert bool(jnp.all(found[:, i, :, :1, :2] == found[:, i, :, 1:2, :2]))


def test_an_offset_and_its_cell_give_the_point_back(cloud):
  x = cloud[1]
  offset = np.asarray(cell_offsets(jnp.asarray(x), CELLS))
  cell = np.clip(np.floor((x + 1) / 2 * CELLS), 0, CELLS - 1)
  assert np.abs(offset).max() <= 1
  np.testing.assert_allclose((cell + (offset + 1) / 2) / CELLS * 2 - 1, x, atol=1e-6)  # of coordinates up to 1


def test_gradients_reach_every_point(cloud):
  gradient = jax.grad(lambda features: jnp.sum(scatter_to_planes(features, cloud[1], CELLS) ** 2))(jnp.asarray(cloud[0]))
  assert bool(jnp.all(jnp.any(gradient != 0, axis=-1)))
