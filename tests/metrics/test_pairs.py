"""Matrices over sets of clouds: every entry is the pair's own distance, whatever the blocks, threads and devices."""

import tracemalloc

import jax
import numpy as np
import pytest

from fields3d.core.errors import BadData, UsageFault
from fields3d.metrics.clouds import CHAMFERS, chamfer
from fields3d.metrics.pairs import DISTANCES, pairwise, pairwise_sinkhorn
from fields3d.metrics.transport import EMDS, emd


def clouds(n, p, seed=0):
  return np.random.default_rng(seed).normal(size=(n, p, 3)).astype(np.float32)


@pytest.mark.parametrize("name", DISTANCES)
def test_every_entry_is_the_distance_of_its_pair(name):
  a, b = clouds(3, 30), clouds(4, 30, seed=1)
  one = chamfer if name in CHAMFERS else emd
  expected = [[one(x, y, name) for y in b] for x in a]
  found = pairwise(a, b, name)
  assert found.dtype == np.float64 and set(DISTANCES) == set(CHAMFERS) | set(EMDS)
  np.testing.assert_allclose(found, expected, rtol=3e-7)  # float32 squares


@pytest.mark.parametrize("name", ["chamfer_sum_squared", "chamfer_one_sided_unsquared", "emd"])
def test_a_set_with_itself_is_the_same_at_half_the_work(name):
  a = clouds(5, 20)
  done = []
  half = pairwise(a, a, name, progress=lambda i, n: done.append((i, n)))
  assert done[-1] == (10, 10) and np.array_equal(np.diag(half), np.zeros(5))
  full = pairwise(a, a.copy(), name, progress=lambda i, n: done.append((i, n)))
  assert done[-1] == (25, 25)
  np.testing.assert_allclose(half, full, rtol=1e-15)
  assert np.array_equal(half, half.T) == ("one_sided" not in name)


def test_the_matrix_does_not_depend_on_blocks_threads_or_devices():
  a, b = clouds(5, 37), clouds(3, 37, seed=1)
  assert len(jax.devices()) > 1
  reference = pairwise(a, b, block=1, workers=1, devices=jax.devices()[:1])
  for block, devices in ((4, jax.devices()[:1]), (4, jax.devices()[:3]), (64, jax.devices()[:1])):
    assert np.array_equal(pairwise(a, b, block=block, devices=devices), reference), (block, len(devices))
  assert np.array_equal(pairwise(a, a, block=4, devices=jax.devices()[:2]), pairwise(a, a, block=1, workers=1,
                                                                                    devices=jax.devices()[:1]))
  assert np.array_equal(pairwise(a, b, "emd", workers=1), pairwise(a, b, "emd", workers=3))


def test_clouds_of_other_sizes_may_stand_on_the_other_side():
  a, b = clouds(2, 1), clouds(2, 33, seed=1)
  np.testing.assert_allclose(pairwise(a, b), [[chamfer(x, y) for y in b] for x in a], rtol=3e-7)


@pytest.mark.parametrize(("scale", "offset"), [(1e-30, 0), (1e25, 0), (1.0, 3000.0)])
def test_neither_units_nor_a_far_origin_cost_digits(scale, offset):
  a, b = (clouds(2, 50, seed=k).astype(np.float64) * scale + offset for k in (0, 1))
  for name in ("chamfer_sum_squared", "chamfer_mean_unsquared"):
    np.testing.assert_allclose(pairwise(a, b, name), [[chamfer(x, y, name) for y in b] for x in a], rtol=1e-6)


def test_one_and_the_same_cloud_is_at_distance_zero():
  a = clouds(3, 40).astype(np.float64) + 100
  assert pairwise(a, a[1:2].copy())[1, 0] == 0
  assert np.array_equal(pairwise(np.ones((2, 4, 3)), np.ones((2, 4, 3))), np.zeros((2, 2)))


def test_memory_is_the_sets_and_the_matrix_and_a_few_blocks():
  """The peak of 48 x 48 clouds is above that of 6 x 6 by what goes in and comes out, not by what lies between."""
  peaks, arrays = [], []
  for n in (6, 48):
    a, b = clouds(n, 256), clouds(n, 256, seed=1)
    pairwise(a[:1], b[:1], block=4)
    tracemalloc.start()
    pairwise(a, b, block=4, workers=2, devices=jax.devices()[:1],
             progress=lambda i, total: arrays.append(sum(x.nbytes for x in jax.live_arrays())))
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  inputs = 2 * 48 * 256 * 3 * 4
  assert peaks[1] - peaks[0] < 3 * inputs + 48 * 48 * 8 + 2**18  # checks and moving hold two more copies in passing
  assert max(arrays) < 16 * 4 * 256 * 3 * 4 * 4  # blocks under way, whatever n is: 48 x 48 pairs at once would be 70 times it


def test_sinkhorns_matrix_is_a_pair_of_bounds():
  a, b = clouds(3, 40), clouds(2, 40, seed=1)
  exact, bounds = pairwise(a, b, "emd"), pairwise_sinkhorn(a, b, 0.01)
  assert np.all(bounds.lower <= exact) and np.all(exact <= bounds.upper) and bounds.converged.all()
  assert bounds.gap == pytest.approx(np.max((bounds.upper - bounds.lower) / bounds.upper)) and 0 < bounds.gap < 0.2
  itself = pairwise_sinkhorn(a, a, 0.01)
  assert np.array_equal(itself.upper, itself.upper.T) and np.all(itself.lower <= pairwise(a, a, "emd"))
  assert not pairwise_sinkhorn(a, b, 1e-3, most_iterations=1).converged.any()


def test_faults_are_one_line():
  a = clouds(2, 8)
  bad = a.copy()
  bad[1, 5] = np.nan
  with pytest.raises(BadData, match="b: point 5 of cloud 1 is not finite"):
    pairwise(a, bad)
  with pytest.raises(UsageFault, match="differing sizes"):
    pairwise(a, [np.zeros((4, 3)), np.zeros((5, 3))])
  with pytest.raises(UsageFault, match="8 and 7 points"):
    pairwise(a, clouds(2, 7), "emd")
  with pytest.raises(UsageFault, match="chamfer_sum_squared"):
    pairwise(a, a, "chamfer")
  with pytest.raises(UsageFault, match="pairwise_sinkhorn"):
    pairwise(a, a, "emd_sinkhorn")
  with pytest.raises(UsageFault, match="workers 0"):
    pairwise(a, a, workers=0)
