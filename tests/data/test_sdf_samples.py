"""DeepSDF's sampling: where the points are, and that distances, gradients and colours are those of the shape."""

import numpy as np
import pytest
import trimesh

from fields3d.core.errors import BadData
from fields3d.core.types import Mesh
from fields3d.data.sdf_samples import (
    TESTING,
    TRAINING,
    Protocol,
    draw_points,
    from_records,
    label_points,
    sample_sdf,
    split_by_sign,
    to_records,
)


def box(size=(1.0, 0.6, 0.4), colors=None) -> Mesh:
  made = trimesh.creation.box(size)
  return Mesh(np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64), colors)


def box_sdf(points, size=(1.0, 0.6, 0.4)):
  q = np.abs(points) - np.asarray(size) / 2
  return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


def rng(seed=0):
  return np.random.default_rng(seed)


def test_the_protocols_are_those_of_the_paper():
  assert TRAINING == Protocol(500_000, (0.005, 0.0005), 0.94)
  assert TESTING == Protocol(250_000, (0.05, 0.0005), 0.94)


def test_the_share_and_the_spread_near_the_surface_are_the_protocols():
  """On one large triangle in the plane y = 0, y is the noise alone."""
  plane = Mesh(np.array([[-1.0, 0, -1], [1, 0, -1], [0, 0, 1]]), np.array([[0, 1, 2]]))
  x = draw_points(plane, Protocol(40_000, (0.04, 0.0004), 0.75), rng()).astype(np.float64)
  assert x.shape == (40_000, 3)
  wide, narrow, rest = np.split(x[:, 1], [15_000, 30_000])
  for noise, variance in ((wide, 0.04), (narrow, 0.0004)):
    error = variance * np.sqrt(2 / len(noise))  # of an estimated variance
    assert abs(noise.var() - variance) < 4 * error
  assert abs(rest).max() <= 1 and abs((rest**2).mean() - 1 / 3) < 4 * np.sqrt((1 / 5 - 1 / 9) / len(rest))


@pytest.mark.parametrize("fraction, variances", [(0.0, (0.01,)), (1.0, (0.01, 0.02, 0.03)), (0.5, ())])
def test_any_protocol_gives_exactly_its_number_of_points(fraction, variances):
  assert draw_points(box(), Protocol(101, variances, fraction), rng()).shape == (101, 3)


def test_samples_have_the_distance_of_the_float32_point_and_outside_ones_come_first():
  samples = sample_sdf(box(), Protocol(5000), rng())
  assert samples.x.dtype == samples.sdf.dtype == samples.normals.dtype == np.float32
  np.testing.assert_array_equal(samples.sdf, box_sdf(samples.x.astype(np.float64)).astype(np.float32))
  assert (samples.sdf[:samples.num_outside] >= 0).all() and (samples.sdf[samples.num_outside:] < 0).all()


@pytest.mark.parametrize("turn", [False, True])
def test_normals_are_the_gradient_of_the_distance_even_of_an_inward_mesh(turn):
  mesh = box()
  mesh = Mesh(mesh.vertices, mesh.faces[:, ::-1]) if turn else mesh
  samples = sample_sdf(mesh, Protocol(2000), rng())
  x, step = samples.x.astype(np.float64), 1e-6
  slope = np.stack([box_sdf(x + step * e) - box_sdf(x - step * e) for e in np.eye(3)], -1) / (2 * step)
  smooth = np.abs(np.linalg.norm(slope, axis=-1) - 1) < 1e-6  # away from edges' bisectors
  assert smooth.mean() > 0.95
  np.testing.assert_allclose(samples.normals[smooth], slope[smooth], atol=1e-4)  # unit vectors, from distances > 1e-6


@pytest.mark.parametrize("turn", [False, True])
def test_a_point_on_the_surface_has_the_outward_normal(turn):
  mesh = box()
  mesh = Mesh(mesh.vertices, mesh.faces[:, ::-1]) if turn else mesh
  samples = label_points(mesh, np.array([[0.5, 0.1, 0.1], [0.0, -0.3, 0.1]], np.float32), "winding")
  order = np.argsort(-samples.x[:, 0])
  np.testing.assert_allclose(samples.normals[order], [[1, 0, 0], [0, -1, 0]], atol=1e-6)  # unit vectors


def test_colours_are_those_of_the_nearest_surface_point():
  made = box()
  colors = np.where(made.vertices[:, :1] > 0, [[255, 0, 0]], [[0, 0, 255]]).astype(np.uint8)
  samples = sample_sdf(Mesh(made.vertices, made.faces, colors), Protocol(3000), rng())
  right, left = samples.x[:, 0] > 0.6, samples.x[:, 0] < -0.6
  assert samples.colors.dtype == np.uint8
  np.testing.assert_array_equal(samples.colors[right], np.tile([255, 0, 0], (right.sum(), 1)))
  np.testing.assert_array_equal(samples.colors[left], np.tile([0, 0, 255], (left.sum(), 1)))
  assert sample_sdf(made, Protocol(10), rng()).colors is None


def test_samples_are_drawn_from_exposed_faces_only():
  outer, inner = box(), box((0.2, 0.2, 0.2))
  both = Mesh(np.concatenate([outer.vertices, inner.vertices]), np.concatenate([outer.faces, inner.faces + 8]))
  exposed = np.arange(24) < 12
  samples = sample_sdf(both, Protocol(2000, (1e-6,), 1.0), rng(), faces=exposed)
  assert np.abs(samples.sdf).max() < 0.01


@pytest.mark.parametrize("normals", [False, True])
@pytest.mark.parametrize("colors", [False, True])
def test_records_give_the_samples_back_through_a_mapped_file(tmp_path, normals, colors):
  n = rng().normal(size=(50, 3)).astype(np.float32) if normals else None
  c = rng().integers(0, 256, (50, 3)).astype(np.uint8) if colors else None
  samples = split_by_sign(rng().normal(size=(50, 3)).astype(np.float32), rng(1).normal(size=50).astype(np.float32), n, c)
  np.save(tmp_path / "s.npy", to_records(samples))
  back = from_records(np.load(tmp_path / "s.npy", mmap_mode="r"), samples.num_outside)
  for name in ("x", "sdf", "normals", "colors"):
    np.testing.assert_equal(getattr(back, name), getattr(samples, name))
  with pytest.raises(BadData):
    from_records(np.load(tmp_path / "s.npy"), 51)
