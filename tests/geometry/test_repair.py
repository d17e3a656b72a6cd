"""Repair: each defect mended, nothing else touched, and no surface invented."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.types import Mesh
from fields3d.geometry.meshes import face_areas, inspect_mesh
from fields3d.geometry.repair import repair

CUBE = Mesh(np.array([[x, y, z] for x in (0., 1) for y in (0., 1) for z in (0., 1)]), np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]))


def join(*meshes):
  offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
  return Mesh(np.concatenate([m.vertices for m in meshes]),
              np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=False)]))


def cube(offset=0.0, scale=1.0, inverted=False):
  return Mesh(CUBE.vertices * scale + offset, CUBE.faces[:, ::-1] if inverted else CUBE.faces)


def test_a_sound_mesh_is_left_as_it_is():
  mesh, notes = repair(CUBE)
  assert notes == []
  np.testing.assert_array_equal(mesh.vertices[mesh.faces], CUBE.vertices[CUBE.faces])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_flips_and_repeats_of_a_cubes_faces_are_undone(seed):
  rng = np.random.default_rng(seed)
  faces = np.stack([np.roll(f, rng.integers(3)) for f in CUBE.faces])
  flips = rng.random(12) < 0.5
  faces[flips] = faces[flips, ::-1]
  extra = faces[rng.integers(12, size=rng.integers(4))]
  faces = rng.permutation(np.concatenate([faces, extra, np.full((rng.integers(3), 3), 5)]), axis=0)
  mesh, _ = repair(Mesh(CUBE.vertices, faces))
  report = inspect_mesh(mesh)
  assert report.faces == 12 and report.watertight and report.consistently_oriented and report.volume == pytest.approx(1)


def test_split_vertices_are_merged_unless_their_colours_differ():
  soup = Mesh(CUBE.vertices[CUBE.faces].reshape(-1, 3), np.arange(36).reshape(12, 3))
  assert len(repair(soup)[0].vertices) == 8
  colors = np.repeat(np.arange(12, dtype=np.uint8), 3)[:, None] * np.ones(3, np.uint8)
  mesh, notes = repair(Mesh(soup.vertices, soup.faces, colors))
  assert len(mesh.vertices) == 36 and notes == [] and inspect_mesh(mesh).watertight
  np.testing.assert_array_equal(mesh.colors[mesh.faces][:, :, 0], np.repeat(np.arange(12), 3).reshape(12, 3))


def test_each_closed_piece_turns_outward_and_a_cavity_inward():
  inverted = cube(5.0, inverted=True)
  hollow = join(cube(-1.0, 3.0), cube(0.0, inverted=True))
  mesh, notes = repair(join(hollow, inverted))
  assert notes == ["1 closed components were inside out: 12 faces flipped"]
  assert inspect_mesh(mesh).volume == pytest.approx(27 - 1 + 1)


def test_a_solid_within_a_cavity_is_solid():
  mesh, notes = repair(join(cube(-2.0, 5.0), cube(-1.0, 3.0, inverted=True), cube(0.0, 1.0, inverted=True)))
  assert notes == ["1 closed components were inside out: 12 faces flipped"]
  assert inspect_mesh(mesh).volume == pytest.approx(125 - 27 + 1)


@pytest.mark.parametrize("scale, offset", [(1e-9, 0.0), (1e9, 0.0), (1e-3, 1.0)])
def test_orientation_does_not_depend_on_scale_or_place(scale, offset):
  mesh, _ = repair(join(cube(offset, scale, inverted=True), cube(offset + 2 * scale, scale)))
  assert inspect_mesh(mesh).volume == pytest.approx(2 * scale**3, rel=1e-6)


def test_the_wall_between_two_solids_is_dropped():
  mesh, notes = repair(join(cube(), cube(np.array([1., 0, 0]))))
  assert notes == ["4 faces of inner walls dropped"]
  report = inspect_mesh(mesh)
  assert report.watertight and report.manifold and report.volume == pytest.approx(2) and report.components == 1


def test_a_body_given_in_both_orientations_becomes_solid():
  mesh, notes = repair(Mesh(CUBE.vertices, np.concatenate([CUBE.faces[:, ::-1], CUBE.faces])))
  assert notes[0] == "12 faces lay on their reverse: one kept"
  assert inspect_mesh(mesh).volume == pytest.approx(1)


def test_a_two_sided_sheet_stays():
  sheet = Mesh(np.array([[5., 0, 0], [6, 0, 0], [6, 1, 0], [5, 1, 0]]),
               np.array([[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]]))
  mesh, notes = repair(join(CUBE, sheet))
  assert notes == ["4 faces of two-sided sheets kept"] and len(mesh.faces) == 16
  assert inspect_mesh(mesh).boundary_edges == 0


def test_a_two_sided_fin_on_a_bodys_edge_stays():
  x = np.concatenate([CUBE.vertices, [[-1., 0, 0.5]]])  # beyond the edge from vertex 0 to 1
  mesh, notes = repair(Mesh(x, np.concatenate([CUBE.faces, [[0, 1, 8], [1, 0, 8]]])))
  assert notes == ["2 faces of two-sided sheets kept"] and len(mesh.faces) == 14


def test_a_needle_is_dropped_without_opening_a_crack():
  """A corner of a cube's face hangs on an edge of its neighbour; a face without area closes the gap."""
  x = np.concatenate([CUBE.vertices, [[0.5, 0, 0], [0.25, 0, 0]]])
  split = [f for f in CUBE.faces.tolist() if f != [0, 4, 5]]  # its edge 0-4 runs along x at y = z = 0
  faces = [*split, [0, 8, 5], [8, 4, 5], [0, 4, 8]]
  mesh, notes = repair(Mesh(x, np.array(faces)))
  assert notes == ["1 degenerate faces dropped"]
  report = inspect_mesh(mesh)
  assert report.watertight and report.consistently_oriented and report.volume == pytest.approx(1)
  chain = [*split, [0, 9, 5], [9, 8, 5], [8, 4, 5], [0, 4, 8], [0, 8, 9]]  # a needle behind a needle
  mesh, notes = repair(Mesh(x, np.array(chain)))
  assert notes == ["2 degenerate faces dropped"] and inspect_mesh(mesh).watertight
  assert face_areas(mesh).min() > 0 and inspect_mesh(mesh).volume == pytest.approx(1)


def test_a_one_sided_surface_is_left_and_named():
  i = np.arange(10)
  a, b = np.where(i < 9, i + 1, 10), np.where(i < 9, i + 11, 0)
  faces = np.concatenate([np.stack([i, a, i + 10], 1), np.stack([a, b, i + 10], 1)])
  mesh, notes = repair(Mesh(np.random.default_rng(0).normal(size=(20, 3)), faces))
  assert notes == ["20 faces lie on one-sided surfaces: orientation left"] and len(mesh.faces) == 20


def test_an_open_surface_is_made_consistent_by_the_fewest_flips():
  grid = np.stack(np.meshgrid(np.arange(4.), np.arange(4.), [0.], indexing="ij"), -1).reshape(-1, 3)
  i = (np.arange(3)[:, None] * 4 + np.arange(3)).reshape(-1)
  faces = np.concatenate([np.stack([i, i + 4, i + 5], 1), np.stack([i, i + 5, i + 1], 1)])
  mixed = faces.copy()
  mixed[[0, 3, 7]] = mixed[[0, 3, 7], ::-1]
  mesh, notes = repair(Mesh(grid, mixed))
  assert notes == ["3 faces of mixed orientation flipped"]
  np.testing.assert_array_equal(np.sort(mesh.faces[7]), np.sort(faces[7]))
  assert (np.cross(*(np.diff(mesh.vertices[mesh.faces], axis=1)[:, k] for k in (0, 1)))[:, 2] > 0).all()


def test_real_packs_come_out_consistently_oriented_and_no_more_open(real_data):
  with np.load(real_data / "shapes" / "furniture" / "furniture.npz") as z:
    pack = {k: z[k] for k in z.files}
  closed = [0, 0]
  for i in range(0, 700, 20):
    v, f = (slice(*pack[k][i:i + 2]) for k in ("v_off", "f_off"))
    x = pack["lo"][i] + pack["q"][v] * (pack["scale"][i] / 65535.0)
    faces = pack["faces_lo"][f].astype(np.int64) + (pack["faces_hi"][f].astype(np.int64) << 16)
    mesh = Mesh(x.astype(np.float64), faces.reshape(-1, 3))
    mended, notes = repair(mesh)
    report = inspect_mesh(mended)
    assert report.degenerate_faces == report.duplicate_faces == 0
    assert report.consistently_oriented or any("one-sided" in note for note in notes)
    for k, r in enumerate((inspect_mesh(mesh), report)):
      closed[k] += r.boundary_edges == 0
  assert closed[1] >= closed[0] > 5
