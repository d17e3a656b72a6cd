"""Pictures of procedural shapes against the shape itself and against a ray at a time in float64."""

import numpy as np
import pytest

from fields3d.core.types import Camera
from fields3d.data.procedural import solid
from fields3d.data.rendered import (
  DISTANCE,
  FAR,
  HALF_VIEW,
  NEAR,
  ORIGIN,
  UP,
  _photograph,
  _tracer,
  rendered,
  rendered_scene,
)
from fields3d.data.solids import Part, Solid
from fields3d.geometry.primitives import sphere
from fields3d.geometry.rays import camera_rays
from fields3d.geometry.transforms import look_at


@pytest.fixture(scope="module")
def chair():
  return rendered_scene("chair", views=3, test_views=2, width=24, supersample=3)


def rays_of(camera: Camera, pixels):
  shot = camera_rays([camera], np.zeros(len(pixels), np.int32), pixels, {"near": 1.0, "far": 5.0})
  return np.float64(shot.origins), np.float64(shot.directions)


def walk(sdf, o, d):
  """Sphere tracing of one ray after another in float64: t, or infinity."""
  out = np.full(len(o), np.inf)
  for i in range(len(o)):
    t = NEAR
    while t < FAR:
      away = sdf((o[i] + t * d[i])[None])[0]
      if away < 1e-7:
        out[i] = t
        break
      t += away
  return out


def test_a_picture_is_the_mean_over_its_rays(chair):
  view, made, rng = chair.views["train"][1], solid("chair", 0, 0), np.random.default_rng(0)
  pixels, depth = view.pixels(), view.depth()
  rows, columns = np.nonzero((pixels[..., 3] > 0) & (pixels[..., 3] < 65535))
  edge = rng.choice(len(rows), 6, replace=False)  # outlines, where it is hardest
  corners = (np.stack(np.meshgrid(np.arange(3), np.arange(3)), -1).reshape(-1, 2) + 0.5) / 3
  for row, column in zip(rows[edge], columns[edge], strict=True):
    o, d = rays_of(view.camera, np.array([column, row]) + corners)
    t = walk(made.sdf, o, d)
    assert pixels[row, column, 3] == round(65535 * np.isfinite(t).mean())
    along = (t * (d @ -view.camera.pose[:, 2]))[np.isfinite(t)]
    assert depth[row, column] == pytest.approx(along.mean(), abs=1e-4)


def test_coverage_of_a_ball_is_that_of_its_outline():
  ball = Solid((Part("ball", sphere(0.8), (200, 100, 50)),))
  focal = 20 / np.tan(HALF_VIEW)
  camera = Camera("PINHOLE", (40, 40), (focal, focal, 20.0, 20.0), (), look_at(DISTANCE * np.array([0.6, 0.0, 0.8]), ORIGIN, UP))
  pixels, depth = _photograph(ball, _tracer(ball), camera, 4)
  radius = focal * np.tan(np.arcsin(0.8 / DISTANCE))
  area = pixels[..., 3].sum() / 65535
  assert area == pytest.approx(np.pi * radius**2, rel=2e-3)
  assert depth[19:21, 19:21].mean() == pytest.approx(DISTANCE - 0.8, abs=1e-3)
  assert np.all(pixels[..., :3] <= pixels[..., 3:])  # premultiplied


def test_cameras_of_the_splits_differ_and_look_at_the_object(chair):
  poses = {split: np.stack([view.camera.pose for view in views]) for split, views in chair.views.items()}
  for pose in np.concatenate(list(poses.values())):
    np.testing.assert_allclose(pose[:, :3].T @ pose[:, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:, :3]) > 0
    np.testing.assert_allclose(pose[:, 3], DISTANCE * pose[:, 2])
  gap = np.linalg.norm(poses["train"][:, None, :, 3] - poses["test"][None, :, :, 3], axis=-1)
  assert gap.min() > 0.05


def test_pictures_are_the_same_each_time(chair):
  again = rendered_scene("chair", views=3, test_views=2, width=24, supersample=3)
  np.testing.assert_array_equal(chair.views["test"][0].pixels(), again.views["test"][0].pixels())


def test_the_dataset_knows_the_true_shape():
  data = rendered("mug", views=2, test_views=1, width=16, supersample=1, draws={"pixels": 32})
  shape, = data.shapes("train")
  assert shape.label == "mug" and not data.shapes("test")
  batch = data.batch(0, 0, 1)
  point = batch["origins"][:, 0] + batch["directions"][:, 0] * 2.9
  assert batch["rgb"].shape == (32, 3) and np.isfinite(shape.sdf(point)).all()
