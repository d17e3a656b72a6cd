"""The metrics that are measured on request: closed forms, loops over all pairs, and what they refuse."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from fields3d.core.errors import UsageFault
from fields3d.core.types import Frame, Mesh, PointCloud
from fields3d.evaluation.geometry import ALL_GROUPS, MEASURES, compare
from fields3d.evaluation.geometry_groups import CHAMFERS, Case, distances, normals
from fields3d.evaluation.matches import evaluate, match
from fields3d.geometry.meshes import sample_surface


def mesh_of(shape):
  return Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))


def ball(radius, subdivisions=4):
  return mesh_of(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))


def box(offset=(0.0, 0, 0), size=1.0):
  return mesh_of(trimesh.creation.box((size,) * 3).apply_translation(offset))


def found(groups, prediction, truth, **settings):
  small = {"points": 4000, "iou_points": 100, **settings}
  return {m.name: m for m in compare(prediction, truth, groups=groups, **small)}


def case_of(a, b, **more):
  settings = {"frame": None, "max_distance": None, **more}
  return Case(None, None, a, b, b, 0, None, "", **settings)


def grid_plane(height, up, turn=0.0):
  x, y = (v.ravel() for v in np.meshgrid(np.arange(10.0), np.arange(10.0)))
  normal = np.array([np.sin(np.radians(turn)), 0, up * np.cos(np.radians(turn))])
  return PointCloud(np.stack([x, y, np.full_like(x, height)], 1), np.broadcast_to(normal, (100, 3)))


def test_parallel_planes_have_every_chamfer_distance_in_closed_form():
  metrics = {m.name: m.value for m in distances(case_of(grid_plane(0, 1), grid_plane(0.25, 1)), None)}
  assert metrics == {
      "chamfer_sum_squared": 0.125, "chamfer_mean_squared": 0.0625, "chamfer_sum_unsquared": 0.5,
      "chamfer_to_truth_squared": 0.0625, "chamfer_to_prediction_squared": 0.0625, "accuracy": 0.25,
      "accuracy_median": 0.25, "completeness": 0.25, "completeness_median": 0.25}


@pytest.mark.parametrize("name", ["spot", "bunny"])
def test_every_chamfer_distance_of_real_meshes_equals_a_dense_search(real_data, name):
  """No tree: all squared differences in float64; to 1e-6 relative, and it is far nearer."""
  from fields3d.data.meshes import read_mesh
  from fields3d.geometry.meshes import normalise
  folder = real_data / "meshes" / "classic" / name
  mesh = normalise(read_mesh(next(folder.glob(f"{name}*.obj")))[0])[0]
  rng = np.random.default_rng(0)
  a, b = sample_surface(mesh, 1500, rng), sample_surface(Mesh(mesh.vertices * 1.02, mesh.faces), 1300, rng)
  squared = np.stack([np.sum((b.points - p)**2, axis=1) for p in a.points])
  ab, ba = squared.min(1), squared.min(0)
  expected = {
      "chamfer_sum_squared": ab.mean() + ba.mean(), "chamfer_mean_squared": (ab.mean() + ba.mean()) / 2,
      "chamfer_sum_unsquared": np.sqrt(ab).mean() + np.sqrt(ba).mean(), "chamfer_to_truth_squared": ab.mean(),
      "chamfer_to_prediction_squared": ba.mean(), "chamfer_deepsdf": 1000 * (ab.mean() + ba.mean()),
      "chamfer_mean_unsquared": (np.sqrt(ab).mean() + np.sqrt(ba).mean()) / 2}
  matches = match(a, b)
  for name, value in expected.items():
    assert evaluate((CHAMFERS | MEASURES)[name], matches) == pytest.approx(value, rel=1e-9), name
  metrics = {m.name: m for m in distances(case_of(a, b, max_distance=0.03), None)}
  near, back = np.sqrt(ab)[np.sqrt(ab) < 0.03], np.sqrt(ba)[np.sqrt(ba) < 0.03]
  assert 0 < len(near) < 1500
  for metric, values in (("accuracy@max0.03", near), ("completeness@max0.03", back)):
    assert metrics[metric].value == pytest.approx(values.mean(), rel=1e-9) and metrics[metric].n == len(values)
    assert metrics[metric].low < metrics[metric].value < metrics[metric].high
  assert metrics["accuracy_median@max0.03"].value == np.median(near)


def test_accuracy_and_completeness_tell_a_missing_half_from_an_extra_one():
  half = ball(0.9)
  half = Mesh(half.vertices, half.faces[half.vertices[half.faces].mean(1)[:, 1] > 0])
  missing, extra = found(["distances"], half, ball(0.9)), found(["distances"], ball(0.9), half)
  assert missing["completeness"].value > 5 * missing["accuracy"].value
  assert extra["accuracy"].value > 5 * extra["completeness"].value
  assert missing["completeness"].value == pytest.approx(extra["accuracy"].value, rel=0.05)
  assert missing["completeness_median"].value < missing["completeness"].value


def test_concentric_spheres_are_their_gap_apart_one_way_and_the_other():
  metrics = found(["distances"], ball(0.9), ball(0.8), points=20_000)
  for name in ("accuracy", "completeness", "accuracy_median", "completeness_median"):
    assert metrics[name].value == pytest.approx(0.1, rel=0.03), name  # d^2 / 2 gap more, d^2 = 4 A / n of samples


def test_points_beyond_the_maximum_are_left_out_in_the_frame_of_the_distances():
  near, far = ball(0.5), ball(0.02)
  both = Mesh(np.concatenate([near.vertices, far.vertices + [3.0, 0, 0]]),
              np.concatenate([near.faces, far.faces + len(near.vertices)]))
  frame = Frame(scale=10.0)
  metrics = found(["distances"], both, near, max_distance=0.2, frame=frame)
  plain = found(["distances"], both, near, frame=frame)
  extra = plain["accuracy"].value - metrics["accuracy@max2"].value
  assert extra == pytest.approx((0.02 / 0.5)**2 * 25, rel=0.8)  # about 6 of 4,000 points lie on the far ball
  assert metrics["accuracy@max2"].n < 4000 and plain["accuracy"].n == 4000
  nothing = found(["distances"], Mesh(far.vertices + [9.0, 0, 0], far.faces), near, max_distance=0.2)
  assert nothing["accuracy@max0.2"].value is None and nothing["accuracy@max0.2"].n == 0


@pytest.mark.parametrize("angle", [0.0, 20.0, 75.0])
def test_planes_whose_normals_are_turned_measure_that_angle(angle):
  metrics = {m.name: m.value for m in normals(case_of(grid_plane(0, -1, angle), grid_plane(0, 1)), None)}
  assert metrics["normal_angle_mean"] == pytest.approx(angle, abs=1e-5)  # arccos near 1 loses half the digits
  assert metrics["normal_angle_median"] == pytest.approx(angle, abs=1e-5)
  assert metrics["normal_cosine_signed"] == pytest.approx(-np.cos(np.radians(angle))) and metrics["normals_turned"] == 1
  assert [metrics[f"normals_within@{limit:g}deg"] for limit in (11.25, 22.5, 30)] == [
      float(angle < limit) for limit in (11.25, 22.5, 30)]


def test_a_mesh_inside_out_differs_in_signed_normals_alone():
  sphere = ball(0.9)
  turned = Mesh(sphere.vertices, sphere.faces[:, ::-1])
  metrics = found(["surface", "normals"], turned, sphere)
  assert metrics["normal_consistency"].value > 0.99 and metrics["normal_cosine_signed"].value < -0.99
  assert metrics["normals_turned"].value == 1 and metrics["normals_turned"].floor == 0


def test_shifted_boxes_have_their_exact_voxel_iou():
  """Joint box 4/3 x 1 x 1, cube of 64 voxels of 1/48: faces lie between centres, 32 of 64 planes are shared."""
  metric = found(["voxels"], box((1 / 3, 0, 0)), box())["voxel_iou@64"]
  assert metric.value == 0.5 and metric.floor == 1
  assert found(["voxels"], box(), box())["voxel_iou@64"].value == 1


def test_edges_of_a_shifted_box_are_apart():
  same, moved = (found(["edges"], box(offset), box()) for offset in ((0.0, 0, 0), (0.02, 0, 0)))
  names = ("edge_chamfer_sum_squared", "edge_f_score@0.01side")
  for name in names:
    assert same[name].value == pytest.approx(same[name].floor, rel=0.1), name
  assert same[names[1]].value > 0.9 and moved[names[1]].value < 0.5
  # Of the 12 edges the 4 along x move along themselves (but for their ends), the 8 others by 0.02.
  # A strip reaches 0.01 to its edge's sides, so that some of the way is covered.
  assert 0.2 < moved[names[0]].value / (2 * (8 / 12) * 0.02**2) < 1
  assert 1000 < same[names[0]].n < 100_000 / 6


def test_shapes_without_sharp_edges_have_no_edge_distance():
  both, ours, theirs = (found(["edges"], *pair) for pair in (
      (ball(0.9), ball(0.8)), (ball(0.9), box()), (box(), ball(0.9))))
  for metrics, share in ((both, 1.0), (ours, 0.0), (theirs, 0.0)):
    assert metrics["edge_chamfer_sum_squared"].value is None
    assert metrics["edge_f_score@0.01side"].value == share


def test_transport_is_no_less_than_nearest_neighbours_and_at_its_floor_for_equal_shapes():
  pytest.importorskip("fields3d.metrics.transport")
  metrics = found(["transport", "distances"], ball(0.9), ball(0.9), points=2048)
  emd, density = metrics["emd@2048"], metrics["density_aware_chamfer@2048"]
  assert emd.value > metrics["accuracy"].value
  assert emd.value == pytest.approx(emd.floor, rel=0.1) and density.value == pytest.approx(density.floor, rel=0.1)


def test_silhouettes_do_not_feel_place_and_scale_but_shape():
  same = found(["silhouettes"], box((1.0, 2, 3), 2.0), box())["lfd_like"]
  assert same.value < 100 and same.floor is None and "not the published LFD" in same.protocol
  assert found(["silhouettes"], ball(0.5, 2), box())["lfd_like"].value > 1000


def test_an_empty_prediction_scores_0_or_nothing_in_every_group():
  for metric in compare(None, box(), points=500, iou_points=100, groups=tuple(set(ALL_GROUPS) - {"transport"})):
    assert metric.value == (0 if metric.better == "higher" else None), metric.name


def test_what_a_group_finds_does_not_depend_on_the_others():
  a, b = box((0.1, 0, 0)), box()
  groups = ("surface", "iou", "distances", "normals", "voxels")
  together = compare(a, b, points=500, iou_points=500, groups=groups)
  apart = [m for group in groups for m in compare(a, b, points=500, iou_points=500, groups=(group,))]
  assert list(together) == apart


def test_metrics_do_not_feel_a_turn_of_both_beyond_sampling():
  turn = Rotation.random(random_state=0).as_matrix()
  a, b = box((0.1, 0.05, 0)), box()
  before = found(["distances", "normals"], a, b)
  after = found(["distances", "normals"], *(Mesh(m.vertices @ turn.T, m.faces) for m in (a, b)))
  for name in before:
    assert after[name].value == pytest.approx(before[name].value, rel=1e-6, abs=1e-4), name  # angles: degrees by arccos


def test_unknown_groups_are_refused_by_name():
  with pytest.raises(UsageFault, match="did you mean 'edges'"):
    compare(box(), box(), groups=("edge",))
