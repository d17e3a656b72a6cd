"""Marching cubes: soundness for every input, closed forms, both libraries, tiles, faults."""

import itertools

import numpy as np
import pytest

from fields3d.core.errors import BadData
from fields3d.extraction import marching_cubes as module
from fields3d.extraction.lattice import MARGIN
from fields3d.extraction.marching_cubes import marching_cubes

BOX = np.array([[-1.0, -1, -1], [1, 1, 1]])


def nodes(n, bounds=BOX):
  axes = [np.linspace(low, high, n) for low, high in bounds.T]
  return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def sphere(n, radius=0.5):
  return np.linalg.norm(nodes(n), axis=-1) - radius


def area(mesh):
  a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
  return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


@pytest.fixture(params=["PyMCubes", "scikit-image"])
def library(request, monkeypatch):
  """Both libraries in turn, whichever is the default here."""
  pytest.importorskip({"PyMCubes": "mcubes", "scikit-image": "skimage"}[request.param])
  if request.param == "scikit-image":
    monkeypatch.setattr(module, "mcubes", None)
  return request.param


def test_in_all_256_cells_outlines_agree_across_faces_and_no_diagonal_lies_on_a_face(library):
  """Cells meet only in their faces, so this makes every mesh manifold; see the module's docstring."""
  on_face = {}
  for case in range(1, 255):
    inside = np.array([case >> i & 1 for i in range(8)], bool).reshape(2, 2, 2)
    points, faces = module._library_triangles(inside)
    points = np.rint(2 * points).astype(int)
    sides = [(tuple(points[f[i]]), tuple(points[f[(i + 1) % 3]])) for f in faces for i in range(3)]
    assert len(set(sides)) == len(sides)
    for p, q in sides:
      shared = [(axis, end) for axis in range(3) for end in (0, 2) if p[axis] == q[axis] == end]
      assert bool(shared) != ((q, p) in sides), "an outline inside the cell, or a diagonal on a face"
      for axis, end in shared:
        signs = tuple(np.take(inside, end // 2, axis).reshape(-1))
        flat = (p[:axis] + p[axis + 1:], q[:axis] + q[axis + 1:])
        on_face.setdefault((axis, end, signs), {}).setdefault(case, set()).add(flat if end else flat[::-1])
  for (axis, _, signs), cases in on_face.items():
    both = [*cases.values(), *on_face[axis, 0, signs].values()]
    assert all(outline == both[0] for outline in both), (axis, signs)


def test_random_closed_fields_are_watertight_manifold_oriented_and_without_degenerate_faces(
    library, defects, random_values):
  rng = np.random.default_rng(0)
  for trial in range(100):
    assert not defects(marching_cubes(random_values(rng), BOX)), trial


@pytest.mark.slow
def test_1000_random_closed_fields_are_sound(library, defects, random_values):
  rng = np.random.default_rng(1)
  for trial in range(1000):
    assert not defects(marching_cubes(random_values(rng), BOX)), trial


def test_both_libraries_give_the_same_surface_orientation_and_units(monkeypatch, random_values, volume):
  pytest.importorskip("mcubes")
  pytest.importorskip("skimage")
  bounds = np.array([[-1.0, 0, 2], [1, 3, 2.5]])
  rng = np.random.default_rng(2)
  for values in [sphere(20), *(random_values(rng) for _ in range(10))]:
    first = marching_cubes(values, bounds)
    with monkeypatch.context() as patch:
      patch.setattr(module, "mcubes", None)
      second = marching_cubes(values, bounds)
    np.testing.assert_array_equal(first.vertices, second.vertices)
    assert len(first.faces) == len(second.faces)
    for points in (first.vertices, second.vertices):
      cell = 1.001 * MARGIN * (bounds[1] - bounds[0]) / (np.array(values.shape) - 1)
      assert np.all(points >= bounds[0] - cell) and np.all(points <= bounds[1] + cell)
    # The inner diagonals of a cell's polygons differ, so that volumes differ by a fraction of the mixed cells' volume.
    assert volume(second) == pytest.approx(volume(first), rel=0.05)
  first = marching_cubes(sphere(20), BOX)
  monkeypatch.setattr(module, "mcubes", None)
  assert volume(marching_cubes(sphere(20), BOX)) == pytest.approx(volume(first), rel=1e-3)


def test_vertices_are_those_of_pymcubes_itself():
  mcubes = pytest.importorskip("mcubes")
  values = sphere(24)
  points, faces = mcubes.marching_cubes(values, 0.0)
  mesh = marching_cubes(values, BOX)
  expected = points * 2 / 23 - 1
  assert len(faces) == len(mesh.faces)
  # Rounding may reorder sorted rows: compare the sorted distances from a generic point.
  eye = np.array([0.3, 0.7, 1.9])
  np.testing.assert_allclose(np.sort(np.linalg.norm(mesh.vertices - eye, axis=1)),
                             np.sort(np.linalg.norm(expected - eye, axis=1)), rtol=1e-12)


def test_volume_and_area_of_a_sphere_converge_with_order_two(volume):
  errors = []
  for n in (17, 33, 65):
    mesh = marching_cubes(sphere(n, 0.61), BOX)
    errors.append((abs(volume(mesh) - 4 / 3 * np.pi * 0.61**3), abs(area(mesh) - 4 * np.pi * 0.61**2)))
  orders = np.log2(np.array(errors)[:-1] / np.array(errors)[1:])
  assert np.all(orders > 1.8) and np.all(orders < 2.2), orders


def test_a_plane_is_met_exactly():
  x = nodes(11)
  mesh = marching_cubes(x @ np.array([0.6, 0.0, 0.8]) - 0.137, BOX)
  inner = np.all(np.abs(mesh.vertices) < 1, axis=1)
  # atol: the plane is met up to rounding except within MARGIN of a node.
  off = np.abs(mesh.vertices[inner] @ np.array([0.6, 0.0, 0.8]) - 0.137)
  assert np.median(off) < 1e-15 and np.max(off) < MARGIN * 0.2


def test_a_torus_has_genus_one(defects):
  x = nodes(40)
  mesh = marching_cubes(np.hypot(np.hypot(x[..., 0], x[..., 2]) - 0.6, x[..., 1]) - 0.25, BOX)
  assert not defects(mesh)
  assert len(mesh.vertices) - len(mesh.faces) * 3 // 2 + len(mesh.faces) == 0


def test_a_surface_that_leaves_the_box_is_closed_there(defects, volume):
  values = nodes(9)[..., 0] - 0.3  # the half space x < 0.3, cut by the box
  mesh = marching_cubes(values, BOX)
  assert not defects(mesh)
  slack = MARGIN * 2 / 8
  assert volume(mesh) == pytest.approx(1.3 * 4, rel=3 * slack)
  np.testing.assert_allclose(mesh.vertices.min(axis=0), -1 - slack, rtol=1e-12)
  np.testing.assert_allclose(mesh.vertices.max(axis=0), [0.3, 1 + slack, 1 + slack], rtol=1e-12)


def test_values_exactly_at_the_level_keep_vertices_off_the_nodes(defects):
  values = np.rint(4 * sphere(17)) / 4
  assert np.sum(values == 0) > 50
  mesh = marching_cubes(values, BOX)
  assert not defects(mesh)
  place = (mesh.vertices + 1) * 8
  along = np.max(np.abs(place - np.rint(place)), axis=1)
  assert along.min() >= 0.999 * MARGIN


def test_the_tile_size_changes_nothing(random_values):
  for values in (sphere(30), random_values(np.random.default_rng(3))):
    whole = marching_cubes(values, BOX)
    for tile in (1, 2, 7, 29, 31):
      pieces = marching_cubes(values, BOX, tile=tile)
      np.testing.assert_array_equal(whole.vertices, pieces.vertices)
      np.testing.assert_array_equal(whole.faces, pieces.faces)


def test_a_level_is_a_shift_and_bounds_are_an_affine_map():
  values = sphere(15)
  mesh = marching_cubes(values, BOX)
  shifted = marching_cubes(values + 3, BOX, level=3.0)
  np.testing.assert_allclose(shifted.vertices, mesh.vertices, rtol=0, atol=1e-12)  # rounding of values near 3
  scale, offset = np.array([2.0, 0.5, 3]), np.array([1.0, -4, 0])
  mapped = marching_cubes(values, BOX * scale + offset)
  np.testing.assert_allclose(mapped.vertices, mesh.vertices * scale + offset, rtol=0, atol=1e-14)
  np.testing.assert_array_equal(mapped.faces, mesh.faces)


@pytest.mark.parametrize("bad, count", [(np.nan, 3), (np.inf, 3), (-np.inf, 3)])
def test_values_that_are_not_finite_are_counted(bad, count):
  values = sphere(9)
  values.flat[[1, 5, 77]] = bad
  with pytest.raises(BadData, match=f"{count} of 729 values are not finite"):
    marching_cubes(values, BOX)


@pytest.mark.parametrize("values, side", [(sphere(9) + 2, "outside"), (sphere(9) - 4, "inside")])
def test_no_zero_crossing_is_a_fault_with_the_range(values, side):
  with pytest.raises(BadData, match=f"no zero crossing: the values lie in .*all {side}"):
    marching_cubes(values, BOX)


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.zeros((1, 3, 3)), np.zeros((3, 3, 3), complex)])
def test_what_is_no_grid_is_a_fault(values):
  with pytest.raises(BadData, match="no grid"):
    marching_cubes(values, BOX)


def test_every_integer_and_float_type_is_taken():
  values = np.where(sphere(9) < 0, -1, 1)
  meshes = [marching_cubes(values.astype(t), BOX) for t in ("i1", "i8", "f2", "f4", "f8")]
  for one, other in itertools.pairwise(meshes):
    np.testing.assert_array_equal(one.vertices, other.vertices)
