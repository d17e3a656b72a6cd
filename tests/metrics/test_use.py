"""Printability, stability, texture coordinates and budgets of shapes whose figures follow from their sizes."""

import numpy as np
import pytest
from solids_of_cells import box, cells, joined, pyramid, turned

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.metrics.game_budget import Part, game_budget
from fields3d.metrics.printability import overhang_share, printability, wall_thickness
from fields3d.metrics.quality import census
from fields3d.metrics.stability import signed_margin, solid_centre, stability, support_polygon
from fields3d.metrics.uv import overlap_share, uv_report

SHELL = joined(box((2, 2, 2)), turned(box((1.6, 1.6, 1.6))))  # walls of 0.2
POINTS = 4000


def rng():
  return np.random.default_rng(0)


# Printability.


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_box_is_as_thick_as_its_sides_each_by_its_share_of_the_area(offset):
  sides = np.array([1.0, 2.0, 5.0])
  mesh = box(sides, (offset, 0, 0))
  thickness = wall_thickness(mesh, POINTS, rng())
  shares = sides.prod() / sides / (sides.prod() / sides).sum()
  for side, share in zip(sides, shares, strict=True):
    seen = np.isclose(thickness, side, rtol=1e-4).mean()
    assert seen == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / POINTS))  # 4 sigma
  found = printability(mesh, census(mesh), POINTS)
  assert found.wall == pytest.approx(1, rel=1e-4) and found.smallest_feature == pytest.approx(1, rel=1e-4)
  assert found.volume == pytest.approx(10) and found.closed and found.seen == 1


def test_a_hollow_box_is_as_thick_as_its_walls_or_through_its_rim():
  thickness = wall_thickness(SHELL, POINTS, rng())
  thin = np.isclose(thickness, 0.2, rtol=1e-3)
  share = (0.64 * 24 + 15.36) / (24 + 15.36)  # of the outer faces what lies over the cavity, and all inner ones
  assert thin.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / POINTS))
  assert np.allclose(thickness[~thin], 2, rtol=1e-4)
  assert printability(SHELL, census(SHELL)).volume == pytest.approx(8 - 1.6**3)


def test_an_inside_out_box_is_judged_turned_and_an_open_one_by_the_rays_that_end():
  mesh = turned(box((1, 2, 3)))
  assert printability(mesh, census(mesh)).wall == pytest.approx(1, rel=1e-4)
  lid_off = Mesh(mesh.vertices, box((1, 2, 3)).faces[[i for i, f in enumerate(mesh.faces)
                                                     if not (mesh.vertices[f][:, 1] == 1).all()]])
  found = printability(lid_off, census(lid_off))
  assert not found.closed and found.volume is None
  assert found.seen == pytest.approx(1 - 3 / 19, abs=0.04)  # rays of the floor leave; 4 sigma of 2000 points


def test_walls_thinner_than_the_limit_are_seen_at_any_scale():
  for scale in (1e-3, 1e3):
    mesh = box((scale, scale, 0.01 * scale))
    assert printability(mesh, census(mesh)).smallest_feature == pytest.approx(0.01 * scale, rel=1e-3)


def test_a_vertex_that_no_face_uses_changes_no_wall():
  shell = joined(box((2, 2, 2)), turned(box((1.9, 1.9, 1.9))))  # walls of 0.05
  mesh = Mesh(np.concatenate([shell.vertices, [[1000, 0, 0]]]), shell.faces)
  found = printability(mesh, census(mesh))
  assert found.closed and found.wall == pytest.approx(0.05, rel=1e-3)


def test_the_arms_of_a_t_overhang_by_their_undersides():
  mesh = cells((0, 0, 0), (0, 1, 0), (-1, 2, 0), (0, 2, 0), (1, 2, 0))
  assert overhang_share(mesh) == pytest.approx(2 / 22)
  assert overhang_share(Mesh(mesh.vertices[:, [2, 0, 1]], mesh.faces), up=2) == pytest.approx(2 / 22)
  upside_down = Mesh(mesh.vertices * [1, -1, -1], mesh.faces)
  assert overhang_share(upside_down) == 0 and overhang_share(box((1, 2, 3))) == 0


@pytest.mark.parametrize("radius, leans", [(0.9, False), (1.1, True)])
def test_a_cone_on_its_tip_overhangs_where_it_is_wider_than_a_right_angle(radius, leans):
  mesh, sides = pyramid(64, radius, 1.0, down=True), 64
  apothem = radius * np.cos(np.pi / sides)
  skirt = sides * radius * np.sin(np.pi / sides) * np.hypot(apothem, 1)
  disc = sides * radius * np.sin(np.pi / sides) * apothem
  assert overhang_share(mesh) == pytest.approx(skirt / (skirt + disc) if leans else 0)
  assert overhang_share(mesh, angle=89) == 0 and overhang_share(pyramid(64, radius, 1.0, down=False)) == 0


# Stability.


def test_a_box_stands_by_half_its_shorter_side():
  found = stability(box((2, 6, 1), (5, 7, 9)), closed=True)
  assert found.stands and found.margin == pytest.approx(0.5) and found.mass == "solid"
  assert found.centre == pytest.approx((5, 7, 9))
  assert found.angle == pytest.approx(np.degrees(np.arctan2(0.5, 3)))


def test_an_l_with_a_long_arm_on_top_tips_over():
  arm = [(i, 1, 0) for i in range(4)]
  found = stability(cells((0, 0, 0), *arm), closed=True)
  assert found.centre[0] == pytest.approx((0.5 + 0.5 + 1.5 + 2.5 + 3.5) / 5)
  assert not found.stands and found.margin == pytest.approx(1 - 1.7) and found.angle < 0
  standing = stability(cells((0, 0, 0), *arm[:2]), closed=True)
  assert standing.stands and standing.margin == pytest.approx(1 - 2.5 / 3)


def test_a_cone_stands_on_its_base_and_not_on_its_tip():
  base = stability(pyramid(64, 1.0, 2.0, down=False), closed=True)
  assert base.margin == pytest.approx(np.cos(np.pi / 64)) and base.centre[1] == pytest.approx(0.5)
  tip = stability(pyramid(64, 1.0, 2.0, down=True), closed=True)
  assert len(tip.polygon) == 1 and not tip.stands and tip.margin == pytest.approx(0, abs=1e-12)  # of a height of 2


@pytest.mark.parametrize("up", [0, 1, 2])
def test_any_axis_may_point_up(up):
  mesh = cells((0, 0, 0), (0, 1, 0), (1, 1, 0))
  moved = Mesh(np.roll(mesh.vertices, up - 1, axis=1), mesh.faces)
  assert stability(moved, True, up).margin == pytest.approx(stability(mesh, True, 1).margin)


def test_the_solid_centre_is_the_mean_of_the_cells_and_cavities_are_empty():
  random = np.random.default_rng(3)
  places = np.argwhere(random.random((4, 4, 4)) < 0.6)
  assert solid_centre(cells(*places)) == pytest.approx((places + 0.5).mean(0))
  hollow = joined(box((4, 4, 4)), turned(box((1, 1, 1), (1, 0, 0))))
  assert solid_centre(hollow) == pytest.approx((-1 / 63, 0, 0))


def test_an_open_mesh_is_weighed_as_a_sheet():
  cup = Mesh(box((2, 2, 2)).vertices, box((2, 2, 2)).faces[[i for i, f in enumerate(box((2, 2, 2)).faces)
                                                            if not (box((2, 2, 2)).vertices[f][:, 1] == 1).all()]])
  found = stability(cup, closed=False)
  assert found.mass == "shell" and found.centre[1] == pytest.approx(-1 / 5)


def test_a_sheet_folded_upon_itself_is_weighed_as_a_sheet_however_it_is_turned():
  x = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0.5, 0, 0.5]])
  faces = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [0, 2, 1], [0, 3, 2]])
  for angle in np.linspace(0.1, 3, 20):  # no longer in one plane, but for rounding
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    found = stability(Mesh(x @ turn.T + 100, faces), closed=True)
    assert found.mass == "shell" and found.centre == pytest.approx(x[4] @ turn.T + 100, rel=1e-12)
  assert stability(box((1, 1e-9, 1), (100, 0, 0)), True).mass == "solid"


def test_supports_of_a_line_or_a_point_hold_nothing():
  line = support_polygon(np.array([[0, 0], [2, 2], [1, 1.0], [2, 2]]))
  assert line.tolist() == [[0, 0], [2, 2]] and signed_margin(line, (2, 0)) == pytest.approx(-np.sqrt(2))
  assert signed_margin(support_polygon(np.array([[1.0, 1], [1, 1]])), (1, 3)) == -2


@pytest.mark.parametrize("num", [3, 20, 20_000])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_supports_on_a_slanting_line_anywhere_are_its_two_ends(offset, num):
  along = np.linspace(0, 1, num)[:, None]
  for angle in np.linspace(0.1, 3.1, 20):
    points = offset + along * [np.cos(angle), np.sin(angle)]  # rounded, so that far from the origin they leave the line
    assert len(support_polygon(points)) == 2


@pytest.mark.parametrize("degrees", range(3, 90, 8))
def test_a_cylinder_on_its_side_far_away_does_not_stand(degrees):
  angle, turn = 2 * np.pi * np.arange(12) / 12, np.radians(degrees)
  rim, length = np.stack([np.sin(angle), np.cos(angle)], 1), np.linspace(-2, 2, 9)
  sideways = np.concatenate([[x * np.cos(turn) + z * np.sin(turn), y, z * np.cos(turn) - x * np.sin(turn)]
                             for z in length for x, y in rim]).reshape(-1, 3)
  start, i, j = 12 * np.arange(8)[:, None], np.arange(12), (np.arange(12) + 1) % 12
  faces = np.stack([start + i, start + j, start + 12 + i, start + j, start + 12 + j, start + 12 + i], -1).reshape(-1, 3)
  found = stability(Mesh(sideways + [1e4, 0, 1e4], faces), closed=False)
  assert not found.stands and len(found.polygon) == 2


def test_stability_refuses_what_has_no_area():
  with pytest.raises(BadData, match="no faces"):
    stability(Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int64)), False)
  with pytest.raises(BadData, match="area"):
    stability(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), False)


# Texture coordinates and budgets.

SQUARE = Mesh(np.array([[0., 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
UV = SQUARE.vertices[:, :2]


def test_a_square_on_its_texture_is_without_fault():
  found = uv_report(SQUARE, UV, v_down=False)
  assert (found.overlap, found.outside, found.flipped, found.collapsed, found.used) == (0, 0, 0, 0, 1)
  assert found.stretch == pytest.approx(1)


@pytest.mark.parametrize("v_down", [False, True])
def test_a_mirrored_texture_is_flipped_by_the_direction_of_v(v_down):
  mirrored = UV * [-1, 1] + [1, 0]
  assert uv_report(SQUARE, mirrored, v_down).flipped == (0 if v_down else 1)
  assert uv_report(SQUARE, UV, v_down).flipped == (1 if v_down else 0)
  one = UV[SQUARE.faces].copy()
  one[1] = one[1, ::-1]
  assert uv_report(SQUARE, one, False).flipped == pytest.approx(0.5)


@pytest.mark.parametrize("shift, share", [(0.0, 1.0), (0.5, 1 / 3), (0.75, 1 / 7), (1.0, 0.0)])
def test_two_squares_overlap_by_what_they_share(shift, share):
  corners = UV[SQUARE.faces]
  found = overlap_share(np.concatenate([corners, corners + [shift, 0]]), grid=1000)
  assert found == pytest.approx(share, abs=4e-3)  # a column of points is 1/1000 of two squares


def test_overlap_of_random_triangles_is_that_of_a_slow_loop_and_of_any_chunk(monkeypatch):
  corners = np.random.default_rng(2).random((12, 3, 2)) ** 2
  points = np.random.default_rng(4).random((40_000, 2))
  count = np.zeros(len(points))
  for a, b, c in corners:
    weights = np.linalg.solve(np.stack([b - a, c - a], 1), (points - a).T)
    count += (weights.min(0) > 0) & (weights.sum(0) < 1)
  want = (count > 1).sum() / (count > 0).sum()
  found = overlap_share(corners)
  assert found == pytest.approx(want, abs=0.015)  # 4 sigma of 40,000 points of which a third are covered
  monkeypatch.setattr("fields3d.metrics.uv._CANDIDATES", 1000)
  assert overlap_share(corners) == found


@pytest.mark.parametrize("k", [0.25, 3.0])
def test_stretching_one_way_has_the_l2_stretch_of_its_singular_values(k):
  mesh = Mesh(SQUARE.vertices * [k, 1, 1], SQUARE.faces)
  assert uv_report(mesh, UV, False).stretch == pytest.approx(np.sqrt((k * k + 1) / 2 / k))
  assert uv_report(Mesh(SQUARE.vertices * 7, SQUARE.faces), UV / 3, False).stretch == pytest.approx(1)


def test_what_leaves_the_square_or_collapses_is_counted_by_area():
  assert uv_report(SQUARE, UV * 1.5, False).outside == 1 and uv_report(SQUARE, UV * 0.5, False).outside == 0
  corners = UV[SQUARE.faces].copy()
  corners[0] = 0.5
  found = uv_report(SQUARE, corners, False)
  assert found.collapsed == pytest.approx(0.5) and found.stretch is None


def test_texel_density_is_texels_over_length_and_draw_calls_are_parts():
  part = Part(Mesh(SQUARE.vertices * 4, SQUARE.faces), 0, UV[SQUARE.faces], (1024, 256))
  found = game_budget([part])
  assert found.texel_density == pytest.approx(np.sqrt(1024 * 256) / 4) and found.textured == 1
  coarse = Part(Mesh(SQUARE.vertices * 8, SQUARE.faces), 1, UV[SQUARE.faces], (1024, 256))
  both = game_budget([part, coarse, Part(SQUARE)])
  assert both.texel_density == pytest.approx(64) and both.density_spread == pytest.approx(2)
  assert (both.draw_calls, both.materials, both.faces, both.vertices) == (3, 3, 6, 12)
  assert game_budget([Part(SQUARE)]).texel_density is None
