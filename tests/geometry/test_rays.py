"""Rays of pixels: against projections, against neighbouring rays, against the projective map that NDC is."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fields3d.core.types import Camera
from fields3d.geometry.cameras import pixel_of, spherical_intrinsics
from fields3d.geometry.rays import CameraRig, camera_rays, from_ndc, length_in_ndc, warp_to_ndc

FACTS = {"near": 2.0, "far": 6.0, "ndc": None}


def pose(seed, position):
  return np.concatenate([Rotation.random(random_state=seed).as_matrix(), np.reshape(position, (3, 1))], axis=1)


def cameras():
  return [
      Camera("PINHOLE", (64, 48), (50.0, 52.0, 31.0, 25.0), (), pose(0, (1.0, 2.0, 3.0))),
      Camera("OPENCV", (64, 48), (50.0, 52.0, 31.0, 25.0), (-0.1, 0.03, 0.002, -0.003), pose(1, (0.0, -1.0, 0.5))),
      Camera("OPENCV_FISHEYE", (64, 48), (30.0, 30.0, 32.0, 24.0), (0.02, -0.004, 0.002, 0.0), pose(2, (4.0, 0.0, 0.0))),
      Camera("EQUIRECTANGULAR", (64, 32), spherical_intrinsics(64, 32), (), pose(3, (0.0, 0.0, 0.0))),
      Camera("PINHOLE", (32, 32), (40.0, 40.0, 16.0, 16.0), (), pose(4, (0.0, 1.0, 0.0))),
  ]


def random_pixels(n=200, seed=0):
  rng = np.random.default_rng(seed)
  view = rng.integers(0, 5, n).astype(np.int32)
  return view, rng.uniform(0.02, 0.98, (n, 2)) * np.array([camera.size for camera in cameras()])[view]


def test_points_along_a_ray_fall_on_its_pixel():
  view, pixel = random_pixels()
  rays = camera_rays(cameras(), view, pixel, FACTS)
  for i, camera in enumerate(cameras()):
    mine = view == i
    points = rays.origins[mine].astype(float) + 2.5 * rays.directions[mine].astype(float)
    np.testing.assert_allclose(pixel_of(camera, points), pixel[mine], rtol=0, atol=1e-3)  # pixels; rays are float32


def test_rays_of_many_models_equal_the_rays_of_each():
  view, pixel = random_pixels()
  rays = CameraRig(cameras(), FACTS).rays(view, pixel)
  for i, camera in enumerate(cameras()):
    alone = camera_rays([camera], np.zeros(int((view == i).sum()), np.int32), pixel[view == i], FACTS)
    for name in ("origins", "directions", "radii", "near", "far"):
      np.testing.assert_allclose(getattr(rays, name)[view == i], getattr(alone, name), rtol=1e-6, atol=1e-7)


def test_directions_are_unit_float32_and_labels_are_the_views():
  view, pixel = random_pixels()
  rays = camera_rays(cameras(), view, pixel, FACTS)
  np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=-1), 1.0, rtol=1e-6)
  assert {getattr(rays, f.name).dtype.name for f in dataclasses.fields(rays)} == {"float32", "int32"}
  np.testing.assert_array_equal(rays.view, view)
  assert (camera_rays(cameras(), view, pixel, FACTS, label=False).view == -1).all()


@pytest.mark.parametrize("index", range(5))
def test_radii_are_of_a_disc_as_large_as_the_pixel(index):
  camera = dataclasses.replace(cameras()[index], pose=np.eye(4)[:3])
  rng, h = np.random.default_rng(1), 0.05
  pixel = rng.uniform(0.1, 0.9, (50, 2)) * camera.size

  def along(offset):
    return camera_rays([camera], np.zeros(50, int), pixel + offset, FACTS).directions.astype(float)

  across = np.cross(along((h, 0)) - along((-h, 0)), along((0, h)) - along((0, -h))) / (2 * h) ** 2
  expected = np.sqrt(np.linalg.norm(across, axis=-1) / np.pi)
  radii = camera_rays([camera], np.zeros(50, int), pixel, FACTS).radii
  np.testing.assert_allclose(radii, expected, rtol=1e-3)  # differences of float32 directions


def test_the_discs_of_a_sphere_of_pixels_cover_it():
  camera = Camera("EQUIRECTANGULAR", (256, 128), spherical_intrinsics(256, 128), (), np.eye(4)[:3])
  column, row = np.meshgrid(np.arange(256) + 0.5, np.arange(128) + 0.5)
  pixel = np.stack([column.ravel(), row.ravel()], axis=-1)
  radii = camera_rays([camera], np.zeros(len(pixel), int), pixel, FACTS).radii.astype(float)
  assert (np.pi * radii**2).sum() == pytest.approx(4 * np.pi, rel=1e-4)  # the midpoint rule on 128 rows


def test_a_pixel_that_nothing_falls_on_sees_nothing():
  camera = Camera("SIMPLE_RADIAL", (40, 40), (20.0, 20.0, 20.0, 20.0), (-0.2,), np.eye(4)[:3])
  rays = camera_rays([camera], np.zeros(2, int), np.array([[20.0, 20.0], [39.5, 39.5]]), FACTS)
  assert rays.far.tolist() == [6.0, 2.0]
  assert np.isfinite(rays.directions).all() and np.isfinite(rays.radii).all()


NDC = {"width": 64, "height": 48, "fx": 50.0, "fy": 50.0, "near": 1.0}


def to_ndc(points):
  """The projective map itself: NeRF's appendix C, equation 16, with the far plane at infinity."""
  x, y, z = points.T
  return np.stack([-2 * NDC["fx"] / NDC["width"] * x / z, -2 * NDC["fy"] / NDC["height"] * y / z,
                   1 + 2 * NDC["near"] / z], axis=-1)


def forward_rays(n=50):
  rng = np.random.default_rng(0)
  d = rng.normal(size=(n, 3)) * (0.3, 0.3, 0.1) - (0, 0, 1)
  return rng.uniform(-0.3, 0.3, (n, 3)), d / np.linalg.norm(d, axis=-1, keepdims=True)


def test_points_along_a_ray_stay_on_it_in_ndc():
  o, d = forward_rays()
  start, along, _, ahead = warp_to_ndc(o, d, np.ones(50), NDC)
  assert ahead.all()
  at_plane = -(NDC["near"] + o[:, 2]) / d[:, 2]
  for t in (0.0, 0.5, 3.0, 100.0):
    z = o[:, 2] + (at_plane + t) * d[:, 2]
    s = 1 - (-NDC["near"]) / z  # equation 20: t' = 1 - o_z / (o_z + t d_z)
    np.testing.assert_allclose(start + s[:, None] * along, to_ndc(o + (at_plane + t)[:, None] * d), rtol=0, atol=1e-12)


def test_a_point_of_a_ray_in_ndc_is_as_far_from_the_eye_as_it_is():
  o, d = forward_rays()
  away = np.random.default_rng(1).uniform(2, 50, 50)
  points = o + away[:, None] * d
  start, along, _, _ = warp_to_ndc(o, d, np.ones(50), NDC)
  t = (to_ndc(points) - start)[:, 2] / along[:, 2]
  np.testing.assert_allclose(from_ndc(start + t[:, None] * along, NDC), points, rtol=1e-9)
  for i in range(50):
    np.testing.assert_allclose(length_in_ndc(t[i:i + 1], o[i], d[i:i + 1], NDC), away[i], rtol=1e-9)


def test_the_first_camera_fills_the_cube_between_near_plane_and_infinity():
  camera = Camera("PINHOLE", (64, 48), (50.0, 50.0, 32.0, 24.0), (), np.eye(4)[:3])
  corners = np.array([[0.0, 0.0], [64, 0], [64, 48], [0, 48]])
  rays = camera_rays([camera], np.zeros(4, int), corners, {"near": 0.0, "far": 1.0, "ndc": NDC})
  ends = np.stack([rays.origins, rays.origins + rays.directions])
  np.testing.assert_allclose(np.abs(ends), 1.0, atol=1e-6)
  np.testing.assert_allclose(ends[0, :, 2], -1.0, atol=1e-6)
  assert rays.near.tolist() == [0.0] * 4 and rays.far.tolist() == [1.0] * 4
  np.testing.assert_allclose(np.linalg.norm(rays.viewdirs, axis=-1), 1.0, rtol=1e-6)


def test_ndc_radii_are_of_a_pixels_area_at_infinity():
  o, d = forward_rays()
  solid_angle, h = 1e-4, 1e-5
  side = np.cross(d, (0.0, 1.0, 0.0))
  side /= np.linalg.norm(side, axis=-1, keepdims=True)

  def end(offset):
    moved = d + offset
    start, along, _, _ = warp_to_ndc(o, moved / np.linalg.norm(moved, axis=-1, keepdims=True), np.ones(50), NDC)
    return (start + along)[:, :2]

  a, b = (end(h * v) - end(-h * v) for v in (side, np.cross(side, d)))
  area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / (2 * h) ** 2 * solid_angle
  radii = warp_to_ndc(o, d, np.full(50, np.sqrt(solid_angle / np.pi)), NDC)[2]
  np.testing.assert_allclose(radii, np.sqrt(area / np.pi), rtol=1e-6)


def test_a_ray_that_does_not_go_ahead_sees_nothing_in_ndc():
  camera = Camera("PINHOLE", (64, 48), (50.0, 50.0, 32.0, 24.0), (), np.diag([1.0, -1, -1, 1])[:3])
  rays = camera_rays([camera], np.zeros(1, int), np.array([[32.0, 24.0]]), {"near": 0.0, "far": 1.0, "ndc": NDC})
  assert rays.far.tolist() == [0.0]
  assert all(np.isfinite(getattr(rays, f.name)).all() for f in dataclasses.fields(rays))
