"""Doubts about conventions: raised for every wrong reading of a ring of cameras, and for none of the right ones."""

import dataclasses
import re

import numpy as np
import pytest

from fields3d.core.errors import CannotWrite
from fields3d.core.types import Camera, View
from fields3d.evaluation.cameras import (
    camera_groups,
    camera_rows,
    convention_doubts,
    draw_cameras,
    frustum,
    gaze,
    placement_doubts,
)
from fields3d.geometry.cameras import pixel_of


def ring(n=12, height=1.0, distance=3.0, target=(0.0, 0.0, 0.0), seed=0):
  """Cameras around a target, +y up, which they look at within 5 degrees."""
  rng, poses = np.random.default_rng(seed), []
  for angle in np.arange(n) * 2 * np.pi / n:
    position = np.array([distance * np.cos(angle), height, distance * np.sin(angle)])
    back = position / np.linalg.norm(position) + rng.normal(scale=0.03, size=3)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 1.0, 0.0), back)
    right /= np.linalg.norm(right)
    poses.append(np.stack([right, np.cross(back, right), back, position + target], axis=1))
  return np.array(poses)


def inverted(poses):
  turns = poses[:, :, :3].swapaxes(1, 2)
  return np.concatenate([turns, -turns @ poses[:, :, 3:]], axis=2)


def with_columns(poses, order, signs):
  return np.concatenate([poses[:, :, order] * signs, poses[:, :, 3:]], axis=2)


def dome(n=40):
  """Cameras around 0 at many heights."""
  return np.concatenate([ring(4, height, 3.0, seed=i) for i, height in enumerate(np.linspace(-1, 6, n // 4))])


OPENCV = ((0, 1, 2), (1, -1, -1))


@pytest.mark.parametrize("poses, words", [
    (with_columns(ring(), *OPENCV), r"look along their \+z, .*negate the 2nd and 3rd columns"),
    (with_columns(dome(), *OPENCV), r"look along their \+z, .*negate the 2nd and 3rd columns"),
    (with_columns(dome(), (2, 0, 1), (-1, -1, 1)), r"look along their \+x"),
    (with_columns(dome(), (0, 2, 1), (1, -1, 1)), r"look along their \+y"),
    (inverted(ring()), "world-to-camera matrices, -z ahead, .*: invert them "),
    (inverted(with_columns(ring(), *OPENCV)), r"world-to-camera matrices, \+z ahead, .*: invert them and negate")])
def test_a_wrong_reading_is_named_with_its_remedy(poses, words):
  doubts = convention_doubts(poses)
  assert len(doubts) == 1
  assert re.search(words, doubts[0]), doubts[0]


@pytest.mark.parametrize("height", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), (5.0, -3.0, 20.0)])
def test_cameras_that_look_at_something_raise_no_doubt(height, target):
  assert convention_doubts(ring(height=height, target=target)) == []


def test_nothing_is_said_of_cameras_that_look_one_way():
  poses = np.concatenate([np.tile(np.eye(3), (9, 1, 1)), np.random.default_rng(0).normal(size=(9, 3, 1))], axis=2)
  assert gaze(poses[:, :, 3], -poses[:, :, 2]) is None
  assert convention_doubts(poses) == convention_doubts(with_columns(poses, *OPENCV)) == []


def test_the_point_looked_at_is_where_all_axes_meet():
  target = np.array([1.0, 2.0, 3.0])
  positions = np.random.default_rng(0).normal(size=(8, 3)) * 5
  axes = (target - positions) / np.linalg.norm(target - positions, axis=1, keepdims=True)
  found = gaze(positions, axes)
  np.testing.assert_allclose(found.point, target, atol=1e-9)
  assert found.cosine == pytest.approx(1.0)


def test_cameras_upside_down_lying_or_beside_the_box_are_doubtful():
  assert placement_doubts(ring(), 1.0) == []
  assert "upside down" in placement_doubts(with_columns(ring(), (0, 1, 2), (-1, -1, 1)), 1.0)[0]
  lying = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]) @ ring()
  assert "the cameras' up is the model frame's +z" in placement_doubts(lying, 1.0)[0]
  assert "outside the object's box of +-1" in placement_doubts(ring(target=(0, 0, 4.0)), 1.0)[0]
  assert placement_doubts(ring(target=(0, 0, 4.0)), None) == []


def views(poses, model="PINHOLE", distortion=()):
  camera = Camera(model, (8, 6), (10.0, 10.0, 4.0, 3.0), distortion, poses[0])
  return [View(f"{i}.png", dataclasses.replace(camera, pose=pose), lambda: None) for i, pose in enumerate(poses)]


def test_rows_are_one_for_each_camera_and_groups_count_them():
  scene = {"train": views(ring(4)), "val": [], "test": views(ring(2)) + views(ring(1), "OPENCV", (0.1, 0, 0, 0))}
  assert [row["name"] for row in camera_rows(scene)] == ["0.png", "1.png", "2.png", "3.png", "0.png", "1.png", "0.png"]
  groups = camera_groups(scene)
  assert [(g["split"], g["views"], g["model"]) for g in groups] == [("train", 4, "PINHOLE"), ("test", 2, "PINHOLE"),
                                                                   ("test", 1, "OPENCV")]
  assert groups[0]["distance"] == pytest.approx([10**0.5] * 2)


def test_a_frustums_corners_fall_on_the_images_corners():
  camera = views(ring(1), "OPENCV", (0.1, 0, 0, 0.01))[0].camera
  ends = frustum(camera, 0.5)[:4, 1]
  np.testing.assert_allclose(pixel_of(camera, ends), [[0, 0], [8, 0], [8, 6], [0, 6]], atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(ends - camera.pose[:, 3], axis=1), 0.5)


@pytest.mark.parametrize("bounds", [1.0, None])
def test_the_picture_is_written_and_shows_something(tmp_path, bounds):
  from PIL import Image
  draw_cameras(tmp_path / "a.png", {"train": views(ring(4)), "val": [], "test": views(ring(2))}, bounds)
  with Image.open(tmp_path / "a.png") as image:
    assert np.asarray(image.convert("L")).std() > 5


def test_a_picture_that_cannot_be_written_is_a_fault(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(CannotWrite, match="lies below a file"):
    draw_cameras(tmp_path / "file" / "a" / "b.png", {"train": views(ring(4))}, 1.0)
