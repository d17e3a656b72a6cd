"""LLFF scenes: the file's axes, NeRF's recentring and bounds, held-out views, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from fields3d.core.errors import BadData, MissingInput
from fields3d.data.colmap_files import read_points
from fields3d.data.scene_frame import to_model
from fields3d.data.scene_llff import load_llff, read_poses_bounds
from fields3d.geometry.cameras import pixel_of
from fields3d.geometry.rays import camera_rays


def table_of(n=9, seed=0) -> np.ndarray:
  """Cameras near 0 that look roughly along the world's -z, turned by a few degrees; size 64 x 48, focal 60."""
  rng = np.random.default_rng(seed)
  rows = []
  for _ in range(n):
    q, _ = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(q))
    right, up, back = q.T
    matrix = np.stack([-up, right, back, rng.uniform(-1, 1, 3) * [1, 1, 0.1], [48, 64, 60]], axis=1)
    rows.append(np.r_[matrix.ravel(), rng.uniform(4, 5), rng.uniform(20, 30)])
  return np.array(rows)


def write_scene(root, table, names=None, folder="images", size=(64, 48)):
  (root / folder).mkdir(parents=True, exist_ok=True)
  np.save(root / "poses_bounds.npy", table)
  for i in range(len(table)) if names is None else names:
    Image.new("RGB", size, (i, 0, 0)).save(root / folder / f"p{i:02d}.png")
  return root


def test_columns_are_down_right_back(tmp_path):
  row = np.r_[np.stack([[0, -1, 0], [1, 0, 0], [0, 0, 1], [7, 8, 9], [48, 64, 60]], axis=1).ravel(), 1, 2]
  np.save(tmp_path / "poses_bounds.npy", row[None].astype(float))
  poses, hwf, bounds, warnings = read_poses_bounds(tmp_path / "poses_bounds.npy")
  assert poses[0].tolist() == [[1, 0, 0, 7], [0, 1, 0, 8], [0, 0, 1, 9]]
  assert hwf.tolist() == [[48, 64, 60]] and bounds.tolist() == [[1, 2]] and warnings == []


def recentred(table, bd_factor):
  """NeRF's `_load_data`, the scaling and `recenter_poses`, one matrix at a time."""
  poses = [np.stack([row[:15].reshape(3, 5)[:, k] * s for k, s in ((1, 1), (0, -1), (2, 1), (3, 1))], axis=1)
           for row in table]
  scale = 1 / (table[:, 15:].min() * bd_factor)
  for pose in poses:
    pose[:, 3] *= scale
  back = sum(pose[:, 2] for pose in poses)
  back /= np.linalg.norm(back)
  right = np.cross(sum(pose[:, 1] for pose in poses), back)
  right /= np.linalg.norm(right)
  mean = np.eye(4)
  mean[:3] = np.stack([right, np.cross(back, right), back, sum(pose[:, 3] for pose in poses) / len(poses)], axis=1)
  return np.stack([(np.linalg.inv(mean) @ np.vstack([pose, [0, 0, 0, 1]]))[:3] for pose in poses])


def test_poses_are_those_of_nerfs_loader(tmp_path):
  table = table_of()
  scene = load_llff(str(write_scene(tmp_path, table)), factor=None)
  views = sorted([*scene.views["train"], *scene.views["test"]], key=lambda view: view.name)
  np.testing.assert_allclose([view.camera.pose for view in views], recentred(table, 0.75), atol=1e-12)  # of order 1
  assert scene.ndc and (scene.near, scene.far, scene.opaque) == (0.0, 1.0, True)
  np.testing.assert_allclose(scene.frame.scale, 0.75 * table[:, 15].min())


def test_every_eighth_photograph_is_held_out_from_the_first(tmp_path):
  scene = load_llff(str(write_scene(tmp_path, table_of(17))), factor=None)
  assert [view.name for view in scene.views["test"]] == ["p00.png", "p08.png", "p16.png"]
  assert len(scene.views["train"]) == 14 and scene.protocol["split"] == "every 8th held out"


def test_the_world_is_found_again(tmp_path):
  table = table_of()
  for ndc in (True, False):
    scene = load_llff(str(write_scene(tmp_path, table)), factor=None, ndc=ndc)
    camera = scene.views["test"][0].camera
    world = np.array(scene.rotation) @ camera.pose[:, 3] * scene.frame.scale + scene.frame.offset
    np.testing.assert_allclose(world, table[0, :15].reshape(3, 5)[:, 3])


def test_without_ndc_bounds_are_in_the_model_frame(tmp_path):
  table = table_of()
  scene = load_llff(str(write_scene(tmp_path, table)), factor=None, ndc=False)
  assert scene.bounds is None and not scene.ndc
  np.testing.assert_allclose(scene.near * scene.frame.scale, 0.9 * table[:, 15].min())
  np.testing.assert_allclose(scene.far * scene.frame.scale, table[:, 16].max())


@pytest.mark.parametrize("size", [(16, 12), (17, 12)])
def test_intrinsics_follow_the_downscaled_copies_axis_by_axis(tmp_path, size):
  write_scene(tmp_path, table_of(), folder="images_4", size=size)
  camera = load_llff(str(tmp_path), factor=4).views["train"][0].camera
  assert camera.size == size
  np.testing.assert_allclose(camera.intrinsics, (60 * size[0] / 64, 60 * size[1] / 48, size[0] / 2, size[1] / 2))


def test_without_downscaled_copies_photographs_are_averaged(tmp_path):
  write_scene(tmp_path, table_of(), size=(64, 48))
  view = load_llff(str(tmp_path), factor=4).views["test"][0]
  assert view.camera.size == (16, 12) and view.pixels().shape == (12, 16, 4)
  np.testing.assert_allclose(view.camera.intrinsics, (15, 15, 8, 6))


def changed(**entries):
  """table_of() with some entries set: row, column -> value."""
  table = table_of()
  for place, value in entries.items():
    row, column = map(int, place[1:].split("_"))
    table[row, column] = value
  return table


MIRRORED, SCALED, SHEARED = table_of(), table_of(), table_of()
MIRRORED[2, [0, 5, 10]] *= -1
SCALED[:, [0, 5, 10, 1, 6, 11, 2, 7, 12]] *= 2
SHEARED[3, 0] += 0.1


@pytest.mark.parametrize("table, text", [
    (table_of()[:, :15], r"shape \(9, 15\), not \(n, 17\)"),
    (table_of()[0], r"not \(n, 17\)"),
    (table_of()[:0], r"not \(n, 17\)"),
    (changed(_4_3=np.nan), r"row 4: holds a number that is not finite \(1 rows"),
    (changed(_1_15=50.0), "row 1: bounds are not 0 < near < far"),
    (changed(_1_15=-1.0), "row 1: bounds are not"),
    (changed(_2_14=0.0), "row 2: height, width and focal"),
    (MIRRORED, "the pose of 'row 2' is left-handed"),
    (SCALED, "the rotation of 'row 0' is scaled by 2"),
    (SHEARED, "the rotation of 'row 3' is scaled or sheared"),
    (table_of(8), "8 rows, images/ holds 9 photographs"),
    (np.repeat(table_of()[:1], 9, axis=0), "all 9 cameras are at one point"),
])
def test_what_is_wrong_is_named(tmp_path, table, text):
  write_scene(tmp_path, table, names=range(9))
  with pytest.raises(BadData, match=text):
    load_llff(str(tmp_path), factor=None)


def test_a_pickle_is_never_loaded(tmp_path):
  write_scene(tmp_path, table_of())
  np.save(tmp_path / "poses_bounds.npy", np.array([{}], dtype=object), allow_pickle=True)
  with pytest.raises(BadData, match="pickled objects"):
    load_llff(str(tmp_path))


def test_a_rotation_almost_orthonormal_is_mended_with_a_warning(tmp_path):
  table = table_of()
  table[3, [0, 5, 10]] *= 1 + 5e-4
  scene = load_llff(str(write_scene(tmp_path, table)), factor=None)
  assert len(scene.warnings) == 1 and "1 rotations are off by up to" in scene.warnings[0]
  for view in scene.views["train"]:
    np.testing.assert_allclose(view.camera.pose[:, :3].T @ view.camera.pose[:, :3], np.eye(3), atol=1e-12)  # at most 1


def test_missing_files_and_wrong_shapes_are_named(tmp_path):
  with pytest.raises(MissingInput, match="poses_bounds.npy"):
    load_llff(str(tmp_path))
  write_scene(tmp_path, table_of(), names=[])
  with pytest.raises(MissingInput, match="no photographs in images_8/ or images/"):
    load_llff(str(tmp_path))
  write_scene(tmp_path, table_of(), size=(48, 64))
  with pytest.raises(BadData, match="48 x 64 pixels, its camera of 64 x 48"):
    load_llff(str(tmp_path))


@pytest.mark.parametrize("factor", [4, 8])
def test_fern_is_forward_facing_and_fits_its_ndc_cube(real_data, factor):
  scene = load_llff(str(real_data / "nerf" / "llff_fern"), factor=factor)
  assert len(scene.views["train"]) == 17 and [v.name for v in scene.views["test"]] == [
      "image000.png", "image008.png", "image016.png"]
  assert scene.protocol["resolution"] == {4: "1008x756", 8: "504x378"}[factor] and scene.opaque
  cameras = [view.camera for split in scene.views.values() for view in split]
  np.testing.assert_allclose(cameras[0].intrinsics[0], 3260.526 / factor, rtol=1e-6)
  poses = np.stack([camera.pose for camera in cameras])
  assert (poses[:, 2, 2] > 0.95).all() and (poses[:, 1, 1] > 0.95).all()  # all look along -z, upright
  assert (poses[:, 2, 3] > -1).all()  # no camera stands beyond the near plane
  width, height = cameras[0].size
  fx, fy = cameras[0].intrinsics[:2]
  facts = {"near": 0.0, "far": 1.0, "ndc": {"width": width, "height": height, "fx": fx, "fy": fy, "near": 1.0}}
  rng = np.random.default_rng(0)
  rays = camera_rays(cameras, rng.integers(0, 20, 4000), rng.uniform(0, 1, (4000, 2)) * (width, height), facts)
  np.testing.assert_allclose(rays.origins[:, 2], -1, atol=1e-5)  # the near plane of a cube of side 2
  ends = rays.origins + rays.directions
  assert 1 < scene.bounds < 1.5
  assert max(np.abs(rays.origins).max(), np.abs(ends).max()) <= scene.bounds
  assert (np.abs(ends[:, :2]) < 1).all(axis=1).mean() > 0.75  # most of it is what the mean camera sees


def test_fern_photographs_have_the_colours_of_the_points_that_project_there(real_data):
  root = real_data / "nerf" / "llff_fern"
  scene = load_llff(str(root), factor=8)
  points, colors, _ = read_points(root / "sparse" / "0" / "points3D.bin")
  model = to_model(points, scene.frame, np.array(scene.rotation))
  for view in scene.views["test"]:
    pixels = pixel_of(view.camera, model)
    inside = ((pixels >= 0) & (pixels < view.camera.size)).all(axis=1)
    assert inside.mean() > 0.5  # the points are those of this reconstruction: each camera sees many of them
    columns, rows = pixels[inside].astype(int).T
    width, height = view.camera.size
    image = view.pixels()[..., :3].astype(np.float64) / 257
    places = [(rows, columns), (height - 1 - rows, columns), (rows, width - 1 - columns)]
    right, *flipped = [np.median(np.abs(image[place] - colors[inside])) for place in places]
    assert right < 0.5 * min(flipped)  # a flip of either axis is a wrong convention


def test_fern_bounds_are_the_depths_of_its_points(real_data):
  root = real_data / "nerf" / "llff_fern"
  scene = load_llff(str(root), factor=8, ndc=False)
  points, _, _ = read_points(root / "sparse" / "0" / "points3D.bin")
  model = to_model(points, scene.frame, np.array(scene.rotation))
  camera = scene.views["test"][0].camera
  pixels = pixel_of(camera, model)
  seen = model[((pixels >= 0) & (pixels < camera.size)).all(axis=1)]
  depths = (camera.pose[:, 3] - seen) @ camera.pose[:, 2]
  assert ((depths > scene.near) & (depths < scene.far)).mean() > 0.99
