"""The evaluator of completions on boxes: the truth itself, retrieval, failures, and what it refuses."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.completion import half_of
from fields3d.evaluation.results import EvaluationInput, bare

SIDES = {split: np.random.default_rng(seed).uniform(0.15, 0.55, (num, 3)) for seed, (split, num) in
         enumerate({"train": 12, "test": 6}.items())}
QUICK = {"num": None, "draws": 2, "points": 200, "scan_points": 60, "resolution": 24, "pictures": 2, "picture": 24}


def box(name, half):
  made = trimesh.creation.box(extents=2 * half)
  mesh = Mesh(np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64))
  return Shape(name, "box", None, lambda: mesh, lambda: {})


SHAPES = {split: [box(f"{split}-{i}", half) for i, half in enumerate(sides)] for split, sides in SIDES.items()}
DATASET = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: SHAPES.get(split, []))


def distance(x, z):
  q = jnp.abs(x) - z[None]
  return jnp.linalg.norm(jnp.maximum(q, 0), axis=-1) + jnp.minimum(jnp.max(q, axis=-1), 0)


def run(out_dir, complete, **settings):
  evaluator = build(EVALUATORS, {"name": "completion", **QUICK, **settings}, "evals.completion")
  return evaluator(EvaluationInput({"complete": complete, "sdf": distance}, DATASET, out_dir, 7))


def extents(scan):
  """Half sides of a centred box, of the scan of a half of it: it reaches all faces but those on one side."""
  return jnp.max(jnp.abs(scan), axis=0)


def by_name(evaluation, subject="prediction"):
  return {bare(m.name): m for m in evaluation.metrics if m.subject == subject}


def test_who_knows_the_whole_completes_it_and_is_better_than_retrieval(tmp_path):
  evaluation = run(tmp_path, lambda scan, key, num: jnp.tile(extents(scan), (num, 1)))
  own, gain = by_name(evaluation), by_name(evaluation, "improvement")
  assert own["completion_cd_x1000/mean"].value < 1.3 * own["completion_cd_x1000/mean"].floor
  assert own["completion_mmd_x1000/mean"].value <= own["completion_cd_x1000/mean"].value
  assert own["scan_uhd_x100/mean"].value < 1.3 * own["scan_uhd_x100/mean"].floor
  assert gain["completion_cd_x1000/mean"].low > 0
  # Equal completions differ only as clouds of one surface do: k times the distance of two such clouds.
  np.testing.assert_allclose(own["completion_tmd_x1000/mean"].value, 2 * own["completion_cd_x1000/mean"].floor, rtol=0.3)
  assert own["completion_tmd_x1000/mean"].value < by_name(evaluation, "nearest_training_shape")["completion_tmd_x1000/mean"].value
  assert [row.status for row in evaluation.rows] == ["ok"] * 6
  json.dumps(evaluation.to_json(), allow_nan=False)
  with Image.open(tmp_path / evaluation.rows[0].files["completions"]) as picture:
    assert picture.size == (2 * 4 * 24, 24 + 13) and len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_figures_of_a_completion_that_is_known(tmp_path):
  """Clouds that are the whole, moved by 0.1: the distance of the nearest points of a plane of points is known."""
  grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0), [0.0]), -1).reshape(-1, 3).astype(np.float32) / 8
  flat = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
  one = Shape("flat", "", None, lambda: flat, lambda: {})
  dataset = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: [one])
  high = lambda scan, key, num: jnp.array([0.1, 0.3])
  inputs = EvaluationInput({"complete": high, "points": lambda z, key: grid + np.float32([0, 0, z])}, dataset,
                           tmp_path, 0)
  found = build(EVALUATORS, {"name": "completion", **QUICK, "num": 1, "points": 64, "pred": "points", "pictures": 0}, "evals.c")(inputs)
  own = by_name(found)
  # At least both ways the height's square, at scale 1/2, and apart from each other 2 (0.2 / 2)^2, twice.
  assert own["completion_mmd_x1000"].value > 1000 * 2 * 0.05**2
  assert own["completion_cd_x1000"].value > 1000 * (0.05**2 + 0.15**2)
  np.testing.assert_allclose(own["completion_tmd_x1000"].value, 2 * 1000 * 2 * 0.1**2, rtol=1e-4)
  assert 100 * 0.1 < own["scan_uhd_x100"].value < 100 * np.hypot(0.1, 0.2)


def test_a_scan_with_a_completion_without_a_surface_has_no_figures(tmp_path):
  evaluation = run(tmp_path, lambda scan, key, num: jnp.stack([extents(scan), -jnp.ones(3)]), pictures=0)
  assert all("1 of 2 completions" in row.status for row in evaluation.rows)
  assert by_name(evaluation)["completion_cd_x1000/mean"].value is None and "6 of 6 scans" in evaluation.warnings[0]


def test_a_task_that_completes_nothing_is_refused_in_a_line(tmp_path):
  with pytest.raises(UsageFault, match="predicts no 'complete'"):
    build(EVALUATORS, {"name": "completion"}, "evals.completion")(EvaluationInput({"sdf": distance}, DATASET, tmp_path, 0))


def test_a_scan_is_one_half():
  cloud = np.random.default_rng(0).normal(size=(40, 3))
  half = half_of(cloud, np.random.default_rng(1))
  away = half.mean(0) - cloud.mean(0)
  assert len(half) == 20 and np.linalg.norm(away) > 0.3 and (half @ away).min() > (cloud @ away).min()
