"""Mesh measures against closed forms and trimesh; normalising and sampling against their definitions."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.geometry.meshes import (
  MANY_COMPONENTS,
  components,
  degenerate_faces,
  face_areas,
  face_normals,
  inspect_mesh,
  keep_largest,
  normalise,
  sample_surface,
  signed_volume,
)

TETRAHEDRON = Mesh(np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
                   np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))


def join(*meshes):
  offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
  return Mesh(np.concatenate([m.vertices for m in meshes]),
              np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=False)]))


def moved(mesh, offset=0.0, scale=1.0):
  return Mesh(mesh.vertices * scale + offset, mesh.faces, mesh.colors)


def torus(major=2.0, minor=0.5, m=40, n=24):
  i, j = np.meshgrid(np.arange(m), np.arange(n), indexing="ij")
  u, v = 2 * np.pi * i / m, 2 * np.pi * j / n
  r = major + minor * np.cos(v)
  x = np.stack([r * np.cos(u), minor * np.sin(v), -r * np.sin(u)], -1)
  a, b, c, d = (((i + p) % m * n + (j + q) % n).reshape(-1) for p, q in ((0, 0), (1, 0), (1, 1), (0, 1)))
  return Mesh(x.reshape(-1, 3), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))


def moebius(n=20):
  u = np.pi * np.arange(n) / n
  edge = np.stack([np.cos(2 * u), np.sin(2 * u), 0 * u], 1)
  arm = 0.3 * np.stack([np.cos(u) * np.cos(2 * u), np.cos(u) * np.sin(2 * u), np.sin(u)], 1)
  i = np.arange(n)
  after = np.where(i + 1 < n, i + 1, 0)
  a, b = np.where(i + 1 < n, after, n), np.where(i + 1 < n, after + n, 0)  # the far end is turned over
  faces = np.concatenate([np.stack([i, a, i + n], 1), np.stack([a, b, i + n], 1)])
  return Mesh(np.concatenate([edge - arm, edge + arm]), faces)


def test_a_torus_has_its_volume_area_and_handle():
  report = inspect_mesh(torus(m=400, n=240))
  assert report.volume == pytest.approx(2 * np.pi**2 * 2 * 0.25, rel=3e-4)  # inscribed: below by the order of 1/n^2
  assert report.area == pytest.approx(4 * np.pi**2 * 2 * 0.5, rel=3e-4)
  assert (report.genus, report.euler, report.components) == (1, 0, 1)
  assert report.watertight and report.manifold and report.consistently_oriented


def test_two_tetrahedra_that_touch_at_a_point_are_watertight_but_not_manifold():
  report = inspect_mesh(join(TETRAHEDRON, moved(TETRAHEDRON, scale=-1.0)))
  assert report.watertight and not report.manifold
  assert (report.nonmanifold_vertices, report.nonmanifold_edges, report.components) == (1, 0, 2)
  assert report.genus is None


def test_a_moebius_band_is_manifold_and_cannot_be_oriented():
  report = inspect_mesh(moebius())
  assert report.manifold and not report.consistently_oriented and report.boundary_edges == 40
  assert report.euler == 0 and report.volume is None and report.components == 1


def test_repeated_vertices_do_not_open_a_surface():
  mesh = TETRAHEDRON
  soup = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(12).reshape(4, 3))
  report = inspect_mesh(soup)
  assert report.watertight and report.duplicate_vertices == 8 and report.components == 1 and report.euler == 2


def test_each_defect_is_counted_once():
  x = np.concatenate([TETRAHEDRON.vertices, [[9., 9, 9], [0.5, 0, 0]]])
  faces = np.concatenate([TETRAHEDRON.faces, [[0, 0, 1], [0, 1, 5], [2, 1, 0], [0, 1, 2]]])
  report = inspect_mesh(Mesh(x, faces))
  assert (report.degenerate_faces, report.duplicate_faces, report.opposite_faces) == (2, 1, 1)
  assert report.unused_vertices == 1
  assert report.bounds == ((0, 0, 0), (1, 1, 1))


def test_a_report_is_strict_json_also_for_no_faces():
  for mesh in (torus(), Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))):
    text = json.dumps(inspect_mesh(mesh).to_json(), allow_nan=False)
    assert json.loads(text)["watertight"] is (len(mesh.faces) > 0)


def test_warnings_name_what_is_there():
  assert inspect_mesh(TETRAHEDRON).warnings() == []
  opened = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[1:])
  assert inspect_mesh(opened).warnings() == ["3 boundary edges: the surface is open"]
  crumbs = join(*(moved(TETRAHEDRON, 2.0 * i) for i in range(MANY_COMPONENTS + 1)))
  assert inspect_mesh(crumbs).warnings() == [f"{MANY_COMPONENTS + 1} components"]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), num_faces=st.integers(1, 40), num_vertices=st.integers(4, 12))
def test_random_soups_are_judged_as_trimesh_judges_them(seed, num_faces, num_vertices):
  trimesh = pytest.importorskip("trimesh")
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num_vertices, 3))
  faces = np.unique(np.stack([rng.permutation(num_vertices)[:3] for _ in range(num_faces)]), axis=0)
  report = inspect_mesh(Mesh(x, faces))
  oracle = trimesh.Trimesh(x, faces, process=False)
  oracle.remove_unreferenced_vertices()
  assert report.watertight == oracle.is_watertight
  assert report.euler == oracle.euler_number
  assert report.area == pytest.approx(oracle.area)
  counts = np.bincount(trimesh.grouping.unique_rows(oracle.edges_sorted)[1])
  assert (report.boundary_edges, report.nonmanifold_edges) == ((counts == 1).sum(), (counts > 2).sum())
  pairs = np.argwhere((faces[:, None, :, None] == faces[None, :, None, :]).any(3).sum(2) >= 2)
  assert report.components == len(trimesh.graph.connected_components(pairs, nodes=np.arange(len(faces))))


def test_real_meshes_are_measured_as_trimesh_measures_them(real_data):
  trimesh = pytest.importorskip("trimesh")
  for name in ("classic/spot/spot.obj", "classic/koala/koala_low_resolution.obj", "open_boundary/suzanne.obj"):
    oracle = trimesh.load(real_data / "meshes" / name, process=False)
    oracle.merge_vertices(merge_tex=True, merge_norm=True)
    report = inspect_mesh(Mesh(np.asarray(oracle.vertices), np.asarray(oracle.faces)))
    assert report.area == pytest.approx(oracle.area) and report.watertight == oracle.is_watertight
    assert report.consistently_oriented == oracle.is_winding_consistent
    if report.watertight:
      assert report.volume == pytest.approx(oracle.volume)


def test_normals_are_unit_outward_and_zero_without_area():
  np.testing.assert_allclose(face_normals(TETRAHEDRON)[3], np.full(3, 3**-0.5))
  flat = Mesh(TETRAHEDRON.vertices, np.array([[0, 0, 1]]))
  assert face_normals(flat).tolist() == [[0, 0, 0]] and face_areas(flat).tolist() == [0]
  assert degenerate_faces(flat).all()


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e9])
def test_thin_faces_are_degenerate_by_proportion_not_by_size(scale):
  x = np.array([[0, 0, 0], [1, 0, 0], [0.3, 1e-9, 0], [0.3, 1e-16, 0]]) * scale
  assert degenerate_faces(Mesh(x, np.array([[0, 1, 2], [0, 1, 3]]))).tolist() == [False, True]


@settings(max_examples=40, deadline=None)
@given(exponent=st.integers(-9, 9), shift=st.floats(-3, 3), margin=st.floats(1, 2), box=st.booleans())
def test_normalising_undoes_any_scale_and_offset(exponent, shift, margin, box):
  world = moved(TETRAHEDRON, offset=shift * 10.0**exponent, scale=10.0**exponent)
  mesh, frame = normalise(world, "unit_box" if box else "unit_sphere", margin)
  low, high = mesh.vertices.min(0), mesh.vertices.max(0)
  np.testing.assert_allclose(low, -high, atol=1e-12)  # centred, in units of the model frame
  size = np.abs(mesh.vertices).max() if box else np.linalg.norm(mesh.vertices, axis=1).max()
  assert size == pytest.approx(1 / margin)
  np.testing.assert_allclose(mesh.vertices * frame.scale + np.array(frame.offset), world.vertices,
                             atol=1e-14 * 10.0**exponent * 10)


def test_the_default_is_deepsdfs_sphere_and_unused_vertices_do_not_count():
  x = np.concatenate([TETRAHEDRON.vertices, [[100., 0, 0]]])
  mesh, frame = normalise(Mesh(x, TETRAHEDRON.faces))
  assert frame.offset == (0.5, 0.5, 0.5) and frame.scale == pytest.approx(1.03 * 0.75**0.5)
  assert np.linalg.norm(mesh.vertices[:4], axis=1).max() == pytest.approx(1 / 1.03)


@pytest.mark.parametrize("vertices", [np.ones((3, 3)), np.full((3, 3), np.inf), np.full((3, 3), np.nan),
                                      np.array([[-1e308, 0, 0], [1e308, 0, 0], [0, 1e308, 0]]) * 1.7])
def test_an_extent_that_is_zero_or_not_finite_is_rejected(vertices):
  with pytest.raises(BadData, match="extent is|finite"):
    normalise(Mesh(vertices, np.array([[0, 1, 2]])))
  with pytest.raises(BadData):
    sample_surface(Mesh(vertices, np.array([[0, 1, 2]])), 3, np.random.default_rng(0))


def test_components_and_the_largest_of_them():
  mesh = join(TETRAHEDRON, moved(TETRAHEDRON, 5.0, 3.0), moved(TETRAHEDRON, 20.0, 2.0))
  num, label = components(mesh)
  assert num == 3 and len(set(label[:4].tolist())) == 1
  largest = keep_largest(mesh)
  assert len(largest.vertices) == 4 and signed_volume(largest) == pytest.approx(27 / 6)
  assert keep_largest(TETRAHEDRON) is TETRAHEDRON


def test_samples_lie_on_their_faces_in_proportion_to_area():
  n, rng = 200_000, np.random.default_rng(0)
  colors = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
  mesh = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces, colors)
  cloud = sample_surface(mesh, n, rng)
  normals, areas = face_normals(mesh), face_areas(mesh)
  face = np.argmax(cloud.normals @ normals.T, axis=1)
  np.testing.assert_array_equal(cloud.normals, normals[face])
  height = np.einsum("ni,ni->n", cloud.points - mesh.vertices[mesh.faces[face, 0]], cloud.normals)
  np.testing.assert_allclose(height, 0, atol=1e-15)
  share = areas / areas.sum()
  assert (np.abs(np.bincount(face) / n - share) < 4 * np.sqrt(share / n)).all()
  for i in range(4):  # uniform within each face: the mean is its centroid, the second moment that of a triangle
    x, corner = cloud.points[face == i], mesh.vertices[mesh.faces[i]]
    spread = np.sqrt(corner.var(0) / 4 / len(x))
    assert (np.abs(x.mean(0) - corner.mean(0)) <= 4 * spread).all()
    np.testing.assert_allclose(x.var(0), corner.var(0) / 4, rtol=0.03, atol=1e-12)
  np.testing.assert_allclose(cloud.colors, 200 * cloud.points, atol=0.5 + 1e-9)  # rounded


def test_sampling_repeats_with_its_generator():
  a, b = (sample_surface(torus(), 100, np.random.default_rng(3)).points for _ in range(2))
  np.testing.assert_array_equal(a, b)
  assert sample_surface(torus(), 0, np.random.default_rng(0)).points.shape == (0, 3)
