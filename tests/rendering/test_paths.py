"""Camera paths: where the cameras stand and look, and faults of camera-path files."""

import json
import math

import numpy as np
import pytest

from fields3d.core.errors import BadData, UsageFault
from fields3d.core.types import Camera
from fields3d.geometry.transforms import look_at
from fields3d.rendering import paths

BOX = np.array([[-1.0] * 3, [1.0] * 3])
Z = np.array([0.0, 0.0, 1.0])


def camera(pose, size=(40, 30), focal=50.0, center=None):
  return Camera("PINHOLE", size, (focal, focal, *(center or (size[0] / 2, size[1] / 2))), (), np.asarray(pose, float))


def hemisphere(num=40, radius=2.7, up=Z, target=(0, 0, 0)):
  """Cameras on a hemisphere that look at `target`, as the Blender scenes have them."""
  rng, out = np.random.default_rng(0), []
  while len(out) < num:
    eye = rng.normal(size=3)
    eye *= np.sign(eye @ up) * radius / np.linalg.norm(eye)
    if abs(eye @ up) < 0.95 * radius:
      out.append(camera(look_at(eye + target, np.asarray(target, float), up)))
  return out


def looks_at(c, point):
  """Whether the camera's axis meets the point."""
  to = np.asarray(point) - c.pose[:, 3]
  return np.allclose(-c.pose[:, 2], to / np.linalg.norm(to), atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_up_is_the_axis_that_the_cameras_are_upright_to(axis, sign):
  up = sign * np.eye(3)[axis]
  np.testing.assert_array_equal(paths.up_of(hemisphere(up=up)), up)


def test_up_off_every_axis_is_kept():
  up = np.array([1.0, 1.0, 0.0]) / math.sqrt(2)
  one = camera(look_at(np.array([0, 0, 3.0]), np.zeros(3), up))
  np.testing.assert_allclose(paths.up_of([one]), up, atol=1e-12)


def test_the_centre_is_where_the_axes_meet():
  np.testing.assert_allclose(paths.centre_of(hemisphere(target=(0.2, -0.1, 0.3)), BOX), [0.2, -0.1, 0.3], atol=1e-9)
  np.testing.assert_allclose(paths.centre_of(hemisphere(target=(0, 0, 9)), BOX), [0, 0, 1], atol=1e-9)  # kept in the box
  parallel = [camera(look_at(np.array([x, 0, 3.0]), np.array([x, 0, 0.0]), Z)) for x in (-1, 0, 1)]
  np.testing.assert_array_equal(paths.centre_of(parallel, BOX), [0, 0, 0])


def test_an_orbit_is_a_level_circle_that_looks_at_the_centre_and_closes():
  given = hemisphere()
  out = paths.orbit(given, BOX, 12)
  eyes = np.array([c.pose[:, 3] for c in out])
  np.testing.assert_allclose(np.linalg.norm(eyes, axis=1), 2.7, rtol=1e-9)
  np.testing.assert_allclose(eyes[:, 2], eyes[0, 2], rtol=1e-9)
  np.testing.assert_allclose(eyes[0, 2], np.median([c.pose[2, 3] for c in given]), rtol=1e-9)
  steps = np.linalg.norm(np.roll(eyes, -1, axis=0) - eyes, axis=1)
  np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
  assert all(looks_at(c, [0, 0, 0]) and c.pose[2, 1] > 0 and abs(c.pose[2, 0]) < 1e-12 for c in out)
  assert out[0].size == (40, 30) and out[0].intrinsics == (50.0, 50.0, 20.0, 15.0)


def test_poses_are_right_handed_rotations_even_straight_from_above():
  for c in [*paths.orbit(hemisphere(), BOX, 5), camera(look_at(3 * Z, np.zeros(3), Z))]:
    np.testing.assert_allclose(c.pose[:, :3].T @ c.pose[:, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(c.pose[:, :3]) > 0


def test_a_spiral_keeps_to_the_cameras_spread_and_looks_at_one_point():
  given = [camera(np.concatenate([np.eye(3), [[x], [y], [0]]], axis=1)) for x in (-2, 0, 2) for y in (-1, 0, 1)]
  out = paths.spiral(given, 1.0, math.inf, 64)
  eyes = np.array([c.pose[:, 3] for c in out])
  np.testing.assert_allclose(np.abs(eyes).max(0), [2, 1, 0], atol=1e-9)
  # The closed form at far = inf: 4 x 0.9 x near.
  assert all(looks_at(c, [0, 0, -3.6]) for c in out)
  # It closes: the next frame would be the first. atol: a 64th of two turns of radius 2.
  np.testing.assert_allclose(eyes[-1], eyes[0], atol=2 * 4 * math.pi / 64)


def test_a_spiral_of_cameras_all_around_is_refused():
  ring = [camera(look_at(np.array(e, float), np.zeros(3), Z)) for e in ([1, 0, 0], [-1, 0, 0])]
  with pytest.raises(UsageFault, match="seen from one side"):
    paths.spiral(ring, 1.0, 2.0, 4)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_way_through_cameras_meets_each_of_them(count):
  keys = hemisphere(count)
  out = paths.through(keys, 4 * (count - 1) + 1)
  for key, met in zip(keys, out[::4], strict=True):
    np.testing.assert_allclose(met.pose, key.pose, atol=1e-9)
  for c in out:
    np.testing.assert_allclose(c.pose[:, :3].T @ c.pose[:, :3], np.eye(3), atol=1e-9)


def test_no_orbit_goes_around_cameras_that_look_out_from_one_point():
  target = np.array([[1.0, 0, 0], [0, 0, 1], [-1, 0, 0]])
  out = [camera(look_at(np.zeros(3), to, np.array([0, 1.0, 0]))) for to in target]
  with pytest.raises(UsageFault, match="look out from one point"):
    paths.orbit(out, BOX, 4)


def test_one_camera_is_a_still():
  [one] = hemisphere(1)
  assert all(c is one for c in paths.through([one], 3))


def test_resizing_keeps_the_vertical_field_of_view_and_the_place_of_the_axis():
  half = paths.reframed(camera(np.eye(3, 4), center=(21, 16)), (20, 15))
  assert half.size == (20, 15) and half.intrinsics == (25.0, 25.0, 10.5, 8.0)
  wide = paths.reframed(camera(np.eye(3, 4)), (60, 30))
  assert wide.intrinsics == (50.0, 50.0, 30.0, 15.0)


FRAME = {"camera_to_world": [1, 0, 0, 0.5, 0, 1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1], "fov": 90.0, "aspect": 1.5}
FILE = {"keyframes": [], "camera_type": "perspective", "render_height": 20, "render_width": 30, "fps": 12, "seconds": 1,
        "camera_path": [FRAME, FRAME], "is_cycle": False, "smoothness_value": 0.5}


def test_a_camera_path_file_is_read(tmp_path):
  (tmp_path / "path.json").write_text(json.dumps(FILE))
  cameras, fps = paths.read_path(tmp_path / "path.json")
  assert fps == 12 and len(cameras) == 2 and cameras[0].size == (30, 20)
  np.testing.assert_allclose(cameras[0].intrinsics, (10, 10, 15, 10))  # half the height, since tan 45 degrees is 1
  np.testing.assert_array_equal(cameras[0].pose[:, 3], [0.5, 0, 2])


MIRROR = {"camera_to_world": [-1, *FRAME["camera_to_world"][1:]]}
SCALED = {"camera_to_world": [2, *FRAME["camera_to_world"][1:]]}
BY_COLUMNS = {"camera_to_world": np.reshape(FRAME["camera_to_world"], (4, 4)).T.ravel().tolist()}
ENDLESS = {"camera_to_world": [10**400, *FRAME["camera_to_world"][1:]]}


@pytest.mark.parametrize("change, text", [
    ({"camera_path": []}, "no list camera_path"),
    ({"camera_type": "fisheye"}, "camera_type 'fisheye' is not perspective"),
    ({"render_width": 0}, "render_width is 0"),
    ({"render_height": True}, "render_height is True"),
    ({"fps": "24"}, "fps is '24'"),
    ({"camera_path": [FRAME, 3]}, "frame 1: is not an object"),
    ({"camera_path": [FRAME, {"fov": 50}]}, "frame 1: camera_to_world is not 16 numbers"),
    ({"camera_path": [FRAME | MIRROR]}, "frame 0: .*camera_to_world.* is left-handed .*-1"),
    ({"camera_path": [FRAME | SCALED]}, "frame 0: .*camera_to_world.* is scaled or sheared"),
    ({"camera_path": [FRAME | BY_COLUMNS]}, "frame 0: .*camera_to_world.* not 0 0 0 1"),
    ({"camera_path": [FRAME | ENDLESS]}, "frame 0: .*camera_to_world.* is no matrix of numbers"),
    ({"camera_path": [FRAME | {"fov": 180}]}, "frame 0: fov is 180"),
])
def test_a_wrong_camera_path_file_is_refused_by_name(tmp_path, change, text):
  (tmp_path / "path.json").write_text(json.dumps(FILE | change))
  with pytest.raises(BadData, match=text):
    paths.read_path(tmp_path / "path.json")
