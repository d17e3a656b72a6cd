"""Protocols by name: closed forms in each one's frame and unit, and the tables that the command line repeats."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.commands import metrics_images, metrics_mesh
from fields3d.core.config import build
from fields3d.core.errors import BadData, UsageFault
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.geometry import ALL_GROUPS, DEFAULT_GROUPS
from fields3d.evaluation.protocols import (
  IMAGE_PROTOCOLS,
  MESH_PROTOCOLS,
  describe,
  image_words,
  measure_meshes,
  mesh_protocol,
)
from fields3d.evaluation.results import EvaluationInput


def ball(radius, offset=(0.0, 0, 0)):
  sphere = trimesh.creation.icosphere(subdivisions=4, radius=radius)
  return Mesh(np.asarray(sphere.vertices, np.float64) + offset, np.asarray(sphere.faces, np.int64))


def values(prediction, truth, name, **more):
  return {m.name.removesuffix(f" [{name}]"): m.value for m in measure_meshes(prediction, truth, name, **more)}


def spacing(area, points):
  """The mean squared distance of a point of a surface to the nearest of n uniform points: A / (pi n)."""
  return area / (np.pi * points)


@pytest.fixture(scope="module")
def spheres():
  """The figures of radius 9 against 10, off the origin, by every protocol."""
  return {name: values(ball(9, (5.0, 6, 7)), ball(10, (5.0, 6, 7)), name) for name in MESH_PROTOCOLS if name != "get3d"}


def test_deepsdf_is_1000_times_the_sum_of_squares_where_the_boxs_diagonal_is_1(spheres):
  side = 1 / 3**0.5
  expected = 1000 * 2 * ((0.05 * side)**2 + spacing(np.pi * side**2, 30_000))
  assert spheres["deepsdf"]["chamfer"] == pytest.approx(expected, rel=0.01)


def test_occnet_is_the_mean_distance_in_tenths_of_the_longest_side(spheres):
  expected = 10 * (0.05**2 + spacing(np.pi, 100_000))**0.5
  assert spheres["occnet"]["chamfer_l1"] == pytest.approx(expected, rel=0.01)
  assert spheres["occnet"]["normal_consistency"] == pytest.approx(1, abs=2e-3)
  assert spheres["occnet"]["volumetric_iou"] == pytest.approx(0.9**3, abs=0.01)  # 52,000 points in the solids


def test_vecset_is_the_sum_of_distances_where_the_longest_side_is_2(spheres):
  assert spheres["vecset"]["chamfer"] == pytest.approx(2 * (0.1**2 + spacing(4 * np.pi, 100_000))**0.5, rel=0.01)
  assert spheres["vecset"]["f_score@0.02"] == 0
  assert spheres["vecset"]["volumetric_iou"] == pytest.approx(0.9**3, abs=0.01)
  assert values(ball(0.99), ball(1), "vecset")["f_score@0.02"] == pytest.approx(1, abs=0.05)


def test_get3d_scales_each_shape_by_its_own_box_and_does_not_centre_it():
  same = measure_meshes(ball(9), ball(10), "get3d")[0]
  assert same.value == pytest.approx(same.floor, rel=0.1)
  assert same.floor == pytest.approx(1000 * 2 * spacing(np.pi, 2048), rel=0.1)
  moved = values(ball(10, (0.0, 4, 0)), ball(10), "get3d")["chamfer"]
  assert moved > 10 * same.value


@pytest.mark.parametrize("name", MESH_PROTOCOLS)
def test_the_unit_of_the_files_does_not_count(name, monkeypatch):
  own = MESH_PROTOCOLS[name]
  few = dataclasses.replace(own, points=500, iou=own.iou and (500, own.iou[1]))
  monkeypatch.setitem(MESH_PROTOCOLS, name, few)
  a, b = ball(0.9), ball(1)
  far = [Mesh(1e3 * mesh.vertices, mesh.faces) for mesh in (a, b)]
  assert values(*far, name) == pytest.approx(values(a, b, name), rel=1e-9)


@pytest.mark.parametrize("name", MESH_PROTOCOLS)
def test_every_figure_stands_beside_its_floor_and_says_its_points_and_frame(name):
  protocol = mesh_protocol(name)
  for metric in measure_meshes(None, ball(1), name):
    assert metric.name.endswith(f" [{name}]") and metric.floor is not None
    assert protocol.frame in metric.protocol and f"{protocol.points:,} points" in metric.protocol
    assert metric.value == (None if metric.better == "lower" else 0)


def test_the_true_inside_may_be_a_functions_in_the_frame_that_was_given():
  centre = np.array([3.0, 4, 5])
  inside = lambda x: np.linalg.norm(x - centre, axis=1) < 1
  by_function = values(ball(2, centre), ball(2, centre), "occnet", truth_inside=inside)
  assert by_function["volumetric_iou"] == pytest.approx(1 / 8, abs=0.01)


def test_the_command_line_knows_the_tables():
  assert metrics_mesh.PROTOCOLS == tuple(MESH_PROTOCOLS) and metrics_images.PROTOCOLS == tuple(IMAGE_PROTOCOLS)
  assert sorted(metrics_mesh.GROUPS) == sorted(ALL_GROUPS) and metrics_mesh.GROUPS[:2] == DEFAULT_GROUPS


def test_every_protocol_is_described_with_its_sources():
  text = describe()
  for name in (*MESH_PROTOCOLS, *IMAGE_PROTOCOLS, "pointflow", "pvd"):
    assert f"{name} (" in text
  assert text.count("source:") >= 20


def test_images_that_are_not_the_protocols_are_refused():
  full = [(800, 800)] * 200
  assert image_words("nerf_synthetic", full, "white") == "nerf_synthetic"
  assert image_words("llff", [(1008, 756)] * 3, "black") == "llff"
  for sizes, background, fault in ((full, "black", UsageFault), ([(400, 400)], "white", BadData),
                                   ([*full, (800, 800)], "white", BadData)):
    with pytest.raises(fault):
      image_words("nerf_synthetic", sizes, background)
  with pytest.raises(UsageFault, match="did you mean 'llff'"):
    image_words("lllf", full, "white")
  with pytest.raises(UsageFault, match="did you mean 'deepsdf'"):
    mesh_protocol("deepsd")


def test_the_geometry_evaluator_adds_a_protocols_figures_to_its_groups(tmp_path):
  mesh = ball(0.6)
  distance = lambda x: np.linalg.norm(x, axis=1) - 0.6
  shape = Shape("ball", "ball", distance, lambda: mesh, lambda: {"x": np.zeros((1, 3)), "sdf": np.zeros(1)})
  dataset = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: [shape])
  predict = {"code": lambda index: 0.6, "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z}
  settings = {"name": "geometry", "resolution": 24, "points": 300, "iou_points": 300, "picture": 8}
  evaluator = build(EVALUATORS, {**settings, "metrics": ("normals",), "protocol": "get3d"}, "evals.geometry")
  found = evaluator(EvaluationInput(predict, dataset, tmp_path, 1))
  names = [metric.name for metric in found.metrics]
  assert names[-1] == "chamfer [get3d]" and "normal_angle_mean" in names and "volumetric_iou" not in names
  assert found.settings["protocol"] == "get3d"
  with pytest.raises(UsageFault, match="evals.geometry.protocol.*did you mean 'get3d'"):
    build(EVALUATORS, {**settings, "protocol": "get3"}, "evals.geometry")
  with pytest.raises(UsageFault, match="evals.geometry.metrics"):
    build(EVALUATORS, {**settings, "metrics": ("edge",)}, "evals.geometry")
