"""Silhouettes, their features and their distance: closed forms, other ways to the same figure, and turns."""

import numpy as np
import pytest
import scipy.ndimage
import trimesh
from scipy.spatial.transform import Rotation

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.metrics import silhouettes as s


def mesh_of(shape, turn=None, scale=1.0):
  vertices = scale * np.asarray(shape.vertices, np.float64)
  return Mesh(vertices if turn is None else vertices @ turn.T, np.asarray(shape.faces, np.int64))


def disc(size, radius, centre=None):
  rows, columns = np.mgrid[:size, :size]
  centre = ((size - 1) / 2,) * 2 if centre is None else centre
  return (rows - centre[0])**2 + (columns - centre[1])**2 <= radius**2


def test_silhouettes_equal_a_test_of_every_pixel_against_every_triangle():
  rng = np.random.default_rng(0)
  triangles = rng.uniform(-1.3, 1.3, (12, 3, 3))
  size = 41
  place = (np.arange(size) + 0.5) / size * 2 - 1
  x, y = np.meshgrid(place, place)
  expected = np.zeros((size, size), bool)
  for a, b, c in triangles[..., :2]:
    side = lambda p, q: (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])
    signs = np.stack([side(a, b), side(b, c), side(c, a)])
    expected |= (signs >= 0).all(0) | (signs <= 0).all(0)
  assert np.array_equal(s.silhouette(triangles, size), expected)


def test_triangles_that_share_edges_leave_no_gap_even_through_pixel_centres():
  size = 16
  k = np.arange(-1, 1.01, 2 / size) + 1 / size  # vertices on the pixels' centres
  quads = [((a, b), (a + 2 / size, b), (a + 2 / size, b + 2 / size), (a, b + 2 / size)) for a in k[:-1] for b in k[:-1]]
  triangles = np.array([[q[i] for i in corners] for q in quads for corners in ((0, 1, 2), (0, 2, 3))])
  triangles = np.concatenate([triangles, np.zeros((*triangles.shape[:2], 1))], axis=2)
  assert s.silhouette(triangles, size)[:-1, :-1].all()


def test_a_sphere_covers_its_disc():
  picture = s.silhouette(mesh_of(trimesh.creation.icosphere(subdivisions=4)).vertices[
      trimesh.creation.icosphere(subdivisions=4).faces], 128)
  assert picture.mean() == pytest.approx(np.pi / 4, rel=5e-3)


def test_zernike_moments_equal_the_integrals_by_their_definition():
  rng = np.random.default_rng(1)
  picture = scipy.ndimage.gaussian_filter(rng.normal(size=(40, 40)), 4) > 0
  centre, radius = np.array([18.0, 21.5]), 30.0
  rows, columns = np.nonzero(picture)
  x, y = (columns - centre[1]) / radius, (rows - centre[0]) / radius
  rho, theta = np.hypot(x, y), np.arctan2(y, x)
  expected = []
  for n in range(1, 11):
    for m in range(n % 2, n + 1, 2):
      radial = np.zeros_like(rho)
      for k in range((n - m) // 2 + 1):
        f = lambda i: float(np.prod(np.arange(1, i + 1)))
        radial += (-1)**k * f(n - k) / (f(k) * f((n + m) // 2 - k) * f((n - m) // 2 - k)) * rho**(n - 2 * k)
      expected.append(abs((n + 1) * np.sum(radial * np.exp(-1j * m * theta))) / len(rho))
  found = s.zernike_moments(picture, centre, radius)
  assert len(found) == 35
  np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)  # atol: of figures of size 1 that cancel


def test_features_of_a_disc_are_those_of_the_circle():
  picture = disc(256, 100)
  contour = s.outer_contour(picture)
  centre = np.argwhere(picture).mean(0)
  assert s.eccentricity(np.argwhere(picture) - centre) == pytest.approx(0, abs=1e-12)
  assert s.circularity(int(picture.sum()), contour) == pytest.approx(1, abs=0.15)  # a staircase is longer
  assert s.fourier_descriptors(contour, centre).max() < 5e-3  # pixels of a radius of 100
  moments = s.zernike_moments(picture, centre, 200.0)  # of a disc of half the radius: R_20 = 2 rho^2 - 1
  assert moments[1] == pytest.approx(3 * abs(2 * 0.125 - 1), rel=1e-3) and moments[0] < 1e-6


def test_a_line_is_eccentric():
  assert s.eccentricity(np.stack([np.arange(-5.0, 6), np.zeros(11)], 1)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_contour_is_the_outer_boundary_of_the_largest_part_in_order(seed):
  noise = np.random.default_rng(seed).normal(size=(60, 60))
  picture = scipy.ndimage.gaussian_filter(noise, 3) > 0.02
  label, _ = scipy.ndimage.label(picture, np.ones((3, 3)))
  largest = label == 1 + np.argmax(np.bincount(label.ravel())[1:])
  outside = np.pad(~largest, 1, constant_values=True)
  parts, _ = scipy.ndimage.label(outside)
  sea = parts == parts[0, 0]
  touches = scipy.ndimage.binary_dilation(sea)[1:-1, 1:-1] & largest
  found = s.outer_contour(picture)
  assert {tuple(p) for p in found.astype(int)} == {tuple(p) for p in np.argwhere(touches)}
  steps = np.abs(found - np.roll(found, 1, axis=0)).max(1)
  assert (steps == 1).all()


def test_the_sixty_turns_are_a_group_of_permutations_of_the_axes():
  turns = s.dodecahedron_turns()
  rows = {tuple(row) for row in turns}
  assert len(rows) == 60 and all(sorted(row) == list(range(10)) for row in rows)
  assert all(tuple(a[b]) in rows for a in turns for b in turns)
  assert np.linalg.norm(s.dodecahedron_axes(), axis=1) == pytest.approx(np.ones(10))


def test_shapes_are_at_distance_0_from_themselves_scaled_and_near_it_when_turned():
  shape = trimesh.util.concatenate([trimesh.creation.box((2, 0.5, 1)), trimesh.creation.icosphere(2, 0.6).apply_translation(
      [0.9, 0.5, 0.2])])
  other = trimesh.creation.torus(1.0, 0.3)
  field = s.light_field(mesh_of(shape), size=128, fields=3)
  moved = s.light_field(Mesh(5 * mesh_of(shape).vertices + [1, 2, 3], mesh_of(shape).faces), size=128, fields=3)
  assert s.light_field_distance(field, field) == 0
  assert s.light_field_distance(field, moved) < 30  # rounding of a few pixels
  third = Rotation.from_rotvec(np.ones(3) / 3**0.5 * 2 * np.pi / 3).as_matrix()  # takes the dodecahedron to itself
  turned = s.light_field(mesh_of(shape, third), size=128, fields=3)
  different = s.light_field(mesh_of(other), size=128, fields=3)
  far = s.light_field_distance(field, different)
  assert s.light_field_distance(field, turned) < 0.05 * far
  assert far == s.light_field_distance(different, field)


def test_a_point_is_refused():
  with pytest.raises(BadData, match="radius 0"):
    s.light_field(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])))
