"""Rigid poses: what is mended and what is refused."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fields3d.core.errors import BadData
from fields3d.geometry.transforms import rigid_poses


def matrix(seed=0):
  out = np.eye(4)
  out[:3, :3], out[:3, 3] = Rotation.random(random_state=seed).as_matrix(), (1, 2, 3)
  return out


def test_exact_poses_pass_as_they_are_without_a_warning():
  poses, warnings = rigid_poses([matrix(0), matrix(1)[:3].tolist()], ["a", "b"], "t.json")
  np.testing.assert_allclose(poses, [matrix(0)[:3], matrix(1)[:3]], rtol=0, atol=1e-12)
  assert warnings == []


def test_rounded_rotations_become_the_nearest_ones_with_a_warning():
  rounded = matrix()
  rounded[:3, :3] = np.round(rounded[:3, :3], 3)
  poses, warnings = rigid_poses([rounded, matrix(1)], ["a", "b"], "t.json")
  np.testing.assert_allclose(poses[0, :, :3] @ poses[0, :, :3].T, np.eye(3), atol=1e-12)
  assert len(warnings) == 1 and warnings[0].startswith("t.json: 1 rotations are off by up to ")


def scaled():
  out = matrix()
  out[:3, :3] *= 1.2
  return out


def left_handed():
  return matrix() * [1, -1, 1, 1]


def not_finite():
  out = matrix()
  out[1, 3] = np.nan
  return out


@pytest.mark.parametrize("bad, words", [
    (scaled(), "scaled by 1.2"), (left_handed(), "left-handed"), (not_finite(), "not finite"), (matrix().T, "last|ends"),
    (np.eye(3), r"shape \(3, 3\)"), (None, "no matrix|shape"), ([[1, 2], [3]], "no matrix"), ([["x"] * 4] * 4, "no matrix")])
def test_what_is_no_pose_is_refused_by_the_frames_name(bad, words):
  with pytest.raises(BadData, match=words) as caught:
    rigid_poses([matrix(), bad], ["a", "frame_7"], "t.json")
  assert "frame_7" in str(caught.value) and str(caught.value).startswith("t.json: ")
