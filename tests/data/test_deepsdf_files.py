"""DeepSDF's files: round trips, and every kind of damaged or wrong sample file and split."""

import json

import numpy as np
import pytest

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Frame
from fields3d.data import deepsdf_files
from fields3d.data.sdf_samples import split_by_sign


def ball(n=2000, seed=0):
  x = np.random.default_rng(seed).uniform(-1, 1, (n, 3)).astype(np.float32)
  return split_by_sign(x, (np.linalg.norm(x, axis=1) - 0.6).astype(np.float32))


def rows(samples):
  return np.concatenate([samples.x, samples.sdf[:, None]], axis=1)


def save(path, pos, neg, **more):
  np.savez(path, pos=pos, neg=neg, **more)
  return path


def split(samples):
  return rows(samples)[:samples.num_outside], rows(samples)[samples.num_outside:]


def test_samples_come_back_as_they_were_written(tmp_path):
  path = tmp_path / "SdfSamples" / "a.npz"
  deepsdf_files.write_samples(path, ball())
  with np.load(path) as arrays:
    assert set(arrays) == {"pos", "neg"} and arrays["pos"].shape[1] == 4 and arrays["pos"].dtype == np.float32
    assert (arrays["pos"][:, 3] >= 0).all() and (arrays["neg"][:, 3] < 0).all()
  back, warnings = deepsdf_files.read_samples(path)
  assert warnings == []
  np.testing.assert_array_equal(rows(back), rows(ball()))
  assert back.num_outside == ball().num_outside and back.normals is None


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
@pytest.mark.parametrize("fortran", [False, True])
def test_any_float_width_byte_order_and_memory_order_is_converted(tmp_path, dtype, fortran):
  pos, neg = (np.asarray(a, dtype, order="F" if fortran else "C") for a in split(ball()))
  back, _ = deepsdf_files.read_samples(save(tmp_path / "a.npz", pos, neg))
  assert back.x.dtype == np.float32 and back.x.flags.c_contiguous
  np.testing.assert_array_equal(back.sdf[:back.num_outside], pos[:, 3].astype(np.float32))


def test_a_shape_without_samples_inside_is_kept(tmp_path):
  pos, neg = split(ball())
  back, _ = deepsdf_files.read_samples(save(tmp_path / "a.npz", pos, neg[:0]))
  assert back.num_outside == len(back.sdf) == len(pos)


@pytest.mark.parametrize("what, words", [
    (lambda pos, neg: {"neg": neg}, "has no array 'pos', only neg"),
    (lambda pos, neg: {"pos": pos}, "has no array 'neg'"),
    (lambda pos, neg: {"pos": pos[:, :3], "neg": neg}, r"'pos' is float32 of shape \(\d+, 3\)"),
    (lambda pos, neg: {"pos": pos, "neg": neg.astype(np.int64)}, "'neg' is int64"),
    (lambda pos, neg: {"pos": pos.ravel(), "neg": neg}, "'pos'"),
    (lambda pos, neg: {"pos": pos[:20], "neg": neg[:20]}, "has 40 samples, at least 64"),
    (lambda pos, neg: {"pos": pos[:0], "neg": neg[:0]}, "has 0 samples"),
    (lambda pos, neg: {"pos": np.ones((100, 4), np.float32), "neg": neg[:0]}, "identical"),
    (lambda pos, neg: {"pos": np.where(np.arange(len(pos))[:, None] % 50 == 0, np.nan, pos), "neg": neg},
     r"\d+ of 2000 samples are not finite"),
    (lambda pos, neg: {"pos": neg * [1, 1, 1, -1], "neg": pos * [1, 1, 1, -1]}, "sign looks inverted.*--sdf-sign"),
    (lambda pos, neg: {"pos": pos * [1, 1, 1, -1], "neg": neg * [1, 1, 1, -1]}, "sign looks inverted.*--sdf-sign"),
])
def test_a_bad_sample_file_is_one_fault(tmp_path, what, words):
  np.savez(tmp_path / "a.npz", **what(*split(ball())))
  with pytest.raises(BadData, match=words) as caught:
    deepsdf_files.read_samples(tmp_path / "a.npz")
  assert "a.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_few_rows_that_are_not_finite_are_dropped_and_counted(tmp_path):
  pos, neg = (a.copy() for a in split(ball()))
  pos[3, 0], neg[5, 3] = np.nan, np.inf
  back, warnings = deepsdf_files.read_samples(save(tmp_path / "a.npz", pos, neg))
  assert warnings == ["2 of 2000 samples are not finite: dropped"]
  assert len(back.sdf) == 1998 and np.isfinite(rows(back)).all()


def test_an_inverted_sign_is_turned_when_it_is_declared(tmp_path):
  pos, neg = split(ball())
  path = save(tmp_path / "a.npz", neg * [1, 1, 1, -1], pos * [1, 1, 1, -1])
  back, _ = deepsdf_files.read_samples(path, "positive-inside")
  found, truth = rows(back), rows(ball())
  np.testing.assert_array_equal(found[np.lexsort(found.T)], truth[np.lexsort(truth.T)])
  as_given, _ = deepsdf_files.read_samples(path, "negative-inside")
  np.testing.assert_array_equal(np.sort(as_given.sdf), np.sort(-back.sdf))


def test_samples_in_the_array_of_the_other_sign_are_counted_and_taken_by_their_sign(tmp_path):
  pos, neg = split(ball())
  back, warnings = deepsdf_files.read_samples(save(tmp_path / "a.npz", np.concatenate([pos, neg[:7]]), neg[7:]))
  assert warnings == ["7 samples lie in the array of the other sign: taken by their sign"]
  assert back.num_outside == len(pos)


def test_a_normalisation_maps_as_deepsdf_does_and_comes_back(tmp_path):
  frame = Frame((0.5, -1.0, 2.0), 4.0)
  deepsdf_files.write_normalization(tmp_path / "n" / "a.npz", frame)
  with np.load(tmp_path / "n" / "a.npz") as arrays:
    world = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose((world + arrays["offset"]) * arrays["scale"], (world - frame.offset) / frame.scale)
  assert deepsdf_files.read_normalization(tmp_path / "n" / "a.npz") == frame
  for bad in ({"offset": np.zeros(2), "scale": 1.0}, {"offset": np.zeros(3), "scale": 0.0},
              {"offset": np.full(3, np.nan), "scale": 1.0}):
    np.savez(tmp_path / "b.npz", **bad)
    with pytest.raises(BadData):
      deepsdf_files.read_normalization(tmp_path / "b.npz")


def test_a_split_comes_back_in_order(tmp_path):
  triples = [("ShapeNetV2", "03001627", "b"), ("ShapeNetV2", "03001627", "a"), ("other", "x", "c")]
  deepsdf_files.write_split(tmp_path / "s.json", triples)
  assert json.loads((tmp_path / "s.json").read_text())["other"] == {"x": ["c"]}
  assert deepsdf_files.read_split(tmp_path / "s.json") == triples


@pytest.mark.parametrize("content", [
    ["a", "b"], {"d": ["a"]}, {"d": {"c": {"a": 1}}}, {"d": {"c": "a"}}, {"d": {"c": [1]}}, {}, {"d": {"c": []}},
    {"d": {"c": ["../../etc/passwd"]}}, {"d": {"..": ["a"]}}, {"d": {"c": ["a", "a"]}}, {"d": {"c": ["a\0b"]}}, 3, None,
])
def test_a_split_of_another_form_shows_the_expected_one(tmp_path, content):
  (tmp_path / "s.json").write_text(json.dumps(content))
  with pytest.raises(BadData, match="expected .*ShapeNetV2") as caught:
    deepsdf_files.read_split(tmp_path / "s.json")
  assert "s.json" in str(caught.value)


def test_missing_files_are_missing_inputs(tmp_path):
  for read in (deepsdf_files.read_samples, deepsdf_files.read_normalization, deepsdf_files.read_split):
    with pytest.raises(MissingInput):
      read(tmp_path / "no")
