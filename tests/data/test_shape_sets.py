"""The datasets of meshes, packs, DeepSDF's files and prepared folders, built from their configs as training does."""

import dataclasses
import logging

import numpy as np
import pytest
import trimesh

from fields3d.core import strict_json
from fields3d.core.config import build, check
from fields3d.core.errors import BadData, MissingInput, UsageFault
from fields3d.core.types import Frame
from fields3d.data import DATASETS, cache, deepsdf_files, entry_shapes, quality
from fields3d.data.prepare import Recipe, prepare
from fields3d.data.sdf_samples import Protocol, split_by_sign
from fields3d.data.sources import find_sources

SMALL = {"samples_per_shape": 1000, "rows": 2, "points": 64, "workers": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("FIELDS3D_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(entry_shapes, "TESTING", Protocol(500, (0.05, 0.0005)))


def box(path, size=(1.0, 0.6, 0.4)):
  path.parent.mkdir(parents=True, exist_ok=True)
  trimesh.creation.box(size).export(path)
  return path


def box_sdf(points, half):
  q = np.abs(points) - half
  return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


def data(section):
  check(DATASETS, section, "data")
  return build(DATASETS, section, "data")


def test_a_single_mesh_stands_in_every_split(tmp_path):
  dataset = data({"name": "meshes", "path": str(box(tmp_path / "a.ply")), **SMALL, "rows": 1})
  assert dataset.info["num_shapes"] == 1 and dataset.info["names"] == ["a"]
  assert dataset.info["bounds"] == [[-1, -1, -1], [1, 1, 1]]
  assert [len(dataset.shapes(split)) for split in ("train", "val", "test")] == [1, 1, 1]
  batch = dataset.batch(0, 0, 1)
  assert batch["shape"].tolist() == [0] and batch["x"].shape == (1, 64, 3) and batch["normals"].shape == (1, 64, 3)
  half = np.array([0.5, 0.3, 0.2]) / dataset.shapes("train")[0].frame.scale
  np.testing.assert_allclose(batch["sdf"][0], box_sdf(batch["x"][0].astype(float), half), atol=1e-6)
  assert (batch["sdf"][0] < 0).sum() == 32


def test_surface_points_lie_on_the_mesh_and_are_drawn_once(tmp_path):
  section = {"name": "meshes", "path": str(box(tmp_path / "a.ply")), **SMALL, "rows": 1, "surface": 50}
  batch = data(section).batch(3, 0, 1)
  assert batch["surface"].shape == (1, 50, 3) and batch["label"].tolist() == [0]
  np.testing.assert_allclose(data(section).shapes("train")[0].sdf(batch["surface"][0]), 0, atol=1e-6)  # float32 points
  np.testing.assert_array_equal(data(section).batch(3, 0, 1)["surface"], batch["surface"])
  assert len(list((tmp_path / "cache").rglob("surface.npy"))) == 1


def test_a_shape_is_the_truth_in_the_model_frame(tmp_path):
  dataset = data({"name": "meshes", "path": str(box(tmp_path / "a.ply")), **SMALL})
  shape = dataset.shapes("train")[0]
  points = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
  half = np.array([0.5, 0.3, 0.2]) / shape.frame.scale
  np.testing.assert_allclose(shape.sdf(points), box_sdf(points.astype(float), half), atol=1e-7)
  assert shape.exact and shape.color is None and len(shape.mesh().faces) == 12
  np.testing.assert_allclose(np.abs(shape.mesh().vertices), np.tile(half, (8, 1)), atol=1e-7)
  samples = shape.samples()
  assert samples["x"].shape == (500, 3) and samples["sdf"].dtype == np.float32
  np.testing.assert_array_equal(samples["x"], dataset.shapes("test")[0].samples()["x"])


def test_the_split_of_a_shape_depends_on_its_name_alone(tmp_path):
  for i in range(12):
    box(tmp_path / "in" / "c" / f"{i}.ply", (1.0, 0.3 + 0.05 * i, 0.4))
  section = {"name": "meshes", "path": str(tmp_path / "in"), **SMALL, "splits": (0.5, 0.25, 0.25)}
  before = data(section)
  names = {split: [s.name for s in before.shapes(split)] for split in entry_shapes.SPLITS}
  assert sorted(sum(names.values(), [])) == sorted(f"c/{i}" for i in range(12)) and all(names.values())
  assert before.info["names"] == names["train"] and set(before.info["labels"]) == {"c"}
  box(tmp_path / "in" / "c" / "new.ply")
  after = data(section)
  for split, old in names.items():
    assert [s.name for s in after.shapes(split) if s.name != "c/new"] == old
  shares = np.bincount([entry_shapes.SPLITS.index(entry_shapes.split_of(str(i), (0.5, 0.3, 0.2))) for i in range(4000)])
  np.testing.assert_allclose(shares / 4000, [0.5, 0.3, 0.2], atol=4 * np.sqrt(0.25 / 4000))


def test_batches_are_a_function_of_position_and_shards_cut_them(tmp_path):
  for i in range(3):
    box(tmp_path / "in" / f"{i}.ply", (1.0, 0.4 + 0.1 * i, 0.4))
  section = {"name": "meshes", "path": str(tmp_path / "in"), **SMALL}
  first, second = data(section), data(section)
  for position in (5, 0, 1):
    whole = first.batch(position, 0, 1)
    for name, value in whole.items():
      np.testing.assert_array_equal(second.batch(position, 0, 1)[name], value)
      halves = [first.batch(position, i, 2)[name] for i in range(2)]
      np.testing.assert_array_equal(np.concatenate(halves), value)
  seen = np.concatenate([first.batch(p, 0, 1)["shape"] for p in range(3)])
  assert sorted(seen[:3].tolist()) == [0, 1, 2]


def test_shapes_that_are_rejected_are_left_out_and_said_so(tmp_path, caplog):
  box(tmp_path / "in" / "good.ply")
  (tmp_path / "in" / "bad.ply").write_bytes(b"ply")
  with caplog.at_level(logging.WARNING):
    dataset = data({"name": "meshes", "path": str(tmp_path / "in"), **SMALL})
  assert dataset.info["names"] == ["good"] and "1 shapes rejected" in caplog.text
  (tmp_path / "in" / "good.ply").unlink()
  with pytest.raises(BadData, match=r"bad\.ply"):
    data({"name": "meshes", "path": str(tmp_path / "in"), **SMALL})


@pytest.mark.parametrize("section, fault, words", [
    ({"name": "meshes", "path": "{}/no"}, MissingInput, "no such file"),
    ({"name": "pack", "path": "{}/no"}, MissingInput, "is not there"),
    ({"name": "deepsdf", "path": "{}", "train": "t.json"}, MissingInput, "SdfSamples"),
    ({"name": "prepared", "path": "{}"}, MissingInput, "index.json"),
    ({"name": "meshes", "path": "x", "sign": "windin"}, UsageFault, "did you mean 'winding'"),
    ({"name": "meshes", "path": "x", "near_variances": (0.1, -1.0)}, UsageFault, "out of range"),
    ({"name": "prepared", "path": "x", "splits": (0.0, 1.0, 0.0)}, UsageFault, "splits"),
])
def test_what_is_missing_or_wrong_is_named(tmp_path, section, fault, words):
  with pytest.raises(fault, match=words):
    data({**section, "path": section["path"].format(tmp_path)})


def ball(radius, seed):
  x = np.random.default_rng(seed).uniform(-1, 1, (400, 3)).astype(np.float32)
  return split_by_sign(x, (np.linalg.norm(x, axis=1) - radius).astype(np.float32))


def test_deepsdf_data_trains_on_its_samples_and_is_measured_on_its_meshes(tmp_path, caplog):
  frame = Frame((1.0, 2.0, 3.0), 2.0)
  for name, radius in (("a", 0.5), ("b", 0.4), ("c", 0.6)):
    below = f"set/ball/{name}.npz"
    deepsdf_files.write_samples(tmp_path / "SdfSamples" / below, ball(radius, 0))
    deepsdf_files.write_normalization(tmp_path / "NormalizationParameters" / below, frame)
    sphere = trimesh.creation.icosphere(3, radius)
    sphere.vertices = sphere.vertices * frame.scale + frame.offset
    (tmp_path / "truth" / "ball" / name / "models").mkdir(parents=True)
    sphere.export(tmp_path / "truth" / "ball" / name / "models" / "model_normalized.obj")
  deepsdf_files.write_split(tmp_path / "train.json", [("set", "ball", "b"), ("set", "ball", "a"), ("set", "ball", "no")])
  deepsdf_files.write_split(tmp_path / "test.json", [("set", "ball", "c")])
  section = {"name": "deepsdf", "path": str(tmp_path), "train": str(tmp_path / "train.json"),
             "test": str(tmp_path / "test.json"), "rows": 2, "points": 32, "workers": 1}
  dataset = data({**section, "meshes": str(tmp_path / "truth")})
  assert dataset.info["names"] == ["b", "a"] and dataset.info["labels"] == ["ball", "ball"]
  batch = dataset.batch(0, 0, 1)
  radii = np.where(batch["shape"] == 0, 0.4, 0.5)[:, None]
  np.testing.assert_allclose(batch["sdf"], np.linalg.norm(batch["x"], axis=-1) - radii, atol=1e-6)
  assert "normals" not in batch and len(dataset.shapes("val")) == 0
  unseen = dataset.shapes("test")[0]
  assert unseen.frame == frame and len(unseen.samples()["sdf"]) == 400
  np.testing.assert_allclose(unseen.sdf(np.zeros((1, 3))), -0.6, rtol=0.02)  # an icosphere of 1,280 faces
  assert "another split" not in caplog.text
  deepsdf_files.write_split(tmp_path / "val.json", [("set", "ball", "c"), ("set", "ball", "a")])
  data({**section, "val": str(tmp_path / "val.json")})
  assert "1 shapes are of the training and of another split" in caplog.text
  bare = data(section).shapes("test")[0]
  with pytest.raises(MissingInput, match="no mesh"):
    bare.mesh()


def test_a_prepared_folder_is_a_dataset_without_its_sources(tmp_path):
  for i in range(3):
    box(tmp_path / "in" / "c" / f"{i}.ply", (1.0, 0.4 + 0.1 * i, 0.4))
  rows = prepare(find_sources(tmp_path / "in"), Recipe(Protocol(1000)), tmp_path / "out", workers=1)
  quality.write_report(rows, tmp_path / "out")
  for path in (tmp_path / "in" / "c").iterdir():
    path.unlink()
  dataset = data({"name": "prepared", "path": str(tmp_path / "out"), "splits": (1.0, 0.0, 0.0), "rows": 2, "points": 8})
  assert dataset.info["names"] == ["c/0", "c/1", "c/2"] and dataset.batch(0, 0, 1)["x"].shape == (2, 8, 3)
  with pytest.raises(BadData, match="no training shape"):
    data({"name": "prepared", "path": str(tmp_path / "out"), "classes": ("d",)})
  for facts in ({}, 3, {"num_samples": 1}):
    strict_json.write(tmp_path / "out" / quality.INDEX, [{**dataclasses.asdict(rows[0]), "facts": facts}])
    with pytest.raises(BadData, match="index.json: is not the index of prepared data"):
      data({"name": "prepared", "path": str(tmp_path / "out")})
  rows = prepare([], Recipe(None), tmp_path / "out") + [dataclasses.replace(rows[0], facts={**rows[0].facts, "num_samples": 0})]
  quality.write_report(rows, tmp_path / "out")
  with pytest.raises(BadData, match="without samples"):
    data({"name": "prepared", "path": str(tmp_path / "out")})


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
  assert cache.default_root() == tmp_path / "cache"
  monkeypatch.delenv("FIELDS3D_CACHE")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
  assert cache.default_root() == tmp_path / "x" / "fields3d"
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path / "h"))
  assert cache.default_root() == tmp_path / "h" / ".cache" / "fields3d"


def test_watertight_chairs_of_the_furniture_pack_have_colours_and_splits(real_data):
  section = {"name": "pack", "path": str(real_data / "shapes" / "furniture"), "classes": ("chair",),
             "min_closed_share": 1.0, "max_shapes": 5, "splits": (0.6, 0.0, 0.4), **SMALL}
  dataset = data(section)
  assert dataset.info["num_shapes"] + len(dataset.shapes("test")) == 5
  assert set(dataset.info["labels"]) == {"chair"}
  batch = dataset.batch(0, 0, 1)
  assert batch["colors"].shape == (2, 64, 3) and batch["colors"].max() <= 1
  for shape in (*dataset.shapes("train")[:1], *dataset.shapes("test")[:1]):
    near = shape.mesh().vertices[:50]
    assert np.abs(shape.sdf(near)).max() < 1e-9 and shape.color(near).shape == (50, 3)
  with pytest.raises(UsageFault, match="did you mean 'chair'"):
    data({**section, "classes": ("chiar",)})
