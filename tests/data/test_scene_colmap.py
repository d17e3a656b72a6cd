"""COLMAP scenes: conventions by projection, several models, missing and unregistered photographs, sizes."""

import numpy as np
import pytest
from colmap_models import cameras_bin, images_bin, write_model
from PIL import Image
from test_scene_frame import around, moved, random_rotation

from fields3d.core.errors import BadData, MissingInput
from fields3d.data.colmap_files import ColmapCamera, read_model
from fields3d.data.scene_colmap import camera_of, load_colmap
from fields3d.data.scene_frame import to_model
from fields3d.geometry.cameras import pixel_of

NAMES = [f"a b {i:02d}.png" for i in range(12)]


def photographs(folder, names, size=(64, 48)):
  folder.mkdir(parents=True, exist_ok=True)
  for i, name in enumerate(names):
    Image.new("RGB", size, (i, 0, 0)).save(folder / name)


@pytest.fixture
def scene_folder(tmp_path):
  """Twelve cameras on a ring around points near 0, in a world that is turned, moved and scaled."""
  rng = np.random.default_rng(0)
  poses = moved(around(rng), random_rotation(rng), 7.0, np.array([100.0, -3.0, 5.0]))
  points = rng.normal(size=(200, 3)) * 3.5 + [100.0, -3.0, 5.0]
  write_model(tmp_path / "sparse" / "0", poses, NAMES, points)
  photographs(tmp_path / "images", NAMES)
  return tmp_path


def cameras_by_name(scene):
  return {view.name: view.camera for views in scene.views.values() for view in views}


@pytest.mark.parametrize("orientation, centre", [("up", "cameras"), ("pca", "focus"), ("none", "none")])
def test_points_fall_where_colmap_projects_them(scene_folder, orientation, centre):
  scene = load_colmap(str(scene_folder), orientation=orientation, centre=centre)
  model = read_model(scene_folder / "sparse" / "0")
  cameras = cameras_by_name(scene)
  points = to_model(model.points, scene.frame, np.array(scene.rotation))
  for image in model.images:
    there = model.points @ image.rotation.T + image.translation  # x right, y down, z ahead
    ahead = there[:, 2] > 0
    expected = there[ahead, :2] / there[ahead, 2:] * (60.0, 55.0) + (32.0, 24.0)
    np.testing.assert_allclose(pixel_of(cameras[image.name], points)[ahead], expected, rtol=1e-9, atol=1e-9)


def test_every_eighth_photograph_by_name_is_held_out_and_the_protocol_says_so(scene_folder):
  scene = load_colmap(str(scene_folder))
  assert [view.name for view in scene.views["test"]] == [NAMES[0], NAMES[8]] and len(scene.views["train"]) == 10
  assert scene.protocol["split"] == "every 8th held out" and scene.protocol["resolution"] == "64x48"
  assert scene.bounds is None and scene.opaque and not scene.warnings
  assert scene.views["test"][1].pixels()[0, 0].tolist() == [8 * 257, 0, 0, 65535]
  assert len(load_colmap(str(scene_folder), hold_every=3).views["test"]) == 4


def test_near_and_far_hold_what_the_cameras_see(scene_folder):
  scene = load_colmap(str(scene_folder))
  points = to_model(read_model(scene_folder / "sparse" / "0").points, scene.frame, np.array(scene.rotation))
  distances = []
  for camera in cameras_by_name(scene).values():
    pixels = pixel_of(camera, points)
    seen = ((pixels >= 0) & (pixels <= camera.size)).all(axis=1)
    distances.append(np.linalg.norm(points[seen] - camera.pose[:, 3], axis=1))
  distances = np.concatenate(distances)
  assert 0.5 * distances.min() < scene.near < distances.min() and distances.max() < scene.far < 5 * distances.max()


@pytest.mark.parametrize("names", [NAMES, [name.replace(".png", ".jpg") for name in NAMES]])
def test_downscaled_copies_are_found_by_name_and_intrinsics_follow_their_true_size(scene_folder, names):
  photographs(scene_folder / "images_4", names, (17, 12))
  camera = cameras_by_name(load_colmap(str(scene_folder), factor=4))[NAMES[0]]
  assert camera.size == (17, 12)
  np.testing.assert_allclose(camera.intrinsics, (60 * 17 / 64, 55 / 4, 32 * 17 / 64, 6))


def test_without_downscaled_copies_photographs_are_averaged(scene_folder):
  view = load_colmap(str(scene_folder), factor=2).views["test"][1]
  assert view.camera.size == (32, 24) and view.pixels().shape == (24, 32, 4)
  assert view.camera.intrinsics == (30.0, 27.5, 16.0, 12.0)


def test_photographs_of_another_size_are_warned_of_and_of_another_shape_refused(scene_folder):
  photographs(scene_folder / "images", NAMES[:3], (32, 24))
  scene = load_colmap(str(scene_folder))
  assert cameras_by_name(scene)[NAMES[1]].intrinsics == (30.0, 27.5, 16.0, 12.0)
  assert scene.warnings == ("intrinsics scaled to the size of 3 photographs, which is not the calibrated one",)
  assert scene.protocol["resolution"] == "64x48 and 3 of other sizes"
  photographs(scene_folder / "images", NAMES[:1], (48, 64))
  with pytest.raises(BadData, match="48 x 64 pixels, its camera of 64 x 48; .*EXIF"):
    load_colmap(str(scene_folder))


def test_the_largest_of_several_models_is_used_and_said_so(scene_folder):
  model = scene_folder / "sparse" / "0"
  poses = around(np.random.default_rng(1), 3)
  model.rename(scene_folder / "sparse" / "10")
  write_model(scene_folder / "sparse" / "2", poses, NAMES[:3], np.zeros((4, 3)))
  scene = load_colmap(str(scene_folder))
  assert scene.warnings == ("2 models (photographs of 2: 3, 10: 12): 10 is used",)
  assert len(cameras_by_name(scene)) == 12


def test_unregistered_photographs_are_counted_and_too_many_refused(scene_folder):
  photographs(scene_folder / "images", [f"extra{i}.png" for i in range(12)])
  assert load_colmap(str(scene_folder)).warnings == ("12 of 24 photographs are registered",)
  photographs(scene_folder / "images", ["one_more.png"])
  with pytest.raises(BadData, match="only 12 of 25 photographs are registered"):
    load_colmap(str(scene_folder))


def test_missing_photographs_are_counted_and_the_first_five_named(scene_folder):
  for name in NAMES[2:9]:
    (scene_folder / "images" / name).unlink()
  with pytest.raises(MissingInput, match="7 of 12 registered .* not there: a b 02.png, .*a b 06.png, ...;") as e:
    load_colmap(str(scene_folder))
  assert "a b 07" not in str(e.value)


def test_a_name_that_leads_out_of_the_folder_finds_nothing(scene_folder):
  poses = around(np.random.default_rng(1))
  photographs(scene_folder, ["outside.png"])
  write_model(scene_folder / "sparse" / "0", poses, ["../outside.png", *NAMES[1:]], np.zeros((4, 3)))
  with pytest.raises(MissingInput, match="1 of 12 .* ../outside.png"):
    load_colmap(str(scene_folder))


def test_masks_are_found_by_colmaps_names_and_count_whole_pixels_only(scene_folder):
  (scene_folder / "masks").mkdir()
  black = np.full((48, 64), 255, np.uint8)
  black[:, :31] = 0
  Image.fromarray(black).save(scene_folder / "masks" / f"{NAMES[0]}.png")
  Image.fromarray(black).save(scene_folder / "masks" / NAMES[8])
  scene = load_colmap(str(scene_folder), factor=2)
  for view in scene.views["test"]:
    assert view.mask().tolist() == [[column > 15 for column in range(32)]] * 24
  assert all(view.mask is None for view in scene.views["train"])


@pytest.mark.parametrize("damage, fault, text", [
    (lambda root: (root / "sparse" / "0" / "images.bin").unlink(), MissingInput, "has no images.bin or .txt;"),
    (lambda root: (root / "sparse").rename(root / "elsewhere"), MissingInput, "has no sparse/ folder"),
    (lambda root: (root / "images").rename(root / "elsewhere"), MissingInput, "no photographs in images/"),
    (lambda root: (root / "sparse" / "0" / "images.bin").write_bytes(images_bin([])), BadData, "no photograph is reg"),
    (lambda root: (root / "sparse" / "0" / "cameras.bin").write_bytes(
        cameras_bin([(1, 1, 64, 48, (-60.0, 55.0, 32.0, 24.0))])), BadData, "focal length -60"),
    (lambda root: write_model(root / "sparse" / "0", np.repeat(around(np.random.default_rng(1), 3)[:1], 12, axis=0),
                              NAMES, np.zeros((4, 3))), BadData, "all 12 cameras are at one point"),
    (lambda root: write_model(root / "sparse" / "0", around(np.random.default_rng(1)), NAMES, []), BadData,
     "no camera sees any"),
])
def test_what_is_wrong_is_named(scene_folder, damage, fault, text):
  damage(scene_folder)
  with pytest.raises(fault, match=text):
    load_colmap(str(scene_folder))


def test_fern_without_images_bin_says_what_is_missing(real_data):
  with pytest.raises(MissingInput, match="sparse/0: has no images.bin or .txt; copy all three files"):
    load_colmap(str(real_data / "nerf" / "llff_fern"), factor=8)


@pytest.mark.parametrize("name", ["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "FOV",
                                  "DIVISION", "OPENCV_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "SIMPLE_FISHEYE",
                                  "EUCM", "RAD_TAN_THIN_PRISM_FISHEYE", "EQUIRECTANGULAR"])
def test_every_model_projects_as_colmap_does(name):
  pycolmap = pytest.importorskip("pycolmap")
  rng = np.random.default_rng(0)
  theirs = pycolmap.Camera.create_from_model_name(1, name, 60.0, 64, 48)
  if name != "EQUIRECTANGULAR":
    focal = len(theirs.focal_length_idxs())
    extra = len(theirs.params) - focal - 2
    distortion = [1.1] if name == "FOV" else [0.6, 1.1] if name == "EUCM" else rng.uniform(-0.02, 0.02, extra)
    theirs.params = [60.0, 55.0][:focal] + [31.0, 25.0] + list(distortion)
  ours = camera_of(ColmapCamera(name, (64, 48), tuple(theirs.params)), np.eye(4)[:3])
  points = np.c_[rng.uniform(-0.5, 0.5, (40, 2)), -np.ones(40)]
  expected = [theirs.img_from_cam(point * [1.0, -1.0, -1.0]) for point in points]
  np.testing.assert_allclose(pixel_of(ours, points), expected, rtol=1e-9)
