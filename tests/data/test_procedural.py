"""The procedural dataset: determinism, splits, sampling, colours, faults."""

import sys
import time

import numpy as np
import pytest

from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.data.families import FAMILIES
from fields3d.data.procedural import SPLITS, parameters, procedural, sample, solid

SMALL = {"families": ("mug", "car"), "num_shapes": 4, "num_val": 1, "num_test": 3, "samples_per_shape": 2000,
         "rows": 4, "points": 64}


@pytest.fixture(scope="module")
def dataset():
  return procedural(**SMALL)


@pytest.fixture(scope="module")
def samples():
  return sample(solid("mug", 0, 0), 20_000, (0.005, 0.0005), 0.94, seed=0, stream=(1, 2))


def test_the_same_arguments_give_the_same_bits(dataset):
  again = procedural(**SMALL)
  ours, theirs = dataset.batch(3, 0, 1), again.batch(3, 0, 1)
  assert ours.keys() == theirs.keys() == {"shape", "label", "x", "sdf", "normals", "colors"}
  for name in ours:
    np.testing.assert_array_equal(ours[name], theirs[name])
  one, other = dataset.shapes("test")[1], again.shapes("test")[1]
  np.testing.assert_array_equal(one.samples()["x"], other.samples()["x"])
  np.testing.assert_array_equal(one.samples()["sdf"], other.samples()["sdf"])


def test_asking_for_more_shapes_changes_none_of_the_first(dataset):
  more = procedural(**{**SMALL, "num_shapes": 6, "samples_per_shape": 10, "num_test": 9})
  assert more.info["names"][:4] == dataset.info["names"]
  assert [s.name for s in more.shapes("test")[:3]] == [s.name for s in dataset.shapes("test")]


def test_splits_share_no_shape(dataset):
  names = [shape.name for split in SPLITS for shape in dataset.shapes(split)]
  assert len(names) == len(set(names)) == 8
  drawn = [parameters("car", 0, index) for index in range(60)]
  assert len({repr(one) for one in drawn}) == 60


def test_another_seed_is_another_shape():
  assert parameters("car", 0, 0) != parameters("car", 1, 0)


def test_info_describes_the_training_shapes_in_order(dataset):
  assert dataset.info == {"num_shapes": 4, "names": ["mug-0000", "car-0000", "mug-0003", "car-0003"],
                          "labels": ["mug", "car"] * 2, "classes": ["car", "mug"], "bounds": [[-1.0] * 3, [1.0] * 3]}
  assert [s.name for s in dataset.shapes("train")] == dataset.info["names"]
  assert [s.name for s in dataset.shapes("test")] == ["mug-0002", "car-0002", "mug-0005"]
  assert [s.name for s in dataset.shapes("val")] == ["mug-0001"]


def test_kept_samples_are_those_made_in_memory_and_are_made_once(tmp_path, dataset, monkeypatch):
  kept = procedural(**SMALL, surface=40, cached=True, cache_dir=str(tmp_path), workers=1)
  memory = procedural(**SMALL, surface=40)
  for name, value in memory.batch(5, 0, 1).items():
    np.testing.assert_array_equal(kept.batch(5, 0, 1)[name], value)
  np.testing.assert_array_equal(kept.batch(5, 0, 1)["x"], dataset.batch(5, 0, 1)["x"])  # the pool is drawn after them
  mesh, truth = kept.shapes("test")[1].mesh(), memory.shapes("test")[1].mesh()
  monkeypatch.setattr("fields3d.data.kept_samples._keep", lambda *arguments: pytest.fail("made again"))
  again = procedural(**SMALL, surface=40, cached=True, cache_dir=str(tmp_path), workers=1)
  monkeypatch.setattr(sys.modules["fields3d.data.procedural"], "surface", lambda *arguments: pytest.fail("made again"))
  for ours in (mesh, again.shapes("test")[1].mesh()):
    np.testing.assert_array_equal(ours.vertices, truth.vertices)
    np.testing.assert_array_equal(ours.faces, truth.faces)
    np.testing.assert_array_equal(ours.colors, truth.colors)


def test_surface_points_lie_on_the_shape_and_labels_name_its_class():
  dataset = procedural(**SMALL, surface=40)
  batch, shapes = dataset.batch(0, 0, 1), dataset.shapes("train")
  for i, label, points in zip(batch["shape"], batch["label"], batch["surface"], strict=True):
    assert dataset.info["classes"][label] == shapes[i].label
    np.testing.assert_allclose(shapes[i].sdf(points), 0, atol=1e-6)  # float32 points of size 1


def test_batches_hold_the_distance_of_the_shape_they_name(dataset):
  batch, shapes = dataset.batch(0, 0, 1), dataset.shapes("train")
  assert sorted(batch["shape"]) == [0, 1, 2, 3]
  for i, x, sdf in zip(batch["shape"], batch["x"], batch["sdf"], strict=True):
    np.testing.assert_array_equal(shapes[i].sdf(x).astype(np.float32), sdf)
    assert np.sum(sdf < 0) == 32


def test_samples_are_in_order_of_their_side_with_unit_normals(samples):
  assert samples.x.dtype == samples.sdf.dtype == samples.normals.dtype == np.float32
  assert np.all(samples.sdf[:samples.num_outside] >= 0) and np.all(samples.sdf[samples.num_outside:] < 0)
  np.testing.assert_allclose(np.linalg.norm(samples.normals, axis=1), 1, atol=1e-6)


def test_samples_lie_near_the_surface_in_the_published_proportions(samples):
  # by either noise, |sdf| <= the displacement; a uniform point lies within 0.02 of the surface with some 8% probability
  close = np.mean(np.abs(samples.sdf) < 2 * np.sqrt(0.0005))
  assert 0.47 * 0.95 + 0.47 * 0.45 < close < 0.47 + 0.47 * 0.7 + 0.06
  num_uniform = np.sum(np.abs(samples.sdf) > 5 * np.sqrt(0.005))  # out of the reach of the noise
  assert 0.06 * 20_000 * 0.2 < num_uniform < 0.06 * 20_000
  uniform = sample(solid("mug", 0, 0), 20_000, (), 0.0, seed=0, stream=(1,))
  assert np.all(np.abs(uniform.x) <= 1)
  np.testing.assert_allclose(uniform.x.var(axis=0), 1 / 3, rtol=0.03)  # 4 sigma of the variance of 20,000 draws


def test_colours_of_samples_are_those_of_the_nearest_surface_point(samples):
  made = solid("mug", 0, 0)
  outside = slice(0, samples.num_outside)
  foot = samples.x[outside] - samples.sdf[outside, None] * samples.normals[outside]
  assert np.mean(np.abs(made.sdf(foot)) < 1e-5) > 0.999
  assert np.mean(np.all(made.color(foot) == samples.colors[outside], axis=1)) > 0.99
  palette = {part.color for part in made.parts} | {color for part in made.parts for _, color in part.paint}
  assert {tuple(c) for c in samples.colors.tolist()} <= palette


def test_a_shape_has_its_true_mesh_colour_and_honest_flag(dataset):
  shape = dataset.shapes("test")[0]
  mesh = shape.mesh()
  assert shape.label == "mug" and not shape.exact and shape.mesh() is mesh
  middles = mesh.vertices[mesh.faces].mean(axis=1)
  away = np.abs(shape.sdf(middles))
  assert np.abs(shape.sdf(mesh.vertices)).max() < 1e-6
  assert away.mean() < 1e-4 and away.max() < 1 / 128
  np.testing.assert_array_equal(np.round(shape.color(mesh.vertices) * 255).astype(np.uint8), mesh.colors)


@pytest.mark.slow
def test_the_default_dataset_builds_within_ten_seconds():
  start = time.process_time()
  procedural()
  assert time.process_time() - start < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_hundred_thousand_distances_take_a_tenth_of_a_second(name):
  made, x = solid(name, 0, 0), np.random.default_rng(0).uniform(-1, 1, (100_000, 3))
  made.sdf(x)
  start = time.process_time()
  made.sdf(x)
  assert time.process_time() - start < 0.1


@pytest.mark.parametrize("change, message", [
    ({"families": ("chiar",)}, "--config.data.families: unknown family 'chiar'; did you mean 'chair'?"),
    ({"families": ()}, "names no family"),
    ({"families": ("mug", "mug")}, "names a family twice"),
    ({"near_variances": ()}, "--config.data.near_variances: is empty"),
    ({"near_variances": (0.0,)}, "near_variances.*out of range"),
    ({"samples_per_shape": 10**12}, "--config.data.num_shapes: needs .* GiB"),
    ({"num_shapes": 0}, "num_shapes: 0 is out of range"),
])
def test_a_bad_setting_is_one_line_that_names_it(change, message):
  with pytest.raises(UsageFault, match=message.replace("?", r"\?")):
    build({"procedural": procedural}, {"name": "procedural", **SMALL, **change}, "data")


def test_an_unknown_split_lists_the_right_ones(dataset):
  with pytest.raises(UsageFault, match="no split 'tests'; did you mean 'test'"):
    dataset.shapes("tests")
