"""Scenes of transforms.json: what each dialect means, and what is mended, left out or refused."""

import itertools
import json
import math

import numpy as np
import pytest
from PIL import Image

from fields3d.core.errors import BadData, Fault, MissingInput
from fields3d.data.scene_files import kind_of, open_scene
from fields3d.data.scene_frame import to_world
from fields3d.data.scene_transforms import load_blender, load_transforms
from fields3d.geometry.cameras import pixel_of


def looking_at_0(angle, height=1.0, distance=3.0):
  """A pose in a world with +z up, of a camera that looks at 0."""
  position = np.array([distance * math.cos(angle), distance * math.sin(angle), height])
  back = position / np.linalg.norm(position)
  right = np.cross((0.0, 0.0, 1.0), back)
  right /= np.linalg.norm(right)
  out = np.eye(4)
  out[:3] = np.stack([right, np.cross(back, right), back, position], axis=1)
  return out


def write_scene(root, n=9, size=(8, 6), name="transforms.json", mode="RGB", top=None, each=None, images=True):
  """A scene of n images; `top` and `each(i)` add to the file and to its frames."""
  (root / "images").mkdir(parents=True, exist_ok=True)
  frames = []
  for i in range(n):
    if images:
      Image.new(mode, size, (10 * i,) * len(mode)).save(root / "images" / f"{i:03d}.png")
    frame = {"file_path": f"images/{i:03d}.png", "transform_matrix": looking_at_0(i * 2 * math.pi / n).tolist()}
    frames.append({**frame, **(each(i) if each else {})})
  content = {"fl_x": 10.0, "w": size[0], "h": size[1], **(top or {}), "frames": frames}
  (root / name).write_text(json.dumps(content))
  return root


def cameras(scene):
  return [view.camera for group in scene.views.values() for view in group]


def blender(root, n=3):
  for split in ("train", "test"):
    def each(i, split=split):
      return {"file_path": f"./{split}/r_{i}", "rotation": 0.01}
    write_scene(root, n, name=f"transforms_{split}.json", each=each, images=False)
    content = json.loads((root / f"transforms_{split}.json").read_text())
    del content["fl_x"], content["w"], content["h"]
    (root / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.7, **content}))
    (root / split).mkdir(exist_ok=True)
    for i in range(n):
      Image.fromarray(np.full((8, 8, 4), (200, 100, 50, 128), np.uint8)).save(root / split / f"r_{i}.png")
  return root


def test_a_blender_scene_has_its_box_at_1_and_its_z_up(tmp_path):
  scene = load_blender(blender(tmp_path))
  assert {split: len(views) for split, views in scene.views.items()} == {"train": 3, "val": 0, "test": 3}
  assert (scene.near, scene.far, scene.bounds, scene.opaque) == (2 / 1.5, 4.0, 1.0, False)
  camera = scene.views["train"][0].camera
  assert camera.intrinsics == pytest.approx((4 / math.tan(0.35),) * 2 + (4.0, 4.0))
  np.testing.assert_allclose(camera.pose[:, 3], [2, 1 / 1.5, 0], atol=1e-12)  # world (3, 0, 1)
  np.testing.assert_allclose(pixel_of(camera, np.array([[0, 0, 0], [0, 0.1, 0]]))[:, 0], 4.0, atol=1e-9)
  assert pixel_of(camera, np.array([[0, 0.1, 0]]))[0, 1] < 4.0  # up in the model is up in the image
  world = to_world(np.array([[2, 1 / 1.5, 0]]), scene.frame, np.array(scene.rotation))
  np.testing.assert_allclose(world, [[3, 0, 1]], atol=1e-12)
  assert scene.protocol["split"] == "the files' own: 3 train, 3 test" and scene.protocol["background"] == "white"


def test_pixels_are_premultiplied_and_averaged_to_the_width(tmp_path):
  scene = load_blender(blender(tmp_path), width=2)
  view = scene.views["test"][1]
  assert view.camera.size == (2, 2) and view.camera.intrinsics[2:] == (1.0, 1.0)
  assert view.pixels().shape == (2, 2, 4)
  np.testing.assert_allclose(view.pixels()[0, 0] / 65535, np.array([200, 100, 50, 255]) / 255 * 128 / 255, atol=1e-5)
  assert scene.protocol["resolution"] == "2x2, area average of 8x8"


def test_mic_is_read_as_published(real_data):
  scene = load_blender(real_data / "nerf" / "synthetic_mic", width=200)
  assert [len(scene.views[split]) for split in ("train", "val", "test")] == [100, 0, 200]
  np.testing.assert_allclose([np.linalg.norm(c.pose[:, 3]) for c in cameras(scene)], 4.0311 / 1.5, rtol=1e-4)
  pixels = scene.views["train"][0].pixels()
  assert pixels.shape == (200, 200, 4) and pixels[0, 0].tolist() == [0, 0, 0, 0] and (pixels[..., 3] == 65535).any()
  assert (pixels[..., :3] <= pixels[..., 3:]).all()


def test_every_eighth_image_by_name_is_held_out(tmp_path):
  scene = load_transforms(write_scene(tmp_path, 17))
  assert [view.name for view in scene.views["test"]] == ["images/000.png", "images/008.png", "images/016.png"]
  assert len(scene.views["train"]) == 14 and scene.protocol["split"].startswith("every 8th held out")
  assert scene.bounds is None and scene.opaque
  assert max(np.linalg.norm(camera.pose[:, 3]) for camera in cameras(scene)) == pytest.approx(1.0)


def test_an_unbounded_scene_keeps_the_way_back_to_the_files_world(tmp_path):
  scene = load_transforms(write_scene(tmp_path))
  back = to_world(np.array([camera.pose[:, 3] for camera in cameras(scene)]), scene.frame, np.array(scene.rotation))
  np.testing.assert_allclose(back[:, 2], 1.0, atol=1e-12)
  np.testing.assert_allclose(np.linalg.norm(back[:, :2], axis=1), 3.0, rtol=1e-12)


def test_lists_of_file_names_are_the_split(tmp_path):
  names = [f"images/{i:03d}.png" for i in range(4)]
  top = {"train_filenames": names[:2], "val_filenames": names[2:3], "test_filenames": names[3:]}
  scene = load_transforms(write_scene(tmp_path, 4, top=top))
  assert [len(scene.views[split]) for split in ("train", "val", "test")] == [2, 1, 1] and not scene.warnings
  scene = load_transforms(write_scene(tmp_path, 4, top={**top, "test_filenames": names[1:]}))
  assert any("1 images are of the training and of another split" in warning for warning in scene.warnings)
  (tmp_path / "b").mkdir()
  with pytest.raises(BadData, match="test_filenames has 'images/no.png', which no frame has"):
    load_transforms(write_scene(tmp_path / "b", 4, top={**top, "test_filenames": ["images/no.png"]}))


def test_instant_ngps_box_is_the_models(tmp_path):
  scene = load_transforms(write_scene(tmp_path, top={"aabb_scale": 2, "scale": 0.5, "offset": [0.5, 0.25, 1.0]}))
  assert scene.bounds == 1.0 and scene.frame.scale == 2.0
  assert scene.frame.offset == (0.0, 0.5, -1.0)  # world * 0.5 + offset is 0.5 there in each axis
  assert load_transforms(tmp_path, box=3.0).frame.scale == 3.0


@pytest.mark.parametrize("top, model, distortion", [
    ({}, "PINHOLE", ()), ({"k1": 0.1, "p2": 0.01}, "OPENCV", (0.1, 0, 0, 0.01)),
    ({"camera_model": "OPENCV", "k1": 0.1, "k3": 0.01}, "NERFSTUDIO", (0.1, 0, 0.01, 0, 0, 0)),
    ({"camera_model": "PINHOLE", "k1": 0.1}, "OPENCV", (0.1, 0, 0, 0)),
    ({"k5": 0.01}, "FULL_OPENCV", (0, 0, 0, 0, 0, 0, 0.01, 0)), ({"camera_model": "SIMPLE_RADIAL", "k1": 0.1},
                                                                 "SIMPLE_RADIAL", (0.1,)),
    ({"is_fisheye": True, "k4": 0.001}, "OPENCV_FISHEYE", (0, 0, 0, 0.001)),
    ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE", (0, 0, 0, 0)),
    ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR", ()),
    ({"camera_model": "FISHEYE624", "distortion_params": [0.01] + [0] * 11}, "RAD_TAN_THIN_PRISM_FISHEYE",
     (0.01,) + (0.0,) * 11)])
def test_lenses_are_what_the_dialects_call_them(tmp_path, top, model, distortion):
  camera = cameras(load_transforms(write_scene(tmp_path, 3, top=top)))[0]
  assert (camera.model, camera.distortion) == (model, distortion)


@pytest.mark.parametrize("top, words", [
    ({"camera_model": "OPEN_CV"}, "did you mean 'OPENCV'"), ({"camera_model": "ORTHOPHOTO"}, "rays without one centre"),
    ({"ftheta_p0": 1.0}, "ftheta_p0: a lens that is not supported"), ({"k1": "0.1"}, "k1 = '0.1' is no number"),
    ({"camera_model": "FISHEYE624"}, "12 distortion_params"), ({"fl_x": -5.0}, "focal length of -5"),
    ({"fl_x": None}, "no focal length"), ({"w": 8, "h": 4}, "of 8 x 6 pixels, its camera of 8 x 4"), ({"w": 0}, "w x h = 0"),
    ({"aabb_scale": "2"}, "aabb_scale = '2'"), ({"aabb_scale": 1, "offset": [1]}, "offset"),
    ({"train_filenames": "images/000.png"}, "no list of names"), ({"test_filenames": []}, "no train_filenames")])
def test_settings_that_mean_nothing_are_refused_by_name(tmp_path, top, words):
  with pytest.raises(BadData, match=words):
    load_transforms(write_scene(tmp_path, 3, top=top))


def test_a_frames_own_intrinsics_come_first_and_sizes_may_differ(tmp_path):
  write_scene(tmp_path, 4, each=lambda i: {"fl_x": 20.0, "w": 4, "h": 4, "cx": 1.5} if i == 1 else {})
  Image.new("RGB", (4, 4)).save(tmp_path / "images" / "001.png")
  scene = load_transforms(tmp_path)
  assert sorted({camera.size for camera in cameras(scene)}) == [(4, 4), (8, 6)]
  odd = next(view.camera for view in scene.views["train"] if view.name == "images/001.png")
  assert odd.intrinsics == (20.0, 20.0, 1.5, 2.0)
  assert scene.protocol["resolution"] == "4x4 to 8x6"


def test_smaller_copies_scale_the_intrinsics_with_a_warning(tmp_path):
  scene = load_transforms(write_scene(tmp_path, 3, top={"w": 16, "h": 12, "cx": 7.0}))
  assert cameras(scene)[0].intrinsics == (5.0, 5.0, 3.5, 3.0)
  assert any("3 images have another size than w and h say" in warning for warning in scene.warnings)


def test_an_image_turned_by_exif_must_have_the_size_after_turning(tmp_path):
  write_scene(tmp_path, 3)
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.new("RGB", (8, 6)).save(tmp_path / "images" / "001.jpg", exif=exif)
  content = (tmp_path / "transforms.json").read_text().replace("001.png", "001.jpg")
  (tmp_path / "transforms.json").write_text(content)
  with pytest.raises(BadData, match="images/001.jpg: is of 6 x 8 pixels, its camera of 8 x 6"):
    load_transforms(tmp_path)


def test_paths_without_suffix_with_backslashes_or_absolute_are_found(tmp_path):
  given = {0: ".\\images\\000.png", 1: "images/001", 2: str(tmp_path / "images" / "002.png"), 3: "../s/images/003.png"}
  root = tmp_path / "s"
  write_scene(root, 4)
  given[2] = str(root / "images" / "002.png")
  scene = load_transforms(write_scene(root, 4, each=lambda i: {"file_path": given[i]}))
  assert sorted(view.name for group in scene.views.values() for view in group) == [f"images/00{i}.png" for i in range(4)]


@pytest.mark.parametrize("given", ["../elsewhere/a.png", "/etc/hostname", "images/../../a"])
def test_paths_out_of_the_scenes_folder_are_refused(tmp_path, given):
  with pytest.raises(BadData, match="leads out of the scene's folder"):
    load_transforms(write_scene(tmp_path / "s", 3, each=lambda i: {"file_path": given} if i == 1 else {}))


def test_the_scenes_folder_is_no_image_and_what_lies_beside_it_is_none_of_its_files(tmp_path):
  root = write_scene(tmp_path / "scene", n=4, each=lambda i: {"file_path": "images/.."} if i else {})
  Image.new("RGB", (8, 6)).save(tmp_path / "scene.png")
  with pytest.raises(BadData, match="the path 'images/..' leads out of the scene's folder"):
    load_transforms(root)


def test_missing_images_are_listed_or_left_out_as_asked(tmp_path):
  write_scene(tmp_path, 9)
  for i in range(1, 8):
    (tmp_path / "images" / f"{i:03d}.png").unlink()
  with pytest.raises(BadData, match=r"7 of 9 images are missing: images/001.png, .*images/005.png, \.\.\.; add them"):
    load_transforms(tmp_path)
  scene = load_transforms(tmp_path, skip_missing=True)
  assert len(cameras(scene)) == 2 and "7 of 9 images are missing" in scene.warnings[0]


def with_frame(root, i, **entry):
  return write_scene(root, 3, each=lambda j: entry if j == i else {})


def test_a_repeated_image_is_refused(tmp_path):
  with pytest.raises(BadData, match="1 images stand in more than one frame, such as 'images/000.png'"):
    load_transforms(with_frame(tmp_path, 1, file_path="images/000"))


@pytest.mark.parametrize("matrix, words", [
    ((looking_at_0(1) * [1, -1, 1, 1]).tolist(), "left-handed"), ((looking_at_0(1) * [2, 2, 2, 1]).tolist(), "scaled by 2"),
    (None, "no matrix|shape"), ([[1, 2, 3]], "shape")])
def test_poses_that_are_not_rigid_are_refused_by_the_frames_name(tmp_path, matrix, words):
  with pytest.raises(BadData, match=words) as caught:
    load_transforms(with_frame(tmp_path, 1, transform_matrix=matrix))
  assert "images/001.png" in str(caught.value)


def test_rounded_rotations_are_mended_with_a_warning(tmp_path):
  matrix = looking_at_0(1)
  matrix[:3, :3] = np.round(matrix[:3, :3], 3)
  scene = load_transforms(with_frame(tmp_path, 1, transform_matrix=matrix.tolist()))
  assert any("1 rotations are off" in warning for warning in scene.warnings)


def test_one_frame_or_one_place_is_refused(tmp_path):
  with pytest.raises(BadData, match="one camera only"):
    load_transforms(write_scene(tmp_path / "a", 1))
  with pytest.raises(BadData, match="all 3 cameras are at one point"):
    load_transforms(write_scene(tmp_path / "b", 3, each=lambda i: {"transform_matrix": looking_at_0(0).tolist()}))


@pytest.mark.parametrize("old, new, words", [
    ('"fl_x": 10.0', '"fl_x": NaN', "not a finite number"), ('"fl_x": 10.0', '"fl_x": 1e400', "not a finite number"),
    ('"fl_x": 10.0', '"fl_x": 10.0, "fl_x": 11.0', "stands twice"), ('"frames"', '"frame"', 'no list "frames"'),
    ('"fl_x": 10.0,', '"fl_x": 10.0,,', "line 1 column"), ('"file_path"', '"file"', "frame 0 has no file_path")])
def test_json_that_is_not_strict_is_refused(tmp_path, old, new, words):
  write_scene(tmp_path, 3)
  text = (tmp_path / "transforms.json").read_text()
  assert old in text
  (tmp_path / "transforms.json").write_text(text.replace(old, new))
  with pytest.raises(BadData, match=words):
    load_transforms(tmp_path)


def test_a_byte_order_mark_is_skipped(tmp_path):
  text = (write_scene(tmp_path, 3) / "transforms.json").read_text()
  (tmp_path / "transforms.json").write_text("\ufeff" + text, encoding="utf-8")
  assert len(cameras(load_transforms(tmp_path))) == 3


def test_masks_and_depths_follow_their_photograph(tmp_path):
  write_scene(tmp_path, 3, each=lambda i: {"mask_path": "mask.png", "depth_file_path": "depth.png"} if i == 1 else {},
              top={"depth_unit_scale_factor": 0.01})
  mask = np.full((6, 8), 255, np.uint8)
  mask[0, 0] = 0
  Image.fromarray(mask).save(tmp_path / "mask.png")
  Image.fromarray(np.full((6, 8), 150, np.uint16)).save(tmp_path / "depth.png")
  scene = load_transforms(tmp_path, width=4, box=3.0)
  view = next(view for view in scene.views["train"] if view.name == "images/001.png")
  assert view.mask().shape == (3, 4) and not view.mask()[0, 0] and view.mask().sum() == 11
  np.testing.assert_allclose(view.depth(), 0.5, rtol=1e-6)  # 150 * 0.01 / 3
  assert all(other.mask is None and other.depth is None for other in scene.views["test"])
  Image.fromarray(np.full((3, 8), 150, np.uint16)).save(tmp_path / "depth.png")
  with pytest.raises(BadData, match="depth.png: 8 x 3 pixels, the photograph has 8 x 6"):
    view.depth()
  (tmp_path / "mask.png").unlink()
  with pytest.raises(BadData, match="'images/001.png' names 'mask.png', which is not there"):
    load_transforms(tmp_path)


@pytest.mark.parametrize("unit, doubts", [(0.01, 0), (1.0, 1)])
def test_depths_in_another_unit_are_doubted(tmp_path, unit, doubts):
  write_scene(tmp_path, 3, each=lambda i: {"depth_file_path": "depth.png"})
  Image.fromarray(np.full((6, 8), 300, np.uint16)).save(tmp_path / "depth.png")
  warnings = load_transforms(tmp_path, box=1.5, depth_unit=unit).warnings
  assert len(warnings) == doubts and all("check depth_unit" in warning for warning in warnings)


def test_pixels_that_the_lens_does_not_reach_are_masked_with_a_warning(tmp_path):
  scene = load_transforms(write_scene(tmp_path, 3, size=(40, 40), top={"fl_x": 20.0, "k1": -0.2}))
  view = scene.views["train"][0]
  assert 0 < (~view.mask()).sum() < 800
  assert any("of its pixels, by its distortion; they are left out" in warning for warning in scene.warnings)


def test_folders_are_opened_by_what_they_hold(tmp_path, real_data):
  assert kind_of(blender(tmp_path / "a")) == "blender" and open_scene(tmp_path / "a").bounds == 1.0
  assert kind_of(write_scene(tmp_path / "b", 3)) == kind_of(tmp_path / "b" / "transforms.json") == "transforms"
  assert len(cameras(open_scene(tmp_path / "b" / "transforms.json"))) == 3
  assert kind_of(real_data / "nerf" / "llff_fern") == "llff" and open_scene(real_data / "nerf" / "llff_fern").ndc
  (tmp_path / "c" / "sparse").mkdir(parents=True)
  assert kind_of(tmp_path / "c") == "colmap"
  with pytest.raises(MissingInput, match="no scene there"):
    kind_of(tmp_path / "d")


ODD = [None, True, -1, 0, 1e308, 1e-308, 10**400, "x", "", [], {}, [1], "../..", "\0", "a" * 5000, "EQUIRECTANGULAR", "FOV",
       [[1e308] * 4] * 4, [[0] * 4] * 4, [[True] * 4] * 4]
KEYS = ["fl_x", "fl_y", "w", "h", "cx", "k1", "k5", "camera_model", "camera_angle_x", "aabb_scale", "scale", "offset",
        "is_fisheye", "distortion_params", "train_filenames", "frames", "mask_path", "depth_file_path", "transform_matrix",
        "file_path", "depth_unit_scale_factor"]


def test_any_odd_value_anywhere_is_a_fault_of_one_line_or_a_finite_scene(tmp_path):
  write_scene(tmp_path, 3, top={"aabb_scale": 1, "k1": 0.01})
  text, faults = (tmp_path / "transforms.json").read_text(), 0
  for key, value, top in itertools.islice(itertools.product(KEYS, ODD, (True, False)), 0, None, 3):
    content = json.loads(text)
    (content if top else content["frames"][1])[key] = value
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    try:
      scene = load_transforms(tmp_path)
    except Fault as fault:
      faults += 1
      assert "\n" not in str(fault)
    else:
      assert all(np.isfinite([*camera.pose.ravel(), *camera.intrinsics]).all() for camera in cameras(scene))
  assert faults > 130
