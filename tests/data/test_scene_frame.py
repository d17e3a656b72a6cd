"""The model frame of photographed scenes: round trips, invariance, orientation, degenerate inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fields3d.core.errors import BadData
from fields3d.data.scene_frame import focus_point, normalise, to_model, to_world


def random_rotation(rng) -> np.ndarray:
  q, r = np.linalg.qr(rng.normal(size=(3, 3)))
  q = q * np.sign(np.diag(r))
  return q * np.sign(np.linalg.det(q))


def around(rng, n=12, target=(0.0, 0.0, 0.0)) -> np.ndarray:
  """Cameras on a flat ring that look at the target, +Y up."""
  angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
  radius = rng.uniform(2, 4, n)
  positions = np.stack([radius * np.cos(angles), rng.uniform(0, 0.3, n), 0.7 * radius * np.sin(angles)], axis=1)
  back = positions - target
  back /= np.linalg.norm(back, axis=1, keepdims=True)
  right = np.cross([0.0, 1.0, 0.0], back)
  right /= np.linalg.norm(right, axis=1, keepdims=True)
  return np.stack([right, np.cross(back, right), back, positions], axis=2)


def moved(poses, rotation, scale, offset) -> np.ndarray:
  return np.concatenate([rotation @ poses[:, :, :3], (scale * poses[:, :, 3] @ rotation.T + offset)[..., None]], axis=2)


MODES = ["up", "pca", "forward", "none"]


@given(st.integers(0, 2**32 - 1), st.sampled_from(MODES), st.sampled_from(["cameras", "focus", "none"]),
       st.sampled_from(["cameras", "points", "none", 2.5]))
def test_world_is_rotation_model_scale_offset(seed, mode, centre, scale):
  rng = np.random.default_rng(seed)
  world = moved(around(rng)[:5], random_rotation(rng), 7.0, [100.0, -3.0, 5.0])
  points = rng.normal(size=(50, 3)) + world[:, :, 3].mean(axis=0)
  model, frame, rotation = normalise(world, points, mode, centre, scale)
  np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)  # of entries at most 1
  assert np.linalg.det(rotation) > 0
  np.testing.assert_allclose(rotation @ model[:, :, :3], world[:, :, :3], atol=1e-12)  # rotations: entries at most 1
  expected = [rotation @ position * frame.scale + frame.offset for position in model[:, :, 3]]
  np.testing.assert_allclose(expected, world[:, :, 3], atol=1e-10)  # places are of order 100
  np.testing.assert_allclose(to_world(to_model(points, frame, rotation), frame, rotation), points, atol=1e-10)  # likewise


@given(st.integers(0, 2**32 - 1), st.sampled_from(["up", "pca", "forward"]), st.sampled_from(["cameras", "focus"]),
       st.sampled_from(["cameras", "points"]), st.floats(1e-3, 1e3))
def test_a_rigid_motion_and_a_scale_of_the_input_change_no_pose(seed, mode, centre, scale, factor):
  rng = np.random.default_rng(seed)
  world = around(rng)[:5]  # an arc: a whole ring looks no way that "forward" could take
  points = rng.normal(size=(50, 3))
  rotation, offset = random_rotation(rng), rng.normal(size=3) * factor
  there = factor * points @ rotation.T + offset
  expected = normalise(world, points, mode, centre, scale)[0]
  got = normalise(moved(world, rotation, factor, offset), there, mode, centre, scale)[0]
  np.testing.assert_allclose(got, expected, atol=1e-7)  # entries of order 1; eigenvectors lose some digits


def test_the_mean_up_becomes_y_and_the_farthest_camera_is_at_distance_one():
  rng = np.random.default_rng(0)
  world = moved(around(rng), random_rotation(rng), 7.0, [100.0, -3.0, 5.0])
  model, _, _ = normalise(world)
  up = model[:, :, 1].mean(axis=0)
  np.testing.assert_allclose(up / np.linalg.norm(up), [0, 1, 0], atol=1e-12)  # of a unit vector
  np.testing.assert_allclose(np.linalg.norm(model[:, :, 3], axis=1).max(), 1)
  np.testing.assert_allclose(model[:, :, 3].mean(axis=0), 0, atol=1e-12)  # of positions within 1


def test_pca_makes_the_flattest_direction_y_and_keeps_it_up():
  rng = np.random.default_rng(1)
  world = moved(around(rng), random_rotation(rng), 1.0, [0.0, 0.0, 0.0])
  model, _, _ = normalise(world, mode="pca")
  variances = model[:, :, 3].var(axis=0)
  assert variances[1] < variances[2] < variances[0]
  assert model[:, 1, 1].mean() > 0.9


def test_forward_gives_the_mean_camera_the_identity():
  rng = np.random.default_rng(2)
  poses = np.stack([np.c_[np.eye(3), [*rng.uniform(-1, 1, 2), 3.0]] for _ in range(8)])
  world = moved(poses, random_rotation(rng), 2.0, [1.0, 2.0, 3.0])
  model, frame, _ = normalise(world, mode="forward", scale=4.0)
  np.testing.assert_allclose(model[:, :, :3], np.broadcast_to(np.eye(3), (8, 3, 3)), atol=1e-12)  # entries at most 1
  assert frame.scale == 4.0


def test_a_photograph_on_its_side_still_gives_an_orientation():
  poses = around(np.random.default_rng(3))
  right, up, back = poses[0, :, :3].T
  poses[0, :, :3] = np.stack([up, -right, back], axis=1)
  model, _, rotation = normalise(poses)
  assert np.isfinite(model).all() and np.linalg.det(rotation) > 0.99


def test_the_focus_is_the_point_that_all_cameras_look_at():
  target = np.array([0.3, -0.2, 0.5])
  np.testing.assert_allclose(focus_point(around(np.random.default_rng(4), target=target)), target, atol=1e-9)  # of 0.3


PARALLEL = np.stack([np.c_[np.eye(3), [x, 0, 5.0]] for x in (-1.0, 0.5, 1.0)])


@pytest.mark.parametrize("poses, options, text", [
    (PARALLEL[:1], {}, "one camera only"),
    (np.repeat(PARALLEL[:1], 3, axis=0), {}, "all 3 cameras are at one point"),
    (PARALLEL, {"centre": "focus"}, "parallel axes"),
    (PARALLEL, {"mode": "pca"}, "in one line"),
    (PARALLEL, {"scale": np.nan}, "extent is nan"),
    (np.stack([PARALLEL[0], np.c_[np.diag([-1.0, -1.0, 1.0]), [2.0, 0, 0]]]), {}, "up directions cancel"),
    (np.stack([PARALLEL[0], np.c_[np.diag([-1.0, 1.0, -1.0]), [2.0, 0, 0]]]), {"mode": "forward"}, "look all ways"),
])
def test_what_has_no_frame_is_refused_by_name(poses, options, text):
  with pytest.raises(BadData, match=text) as e:
    normalise(poses, where="scene", **options)
  assert str(e.value).startswith("scene: ")
