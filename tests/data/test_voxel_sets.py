"""Voxels: against every cell asked for itself, and as part of batches."""

import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.data import DATASETS
from fields3d.data.procedural import solid
from fields3d.data.voxels import voxelise
from fields3d.metrics.voxels import iou

BOUNDS = np.array([[-1.0] * 3, [1.0] * 3])
SMALL = dict(name="procedural", families=("chair", "table"), num_shapes=4, num_val=0, num_test=2, samples_per_shape=500, rows=3,
             points=0)


def middles(n):
  ticks = ((np.arange(n) + 0.5) / n * 2 - 1).astype(np.float32)
  return np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("family", ["chair", "lamp"])
@pytest.mark.parametrize("kind", ["solid", "surface"])
def test_every_cell_is_as_if_it_were_asked_for_itself(family, kind):
  sdf = solid(family, 0, 3).sdf
  d = sdf(middles(24)).reshape(24, 24, 24)
  want = d < 0 if kind == "solid" else np.abs(d) <= 1 / 24
  np.testing.assert_array_equal(voxelise(sdf, BOUNDS, 24, kind), want)


def test_axes_are_x_y_z():
  grid = voxelise(lambda x: np.linalg.norm(x - [0.5, 0, -0.5], axis=1) - 0.2, BOUNDS, 16)
  np.testing.assert_allclose(np.argwhere(grid).mean(0), [11.5, 7.5, 3.5], atol=0.01)


def test_a_finer_grid_has_the_volume_of_a_coarser_one():
  sdf = solid("table", 0, 0).sdf
  coarse, fine = (voxelise(sdf, BOUNDS, n).mean() for n in (32, 96))
  assert abs(coarse / fine - 1) < 0.1  # of plates of two to four coarse cells


def test_batches_hold_the_voxels_of_their_rows_shapes():
  data = build(DATASETS, dict(name="voxels", source=SMALL, resolution=16), "data")
  shapes, batch = data.shapes("train"), data.batch(1, 0, 1)
  assert batch["voxels"].shape == (3, 16, 16, 16) and batch["voxels"].dtype == np.float32 and data.info["voxels"] == 16
  for row, shape in zip(batch["voxels"], batch["shape"], strict=True):
    assert iou(row > 0.5, voxelise(shapes[shape].sdf, BOUNDS, 16)) == 1
  half = data.batch(1, 0, 3)
  np.testing.assert_array_equal(half["voxels"], batch["voxels"][:1])


def test_a_resolution_that_blocks_do_not_fill_is_a_usage_fault():
  with pytest.raises(UsageFault, match="30 cells are no multiple of 4"):
    build(DATASETS, dict(name="voxels", source=SMALL, resolution=30), "data")
