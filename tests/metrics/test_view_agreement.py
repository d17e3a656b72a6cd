"""A ball agrees with itself from all sides; a billboard with the same outline does not, nor does a ball of another depth."""

import numpy as np
import pytest

from fields3d.geometry.transforms import look_at
from fields3d.metrics.view_agreement import billboard_depth, rays_of, relief, seen_through

HALF_VIEW, SIDE, UP = np.radians(20.0), 64, np.array([0.0, 1.0, 0.0])


def camera(azimuth, elevation=0.3):
  eye = 3 * np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
  return look_at(eye, np.zeros(3), UP)


def ball(pose, radius=0.6):
  """(depth, opacity) of a ball about 0, exactly."""
  origin, d = rays_of(pose, SIDE, HALF_VIEW)
  nearest = -(d @ origin)
  square = radius**2 - origin @ origin + nearest**2
  return np.where(square > 0, nearest - np.sqrt(np.maximum(square, 0)), 0), (square > 0).astype(float)


@pytest.mark.parametrize("turn", [0.3, 0.6, 1.2])
def test_no_point_of_a_ball_is_seen_through(turn):
  a, b = camera(0.0), camera(turn, -0.1)
  through, of = seen_through(*ball(a), a, *ball(b), b, HALF_VIEW, tolerance=0.03)
  assert through == 0 and of > 500


def test_a_billboard_with_the_balls_outline_is_seen_through():
  a, b = camera(0.0), camera(0.6)
  flat = [billboard_depth(pose, SIDE, HALF_VIEW) for pose in (a, b)]
  through, of = seen_through(flat[0], ball(a)[1], a, flat[1], ball(b)[1], b, HALF_VIEW)
  assert 0.25 < through / of < 0.5  # of the half that stands before the other plane, all but a strip of the tolerance


def test_a_point_hidden_behind_the_thing_agrees_and_one_before_it_does_not():
  a, b = camera(0.0), camera(0.0)
  depth, opacity = ball(a)
  assert seen_through(depth + 0.5, opacity, a, *ball(b), b, HALF_VIEW)[0] == 0
  through, of = seen_through(depth - 0.5, opacity, a, *ball(b), b, HALF_VIEW)
  assert through > 0.95 * of


def test_what_the_other_camera_does_not_see_at_all_counts_as_seen_through():
  a, b = camera(0.0), camera(0.4)
  through, of = seen_through(*ball(a), a, ball(b)[0], np.zeros((SIDE, SIDE)), b, HALF_VIEW)
  assert through == of > 0


def test_relief_is_zero_of_a_billboard_and_known_of_a_ball():
  pose = camera(0.2)
  assert relief(billboard_depth(pose, SIDE, HALF_VIEW), ball(pose)[1], pose, HALF_VIEW) < 1e-9
  # Seen from far away: the height of a hemisphere over its disc has deviation 1 / sqrt(18), each side 1 / 2.
  # From 3 away less than the hemisphere is seen, so less.
  assert 0.35 < relief(*ball(pose), pose, HALF_VIEW) < np.sqrt(4 / 18)
  assert np.isnan(relief(*[np.zeros((SIDE, SIDE))] * 2, pose, HALF_VIEW))
