"""The evaluator on boxes: fresh draws, copies of training shapes, repeats of one shape, failures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.core.config import build, check
from fields3d.core.errors import UsageFault
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.cloud_protocols import PROTOCOLS, cloud_protocol
from fields3d.evaluation.results import EvaluationInput, bare
from fields3d.evaluation.set_comparison import Clouds, compare_sets

SIZES = {"train": 24, "test": 18}
QUICK = {"resolution": 24, "points": 96, "k": 3, "pictures": 3, "picture": 24}


def sides(split):
  return np.random.default_rng(len(split)).uniform(0.15, 0.7, (SIZES[split], 3))


def box(name, half):
  made = trimesh.creation.box(extents=2 * half)
  mesh = Mesh(np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64))
  return Shape(name, "box", None, lambda: mesh, lambda: {})


SHAPES = {split: [box(f"{split}-{i}", half) for i, half in enumerate(sides(split))] for split in SIZES}
DATASET = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3], "licences": [f"licence {i}" for i in range(24)]}, lambda *_: {},
                  lambda split: SHAPES.get(split, []))


def distance(x, z):
  q = jnp.abs(x) - z[None]
  return jnp.linalg.norm(jnp.maximum(q, 0), axis=-1) + jnp.minimum(jnp.max(q, axis=-1), 0)


def fresh(key, num):
  return jax.random.uniform(key, (num, 3), minval=0.15, maxval=0.7)


def copies(key, num):
  return jnp.asarray(sides("train"), jnp.float32)[jax.random.randint(key, (num,), 0, 24)]


def half_fail(key, num):
  return fresh(key, num) * jnp.where(jnp.arange(num)[:, None] % 2 == 0, 1.0, -1.0)


def run(sample, out_dir, **arguments):
  out_dir.mkdir(exist_ok=True)
  evaluator = build(EVALUATORS, {"name": "distribution", **QUICK, **arguments}, "evals.distribution")
  return evaluator(EvaluationInput({"sample": sample, "sdf": distance}, DATASET, out_dir, 7))


def by_name(evaluation):
  return {bare(m.name): m for m in evaluation.metrics}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
  out_dir = tmp_path_factory.mktemp("run") / "distribution"
  return run(fresh, out_dir), out_dir


def test_draws_of_the_truth_are_not_told_from_it(real):
  found = by_name(real[0])
  nn = found["1nna_cd_percent"]
  assert nn.low <= 50 <= nn.high and nn.n == 36
  assert abs(found["z_u_cd"].value) < 3 and abs(found["z_u_cd"].floor) < 3
  for name in ("cov_cd_percent", "precision_cd_k3", "coverage_cd_k3", "jsd_28", "frechet_sliced_13x8_x1000",
               "vendi_like_cd"):
    metric = found[name]
    assert metric.low <= metric.value <= metric.high, name
    assert metric.low - (metric.high - metric.low) < metric.floor < metric.high + (metric.high - metric.low), name
  assert found["mmd_cd_x1000"].value < 2 * found["mmd_cd_x1000"].floor


def test_every_figure_names_protocol_sizes_and_control(real):
  evaluation = real[0]
  assert evaluation.control == "real control" and evaluation.unit == "sample"
  for metric in evaluation.metrics:
    assert "[pointflow, 18 against 18, 96 points]" in metric.name
    assert metric.floor is not None and metric.low is not None
    for words in ("18 samples against 18 test shapes", "the model's frame", "18 random training shapes"):
      assert words in metric.protocol, metric.name
  json.dumps(evaluation.to_json(), allow_nan=False)


def test_each_draw_is_shown_beside_its_nearest_training_shape(real):
  evaluation, out_dir = real
  assert len(evaluation.rows) == 18 and {row.status for row in evaluation.rows} == {"ok"}
  far = [row.facts["chamfer_sum_squared_to_it"] for row in evaluation.rows]
  shown = evaluation.rows[int(np.argmin(far))]
  name = shown.facts["nearest_training_shape"]
  assert shown.facts["its_licence"] == f"licence {name.split('-')[1]}"
  with Image.open(out_dir / shown.files["nearest_training_shapes"]) as picture:
    assert picture.size == (3 * 48, 24 + 3 * 13) and len(np.unique(np.asarray(picture.convert("L")))) > 10
  assert sum(bool(row.files) for row in evaluation.rows) == 1


def test_copies_of_training_shapes_are_found(tmp_path):
  found = by_name(run(copies, tmp_path / "a", pictures=0))
  assert found["z_u_cd"].value < -3 and found["z_u_cd"].high < -1
  metric = found["nearest_training_cd_x1000/median"]
  assert metric.value < 0.6 * metric.floor


def test_one_shape_again_and_again_is_no_diversity(tmp_path):
  found = by_name(run(lambda key, num: jnp.full((num, 3), 0.4), tmp_path / "a", pictures=0))
  assert found["cov_cd_percent"].value < found["cov_cd_percent"].floor / 2
  assert 1 <= found["vendi_like_cd"].high < found["vendi_like_cd"].floor / 2
  assert found["1nna_cd_percent/samples"].value > 90 and found["1nna_cd_percent"].low > 50
  assert found["recall_cd_k3"].value < 0.3


def test_failed_draws_are_counted_and_cost_what_the_protocol_says(tmp_path):
  evaluation = run(half_fail, tmp_path / "a")
  failed = [row for row in evaluation.rows if row.status != "ok"]
  assert len(failed) == 9 and not any(row.facts for row in failed)
  assert "9 of 18 samples have no surface" in evaluation.warnings[0]
  found = by_name(evaluation)
  assert found["1nna_cd_percent/samples"].value > 60 and found["precision_cd_k3"].value <= 0.5
  assert "(9 of them failed)" in found["mmd_cd_x1000"].protocol and found["vendi_like_cd"].n == 9


def test_too_few_shapes_are_a_fault_and_small_sets_lose_what_they_cannot_give(tmp_path):
  with pytest.raises(UsageFault, match="at least 4"):
    run(lambda key, num: -fresh(key, num), tmp_path / "a")
  with pytest.raises(UsageFault, match="18"):
    run(fresh, tmp_path / "a", num=19)
  evaluation = run(fresh, tmp_path / "a", num=4, k=5, pictures=0)
  assert "precision_cd_k5" not in by_name(evaluation) and any("more shapes" in line for line in evaluation.warnings)


def clouds(num, rng, jitter=0.0):
  half = rng.uniform(0.1, 0.3, (num, 1, 3))
  return Clouds.whole((half * rng.uniform(-1, 1, (num, 32, 3)) + jitter).astype(np.float32))


def test_without_training_shapes_the_control_is_half_the_references():
  rng = np.random.default_rng(0)
  found = compare_sets(clouds(12, rng), clouds(13, rng), None, PROTOCOLS["pointflow"], k=2)
  names = {bare(metric.name) for metric in found.metrics}
  assert "z_u_cd" not in names and "1nna_cd_percent" in names and found.nearest.tolist() == [-1] * 12
  assert "6 of the references against 6 others" in found.metrics[0].protocol


def test_points_beyond_the_grids_ball_are_told():
  rng = np.random.default_rng(0)
  found = compare_sets(clouds(6, rng, jitter=0.5), clouds(6, rng), None, PROTOCOLS["pointflow"], k=2)
  assert any("samples lie outside the ball" in line for line in found.warnings)


def test_settings_are_checked():
  check(EVALUATORS, {"name": "distribution", "protocol": "pvd"}, "evals.distribution")
  with pytest.raises(UsageFault, match="did you mean 'pointflow'"):
    check(EVALUATORS, {"name": "distribution", "protocol": "pointflaw"}, "evals.distribution")
  with pytest.raises(UsageFault, match="did you mean 'pvd'"):
    cloud_protocol("pwd")


@pytest.mark.parametrize(("settings", "words"), [({"points": 7}, "7 a cloud.*takes 8 parts"),
                                                 ({"points": 4096, "emd": "exact"}, "4,096 a cloud, the exact EMD is for 2,048")])
def test_points_that_a_figure_cannot_be_had_of_are_refused_before_anything_is_drawn(settings, words):
  with pytest.raises(UsageFault, match=words):
    build(EVALUATORS, {"name": "distribution", **settings}, "evals.distribution")
  few = Clouds.whole(np.zeros((0, settings["points"], 3), np.float32))
  with pytest.raises(UsageFault, match=words):
    compare_sets(few, few, None, PROTOCOLS["pointflow"], emd=settings.get("emd", "none"))


def points_on(z, key):
  """200 points of a box's surface, uniform by area."""
  face_key, key = jax.random.split(key)
  area = jnp.tile(jnp.array([z[1] * z[2], z[0] * z[2], z[0] * z[1]]), 2)
  face = jax.random.choice(face_key, 6, (200,), p=area / area.sum())
  x = jax.random.uniform(key, (200, 3), minval=-1.0, maxval=1.0) * z[None]
  wall = jnp.where(face < 3, 1.0, -1.0)[:, None] * z[None]
  return jnp.where(jnp.arange(3)[None] == face[:, None] % 3, wall, x)


def test_clouds_of_the_truth_are_not_told_from_it_and_trivial_sets_are(tmp_path):
  out = tmp_path / "clouds"
  out.mkdir()
  evaluator = build(EVALUATORS, {"name": "distribution", **QUICK, "pred": "points", "trivial": True}, "evals.distribution")
  lost = lambda z, key: jnp.where(z[0] > 0.65, jnp.nan, points_on(z, key))
  for cloud, failed in ((points_on, 0), (lost, 1)):
    found = evaluator(EvaluationInput({"sample": fresh, "points": cloud}, DATASET, out, 7))
    assert (sum(row.status != "ok" for row in found.rows) > 0) == failed
    nn = by_name(found)["1nna_cd_percent"]
    assert failed or nn.low <= 50 <= nn.high
    for name in ("gaussian_cloud", "independent_points", "one_shape"):
      poor = by_name(found)[f"1nna_cd_percent/{name}"]
      assert poor.low > 60 and poor.value > nn.value and poor.floor == nn.floor
      assert "of them failed" not in poor.protocol and ("of them failed" in nn.protocol) == failed
  with Image.open(out / "0000_nearest_training_shapes.png") as sheet:
    assert sheet.size[0] > 0
  with pytest.raises(UsageFault, match="300 points are asked for, the task's clouds have 200"):
    build(EVALUATORS, {"name": "distribution", **QUICK, "pred": "points", "points": 300}, "evals.x")(
        EvaluationInput({"sample": fresh, "points": points_on}, DATASET, out, 7))
