"""Nearest-neighbour distances of two clouds against closed forms, float64 loops and scipy's k-d tree on real shapes."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial

from fields3d.core.errors import BadData, UsageFault
from fields3d.metrics.clouds import (
  CHAMFERS,
  chamfer,
  checked_clouds,
  density_aware_chamfer,
  nearest_squared,
)


def loop_squares(a, b):
  """Squared distances of a's points to b, one at a time, in float64."""
  return np.array([min(sum((float(x[k]) - float(y[k]))**2 for k in range(3)) for y in b) for x in a])


def lattice(side, spacing):
  axis = np.arange(side) * spacing
  return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def clouds(n, p, seed=0):
  return np.random.default_rng(seed).normal(size=(n, p, 3)).astype(np.float32)


@pytest.mark.parametrize(("name", "value"), [
    ("chamfer_sum_squared", 2 * 0.09), ("chamfer_mean_squared", 0.09), ("chamfer_sum_unsquared", 0.6),
    ("chamfer_mean_unsquared", 0.3), ("chamfer_one_sided_squared", 0.09), ("chamfer_one_sided_unsquared", 0.3)])
def test_a_lattice_shifted_by_less_than_half_its_spacing_is_the_shift_away(name, value):
  grid = lattice(4, 1.0)
  assert chamfer(grid, grid + [0.3, 0, 0], name) == pytest.approx(value, rel=1e-12)


def test_every_convention_is_tried():
  assert set(CHAMFERS) == {"chamfer_sum_squared", "chamfer_mean_squared", "chamfer_sum_unsquared",
                           "chamfer_mean_unsquared", "chamfer_one_sided_squared", "chamfer_one_sided_unsquared"}


def test_concentric_spheres_along_the_same_rays_are_their_radii_apart():
  rays = np.random.default_rng(0).normal(size=(500, 3))
  rays /= np.linalg.norm(rays, axis=1, keepdims=True)
  near, far = 0.5 * rays, 0.8 * rays  # for each point the one on its own ray is the nearest
  assert chamfer(near, far, "chamfer_mean_unsquared") == pytest.approx(0.3, rel=1e-12)
  assert chamfer(near, far, "chamfer_sum_squared") == pytest.approx(0.18, rel=1e-12)


def test_one_sided_means_from_the_first_to_the_second():
  a, b = np.zeros((1, 3)), np.array([[0.0, 0, 0], [2, 0, 0]])
  assert chamfer(a, b, "chamfer_one_sided_squared") == 0
  assert chamfer(b, a, "chamfer_one_sided_squared") == 2


@pytest.mark.parametrize(("p", "q"), [(33, 33), (1, 1), (1, 40), (50, 17), (16, 16), (520, 3)])
def test_batched_neighbours_agree_with_a_float64_loop(p, q):
  a, b = clouds(3, p), clouds(3, q, seed=1)
  forward, backward = nearest_squared(a, b)
  for k in range(3):
    np.testing.assert_allclose(forward[k], loop_squares(a[k], b[k]), rtol=2.4e-7)  # 4 units in the last place
    np.testing.assert_allclose(backward[k], loop_squares(b[k], a[k]), rtol=2.4e-7)


def test_batched_neighbours_agree_with_a_tree_on_real_shapes(real_data):
  a, b = real_clouds(real_data, 6)
  forward, backward = nearest_squared(a, b)
  for k in range(len(a)):
    for name, kind in CHAMFERS.items():
      found = kind.value(np.asarray(forward[k]), np.asarray(backward[k]))
      to_b = scipy.spatial.cKDTree(b[k].astype(np.float64)).query(a[k].astype(np.float64))[0]**2
      to_a = scipy.spatial.cKDTree(a[k].astype(np.float64)).query(b[k].astype(np.float64))[0]**2
      assert found == pytest.approx(kind.value(to_b, to_a), rel=1e-6), name
      assert chamfer(a[k], b[k], name) == pytest.approx(kind.value(to_b, to_a), rel=1e-12), name


def real_clouds(real_data, n, points=2048):
  """Two sets (n, points, 3) float32 of vertices of real furniture, in the unit ball."""
  with np.load(real_data / "shapes" / "furniture" / "furniture.npz") as pack:
    q, offsets, scale, low = (pack[name] for name in ("q", "v_off", "scale", "lo"))
  big = np.flatnonzero(np.diff(offsets) >= points)[:2 * n]
  rng = np.random.default_rng(0)
  out = []
  for i in big:
    vertices = low[i] + q[offsets[i]:offsets[i + 1]] * scale[i] / 65535
    cloud = vertices[rng.permutation(len(vertices))[:points]]
    cloud = cloud - (cloud.min(0) + cloud.max(0)) / 2
    out.append(cloud / np.linalg.norm(cloud, axis=1).max())
  return np.float32(out[:n]), np.float32(out[n:])


def test_a_pair_has_the_same_bits_alone_and_in_a_batch():
  a, b = clouds(5, 70), clouds(5, 70, seed=1)
  forward, backward = nearest_squared(a, b)
  for k in range(5):
    alone = nearest_squared(a[k:k + 1], b[k:k + 1])
    assert np.array_equal(alone[0][0], forward[k]) and np.array_equal(alone[1][0], backward[k])


def test_the_order_of_points_does_not_matter():
  a, b = clouds(2, 60)
  shuffle = np.random.default_rng(1).permutation(60)
  for name in CHAMFERS:
    assert chamfer(a[shuffle], b, name) == pytest.approx(chamfer(a, b, name), rel=1e-14)
  assert density_aware_chamfer(a[shuffle], b, 1.0) == pytest.approx(density_aware_chamfer(a, b, 1.0), rel=1e-14)
  forward, _ = nearest_squared(a[None], b[None])
  shuffled, _ = nearest_squared(a[None, shuffle], b[None])
  assert np.array_equal(shuffled[0], forward[0][shuffle])


def test_repeated_points_count_as_often_as_they_stand_there():
  a = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 3]])
  assert chamfer(a, np.zeros((1, 3)), "chamfer_sum_squared") == 3.0
  assert chamfer(a, a) == 0
  assert float(jnp.max(nearest_squared(a[None], a[None])[0])) == 0


def test_density_aware_chamfer_agrees_with_a_loop():
  a, b = clouds(2, 40)
  b = b[:25]
  total = 0.0
  for x, y in ((a, b), (b, a)):
    matrix = np.sum((x[:, None].astype(np.float64) - y[None])**2, axis=-1)
    nearest = matrix.argmin(1)
    total += np.mean([1 - np.exp(-2.0 * matrix[i, j]) / np.sum(nearest == j) for i, j in enumerate(nearest)]) / 2
  assert density_aware_chamfer(a, b, alpha=2.0) == pytest.approx(total, rel=1e-12)


def test_density_aware_chamfer_sees_what_the_chamfer_distance_does_not():
  """Closed form: n points on one spot against n spots of which one is that spot's: chamfer's one side is 0."""
  spread = lattice(3, 1.0)
  heap = np.zeros((27, 3))
  assert chamfer(heap, spread, "chamfer_one_sided_squared") == 0
  # heap to spread: all 27 share one neighbour; spread to heap: one spot at distance 0, the rest at 1 or more
  away = np.exp(-1000.0 * np.sum(spread**2, axis=1)).sum()
  index = scipy.spatial.cKDTree(heap).query(spread)[1]
  back = np.mean(1 - np.exp(-1000.0 * np.sum(spread**2, axis=1)) / np.bincount(index)[index])
  assert away == 1
  assert density_aware_chamfer(heap, spread) == pytest.approx(((1 - 1 / 27) + back) / 2, rel=1e-12)


def test_faults_are_one_line_with_the_place():
  good = np.zeros((2, 4, 3))
  bad = good.copy()
  bad[1, 2, 0] = np.nan
  with pytest.raises(BadData, match="a: point 2 of cloud 1 is not finite") as caught:
    checked_clouds("a", bad)
  assert "\n" not in str(caught.value)
  with pytest.raises(BadData, match="b: point 2 of cloud 0"):
    chamfer(good[0], bad[1])
  with pytest.raises(UsageFault, match="differing sizes, 3 to 4 points"):
    checked_clouds("a", [np.zeros((4, 3)), np.zeros((3, 3))])
  for wrong in (np.zeros((4, 3)), np.zeros((1, 0, 3)), np.zeros((0, 4, 3)), np.zeros((1, 4, 2)), np.array([[["x"] * 3]])):
    with pytest.raises(UsageFault, match="clouds are"):
      checked_clouds("a", wrong)
  with pytest.raises(UsageFault, match="did you mean 'chamfer_sum_squared'"):
    chamfer(good[0], good[0], "chamfer_sum_square")
  with pytest.raises(UsageFault, match="alpha"):
    density_aware_chamfer(good[0], good[0], alpha=0)
