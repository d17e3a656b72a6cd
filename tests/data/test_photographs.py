"""Photographs beside cameras: which are found, which sizes they are read at, which are held out."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Camera, View
from fields3d.data.photographs import find_folder, hold_out, list_photographs, make_views

CAMERA = Camera("PINHOLE", (64, 48), (60.0, 55.0, 32.0, 24.0), (), np.eye(4)[:3])


def save(path, size=(64, 48), **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", size, (10, 20, 30)).save(path, **options)


@pytest.mark.parametrize("size, fits", [((64, 48), True), ((32, 24), True), ((21, 16), True), ((403, 302), True),
                                        ((48, 64), False), ((64, 64), False), ((8, 4), False)])
def test_a_mask_must_have_its_photographs_shape(tmp_path, size, fits):
  save(tmp_path / "a.png")
  save(tmp_path / "mask.png", size)
  def make():
    return make_views(["a"], [tmp_path / "a.png"], [CAMERA], 2, [tmp_path / "mask.png"])
  if fits:
    assert make()[0][0].mask().shape == (24, 32)
  else:
    with pytest.raises(BadData, match=f"mask.png: is of {size[0]} x {size[1]} pixels, its photograph of 64 x 48"):
      make()


def test_photographs_of_every_suffix_are_listed_by_name_below_the_folder(tmp_path):
  for name in ("b.JPG", "a.png", "sub/c.jpeg", "a.bmp"):
    save(tmp_path / name)
  (tmp_path / "notes.txt").write_text("no photograph")
  assert [path.relative_to(tmp_path).as_posix() for path in list_photographs(tmp_path)] == [
      "a.bmp", "a.png", "b.JPG", "sub/c.jpeg"]
  assert list_photographs(tmp_path / "nowhere") == ()


def test_the_folder_of_a_factor_is_preferred_to_averaging(tmp_path):
  save(tmp_path / "images" / "a.png")
  assert (find_folder(tmp_path, None).reduction, find_folder(tmp_path, 4).reduction) == (1, 4)
  save(tmp_path / "images_4" / "a.png", (16, 12))
  found = find_folder(tmp_path, 4)
  assert (found.path.name, found.reduction) == ("images_4", 1)
  with pytest.raises(MissingInput, match="no photographs in images_2/ or images/"):
    find_folder(tmp_path / "images_4", 2)


@pytest.mark.parametrize("size, fits", [((64, 48), True), ((32, 24), True), ((21, 16), True), ((22, 16), True),
                                        ((8, 6), True), ((48, 64), False), ((64, 50), False), ((36, 24), False)])
def test_a_photograph_must_have_its_cameras_shape_within_a_pixel_of_rounding(tmp_path, size, fits):
  save(tmp_path / "a.png", size)
  if fits:
    (view,), opaque = make_views(["a"], [tmp_path / "a.png"], [CAMERA], 1)
    assert view.camera.size == size and opaque and view.mask is None
    assert view.camera.intrinsics == pytest.approx(
        (60 * size[0] / 64, 55 * size[1] / 48, size[0] / 2, size[1] / 2), rel=1e-12)
    return
  with pytest.raises(BadData, match="its camera of 64 x 48"):
    make_views(["a"], [tmp_path / "a.png"], [CAMERA], 1)


def test_a_photograph_on_its_side_is_taken_upright(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  save(tmp_path / "a.jpg", (48, 64), exif=exif)
  (view,), _ = make_views(["a"], [tmp_path / "a.jpg"], [CAMERA], 1)
  assert view.pixels().shape == (48, 64, 4)


@pytest.mark.parametrize("size, orientation", [((64, 48), 3), ((64, 48), 2), ((48, 48), 6)])
def test_a_turned_photograph_whose_camera_fits_it_both_ways_round_is_refused(size, orientation, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = orientation
  save(tmp_path / "a.jpg", size, exif=exif)
  camera = dataclasses.replace(CAMERA, size=size)
  with pytest.raises(BadData, match="a.jpg: is turned by its EXIF orientation.*without the tag"):
    make_views(["a"], [tmp_path / "a.jpg"], [camera], 1)


def test_one_transparent_photograph_is_enough_to_be_not_opaque(tmp_path):
  save(tmp_path / "a.png")
  Image.new("RGBA", (64, 48)).save(tmp_path / "b.png")
  views, opaque = make_views(["a", "b"], [tmp_path / "a.png", tmp_path / "b.png"], [CAMERA] * 2, 2)
  assert not opaque and [view.camera.size for view in views] == [(32, 24)] * 2


def test_pixels_that_no_direction_falls_on_do_not_count(tmp_path):
  save(tmp_path / "a.png")
  fold = Camera("SIMPLE_RADIAL", (64, 48), (30.0, 30.0, 32.0, 24.0), (-0.2,), np.eye(4)[:3])
  (plain, folded), _ = make_views(["a", "b"], [tmp_path / "a.png"] * 2, [CAMERA, fold], 1)
  mask = folded.mask()
  assert plain.mask is None and mask.shape == (48, 64) and mask[24, 32] and not mask[0, 0]


def test_no_photograph_is_both_learned_from_and_tested_on():
  views = [View(str(i), CAMERA, lambda: None) for i in range(20)]
  split = hold_out(views, 8)
  assert [view.name for view in split["test"]] == ["0", "8", "16"]
  assert sorted([*split["train"], *split["test"]], key=lambda view: int(view.name)) == views
