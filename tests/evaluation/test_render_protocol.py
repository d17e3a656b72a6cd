"""The rendering protocol against a ball's own shading and shadow, and what is kept of it on disk."""

import numpy as np
import pytest

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.evaluation import render_protocol
from fields3d.evaluation.render_protocol import Kept, RenderProtocol, camera_directions, kept_views, render_views
from fields3d.rendering.rasterize import vertex_normals

SMALL = RenderProtocol(views=5, size=32)


def ball(rows=40, columns=60):
  theta, phi = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
  points = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1).reshape(-1, 3)
  i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
  faces = np.concatenate([np.stack([i, i + 1, i + columns], 1), np.stack([i + 1, i + columns + 1, i + columns], 1)])
  return Mesh(points, faces)


def test_a_ball_fills_the_picture_and_is_shaded_by_its_normals():
  mesh = ball()
  pictures = render_views(Mesh(7 + 3 * mesh.vertices, mesh.faces), SMALL)
  assert pictures.shape == (5, 32, 32, 3) and pictures.dtype == np.uint8
  covered = np.mean(pictures[..., 0] < 250, axis=(1, 2))
  np.testing.assert_allclose(covered, np.pi / 4, atol=0.05)  # The disc touches the sides; edge pixels are mixed.
  # In the middle the normal is towards the camera: 0.8 (0.25 + 0.75 * cos), sRGB.
  cosine = 1 / np.linalg.norm([-0.5, 0.7, 1.0])
  expected = 255 * (1.055 * (0.8 * (0.25 + 0.75 * cosine)) ** (1 / 2.4) - 0.055)
  np.testing.assert_allclose(pictures[:, 15:17, 15:17, 0].mean((1, 2)), expected, atol=3)
  brightest = np.array([np.unravel_index(np.where(p < 254, p, 0).argmax(), p.shape) for p in pictures[..., 0]])
  assert np.all(brightest[:, 0] < 16) and np.all(brightest[:, 1] < 16)  # The lamp is at the viewer's upper left.
  assert np.abs(np.linalg.norm(vertex_normals(mesh.vertices, mesh.faces)[100]) - 1) < 1e-9


def test_up_is_up_in_every_picture():
  cone = Mesh(np.array([[0, 1.0, 0], [0.5, -1, 0.5], [-0.5, -1, 0.5], [-0.5, -1, -0.5], [0.5, -1, -0.5]]),
              np.array([[0, 2, 1], [0, 3, 2], [0, 4, 3], [0, 1, 4], [1, 2, 3], [1, 3, 4]]))
  level = np.abs(camera_directions(24)[:, 1]) < 0.3
  dark = render_views(cone, RenderProtocol(24, 32))[level, ..., 0] < 250
  assert level.sum() >= 6 and np.all(dark[:, 24:].sum((1, 2)) > 2 * dark[:, :8].sum((1, 2)))


def test_flipped_faces_look_the_same_and_nothing_is_refused():
  mesh = ball(12, 16)
  flipped = Mesh(mesh.vertices, mesh.faces[:, ::-1])
  assert np.abs(render_views(mesh, SMALL).astype(int) - render_views(flipped, SMALL)).max() <= 1
  with pytest.raises(BadData, match="no faces"):
    render_views(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)), SMALL)


def test_pictures_are_kept_by_content_and_made_again_where_damaged(tmp_path, monkeypatch):
  mesh, kept = ball(12, 16), Kept(tmp_path)
  first = kept_views(mesh, SMALL, kept)
  (file,) = (tmp_path / SMALL.name).glob("*.npz")
  assert file.stem == render_protocol.mesh_key(mesh)
  assert file.stem != render_protocol.mesh_key(Mesh(mesh.vertices + 1e-9, mesh.faces))
  module = "fields3d.evaluation.render_protocol.render_views"
  monkeypatch.setattr(module, lambda *_: pytest.fail("pictured again"))
  np.testing.assert_array_equal(kept_views(mesh, SMALL, kept), first)
  monkeypatch.undo()
  file.write_bytes(file.read_bytes()[:-9])
  np.testing.assert_array_equal(kept_views(mesh, SMALL, kept), first)
