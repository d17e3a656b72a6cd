"""Sets of pictures with a small network of known features: what tells sets apart and what does not; failed draws."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.evaluation import EVALUATORS, rendered
from fields3d.evaluation.rendered import FeatureSet, compare_image_features, compare_images
from fields3d.evaluation.results import EvaluationInput
from fields3d.metrics.frechet import frechet_of_sets
from fields3d.metrics.image_features import Network
from fields3d.metrics.kid import kid


def means(weights, images):
  """The mean over four stripes of rows."""
  return jnp.float32(images)[..., 0].reshape(len(images), 4, -1).mean(2) * weights["scale"] / 255


NETWORK = Network("FD-Stripes", "KID-Stripes", 4, "stripes", "stripes", {"scale": np.float32(2)}, jax.jit(means))


def stack(rng, num, low, high):
  return [np.full((8, 8, 3), level, np.uint8) + rng.integers(0, 9, (8, 8, 1), np.uint8)
          for level in rng.integers(low, high, num)]


def figures(metrics):
  return {m.name: m for m in metrics}


def test_stacks_of_one_kind_are_near_their_control_and_others_far():
  rng = np.random.default_rng(0)
  real, same, other = stack(rng, 40, 50, 150), stack(rng, 40, 50, 150), stack(rng, 30, 150, 240)
  near, warnings = compare_images(same, real, NETWORK, "stripes as they are", subsets=3)
  far = figures(compare_images(other, real, NETWORK, "stripes as they are", subsets=3)[0])
  near = figures(near)
  assert not warnings and near["FD-Stripes"].n == 40 and far["FD-Stripes"].n == 30
  for name in ("FD-Stripes@matched", "KID-Stripes"):
    assert far[name].floor == near[name].floor or name == "FD-Stripes@matched"
    assert far[name].value > 20 * max(far[name].floor, 0.01)
  assert near["FD-Stripes@matched"].value < 5 * near["FD-Stripes@matched"].floor
  assert near["KID-Stripes"].low < 0.05 < far["KID-Stripes"].low
  assert far["FD-Stripes"].low < far["FD-Stripes"].value < far["FD-Stripes"].high
  assert far["FD-Stripes@infinite"].low < far["FD-Stripes"].value and far["FD-Stripes@40%"].value > 1
  features = [np.asarray(means(NETWORK.weights, np.stack(x)), np.float64) for x in (other, real)]
  assert far["FD-Stripes"].value == pytest.approx(frechet_of_sets(*features), rel=1e-6)
  assert "30 images of 30 against 40 images of 40" in far["FD-Stripes"].protocol


def test_matched_parts_have_as_many_images_where_groups_do_not():
  rng = np.random.default_rng(3)
  draws, real = FeatureSet(rng.normal(size=(240, 4)), np.arange(240)), FeatureSet(rng.normal(size=(240, 4)), np.repeat(np.arange(30), 8))
  found = figures(compare_image_features(draws, real, NETWORK, "of one kind", subsets=4)[0])["FD-Stripes@matched"]
  assert 1 / 3 < found.value / found.floor < 3  # thirty images against half of 240 would be far above


def test_shapes_of_very_unequal_numbers_of_images_have_every_figure_and_the_control_is_of_whole_halves():
  rng = np.random.default_rng(5)
  draws = FeatureSet(rng.normal(size=(21, 4)), np.arange(21))
  real = FeatureSet(rng.normal(size=(21, 4)), np.repeat(np.arange(5), [12, 3, 2, 2, 2]))
  found = figures(compare_image_features(draws, real, NETWORK, "of one kind", subsets=2)[0])
  expected = []
  for split in range(rendered.SPLITS):
    order = np.random.default_rng((0, 11, split)).permutation(5)
    two, one = (np.isin(real.groups, half) for half in (order[2:4], order[:2]))
    expected.append(kid(real.features[two], real.features[one], real.groups[two], real.groups[one], resamples=0)[0])
  assert found["KID-Stripes"].floor == pytest.approx(np.mean(expected), rel=1e-12)


def test_few_images_for_the_features_are_doubted_and_too_few_refused():
  rng = np.random.default_rng(1)
  one = FeatureSet(rng.normal(size=(24, 20)), np.repeat(np.arange(6), 4))
  metrics, warnings = compare_image_features(one, one, NETWORK, "twice the same", subsets=2)
  assert not warnings and figures(metrics)["FD-Stripes"].value < 1e-9 and figures(metrics)["FD-Stripes"].low is None
  wide = Network("FD-Wide", "KID-Wide", 20, "", "wide", {}, lambda *_: None)
  assert "twice the features' 20 dimensions" in compare_image_features(one, one, wide, "", subsets=2)[1][0]
  with pytest.raises(UsageFault, match="fewer than 4"):
    compare_image_features(one.only(np.arange(3)), one, NETWORK, "")


def box(name, half):
  made = trimesh.creation.box(extents=2 * half)
  mesh = Mesh(np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64))
  return Shape(name, "box", None, lambda: mesh, lambda: {})


SHAPES = [box(f"box {i}", half) for i, half in enumerate(np.random.default_rng(2).uniform(0.15, 0.7, (8, 3)))]
DATASET = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: SHAPES if split == "test" else [])


def distance(x, z):
  q = jnp.abs(x) - z[None]
  return jnp.linalg.norm(jnp.maximum(q, 0), axis=-1) + jnp.minimum(jnp.max(q, axis=-1), 0)


def boxes(key, num):
  return jax.random.uniform(key, (num, 3), minval=0.15, maxval=0.7)


def half_fail(key, num):
  return boxes(key, num) * jnp.where(jnp.arange(num)[:, None] % 2 == 0, 1.0, -1.0)


def test_draws_are_judged_by_their_pictures_and_failures_count_as_background(tmp_path, monkeypatch):
  monkeypatch.setattr(rendered, "choose_network", lambda *_: NETWORK)

  def run(sample):
    out_dir = tmp_path / sample.__name__ / "rendered"
    out_dir.mkdir(parents=True)
    evaluator = build(EVALUATORS, {"name": "rendered", "views": 2, "size": 16, "resolution": 12, "subsets": 2},
                      "evals.rendered")
    return evaluator(EvaluationInput({"sample": sample, "sdf": distance}, DATASET, out_dir, 7))

  found = {sample.__name__: run(sample) for sample in (boxes, half_fail)}
  values = {name: figures(evaluation.metrics)["KID-Stripes"].value for name, evaluation in found.items()}
  assert values["boxes"] < values["half_fail"]
  assert "4 of 8 draws have no surface" in found["half_fail"].warnings[0]
  assert [row.status == "ok" for row in found["half_fail"].rows] == [True, False] * 4
  json.dumps(found["boxes"].to_json(), allow_nan=False)
  assert "sphere-v1-2x16" in found["boxes"].metrics[0].protocol
