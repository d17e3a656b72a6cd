"""Pictures made many at once against the exact ones of `data.rendered`, against outlines, and of real meshes."""

import math

import numpy as np
import pytest

from fields3d.core.types import Mesh
from fields3d.data import shape_pictures
from fields3d.data.packs import read_pack
from fields3d.data.procedural import solid
from fields3d.data.rendered import DISTANCE, HALF_VIEW, rendered_scene
from fields3d.data.shape_pictures import mesh_pictures, solid_pictures
from fields3d.data.shape_subjects import Model
from fields3d.data.shape_views import camera_poses
from fields3d.data.solids import Part, Solid, surface
from fields3d.geometry.primitives import sphere, translate

POSES = camera_poses(3, "test", 3, (-60.0, 60.0))


@pytest.mark.parametrize("family", ["plane", "lamp"])  # thin parts and paint; a shell
def test_pictures_equal_those_that_trace_every_ray(family):
  scene = rendered_scene(family, 1, 0, views=3, test_views=1, width=40, supersample=3)
  poses = np.stack([view.camera.pose for view in scene.views["train"]])
  found = solid_pictures(solid(family, 0, 1), poses, 40, 3) / 255
  error = np.abs(found - np.stack([view.pixels() for view in scene.views["train"]]) / 65535)
  assert error.mean() < 0.2 / 255
  assert (error.max(axis=-1) > 2 / 255).mean() < 0.01  # a pixel of an outline may lose or win one ray of nine
  assert np.quantile(error[..., 3], 0.999) < 1.01 / 9


def test_pictures_do_not_depend_on_how_many_are_made_together(monkeypatch):
  made = solid("chair", 0, 0)
  together = solid_pictures(made, POSES, 20, 2)
  monkeypatch.setattr(shape_pictures, "AT_ONCE", 1)
  np.testing.assert_array_equal(solid_pictures(made, POSES, 20, 2), together)


def test_coverage_of_a_ball_is_that_of_its_outline():
  ball = Solid((Part("ball", sphere(0.8), (200, 100, 50)),))
  radius = 20 / math.tan(HALF_VIEW) * math.tan(math.asin(0.8 / DISTANCE))
  for pixels in (solid_pictures(ball, POSES, 40, 4), mesh_pictures(surface(ball, 1 / 40), POSES, 40, 4)):
    area = pixels[..., 3].sum((1, 2)) / 255
    np.testing.assert_allclose(area, np.pi * radius**2, rtol=5e-3)
    assert (pixels[..., :3] <= pixels[..., 3:]).all()  # premultiplied


def test_a_solid_inside_another_and_what_lies_behind_are_not_seen():
  ball = Part("ball", sphere(0.5), (200, 100, 50))
  eye = POSES[0, :, 3] / DISTANCE
  hidden = Part("hidden", translate(sphere(0.2), tuple(-0.7 * eye)), (0, 0, 255))
  inner = Part("inner", sphere(0.3), (0, 255, 0))
  np.testing.assert_array_equal(solid_pictures(Solid((inner, ball, hidden)), POSES[:1], 24, 2),
                                solid_pictures(Solid((ball,)), POSES[:1], 24, 2))


def test_pictures_of_a_surface_are_those_of_its_solid():
  made = solid("table", 0, 2)
  exact, other = solid_pictures(made, POSES, 32, 2), mesh_pictures(surface(made, 1 / 100), POSES, 32, 2)
  assert np.abs(exact.astype(int) - other).mean() < 1.5  # edges of the mesh are cut off by up to 0.01


def test_faces_are_lit_from_either_side():
  made = surface(solid("mug", 0, 0), 1 / 30)
  turned = Mesh(made.vertices, made.faces[:, ::-1], made.colors)
  np.testing.assert_array_equal(mesh_pictures(turned, POSES, 16, 2), mesh_pictures(made, POSES, 16, 2))


def test_real_furniture_is_seen_in_its_colours(real_data):
  folder = real_data / "shapes" / "furniture"
  if not folder.is_dir():
    pytest.skip(f"no pack at {folder}")
  for model in read_pack(folder)[:60:20]:
    one = Model(model)
    assert np.linalg.norm(one.mesh().vertices, axis=1).max() == pytest.approx(1 / 1.03, rel=1e-6)
    pixels = one.pictures(POSES, 32, 2)
    solid_ones = pixels[pixels[..., 3] == 255][:, :3].astype(float)
    assert 0.02 < (pixels[..., 3] / 255).mean() < 0.8
    shade = solid_ones / np.maximum(solid_ones.sum(1, keepdims=True), 1)
    palette = np.unique(one.mesh().colors, axis=0).astype(float)
    hues = palette / np.maximum(palette.sum(1, keepdims=True), 1)
    away = np.abs(shade[:, None] - hues[None]).max(-1).min(1)
    assert np.median(away) < 0.05  # a highlight adds up to 0.15 of white, and a pixel may mix two colours
