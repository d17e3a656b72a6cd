"""Rays of pictures and patches against the cameras' own, patches of pictures against the pixels, the ball against geometry."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.types import Camera
from fields3d.geometry.rays import camera_rays
from fields3d.geometry.transforms import look_at
from fields3d.rendering.patches import (
  Patches,
  cut_out,
  even_sections,
  mirrored,
  patch_rays,
  places,
  random_patches,
  whole,
)
from fields3d.rendering.samplers import box_interval, sphere_interval

HALF_VIEW = math.radians(20.0)
POSE = look_at(np.array([1.0, 1.5, 2.4]), np.zeros(3), np.array([0.0, 1.0, 0.0]))


def camera(side):
  focal = side / 2 / math.tan(HALF_VIEW)
  return Camera("PINHOLE", (side, side), (focal, focal, side / 2, side / 2), (), POSE)


def test_the_rays_of_a_whole_picture_are_its_cameras():
  i, j = np.meshgrid(np.arange(6), np.arange(6), indexing="ij")
  pixel = np.stack([j, i], axis=-1).reshape(-1, 2) + 0.5
  want = camera_rays([camera(6)], np.zeros(36, np.int32), pixel, {"near": 2.0, "far": 4.0})
  origins, d = patch_rays(jnp.asarray(POSE[None], jnp.float32), HALF_VIEW, whole(1), 6)
  np.testing.assert_allclose(d[0], want.directions, atol=1e-6)  # unit vectors
  np.testing.assert_allclose(origins[0], want.origins, atol=1e-6)  # of order 1


def test_a_patch_of_half_the_size_sees_the_pictures_own_pixels():
  patch = Patches(jnp.array([[-0.5, 0.25]]), jnp.array([0.5]))  # columns 0 to 3 and rows 3 to 6 of 8
  whole_d = patch_rays(jnp.asarray(POSE[None], jnp.float32), HALF_VIEW, whole(1), 8)[1].reshape(8, 8, 3)
  d = patch_rays(jnp.asarray(POSE[None], jnp.float32), HALF_VIEW, patch, 4)[1].reshape(4, 4, 3)
  np.testing.assert_allclose(d, whole_d[3:7, :4], atol=1e-6)  # unit vectors
  pictures = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
  np.testing.assert_allclose(cut_out(pictures, patch, 4), pictures[:, 3:7, :4], atol=1e-6)  # of order 1


def test_a_whole_picture_at_half_its_size_is_the_mean_of_two_by_two():
  pictures = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
  want = np.asarray(pictures).reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
  np.testing.assert_allclose(cut_out(pictures, whole(2), 4), want, atol=1e-6)  # of order 1


def test_random_patches_lie_within_the_picture_and_reach_its_edges():
  patches = random_patches(jax.random.key(0), 4000, 0.25)
  assert 0.25 <= float(patches.scale.min()) < 0.26 and 0.99 < float(patches.scale.max()) <= 1
  reach = jnp.abs(patches.centre) + patches.scale[:, None]
  assert float(reach.max()) <= 1 + 1e-6
  small = patches.scale < 0.3
  assert float(jnp.where(small[:, None], patches.centre, 0).max()) > 0.6
  assert np.abs(places(patches, 4)).max() < 1


def test_rays_enter_and_leave_the_ball_where_they_cross_its_surface():
  origins, d = patch_rays(jnp.asarray(POSE[None], jnp.float32), HALF_VIEW, whole(1), 16)
  near, far = sphere_interval(origins, d, 0.0, math.inf)
  misses = jnp.linalg.norm(jnp.cross(origins, d), axis=-1) > 1
  np.testing.assert_array_equal(near == far, misses)
  for t in (near, far):
    radius = jnp.linalg.norm(origins + t[..., None] * d, axis=-1)
    np.testing.assert_allclose(radius[~misses], 1, atol=2e-3)  # tangent rays lose half their digits
  assert 0 < int(misses.sum()) < 128


def test_from_inside_the_ball_rays_begin_at_their_origin():
  near, far = sphere_interval(jnp.zeros((1, 3)), jnp.array([[0.0, 1.0, 0.0]]), 0.0, math.inf)
  assert float(near[0]) == 0 and abs(float(far[0]) - 1) < 1e-6
  ends = even_sections(near, far, 4)
  np.testing.assert_allclose(ends, [[0, 0.25, 0.5, 0.75, 1]], atol=1e-6)  # of order 1


def test_the_mirrored_camera_sees_the_mirrored_shape_as_the_picture_turned_left_to_right():
  pose = jnp.asarray(np.stack([POSE, POSE]), jnp.float32)
  rgb = jax.random.uniform(jax.random.key(0), (2, 6, 6, 3))
  out = mirrored(jnp.array([False, True]), rgb, rgb[..., 0], pose)
  origins, d = patch_rays(out["pose"], HALF_VIEW, whole(2), 6)
  want = d[0].reshape(6, 6, 3)[:, ::-1] * jnp.array([-1.0, 1.0, 1.0]).reshape(1, 1, 3)
  np.testing.assert_allclose(d[1].reshape(6, 6, 3), want, atol=1e-6)  # unit vectors
  np.testing.assert_allclose(origins[1, 0], origins[0, 0] * jnp.array([-1.0, 1.0, 1.0]), atol=1e-6)  # of order 1
  np.testing.assert_array_equal(out["rgb"][1], rgb[1, :, ::-1])
  np.testing.assert_array_equal(out["alpha"][1], rgb[1, :, ::-1, 0])
  np.testing.assert_array_equal(out["rgb"][0], rgb[0])
  np.testing.assert_allclose(np.linalg.det(np.asarray(out["pose"][1, :, :3])), 1.0, rtol=1e-5)  # a rotation still


def test_rays_enter_and_leave_the_box_where_a_dense_march_finds_it():
  half = np.array([0.4, 0.9, 0.6])
  rng = np.random.default_rng(0)
  origins = rng.normal(size=(200, 3))
  origins *= 3 / np.linalg.norm(origins, axis=1, keepdims=True)
  d = rng.uniform(-0.8, 0.8, (200, 3)) - origins
  d /= np.linalg.norm(d, axis=1, keepdims=True)
  d[0], origins[0] = (0, 0, -1), (0.1, 0.2, 3)  # along an axis
  rays = (jnp.asarray(v, jnp.float32) for v in (origins, d))
  near, far = (np.asarray(t) for t in box_interval(*rays, 0.0, math.inf, half))
  t = np.linspace(0, 6, 6001)
  inside = np.all(np.abs(origins[:, None] + t[None, :, None] * d[:, None]) <= half, axis=-1)
  np.testing.assert_allclose(far - near, inside.sum(1) * 0.001, atol=0.002)  # two ends, each to a step of the march
  first = np.where(inside.any(1), t[inside.argmax(1)], near)
  np.testing.assert_allclose(near, first, atol=0.0011)  # a step of the march
  assert 20 < inside.any(1).sum() < 190
