"""Batches of rays: the pixels that they claim to be, deterministic, cut over processes."""

import concurrent.futures
import dataclasses
import time
import tracemalloc

import numpy as np
import pytest

from fields3d.core.errors import UsageFault
from fields3d.core.types import Camera, Frame, View
from fields3d.data.rays import PixelDraws, scene_dataset
from fields3d.data.scene import Scene
from fields3d.geometry.cameras import pixel_of


def picture(width, height, seed):
  return np.random.default_rng(seed).integers(0, 65536, (height, width, 4)).astype(np.uint16)


def scene(mask=False, depth=False, sizes=((5, 4), (3, 6))):
  views = []
  for i, (w, h) in enumerate(sizes):
    pose = np.concatenate([np.eye(3), [[0.1 * i], [0.0], [3.0]]], axis=1)
    camera = Camera("PINHOLE", (w, h), (10.0 + i, 11.0, w / 2, h / 2), (), pose)
    views.append(View(str(i), camera, lambda w=w, h=h, i=i: picture(w, h, i),
                      (lambda w=w, h=h: np.arange(w * h).reshape(h, w) % 2 == 0) if mask and i else None,
                      (lambda w=w, h=h: np.full((h, w), 2.0, np.float32)) if depth and i else None))
  return Scene("toy", {"train": views, "test": views[:1]}, 1.0, 5.0)


def place(dataset, batch, views):
  """The pixel (view, row, column) that each ray goes through, by projecting a point of it."""
  x = batch["origins"] + 2 * batch["directions"]
  out = []
  for v, point in zip(batch["view"][:, 0], x[:, 0], strict=True):
    column, row = pixel_of(views[v].camera, point[None].astype(np.float64))[0]
    out.append((v, int(row), int(column)))
  return out


def test_each_ray_sees_the_pixel_whose_colour_stands_beside_it():
  source = scene()
  dataset = scene_dataset(source, PixelDraws(pixels=64))
  batch = dataset.batch(3, 0, 1)
  for (v, row, column), rgb, alpha in zip(place(dataset, batch, source.views["train"]), batch["rgb"], batch["alpha"], strict=True):
    pixel = source.views["train"][v].pixels()[row, column] / 65535
    np.testing.assert_allclose([*rgb, alpha], pixel, rtol=1e-6)


def test_what_a_scene_warns_of_is_told_when_its_dataset_is_made(caplog):
  scene_dataset(dataclasses.replace(scene(), warnings=[f"line {i}" for i in range(7)]), PixelDraws())
  assert [r.getMessage() for r in caplog.records] == [*(f"toy: line {i}" for i in range(5)),
                                                      "toy: 2 more warnings, see fields3d inspect cameras"]


def test_every_pixel_of_every_view_is_drawn_alike():
  dataset = scene_dataset(source := scene(), PixelDraws(pixels=1900))
  drawn = place(dataset, batch := dataset.batch(0, 0, 1), source.views["train"])
  counts = np.unique(np.array(drawn), axis=0, return_counts=True)[1]
  assert len(counts) == 5 * 4 + 3 * 6
  assert np.abs(counts - 50).max() < 4 * np.sqrt(50)  # 4 sigma of a Poisson count
  assert len(batch["rgb"]) == 1900


def test_pixels_are_laid_out_without_a_second_copy_of_all_of_them():
  dataset = scene_dataset(scene(sizes=((200, 100),) * 100), PixelDraws(pixels=8))
  tracemalloc.start()
  dataset.batch(0)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 1.7 * 100 * 200 * 100 * 8  # and eight photographs that are being read


def test_several_threads_that_make_batches_read_a_photograph_once():
  view, times = scene().views["train"][0], []
  once = dataclasses.replace(view, pixels=lambda: times.append(time.sleep(0.05)) or view.pixels())
  dataset = scene_dataset(dataclasses.replace(scene(), views={"train": [once]}), PixelDraws(pixels=8))
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(dataset.batch, range(4)))
  assert len(times) == 1


def test_supersampled_rays_lie_one_in_each_part_of_their_pixel():
  source = scene(sizes=((5, 4),))
  batch = scene_dataset(source, PixelDraws(pixels=32, supersample=3)).batch(0, 0, 1)
  assert batch["origins"].shape == (32, 9, 3)
  x = batch["origins"] + 2 * batch["directions"]
  at = pixel_of(source.views["train"][0].camera, x.reshape(-1, 3).astype(np.float64)).reshape(32, 9, 2)
  parts = np.floor(at * 3).astype(int)
  inside = parts - 3 * np.floor(at[:, :1]).astype(int)
  for pixel in inside:
    assert sorted(map(tuple, pixel)) == [(i, j) for i in range(3) for j in range(3)]


def test_a_batch_depends_on_its_position_alone_and_shards_join_to_it():
  one, other = (scene_dataset(scene(), PixelDraws(pixels=48, supersample=2)) for _ in range(2))
  whole = one.batch(7, 0, 1)
  one.batch(0, 0, 1)
  parts = [other.batch(7, i, 4) for i in range(4)]
  for name, values in whole.items():
    np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))
    assert not np.array_equal(values, one.batch(8, 0, 1)[name]) or name in ("near", "far")


def test_masks_and_depths_stand_beside_pixels_and_are_neutral_for_views_without():
  batch = scene_dataset(scene(mask=True, depth=True), PixelDraws(pixels=400)).batch(0, 0, 1)
  first = batch["view"][:, 0] == 0
  assert batch["mask"][first].all() and 0 < batch["mask"][~first].mean() < 1
  assert (batch["depth"][first] == 0).all()
  met = batch["origins"] + batch["depth"][:, None, None] * batch["directions"]  # a wall across the axis, 2 ahead
  np.testing.assert_allclose(met[~first, 0, 2], 3 - 2, atol=1e-6)


def test_pixels_that_do_not_divide_over_processes_are_refused():
  with pytest.raises(UsageFault, match="do not divide"):
    scene_dataset(scene(), PixelDraws(pixels=10)).batch(0, 0, 4)


def test_a_scene_says_the_way_back_to_its_own_frame():
  turned = dataclasses.replace(scene(), frame=Frame((1.0, 2.0, 3.0), 4.0), rotation=((0, -1, 0), (1, 0, 0), (0, 0, 1)))
  world = scene_dataset(turned, PixelDraws(pixels=4)).info["world"]
  assert world == {"rotation": turned.rotation, "offset": (1.0, 2.0, 3.0), "scale": 4.0}
