"""Files of voxels: read as other libraries wrote them, by the specification's letter, or refused in one line."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from trimesh.exchange.binvox import export_binvox

from fields3d.core.errors import BadData, Fault, MissingInput, UsageFault
from fields3d.data.voxel_files import read_binvox, read_voxels

HEADER = b"#binvox 1\ndim 2 3 2\ntranslate 0 0 0\nscale 1\ndata\n"


def grid(seed=0, shape=(5, 6, 7)):
  return np.random.default_rng(seed).random(shape) < 0.5


def write(path, content):
  path.write_bytes(content)
  return path


def test_binvox_equals_what_trimesh_wrote(tmp_path):
  solid = grid(shape=(6, 6, 6))
  path = write(tmp_path / "a.BINVOX", export_binvox(trimesh.voxel.VoxelGrid(solid)))
  assert np.array_equal(read_voxels(path), solid)


def test_axes_run_as_the_specification_says(tmp_path):
  """index = x * (width * height) + z * width + y: one voxel at x 1, z 2, y 1 of 2 x 3 x 2."""
  path = write(tmp_path / "a.binvox", HEADER + bytes([0, 11, 1, 1]))
  assert np.argwhere(read_binvox(path)).tolist() == [[1, 1, 2]] and read_binvox(path).shape == (2, 2, 3)


def test_version_2_holds_other_values(tmp_path):
  path = write(tmp_path / "a.binvox", HEADER.replace(b"binvox 1", b"binvox 2") + bytes([0, 6, 200, 6]))
  assert read_binvox(path).sum() == 6


def test_npy_and_npz_hold_booleans_or_numbers(tmp_path):
  solid = grid()
  np.save(tmp_path / "a.npy", solid)
  np.save(tmp_path / "b.npy", np.where(solid, 0.9, 0.1).astype(np.float32)[None, ..., None])
  np.savez(tmp_path / "c.npz", solid.astype(np.uint8))
  np.savez_compressed(tmp_path / "d.npz", voxels=np.asfortranarray(solid), other=np.zeros(3))
  for name in ("a.npy", "b.npy", "c.npz", "d.npz"):
    assert np.array_equal(read_voxels(tmp_path / name), solid), name
  assert not read_voxels(tmp_path / "b.npy", threshold=0.95).any()


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.binvox", b"", "empty file"),
    ("a.binvox", b"<html>", "no binvox header"),
    ("a.binvox", HEADER.replace(b"binvox 1", b"binvox 3"), "'#binvox 3'"),
    ("a.binvox", HEADER.replace(b"dim 2 3 2", b"dim 2 -3 2"), "'dim'"),
    ("a.binvox", HEADER.replace(b"dim 2 3 2\n", b""), "'dim'"),
    ("a.binvox", HEADER.replace(b"dim 2 3 2", b"dim 99999 3 2"), "give 1 to 1024"),
    ("a.binvox", HEADER.replace(b"scale 1", b"colour 1"), "'colour 1'"),
    ("a.binvox", HEADER + bytes([0, 11]), "11 voxels in its runs, 2 x 3 x 2 are 12"),
    ("a.binvox", HEADER + bytes([0, 255, 1, 255]), "510 voxels"),
    ("a.binvox", HEADER + bytes([0, 12, 1]), "without its count"),
    ("a.npy", b"", "empty file"),
    ("a.npz", b"PK\x03\x04", "truncated or damaged"),
])
def test_damaged_files_are_one_line(tmp_path, name, content, words):
  with pytest.raises(BadData, match="a.(binvox|np[yz]): ") as fault:
    read_voxels(write(tmp_path / name, content))
  assert words in str(fault.value)


def test_what_is_not_a_grid_is_refused(tmp_path):
  np.save(tmp_path / "flat.npy", np.zeros((4, 4)))
  np.save(tmp_path / "nan.npy", np.array([[[0.0, np.nan]]]))
  np.savez(tmp_path / "two.npz", a=grid(), b=grid())
  for name, words in (("flat.npy", "three axes"), ("nan.npy", r"voxel \[0, 0, 1\] is not finite"), ("two.npz", "a, b")):
    with pytest.raises(BadData, match=words):
      read_voxels(tmp_path / name)
  with pytest.raises(UsageFault, match="binvox"):
    read_voxels(tmp_path / "a.obj")
  with pytest.raises(MissingInput):
    read_voxels(tmp_path / "none.binvox")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 60))
def test_no_bytes_raise_anything_but_a_fault(tmp_path_factory, noise, cut):
  path = tmp_path_factory.mktemp("noise") / "a.binvox"
  path.write_bytes(HEADER[:cut] + noise)
  try:
    assert read_binvox(path).dtype == bool
  except Fault:
    pass
