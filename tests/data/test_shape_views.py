"""Batches, views and cameras of the pictures of many shapes."""

import math

import numpy as np
import pytest

from fields3d.commands.plan_batch import planned_dataset
from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.data import DATASETS
from fields3d.data.procedural import procedural
from fields3d.geometry.rays import camera_rays

SECTION = {"name": "shape_views", "views": 3, "width": 16, "supersample": 2, "seed": 4, "workers": 1,
           "source": {"name": "families", "families": ("mug", "table"), "num_shapes": 5, "num_val": 1, "num_test": 2}}
IMAGES, PIXELS = {"name": "images", "rows": 6, "size": 8}, {"name": "pixels", "rows": 6, "pixels": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return str(tmp_path_factory.mktemp("pictures"))


def dataset(folder, draws, **more):
  return build(DATASETS, SECTION | {"cache_dir": folder, "draws": draws} | more, "data")


def pictures(data, split="train"):
  return np.stack([view.pixels() for view in data.views(split)])


@pytest.mark.parametrize("draws", [IMAGES, PIXELS], ids=["images", "pixels"])
def test_batches_are_pure_and_shards_are_their_rows(folder, draws):
  first, again = dataset(folder, draws), dataset(folder, draws)
  for position in (0, 10**9):
    whole = first.batch(position, 0, 1)
    again.batch(position + 1, 0, 1)
    for name, value in again.batch(position, 0, 1).items():
      np.testing.assert_array_equal(value, whole[name])
      parts = [first.batch(position, shard, 3)[name] for shard in range(3)]
      np.testing.assert_array_equal(np.concatenate(parts), value)
  assert any(not np.array_equal(first.batch(1, 0, 1)[name], whole[name]) for name in whole)


def test_pixels_are_those_of_their_view_and_rays_those_of_its_camera(folder):
  data = dataset(folder, PIXELS)
  batch, views, all_pixels = data.batch(7, 0, 1), data.views("train"), pictures(dataset(folder, PIXELS))
  for row in range(6):
    np.testing.assert_array_equal(batch["view"][row] // 3, batch["shape"][row])
    assert data.info["classes"][batch["label"][row]] == data.info["labels"][batch["shape"][row]]
    for p in range(0, 40, 8):
      index = batch["view"][row, p]
      camera = views[int(index)].camera
      ahead = camera.pose[:, :3].T @ batch["directions"][row, p]
      column, line = (ahead[:2] / -ahead[2] * (1, -1)) * camera.intrinsics[0] + 8
      shot = camera_rays([camera], np.zeros(1, np.int32), np.array([[column, line]]), {"near": 2.0, "far": 4.0})
      for name in ("origins", "directions", "viewdirs", "radii", "near", "far"):
        np.testing.assert_allclose(batch[name][row, p], getattr(shot, name)[0], atol=1e-6)  # float32 of numbers below 5
      seen = all_pixels[index, int(line), int(column)] / 65535
      np.testing.assert_allclose([*batch["rgb"][row, p], batch["alpha"][row, p]], seen, atol=1e-6)


def test_an_epoch_of_pixel_rows_is_every_shape_once(folder):
  data = dataset(folder, {"name": "pixels", "rows": 5, "pixels": 4})
  for position in range(3):
    assert sorted(data.batch(position, 0, 1)["shape"]) == list(range(5))


def test_images_are_means_of_their_views_and_every_view_is_drawn(folder):
  data, seen = dataset(folder, IMAGES), set()
  poses = np.stack([view.camera.pose for view in data.views("train")]).astype(np.float32)
  means = pictures(data).reshape(15, 8, 2, 8, 2, 4).mean((2, 4)) / 65535
  for position in range(20):
    batch = data.batch(position, 0, 1)
    for pose, rgb, alpha, label in zip(batch["pose"], batch["rgb"], batch["alpha"], batch["label"], strict=True):
      (index,) = np.flatnonzero((poses == pose).all((1, 2)))
      seen.add(int(index))
      np.testing.assert_allclose(np.concatenate([rgb, alpha[..., None]], -1), means[index], atol=1e-6)
      assert data.info["classes"][label] == data.info["labels"][index // 3]
  assert seen == set(range(15))


def test_pictures_are_premultiplied_and_show_their_shape(folder):
  for split in ("train", "val", "test"):
    all_pixels = pictures(dataset(folder, IMAGES), split)
    assert (all_pixels[..., :3] <= all_pixels[..., 3:]).all()
    coverage = all_pixels[..., 3].mean((1, 2)) / 65535
    assert (0.02 < coverage).all() and (coverage < 0.8).all()


def test_cameras_look_at_the_origin_from_the_stated_part_of_the_sphere(folder):
  data = dataset(folder, IMAGES, elevation=(10.0, 30.0), views=2)
  poses = np.stack([view.camera.pose for view in data.views("train")])
  eyes = poses[:, :, 3]
  np.testing.assert_allclose(np.linalg.norm(eyes, axis=1), 3.0, atol=1e-12)
  np.testing.assert_allclose(-poses[:, :, 2], -eyes / 3.0, atol=1e-12)
  height = np.degrees(np.arcsin(eyes[:, 1] / 3))
  assert (height >= 10).all() and (height <= 30).all() and (poses[:, 1, 1] > 0).all()
  assert math.isclose(data.info["camera"]["half_view"], math.radians(20))


def test_shapes_are_those_of_the_dataset_procedural_split_by_split(folder):
  data = dataset(folder, IMAGES)
  other = procedural(("mug", "table"), 5, 1, 2, samples_per_shape=10, seed=4)
  for split, num in (("train", 5), ("val", 1), ("test", 2)):
    assert [s.name for s in data.shapes(split)] == [s.name for s in other.shapes(split)]
    names = [view.name for view in data.views(split)]
    assert names == [f"{s.name}/{j:03d}" for s in data.shapes(split) for j in range(3)] and len(names) == 3 * num
  assert data.info["num_shapes"] == 5 and data.info["num_views"] == 15


@pytest.mark.parametrize("more,flag", [
    ({"elevation": (40.0, 20.0)}, "--config.data.elevation"), ({"elevation": (5.0,)}, "--config.data.elevation"),
    ({"elevation": (0.0, 95.0)}, "--config.data.elevation"),
    ({"draws": {"name": "images", "size": 7}}, "--config.data.draws.size"),
    ({"draws": {"name": "image"}}, "--config.data.draws.name"),
    ({"source": {"name": "families", "families": ("chiar",)}}, "--config.data.source.families"),
    ({"source": {"name": "families", "families": ()}}, "--config.data.source.families"),
    ({"draws": {"name": "pixels", "rows": 10**6, "pixels": 10**6}}, "--config.data.draws.rows"),
])
def test_settings_that_do_not_fit_are_one_line(folder, more, flag):
  with pytest.raises(UsageFault, match=flag) as caught:
    dataset(folder, **{"draws": IMAGES} | more)
  assert "\n" not in str(caught.value)


def test_rows_that_do_not_divide_over_processes_are_refused(folder):
  with pytest.raises(UsageFault, match="do not divide"):
    dataset(folder, IMAGES).batch(0, 0, 4)


def test_copies_and_recombinations_are_new_training_shapes_and_no_others(folder):
  source = SECTION["source"] | {"recombine": 1.0}
  data = dataset(folder, IMAGES, source=source, augment={"variants": 1, "turn": 90.0, "scale": 0.8, "jitter": 0.5})
  names = data.info["names"]
  assert data.info["num_shapes"] == 10 and len(data.views("train")) == 30
  assert all("+" in name for name in names) and [name[-2:] == "~1" for name in names] == [False, True] * 5
  still = dataset(folder, IMAGES)
  for split in ("val", "test"):
    np.testing.assert_array_equal(pictures(data, split), pictures(still, split))
  small, large = pictures(data)[3:6, ..., 3].mean(), pictures(data)[:3, ..., 3].mean()
  assert small < 1.2 * large
  shape, pixels = data.shapes("train")[1], pictures(data)[3]
  assert shape.name == names[1]
  camera = data.views("train")[3].camera
  hits = np.array([shape.mesh().vertices])[0]
  ahead = (hits - camera.pose[:, 3]) @ camera.pose[:, :3]
  at = np.floor(8 + camera.intrinsics[0] * ahead[:, :2] / -ahead[:, 2:] * (1, -1)).astype(int)
  assert (pixels[at[:, 1], at[:, 0], 3] > 0).mean() > 0.98  # every vertex is seen, or lies behind what is


@pytest.mark.parametrize("draws", [IMAGES, PIXELS], ids=["images", "pixels"])
def test_a_planned_batch_is_that_of_the_data(folder, draws):
  section = SECTION | {"cache_dir": folder, "draws": draws, "augment": {"variants": 1}}
  planned, spec, _ = planned_dataset(section)
  real = build(DATASETS, section, "data")
  assert {k: (v.shape, v.dtype) for k, v in spec.items()} == {k: (v.shape, v.dtype) for k, v in real.batch(0, 0, 1).items()}
  for fact, value in planned.info.items():
    assert fact == "protocol" or real.info[fact] == value, fact
