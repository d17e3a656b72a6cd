"""Pictures show what geometry says: silhouettes, sides, occlusion, colours, shadows."""

import numpy as np
import pytest
import trimesh

from fields3d.core.types import Mesh
from fields3d.rendering.rasterize import camera_rays, cast, render_mesh, vertex_normals

UNIT = np.array([[-1.0, -1, -1], [1, 1, 1]])


def sphere(radius=0.7, centre=(0.0, 0, 0), subdivisions=4, color=None):
  found = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
  vertices = np.asarray(found.vertices, np.float64) + centre
  colors = None if color is None else np.tile(np.array(color, np.uint8), (len(vertices), 1))
  return Mesh(vertices, np.asarray(found.faces, np.int64), colors)


def alpha(mesh, **arguments):
  return render_mesh(mesh, 64, background=None, ground=False, bounds=UNIT, **arguments)[..., 3] / 255


def test_rays_hit_a_sphere_where_the_closed_form_says():
  mesh = sphere(subdivisions=5)
  box = UNIT / np.sqrt(3)  # Within the unit ball.
  origins, directions = camera_rays(96, 35.0, 20.0, box)
  hit, face, weights = cast(mesh.vertices, mesh.faces, origins, directions)
  along = -np.sum(origins * directions, axis=1)
  nearest = np.linalg.norm(origins + along[:, None] * directions, axis=1)
  sure = np.abs(nearest - 0.7) > 1e-3
  assert np.array_equal(hit[sure], nearest[sure] < 0.7)
  points = np.einsum("nkc,nk->nc", mesh.vertices[mesh.faces[face]], weights)
  depth = np.linalg.norm(points - origins[hit], axis=1)
  reach = np.sqrt(np.maximum(0.49 - nearest[hit] ** 2, 0))
  clear = nearest[hit] < 0.6
  assert depth[clear] == pytest.approx((along[hit] - reach)[clear], abs=2e-3)  # Facets lie up to 5e-4 below the sphere.


def test_the_camera_stands_outside_the_unit_ball_and_the_box_fills_its_picture():
  origins, directions = camera_rays(64, 120.0, 40.0, UNIT / np.sqrt(3))
  assert np.linalg.norm(origins, axis=1).min() > 1
  corners = np.stack(np.meshgrid(*(UNIT / np.sqrt(3)).T), -1).reshape(-1, 3) - origins[0]
  cosines = (corners / np.linalg.norm(corners, axis=1, keepdims=True)) @ directions.T
  assert np.arccos(np.clip(cosines.max(1), -1, 1)).max() < 0.01  # Each corner is seen by some pixel.


def test_up_is_up_and_azimuth_turns_from_z_towards_x():
  def centre_of(mesh, azimuth):
    rows, columns = np.nonzero(alpha(mesh, azimuth=azimuth, elevation=0.0))
    return rows.mean() - 31.5, columns.mean() - 31.5

  assert centre_of(sphere(0.2, (0, 0.7, 0)), 0.0)[0] < -10
  assert centre_of(sphere(0.2, (0.7, 0, 0)), 0.0)[1] > 10  # From +Z, +X is right.
  assert centre_of(sphere(0.2, (0, 0, 0.7)), 90.0)[1] < -10  # From +X, +Z is left.


def test_the_nearer_surface_hides_the_farther():
  red, green = sphere(0.3, (0, 0, 0.5), color=(220, 20, 20)), sphere(0.3, (0, 0, -0.5), color=(20, 220, 20))
  both = Mesh(np.concatenate([red.vertices, green.vertices]),
              np.concatenate([red.faces, green.faces + len(red.vertices)]), np.concatenate([red.colors, green.colors]))
  front = render_mesh(both, 64, 0.0, 0.0, bounds=UNIT)[32, 32].astype(int)
  back = render_mesh(both, 64, 180.0, 0.0, bounds=UNIT)[32, 32].astype(int)
  assert front[0] > front[1] + 60 and back[1] > back[0] + 60


def test_coverage_is_the_silhouettes_area():
  mesh = sphere(0.5)
  field = alpha(mesh, azimuth=0.0, elevation=0.0)
  origins, directions = camera_rays(512, 0.0, 0.0, UNIT / np.sqrt(3))  # The same view: lengths are over sqrt(3).
  nearest = np.linalg.norm(np.cross(origins, directions), axis=1)
  assert field.mean() == pytest.approx(np.mean(nearest < 0.5 / np.sqrt(3)), rel=0.01)
  assert ((field > 0) & (field < 1)).any()  # The rim is anti-aliased.


def test_what_stands_between_the_light_and_a_floor_darkens_it():
  floor = Mesh(np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]), np.array([[0, 2, 1], [0, 3, 2]]))
  ball = sphere(0.3, (0, 0.5, 0), color=(255, 0, 0))
  covered = Mesh(np.concatenate([floor.vertices, ball.vertices]), np.concatenate([floor.faces, ball.faces + 4]),
                 np.concatenate([np.full((4, 3), 128, np.uint8), ball.colors]))
  floor = Mesh(floor.vertices, floor.faces, covered.colors[:4])
  bounds = np.array([[-1.0, 0, -1], [1, 1, 1]])
  plain = render_mesh(floor, 96, 0.0, 30.0, bounds=bounds, ground=False).astype(int)
  shaded = render_mesh(covered, 96, 0.0, 30.0, bounds=bounds, ground=False).astype(int)
  grey = (plain.sum(-1) < 3 * 255) & (np.ptp(shaded, axis=-1) < 30)  # The floor, seen in both; the ball is red.
  darker = (plain - shaded)[grey].mean(-1)
  assert grey.sum() > 1000 and darker.max() > 40 and np.median(darker) < 15
  assert darker.min() >= -2  # Nothing is lit by what stands on it.


def test_light_comes_from_above_and_falls_on_the_seen_side():
  picture = render_mesh(sphere(0.9), 64, 0.0, 0.0, bounds=UNIT, ground=False)[..., 1].astype(int)
  top, middle, bottom = (picture[row, 32] for row in (14, 32, 50))
  assert top > bottom + 40 and middle > 110


def test_the_ground_shadow_is_black_with_alpha_and_only_seen_from_above():
  above = render_mesh(sphere(), 64, elevation=25.0, background=None, bounds=UNIT)
  ground = (above[..., 3] > 10) & (above[..., 3] < 200) & (above[..., :3].sum(-1) == 0)
  assert ground.sum() > 100
  below = render_mesh(sphere(), 64, elevation=-25.0, background=None, bounds=UNIT)
  assert ((below[..., 3] > 10) & (below[..., :3].sum(-1) == 0)).sum() == 0


def test_a_picture_does_not_feel_the_meshs_unit_or_place():
  mesh = sphere(subdivisions=3)
  moved = Mesh(250.0 * mesh.vertices + [1e3, -2e3, 7.0], mesh.faces)
  first, second = (render_mesh(m, 48).astype(int) for m in (mesh, moved))
  assert np.mean(np.abs(first - second) > 2) < 0.01  # Float32 rays change samples at edges of shadows.


def test_pictures_repeat_exactly():
  mesh = sphere(subdivisions=3)
  assert np.array_equal(render_mesh(mesh, 48), render_mesh(mesh, 48))


def test_faces_turned_inside_out_look_the_same():
  mesh = sphere(subdivisions=3)
  first, second = render_mesh(mesh, 48), render_mesh(Mesh(mesh.vertices, mesh.faces[:, ::-1]), 48)
  assert np.abs(first.astype(int) - second).max() <= 2


def test_a_mesh_without_faces_is_the_background():
  nothing = Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
  assert (render_mesh(nothing, 8, background=(1, 2, 3)) == [1, 2, 3]).all()
  assert (render_mesh(nothing, 8, background=None) == 0).all()


def test_normals_of_a_sphere_point_outward_and_unused_vertices_have_none():
  mesh = sphere(1.0)
  vertices = np.concatenate([mesh.vertices, [[5.0, 5, 5]]])
  normals = vertex_normals(vertices, mesh.faces)
  assert np.sum(normals[:-1] * mesh.vertices, axis=1).min() > 0.999
  assert (normals[-1] == 0).all()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_every_size_works(size):
  assert render_mesh(sphere(subdivisions=1), size).shape == (size, size, 3)
