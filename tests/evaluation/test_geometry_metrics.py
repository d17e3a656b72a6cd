"""The metrics against closed forms, loops in float64 and their own symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fields3d.core.types import Frame, Mesh, PointCloud
from fields3d.evaluation import geometry
from fields3d.evaluation.geometry import compare, joint_box, match, surface_measures, volumetric_iou

DISTANCES = ("chamfer_deepsdf", "chamfer_mean_unsquared", "hausdorff")


def cloud(rng, n):
  normals = rng.normal(size=(n, 3))
  return PointCloud(rng.normal(size=(n, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))


def values(a, b, thresholds=(0.5,)):
  matches = match(a, b)
  return {name: geometry.evaluate(measure, matches) for name, measure in surface_measures(thresholds).items()}


def icosphere(radius, subdivisions=4):
  import trimesh
  sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
  return Mesh(np.asarray(sphere.vertices, np.float64), np.asarray(sphere.faces, np.int64))


def pair_of(seed, n, m):
  return cloud(np.random.default_rng(seed), n), cloud(np.random.default_rng((seed, 1)), m)


clouds = st.builds(pair_of, st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=25, deadline=None)
@given(clouds)
def test_metrics_equal_a_loop_over_all_pairs(pair):
  a, b = pair

  def one_way(p, q):
    squared, cosine = [], []
    for point, normal in zip(p.points, p.normals, strict=True):
      all_squared = [float(sum((point - other) ** 2)) for other in q.points]
      nearest = int(np.argmin(all_squared))
      squared.append(all_squared[nearest])
      cosine.append(abs(float(normal @ q.normals[nearest])))
    return np.array(squared), np.array(cosine)

  (sa, ca), (sb, cb) = one_way(a, b), one_way(b, a)
  precision, recall = np.mean(np.sqrt(sa) < 0.5), np.mean(np.sqrt(sb) < 0.5)
  found = values(a, b)
  assert found["chamfer_deepsdf"] == pytest.approx(1000 * (sa.mean() + sb.mean()), rel=1e-12)
  assert found["chamfer_mean_unsquared"] == pytest.approx((np.sqrt(sa).mean() + np.sqrt(sb).mean()) / 2, rel=1e-12)
  assert found["hausdorff"] == pytest.approx(max(np.sqrt(sa).max(), np.sqrt(sb).max()), rel=1e-12)
  assert found["normal_consistency"] == pytest.approx((ca.mean() + cb.mean()) / 2, rel=1e-9)
  assert (found["precision@0.5"], found["recall@0.5"]) == (precision, recall)
  total = precision + recall
  assert found["f_score@0.5"] == pytest.approx(2 * precision * recall / total if total else 0.0, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(clouds)
def test_metrics_are_symmetric_save_precision_and_recall_which_change_places(pair):
  forward, backward = values(*pair), values(*pair[::-1])
  backward["precision@0.5"], backward["recall@0.5"] = backward["recall@0.5"], backward["precision@0.5"]
  assert forward == pytest.approx(backward, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(clouds, st.integers(0, 10**6))
def test_metrics_do_not_feel_a_rigid_motion(pair, seed):
  rng = np.random.default_rng(seed)
  turn, shift = Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3)
  moved = [PointCloud(c.points @ turn.T + shift, c.normals @ turn.T) for c in pair]
  before, after = values(*pair), values(*moved)
  for name in DISTANCES + ("normal_consistency",):
    assert after[name] == pytest.approx(before[name], rel=1e-9), name


@settings(max_examples=25, deadline=None)
@given(clouds, st.floats(0.01, 100))
def test_metrics_scale_with_their_power_of_length(pair, factor):
  scaled = [PointCloud(factor * c.points, c.normals) for c in pair]
  before, after = values(*pair), values(*scaled)
  for name in (*DISTANCES, "normal_consistency"):
    power = surface_measures()[name].power
    assert after[name] == pytest.approx(before[name] * factor**power, rel=1e-9), name


@settings(max_examples=10, deadline=None)
@given(clouds)
def test_a_cloud_is_perfect_against_itself(pair):
  found = values(pair[0], pair[0])
  assert all(found[name] == 0 for name in DISTANCES)
  assert found["f_score@0.5"] == 1
  assert found["normal_consistency"] == pytest.approx(1, rel=1e-12)


def test_named_functions_are_the_table_entries():
  matches = match(cloud(np.random.default_rng(0), 9), cloud(np.random.default_rng(1), 9))
  table = surface_measures((0.3,))
  for name in ("chamfer_deepsdf", "chamfer_mean_unsquared", "hausdorff", "normal_consistency"):
    assert getattr(geometry, name)(matches) == geometry.evaluate(table[name], matches)
  assert geometry.f_score(matches, 0.3) == geometry.evaluate(table["f_score@0.3"], matches)


def test_parallel_planes_at_a_distance_have_their_closed_form():
  x, y = np.meshgrid(np.arange(10.0), np.arange(10.0))
  up = np.broadcast_to([0.0, 0.0, 1.0], (100, 3))
  low = PointCloud(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1), up)
  high = PointCloud(low.points + [0, 0, 0.25], -up)
  found = values(low, high)
  assert found["chamfer_deepsdf"] == 1000 * 2 * 0.25**2
  assert found["chamfer_mean_unsquared"] == found["hausdorff"] == 0.25
  assert found["normal_consistency"] == found["f_score@0.5"] == 1


def test_concentric_spheres_are_their_radii_apart_and_their_volumes_share_the_cube_of_the_ratio():
  """The nearest sample is farther than the sphere by d^2 / 2 gap for spacing d: 4 pi / n = d^2, 1% here."""
  found = {m.name: m for m in compare(icosphere(0.9), icosphere(0.6), points=20_000, iou_points=200_000)}
  assert found["chamfer_mean_unsquared"].value == pytest.approx(0.3, rel=0.01)
  assert found["chamfer_deepsdf"].value == pytest.approx(1000 * 2 * 0.3**2, rel=0.02)
  assert found["normal_consistency"].value == pytest.approx(1, abs=2e-3)  # Facets turn by up to 3 degrees.
  iou, n = found["volumetric_iou"], 200_000 * np.pi / 6
  expected = (0.6 / 0.9) ** 3
  assert abs(iou.value - expected) < 4 * np.sqrt(expected * (1 - expected) / n) + 2e-3  # Facets cut 0.1% of volume.
  assert iou.low < iou.value < iou.high


def test_the_interval_of_iou_has_the_binomial_width():
  found = {m.name: m for m in compare(icosphere(0.9), icosphere(0.6), points=100, iou_points=100_000)}
  iou = found["volumetric_iou"]
  deviation = np.sqrt(iou.value * (1 - iou.value) / (100_000 * np.pi / 6))
  assert iou.high - iou.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_iou_of_boxes_is_their_overlap():
  x = np.random.default_rng(0).uniform(0, 1, (1000, 3))
  assert volumetric_iou(x[:, 0] < 0.5, x[:, 0] < 0.5) == 1
  assert volumetric_iou(x[:, 0] < 0.5, x[:, 0] > 0.5) == 0
  assert volumetric_iou(np.zeros(4, bool), np.zeros(4, bool)) == 1


def test_the_joint_box_ignores_vertices_that_no_face_uses():
  mesh = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [99.0, 99, 99]]), np.array([[0, 1, 2]]))
  assert joint_box(mesh, Mesh(mesh.vertices - 1, mesh.faces)).tolist() == [[-1, -1, -1], [1, 1, 0]]


def test_a_perfect_prediction_measures_its_floor_and_not_zero():
  sphere = icosphere(0.9)
  for metric in compare(sphere, sphere, points=5000, iou_points=1000, thresholds=(0.02,)):
    assert metric.value != 0
    assert metric.value == pytest.approx(metric.floor, rel=0.2 if metric.name == "hausdorff" else 0.05), metric.name


def test_the_floor_falls_as_the_square_root_of_the_points_predicts():
  """Mean nearest distance of uniform points on a surface of area A: sqrt(A / n) / 2 (Clark and Evans 1954)."""
  sphere = icosphere(1.0)
  for n in (1000, 16_000):
    found = {m.name: m for m in compare(sphere, sphere, points=n, iou_points=10, thresholds=())}
    assert found["chamfer_mean_unsquared"].floor == pytest.approx(np.sqrt(4 * np.pi / n) / 2, rel=0.03)
    assert found["chamfer_deepsdf"].floor == pytest.approx(1000 * 2 * 4 / n, rel=0.06)  # Mean square: A / (pi n).


def test_results_depend_on_the_seed_and_the_index_alone():
  a, b = icosphere(0.9, 2), icosphere(0.85, 2)
  small = {"points": 200, "iou_points": 200}
  assert compare(a, b, seed=3, index=1, **small) == compare(a, b, seed=3, index=1, **small)
  assert compare(a, b, seed=3, index=1, **small) != compare(a, b, seed=3, index=2, **small)
  assert compare(a, b, seed=3, index=1, **small) != compare(a, b, seed=4, index=1, **small)


def test_the_world_frame_multiplies_distances_and_nothing_else():
  a, b = icosphere(0.9, 2), icosphere(0.85, 2)
  small = {"points": 500, "iou_points": 500}
  measures = surface_measures()
  for own, world in zip(compare(a, b, **small), compare(a, b, frame=Frame((1, 2, 3), 10.0), **small), strict=True):
    power = measures[own.name].power if own.name in measures else 0
    assert world.value == pytest.approx(own.value * 10**power)
    assert world.floor == pytest.approx(own.floor * 10**power)
    assert ("world frame" in world.protocol) == (power > 0)


def test_the_true_sign_may_come_from_a_distance_function():
  sphere = icosphere(0.9)
  half = lambda x: np.linalg.norm(x, axis=1) < 0.45
  by_function = compare(sphere, sphere, points=50, iou_points=20_000, truth_inside=half)
  assert by_function[-1].value == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize("name", ["spot", "armadillo"])
def test_a_real_mesh_measures_its_floor_against_itself(real_data, name):
  from fields3d.data.meshes import read_mesh
  from fields3d.geometry.meshes import normalise
  mesh = normalise(read_mesh(real_data / "meshes" / "classic" / name / f"{name}.obj")[0])[0]
  for metric in compare(mesh, mesh, points=20_000, iou_points=1000):
    if metric.low is not None:
      slack = 2 * (metric.high - metric.low) + 1e-12
      assert metric.low - slack <= metric.floor <= metric.high + slack, metric.name
