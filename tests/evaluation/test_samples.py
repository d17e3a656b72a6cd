"""Draws: the same whatever is asked for, kept whole on disk, never taken of another model; failures are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.core.errors import UsageFault
from fields3d.core.types import Dataset, Mesh
from fields3d.evaluation.results import EvaluationInput
from fields3d.evaluation.samples import (
    FOLDER,
    cleaned,
    cloud_key,
    clouds_of,
    draw_clouds,
    draw_meshes,
    reference_meshes,
)

NO_SHAPES = Dataset({"bounds": [[-1.0] * 3, [1.0] * 3]}, lambda *_: {}, lambda split: [])


def balls(shift=0.0):
  """Spheres whose radius is the code; a negative one is empty."""
  return {"sample": lambda key, num: jax.random.uniform(key, (num, 1), minval=-0.2, maxval=0.8),
          "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z[0] - shift}


def given(tmp_path, predict, section="a"):
  (tmp_path / section).mkdir(exist_ok=True)
  return EvaluationInput(predict, NO_SHAPES, tmp_path / section, 7)


def test_a_draw_does_not_depend_on_how_many_are_asked_for(tmp_path):
  few = draw_meshes(given(tmp_path, balls()), 3, 16, seed=1)
  again = draw_meshes(given(tmp_path / "..", balls(), tmp_path.name), 20, 16, seed=1)
  assert len(again) == 20 and sum(mesh is None for mesh in again) == len(again.problems) > 0
  for a, b in zip(few, again[:3], strict=True):
    assert (a is None) == (b is None)
    assert a is None or np.array_equal(a.vertices, b.vertices)


def test_points_of_a_draw_are_of_other_keys_than_the_codes_and_of_one_for_a_seed_and_an_index(tmp_path):
  asked = {"codes": [], "points": []}
  def sample(key, num):
    asked["codes"] += [key, *jax.random.split(key, 40), *(jax.random.fold_in(key, i) for i in range(40))]
    return jnp.zeros((num, 1))
  def points(z, key):
    asked["points"].append(key)
    return jax.random.normal(key, (8, 3))
  draw_clouds(given(tmp_path, {"sample": sample, "points": points}), 18, 8, seed=5)
  data = {name: [jax.random.key_data(key).tobytes() for key in keys] for name, keys in asked.items()}
  assert data["points"] == [jax.random.key_data(cloud_key(5, i)).tobytes() for i in range(18)]
  assert len(set(data["points"])) == 18 and not set(data["points"]) & set(data["codes"])


def test_radii_of_drawn_spheres_are_the_codes(tmp_path):
  drawn = draw_meshes(given(tmp_path, balls()), 16, 24, seed=0)
  codes = balls()["sample"](jax.random.fold_in(jax.random.key(0), 0), 16)[:, 0]
  for i, (mesh, radius) in enumerate(zip(drawn, np.asarray(codes), strict=True)):
    if radius < 0:
      assert mesh is None and "zero" in drawn.problems[i]
    elif radius > 0.1:  # a smaller sphere may slip between the grid's nodes
      found = np.linalg.norm(mesh.vertices, axis=1)
      assert abs(found.mean() - radius) < 0.01 and mesh.faces.dtype == np.int64


def test_specks_are_taken_off_when_asked_for_and_that_is_said(tmp_path):
  """A ball of radius 0.5 and one of 0.12 beside it: a share of 0.0576 of its area."""
  away = lambda x, place: jnp.linalg.norm(x - jnp.array([place, 0.0, 0.0]).reshape(1, 3), axis=-1)
  pair = {"sample": lambda key, num: jnp.zeros((num, 1)), "sdf": lambda x, z: jnp.minimum(away(x, -0.4) - 0.5, away(x, 0.7) - 0.12)}
  drawn = draw_meshes(given(tmp_path, pair), 2, 48, seed=0)
  assert cleaned(drawn, 0.0) == (drawn, [])
  for share, right in ((0.03, 0.8), (0.1, 0.11)):
    clean, said = cleaned(drawn, share)
    assert len(clean) == 2 and clean.problems == drawn.problems and f" {100 * share:g}% " in said[0]
    assert abs(clean[1].vertices[:, 0].max() - (right + 0.02 * (right > 0.5))) < 0.02


def test_kept_draws_are_read_again_and_damaged_ones_made_again(tmp_path, monkeypatch):
  inputs = given(tmp_path, balls())
  first = draw_meshes(inputs, 4, 16, seed=1)[:]
  files = sorted((tmp_path / FOLDER).rglob("*.npz"))
  assert len(files) == 4 and not list((tmp_path / FOLDER).rglob("*.tmp"))
  data = bytearray(files[0].read_bytes())
  data[len(data) // 2] ^= 1
  files[0].write_bytes(data)
  files[1].write_bytes(files[1].read_bytes()[:100])
  calls = []
  from fields3d.evaluation import samples
  extract = samples.extract
  monkeypatch.setattr(samples, "extract", lambda *a: calls.append(1) or extract(*a))
  second = draw_meshes(given(tmp_path, balls(), "b"), 4, 16, seed=1)[:]  # another evaluator of the same step
  assert len(calls) == 2
  for a, b in zip(first, second, strict=True):
    assert (a is None and b is None) or np.array_equal(a.vertices, b.vertices)


def test_another_model_never_gets_the_kept_draws(tmp_path):
  draw_meshes(given(tmp_path, balls()), 6, 16, seed=3)
  other = draw_meshes(given(tmp_path, balls(0.1)), 6, 16, seed=3)
  codes = np.asarray(balls()["sample"](jax.random.fold_in(jax.random.key(3), 0), 16))[:6, 0]
  radii = [None if mesh is None else np.linalg.norm(mesh.vertices, axis=1).mean() for mesh in other]
  found = [(radius, code + 0.1) for radius, code in zip(radii, codes, strict=True) if code > 0.1]
  assert len(found) > 2
  np.testing.assert_allclose(*np.transpose(found), atol=0.02)  # a cell is 0.13 wide
  assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_a_task_that_cannot_be_sampled_is_a_fault(tmp_path):
  with pytest.raises(UsageFault, match="no 'sample'"):
    draw_meshes(given(tmp_path, {"sdf": balls()["sdf"]}), 2, 16, seed=0)


def sphere(radius):
  made = trimesh.creation.icosphere(subdivisions=3, radius=radius)
  return Mesh(np.asarray(made.vertices), np.asarray(made.faces))


def test_clouds_lie_on_their_meshes_and_say_which():
  clouds, which = clouds_of([sphere(0.5), None, sphere(0.8)], 200, seed=2)
  assert which.tolist() == [0, 2] and clouds.shape == (2, 200, 3) and clouds.dtype == np.float32
  radii = np.linalg.norm(clouds, axis=2)
  np.testing.assert_allclose(radii, np.broadcast_to([[0.5], [0.8]], radii.shape), rtol=0.01)  # facets lie inside
  other, _ = clouds_of([None, None, sphere(0.8)], 200, seed=2)
  assert np.array_equal(other[0], clouds[1])
  assert not np.array_equal(clouds_of([sphere(0.8)], 200, 2, stream=1)[0][0], clouds_of([sphere(0.8)], 200, 2)[0][0])


def test_references_are_chosen_without_repeats():
  from fields3d.data.procedural import procedural
  dataset = procedural(num_shapes=2, num_val=5, num_test=0, samples_per_shape=10, rows=1, points=1)
  assert len(reference_meshes(dataset, "val")) == 5
  assert len(reference_meshes(dataset, "val", 2)) == 2
  with pytest.raises(UsageFault, match="it has 5"):
    reference_meshes(dataset, "val", 6)
  with pytest.raises(UsageFault, match="no 'test' shapes"):
    reference_meshes(dataset, "test")
