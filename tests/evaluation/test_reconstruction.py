"""The evaluator on fields whose surfaces are known: spheres predicted right, wrong, or not at all."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.core.config import build, check
from fields3d.core.errors import UsageFault
from fields3d.core.types import Dataset, Frame, Mesh, Shape
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.reconstruction import Retrieval, file_stem, observed, observed_surface
from fields3d.evaluation.results import EvaluationInput

RADII = {"train": (0.3, 0.5, 0.7), "val": (0.48, 0.66)}
QUICK = {"resolution": 32, "points": 500, "iou_points": 5000, "picture": 16}


def ball(name, radius):
  sphere = trimesh.creation.icosphere(subdivisions=4, radius=radius)
  mesh = Mesh(np.asarray(sphere.vertices, np.float64), np.asarray(sphere.faces, np.int64))
  x = np.random.default_rng(0).uniform(-1, 1, (400, 3)).astype(np.float32)
  distance = lambda x: np.linalg.norm(x, axis=1) - radius
  return Shape(name, "ball", distance, lambda: mesh, lambda: {"x": x, "sdf": distance(x)}, frame=Frame(scale=10.0))


@pytest.fixture(scope="module")
def dataset():
  shapes = {split: [ball(f"{split}/{r}", r) for r in radii] for split, radii in RADII.items()}
  return Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: shapes.get(split, []))


PREDICT = {
    "code": lambda index: RADII["train"][index],
    "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z,
    "reconstruct": lambda x, sdf, key: jnp.mean(jnp.linalg.norm(x, axis=-1) - sdf),
    "encode": lambda points, key: jnp.mean(jnp.linalg.norm(points, axis=-1)),
    "empty": lambda x, z: jnp.where(z == 0.5, 1.0, jnp.linalg.norm(x, axis=-1) - z),
    "broken": lambda x, z: jnp.where(z == 0.5, jnp.nan, jnp.linalg.norm(x, axis=-1) - z),
    "small": lambda x, z: jnp.linalg.norm(x, axis=-1) - 0.9 * z,
}


def run(dataset, out_dir, seed=None, **arguments):
  evaluator = build(EVALUATORS, {"name": "geometry", **QUICK, **arguments}, "evals.geometry")
  return evaluator(EvaluationInput(PREDICT, dataset, out_dir, 7, seed))


def figures(evaluation, subject="prediction"):
  return {m.name: m for m in evaluation.metrics if m.subject == subject}


def test_right_fields_measure_their_floor(dataset, tmp_path):
  found = run(dataset, tmp_path)
  values = figures(found)
  assert values["volumetric_iou/mean"].value > 0.98
  chamfer = values["chamfer_mean_unsquared/mean"]
  assert chamfer.value == pytest.approx(chamfer.floor, rel=0.1)
  assert [row.status for row in found.rows] == ["ok"] * 3 and not found.warnings
  assert all(row.facts["watertight"] and row.facts["components"] == 1 for row in found.rows)


def test_a_tenth_too_small_measures_its_closed_form(dataset, tmp_path):
  values = figures(run(dataset, tmp_path, pred="small", points=20_000, iou_points=20_000, resolution=64))
  assert values["volumetric_iou/mean"].value == pytest.approx(0.9**3, abs=0.02)
  assert values["chamfer_mean_unsquared/mean"].value == pytest.approx(0.1 * np.mean(RADII["train"]), rel=0.03)


@pytest.mark.parametrize("pred", ["empty", "broken"])
def test_a_field_without_a_surface_is_a_named_failure(dataset, tmp_path, pred):
  found = run(dataset, tmp_path, pred=pred)
  bad = found.rows[1]
  assert bad.status != "ok" and "truth_picture" in bad.files and "mesh" not in bad.files
  assert {m.value for m in bad.metrics if m.better == "higher"} == {0.0}
  assert {m.value for m in bad.metrics if m.better == "lower"} == {None} and all(m.floor for m in bad.metrics)
  assert any("1 of 3 shapes failed" in line and "train/0.5" in line for line in found.warnings)
  values = figures(found)
  assert values["chamfer_deepsdf/mean"].n == 2
  assert values["volumetric_iou/mean"].n == 3 and 0.6 < values["volumetric_iou/mean"].value < 0.67


def test_unseen_shapes_are_reconstructed_and_beat_the_nearest_training_shape(dataset, tmp_path):
  found = run(dataset, tmp_path, split="val", codes="reconstruct", baseline="nearest_training_shape", points=2000)
  assert [row.facts["nearest_training_shape"] for row in found.rows] == ["train/0.5", "train/0.7"]
  gain = figures(found, "improvement")
  assert gain["volumetric_iou/mean"].value > 0.05 and gain["chamfer_deepsdf/mean"].value > 0
  theirs = figures(found, "nearest_training_shape")["chamfer_mean_unsquared/mean"]
  assert theirs.value == pytest.approx(0.03, abs=0.02)


def test_unseen_shapes_are_not_given_training_shapes_codes(dataset, tmp_path):
  with pytest.raises(UsageFault, match="shapes of split 'val' have no fitted codes; set codes=\"reconstruct\""):
    run(dataset, tmp_path, split="val", codes="code")


def test_half_of_the_samples_is_enough_for_a_ball(dataset, tmp_path):
  with pytest.raises(UsageFault, match="a fitted code has seen the whole shape"):
    run(dataset, tmp_path, observe="front")
  found = run(dataset, tmp_path, split="val", codes="reconstruct", observe="front", max_shapes=1)
  assert len(found.rows) == 1
  assert figures(found)["volumetric_iou"].value > 0.97  # One shape: its own metrics, intervals over points.
  assert figures(found)["volumetric_iou"].n == QUICK["iou_points"]


@pytest.mark.parametrize(("half", "axis", "side"), [("left", 0, -1), ("front", 2, 1), ("bottom", 1, -1)])
def test_what_is_observed_lies_in_the_half(half, axis, side):
  x, sdf = observed(ball("b", 0.5), half, 100, np.random.default_rng(0))
  assert x.shape == (100, 3) and sdf.shape == (100,) and (side * x[:, axis] > 0).all()
  assert len(np.unique(x, axis=0)) == 100  # Without replacement where there are enough.


def test_unseen_shapes_are_encoded_from_points_on_their_surfaces_alone(dataset, tmp_path):
  found = run(dataset, tmp_path, split="val", codes="encode", observations=64)
  assert len(found.rows) == 2 and figures(found)["volumetric_iou/mean"].value > 0.98


@pytest.mark.parametrize(("half", "axis", "side"), [("all", 0, 0), ("left", 0, -1), ("front", 2, 1)])
def test_observed_points_lie_on_the_surface_and_in_the_half(half, axis, side):
  points = observed_surface(ball("b", 0.5), half, 100, np.random.default_rng(0))
  assert points.shape == (100, 3) and points.dtype == np.float32
  np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.5, atol=0.005)  # chords of a mesh of 5,120 faces
  assert (side * points[:, axis] >= 0).all()
  assert len(np.unique(points, axis=0)) == 100


def test_world_distances_are_the_frames_scale_larger(dataset, tmp_path):
  own, world = (figures(run(dataset, tmp_path, frame=frame, max_shapes=2)) for frame in ("normalised", "world"))
  assert world["hausdorff/mean"].value == pytest.approx(10 * own["hausdorff/mean"].value)
  assert world["chamfer_deepsdf/mean"].value == pytest.approx(100 * own["chamfer_deepsdf/mean"].value)
  assert world["f_score@0.02/mean"].value == own["f_score@0.02/mean"].value


def test_the_seed_given_replaces_the_configs_and_decides_every_figure(dataset, tmp_path):
  first, second, other = (run(dataset, tmp_path, seed=seed, max_shapes=2) for seed in (5, 5, 6))
  assert first.metrics == second.metrics and first.settings["seed"] == 5
  assert other.metrics != first.metrics


def test_files_are_written_and_the_record_is_strict_json(dataset, tmp_path):
  found = run(dataset, tmp_path)
  for row in found.rows:
    assert set(row.files) == {"mesh", "picture", "truth_picture", "preview", "truth_preview"}
    assert all((tmp_path / name).is_file() for name in row.files.values())
    assert trimesh.load(tmp_path / row.files["mesh"], force="mesh").extents.max() > 5  # In the world, 10 times larger.
    with Image.open(tmp_path / row.files["picture"]) as picture:
      assert picture.size == (16, 16) and picture.mode == "RGBA"
  record = json.loads(json.dumps(found.to_json(), allow_nan=False))
  assert record["rows"][0]["metrics"]["volumetric_iou"]["value"] == found.rows[0].metrics[-1].value
  assert all(m["protocol"] for m in record["metrics"])


@pytest.mark.parametrize(("arguments", "words"), [
    ({"pred": "sfd"}, "no 'sfd'; did you mean 'sdf'"),
    ({"split": "test"}, "no 'test' shapes"),
    ({"baseline": "nearest_training_shape"}, "training shape itself"),
    ({"thresholds": (0.01, 0.0)}, "out of range"),
    ({"codes": "cod"}, "did you mean 'code'"),
])
def test_wrong_settings_are_one_line(dataset, tmp_path, arguments, words):
  with pytest.raises(UsageFault, match=words):
    run(dataset, tmp_path, **arguments)


def test_every_evaluator_checks_without_being_made():
  for name in EVALUATORS:
    check(EVALUATORS, {"name": name})


def test_retrieval_finds_the_shape_itself(dataset):
  shapes = dataset.shapes("train")
  nearest = Retrieval(shapes, seed=0)
  assert [nearest(shape.mesh()).name for shape in shapes] == [shape.name for shape in shapes]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 300, "Стул 椅", "", "con\n", "<script>"])
def test_a_shapes_name_is_never_a_path(name):
  stem = file_stem(12, name)
  assert re.fullmatch(r"0012[A-Za-z0-9_-]{0,61}", stem)
