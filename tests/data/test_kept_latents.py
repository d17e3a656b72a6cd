"""Kept latents: in the batches of the shapes that they are of, and refused for any other."""

import concurrent.futures
import sys
import time

import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import BadData, MissingInput
from fields3d.data import DATASETS
from fields3d.data.encoded import made_by, write_latents

SOURCE = dict(name="procedural", families=("chair", "table"), num_shapes=4, num_val=0, num_test=2, samples_per_shape=500, rows=4, points=0)


def make(path, **settings):
  return build(DATASETS, dict(name="encoded", path=str(path), source=SOURCE | settings), "data")


@pytest.fixture
def latents():
  """Three of each of four shapes: 100 of the shape, 10 of the draw."""
  return 100.0 * np.arange(4).reshape(1, 4, 1, 1) + 10.0 * np.arange(3).reshape(3, 1, 1, 1) + np.zeros((3, 4, 5, 2))


@pytest.fixture
def path(tmp_path, latents):
  write_latents(tmp_path / "latents.npz", latents, make(tmp_path / "none").shapes("train"), 7, 32 * "5a")
  return tmp_path / "latents.npz"


def test_batches_hold_one_of_the_latents_of_their_rows_shapes(path):
  data, seen = make(path), set()
  for position in range(30):
    batch = data.batch(position, 0, 1)
    z = batch["latents"]
    assert z.shape == (4, 5, 2) and z.dtype == np.float32
    np.testing.assert_array_equal(z[:, 0, 0] // 100, batch["shape"])
    seen |= set(z[:, 0, 0] % 100)
  assert seen == {0, 10, 20} and made_by(path) == (7, 32 * "5a")


def test_a_shard_has_its_rows_of_the_batch_and_a_position_its_own_latents(path):
  data = make(path)
  whole = data.batch(3, 0, 1)["latents"]
  np.testing.assert_array_equal(np.concatenate([data.batch(3, i, 2)["latents"] for i in range(2)]), whole)
  np.testing.assert_array_equal(make(path).batch(3, 0, 1)["latents"], whole)


def test_several_threads_that_make_batches_read_the_file_once(path, monkeypatch):
  module, times = sys.modules["fields3d.data.encoded"], []
  read = module.read_latents
  monkeypatch.setattr(module, "read_latents", lambda *args: times.append(time.sleep(0.05)) or read(*args))
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(make(path).batch, range(4)))
  assert len(times) == 1


def test_latents_of_other_shapes_are_bad_data(path, latents):
  for other in (dict(num_shapes=5), dict(families=("chair",)), dict(seed=1)):
    with pytest.raises(BadData, match="of other shapes"):
      make(path, **other).batch(0, 0, 1)
  write_latents(path, np.where(latents == 100, np.nan, latents), make(path).shapes("train"), 7, 32 * "5a")
  with pytest.raises(BadData, match="not finite"):
    make(path).batch(0, 0, 1)


def test_what_is_not_there_or_cut_off_is_told_when_the_first_batch_is_asked_for(path):
  data = make(path.with_name("none.npz"))
  assert len(data.shapes("test")) == 2
  with pytest.raises(MissingInput, match="fields3d encode"):
    data.batch(0, 0, 1)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(BadData, match="latents.npz"):
    make(path).batch(0, 0, 1)
