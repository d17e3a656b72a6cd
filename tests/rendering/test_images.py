"""Rendering an image by tiles: every tiling gives the same image, in one compile; sub-pixels are averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.core.types import Camera
from fields3d.geometry.transforms import look_at
from fields3d.rendering import paths
from fields3d.rendering.images import render_camera

FACTS = {"near": 0.5, "far": 6.0}
RADIUS = 0.6


@jax.jit
def ball(rays):
  """An opaque ball at 0 before white, exactly; colour and normal are its normal's."""
  along = jnp.sum(rays.origins * rays.directions, axis=-1)
  disc = along ** 2 - jnp.sum(rays.origins ** 2, axis=-1) + RADIUS ** 2
  hit = disc > 0
  depth = jnp.where(hit, -along - jnp.sqrt(jnp.where(hit, disc, 1)), 0)
  normal = (rays.origins + depth[:, None] * rays.directions) / RADIUS * hit[:, None]
  rgb = jnp.where(hit[:, None], 0.5 + 0.5 * normal, 1)
  return {"rgb": rgb, "opacity": hit.astype(jnp.float32), "depth": depth, "normal": normal}


def camera(size=(30, 20)):
  pose = look_at(np.array([0, 0.5, 3.0]), np.zeros(3), np.array([0, 1.0, 0]))
  return Camera("PINHOLE", size, (25.0, 25.0, size[0] / 2, size[1] / 2), (), pose)


def test_a_pixel_is_what_the_ray_through_its_centre_sees():
  out = render_camera(ball, camera(), FACTS, tile=64)
  assert {name: a.shape for name, a in out.items()} == {
      "rgb": (20, 30, 3), "opacity": (20, 30), "depth": (20, 30), "normal": (20, 30, 3)}
  assert all(a.dtype == np.float32 for a in out.values())
  pose = camera().pose
  for column, row in (15, 10), (17, 8), (12, 11), (0, 0):
    d = pose[:, :3] @ np.array([(column + 0.5 - 15) / 25, -(row + 0.5 - 10) / 25, -1])
    d /= np.linalg.norm(d)
    b, o = pose[:, 3] @ d, pose[:, 3]
    disc = b * b - o @ o + RADIUS ** 2
    if disc <= 0:
      assert out["opacity"][row, column] == 0 and out["depth"][row, column] == 0
      continue
    t = -b - np.sqrt(disc)
    np.testing.assert_allclose(out["depth"][row, column], t, rtol=1e-5)
    np.testing.assert_allclose(out["normal"][row, column], (o + t * d) / RADIUS, atol=1e-5)  # of a unit vector


@pytest.mark.parametrize("tile", [16, 601, 4096])
def test_tiles_change_nothing(tile):
  rays_themselves = lambda rays: {"rgb": rays.viewdirs, "opacity": rays.radii, "depth": rays.far}
  want = render_camera(rays_themselves, camera(), FACTS, tile=600)
  got = render_camera(rays_themselves, camera(), FACTS, tile=tile)
  for name in want:
    np.testing.assert_array_equal(got[name], want[name])


def test_views_of_any_size_share_one_compile():
  traces = []

  @jax.jit
  def render(rays):
    traces.append(rays.origins.shape)
    return ball(rays)

  for size in (30, 20), (7, 5), (64, 64):
    for k in (1, 3):
      render_camera(render, camera(size), FACTS, supersample=k, tile=100)
  assert traces == [(100, 3)]


def test_sub_pixels_are_averaged_and_their_footprints_smaller():
  fine = render_camera(ball, paths.reframed(camera(), (90, 60)), FACTS, tile=512)
  got = render_camera(ball, camera(), FACTS, supersample=3, tile=512)
  blocks = lambda a: a.reshape(20, 3, 30, 3, *a.shape[2:]).mean((1, 3))
  for name in "rgb", "opacity":
    np.testing.assert_allclose(got[name], blocks(fine[name]), atol=1e-6)  # of values of at most 1
  seen = blocks(fine["opacity"]) > 0
  want = (blocks(fine["depth"] * fine["opacity"]) / np.maximum(blocks(fine["opacity"]), 1e-9))[seen]
  np.testing.assert_allclose(got["depth"][seen], want, rtol=1e-5)
  assert np.all(got["depth"][~seen] == 0)

  radii = lambda rays: {"rgb": rays.viewdirs, "opacity": rays.radii, "depth": rays.near}
  one, three = (render_camera(radii, camera(), FACTS, supersample=k, tile=512)["opacity"] for k in (1, 3))
  np.testing.assert_allclose(3 * three, one, rtol=1e-3)  # the solid angle varies over a pixel


def test_progress_counts_pixels_to_the_end():
  said = []
  render_camera(ball, camera(), FACTS, tile=256, progress=lambda done, total: said.append((done, total)))
  assert said == [(256, 600), (512, 600), (600, 600)]


def test_depth_is_a_distance_where_rays_are_in_normalised_device_coordinates():
  """A wall 4 ahead of the camera at 0, which these rays meet at t = 1 - 1/4, seen from half a unit behind."""
  wall = lambda rays: {"rgb": rays.viewdirs, "opacity": rays.near + 1, "depth": rays.near + 0.75}
  own = Camera("PINHOLE", (30, 20), (25.0, 25.0, 15.0, 10.0), (), np.c_[np.eye(3), [0.1, 0.2, 0.5]])
  ndc = {"width": 30, "height": 20, "fx": 25.0, "fy": 25.0, "near": 1.0}
  out = render_camera(wall, own, {"near": 0.0, "far": 1.0, "ndc": ndc}, tile=600)
  np.testing.assert_allclose(out["depth"], 4.5 / -out["rgb"][..., 2], rtol=1e-5)
