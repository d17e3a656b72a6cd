"""Copies of shapes and recombinations of parts: exact, deterministic, only in training."""

import numpy as np
import pytest

from fields3d.data.families import FAMILIES
from fields3d.data.procedural import parameters, places, procedural, solid
from fields3d.data.solids import surface
from fields3d.data.variants import PARTS, Augment, Motion, motion

SETTINGS = Augment(variants=2, turn=180.0, scale=0.7, shift=0.2, jitter=0.3)
POINTS = np.random.default_rng(0).uniform(-1, 1, (2000, 3))


@pytest.mark.parametrize("family", ["car", "chair"])
def test_a_moved_solid_has_the_distances_and_colours_of_the_still_one(family):
  made, move = solid(family, 0, 0), motion(SETTINGS, 0, family, 1)
  moved = move.solid(made)
  np.testing.assert_allclose(moved.sdf(move.points(POINTS)), move.scale * made.sdf(POINTS), atol=1e-12)  # below 2
  np.testing.assert_array_equal(moved.color(move.points(POINTS)), move.colors(made.color(POINTS)))
  np.testing.assert_allclose(move.back(move.points(POINTS)), POINTS, atol=1e-12)


def test_a_turn_of_90_degrees_brings_z_to_x():
  np.testing.assert_allclose(Motion(turn=np.pi / 2).points(np.array([[0.0, 0.0, 1.0]])), [[1.0, 0.0, 0.0]], atol=1e-15)


def test_moved_shapes_stay_in_the_unit_ball_and_within_the_settings():
  radius = 1 / 1.03
  for number in range(1, 200):
    move = motion(SETTINGS, 0, "a", number)
    assert 0.7 <= move.scale <= 1 and abs(move.turn) <= np.pi and np.abs(move.shift).max() <= 0.2
    assert move.scale * radius + np.linalg.norm(move.shift) <= 1 + 1e-12
    assert np.abs(np.array(move.gains) - 1).max() <= 0.3
  assert motion(Augment(), 0, "a", 1) == Motion()


def test_batches_of_copies_are_the_moved_samples_of_their_shapes():
  arguments = {"families": ("mug",), "num_shapes": 3, "num_val": 1, "num_test": 1, "samples_per_shape": 300, "rows": 6,
               "points": 64, "surface": 16}
  still, data = procedural(**arguments), procedural(**arguments, augment=SETTINGS)
  assert data.info["num_shapes"] == 9 and data.info["names"][:3] == ["mug-0000", "mug-0000~1", "mug-0000~2"]
  shapes, seen = data.shapes("train"), set()
  assert [s.name for s in shapes] == data.info["names"] and len(data.info["labels"]) == 9
  for position in range(8):
    batch = data.batch(position, 0, 1)
    halves = [data.batch(position, shard, 2) for shard in range(2)]
    for name, value in batch.items():
      np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), value)
    np.testing.assert_array_equal(batch["shape"] // 3, still.batch(position, 0, 1)["shape"])
    for row, index in enumerate(batch["shape"]):
      seen.add(int(index))
      sdf = shapes[index].sdf
      np.testing.assert_allclose(sdf(batch["x"][row]), batch["sdf"][row], atol=1e-6)  # float32 of numbers below 2
      np.testing.assert_allclose(sdf(batch["surface"][row]), 0.0, atol=1e-6)
      step = 1e-3 * batch["normals"][row]
      slope = (sdf(batch["x"][row] + step) - sdf(batch["x"][row] - step)) / 2e-3
      assert np.median(np.abs(slope - 1)) < 1e-2  # beside edges of the distance it is less
  assert seen == set(range(9))
  for split in ("val", "test"):
    assert [s.name for s in data.shapes(split)] == [s.name for s in still.shapes(split)]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_parameter_belongs_to_one_part_at_most(family):
  names = [name for part in PARTS[family].values() for name in part]
  assert len(set(names)) == len(names) and set(names) <= set(FAMILIES[family].parameters)


def test_recombined_shapes_have_whole_parts_of_two_and_their_distance_is_the_union():
  own, other = parameters("chair", 0, 0), parameters("chair", 0, 9)
  mixed = parameters("chair", 0, 0, 9)
  taken = {part for part, names in PARTS["chair"].items() if any(mixed[n] != own[n] for n in names)}
  assert taken and taken != set(PARTS["chair"])
  for part, names in PARTS["chair"].items():
    assert all(mixed[n] == (other if part in taken else own)[n] for n in names)
  made = solid("chair", 0, 0, 9)
  np.testing.assert_array_equal(made.sdf(POINTS), made.distances(POINTS).min(axis=0))
  mesh = surface(made, 1 / 40)
  outside = POINTS[made.sdf(POINTS) > 0.05][:100]
  nearest = np.array([np.linalg.norm(mesh.vertices - x, axis=1).min() for x in outside])
  np.testing.assert_allclose(nearest, made.sdf(outside), atol=0.03)  # vertices are 1/40 apart


def test_only_training_shapes_recombine_and_so_many_as_asked():
  whole = places(("mug", "car"), 400, "train", 0, 0.25)
  share = np.mean([other is not None for _, _, other in whole])
  assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)
  for family, index, other in whole:
    assert other is None or (other != index and other % 3 == 0 and (family, other, None) in [(f, i, None) for f, i, _ in whole])
  assert all(other is None for split in ("val", "test") for _, _, other in places(("mug",), 50, split, 0, 1.0))
  assert places(("mug",), 1, "train", 0, 1.0) == [("mug", 0, None)]
  assert places(("mug", "car"), 5, "train") == [("mug", 0, None), ("car", 0, None), ("mug", 3, None), ("car", 3, None),
                                                ("mug", 6, None)]
