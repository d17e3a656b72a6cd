"""The strict array reader: what is well-formed reads as numpy reads it; all else is one fault."""

import io
import zipfile
import zlib

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest

from fields3d.core.errors import BadData, Fault, MissingInput
from fields3d.data.npz import read_npy, read_npz

RECORD = np.dtype([("x", "<f4", (3,)), ("c", "u1", (4,))])


def npy(array, **kwargs) -> bytes:
  out = io.BytesIO()
  np.lib.format.write_array(out, array, **kwargs)
  return out.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
  return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def archive(path, members: dict, method=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, "w", method) as z:
    for name, data in members.items():
      z.writestr(name, data)
  return path


@hypothesis.given(hypothesis.extra.numpy.arrays(
    st.sampled_from([np.dtype(t) for t in ("<f2", ">f4", "<f8", ">i8", "u1", "?", ">u2")]),
    hypothesis.extra.numpy.array_shapes(min_dims=0, max_dims=3, min_side=0)), st.booleans(), st.booleans())
@hypothesis.settings(max_examples=40, deadline=None)
def test_any_plain_array_reads_as_numpy_reads_it(tmp_path_factory, array, fortran, compressed):
  path = tmp_path_factory.mktemp("npz") / "a.npz"
  array = np.asfortranarray(array) if fortran else array
  (np.savez_compressed if compressed else np.savez)(path, a=array)
  found = read_npz(path)["a"]
  assert found.dtype == array.dtype.newbyteorder("=") and found.flags.c_contiguous
  np.testing.assert_array_equal(found, array)
  np.save(path.with_suffix(".npy"), array)
  for mmap in (False, True):
    np.testing.assert_array_equal(read_npy(path.with_suffix(".npy"), mmap=mmap), array)


def test_a_record_array_reads_only_as_its_own_type(tmp_path):
  np.save(tmp_path / "r.npy", np.ones(5, RECORD))
  assert read_npy(tmp_path / "r.npy", RECORD)["x"].sum() == 15
  with pytest.raises(BadData, match="dtype"):
    read_npy(tmp_path / "r.npy")
  np.save(tmp_path / "f.npy", np.ones(5))
  with pytest.raises(BadData, match="dtype"):
    read_npy(tmp_path / "f.npy", RECORD)


@pytest.mark.parametrize("data, words", [
    (b"", "empty file"),
    (header("x" * 60_000), "header of 60000 bytes"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", bytes(4)), "shape"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", bytes(4)), "shape"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 140737488355328, 140737488355328), }"), "shape"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2305843009213693952), }"), "shape"),
    (header("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }", bytes(4)), "header"),
    (header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "pickled"),
    (header("{'descr': 'no', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "header"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }", bytes(4)), "says"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(4)), "says 8 bytes"),
    (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(9)), "says 8 bytes"),
    (header("[" * 5000), "header"),
    (header("{'descr': '<f4'}"), "header"),
    (b"\x93NUMPY\x01\x00\xff\x00abc", "truncated header"),
    (b"<html>not an array", "not a .npy"),
])
def test_a_bad_array_is_one_fault_that_names_the_file(tmp_path, data, words):
  (tmp_path / "a.npy").write_bytes(data)
  with pytest.raises(BadData, match=words) as caught:
    read_npy(tmp_path / "a.npy")
  assert "a.npy" in str(caught.value) and caught.value.exit_code == 65
  if data:
    with pytest.raises(BadData, match=words):
      read_npz(archive(tmp_path / "b.npz", {"a.npy": data}))


def test_a_missing_file_is_a_missing_input(tmp_path):
  for read in (read_npy, read_npz):
    with pytest.raises(MissingInput):
      read(tmp_path / "no.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_no_flipped_bit_and_no_truncation_reads_as_another_array(tmp_path, compressed):
  rng = np.random.default_rng(0)
  arrays = {"pos": rng.normal(size=(40, 4)).astype(np.float32), "neg": rng.normal(size=(9, 4)).astype(np.float32)}
  (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **arrays)
  data = (tmp_path / "a.npz").read_bytes()
  damaged = [data[:n] for n in range(0, len(data), 97)]
  for bit in rng.choice(8 * len(data), size=300, replace=False):
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    damaged.append(bytes(flipped))
  for bad in damaged:
    (tmp_path / "b.npz").write_bytes(bad)
    try:
      found = read_npz(tmp_path / "b.npz", ["pos", "neg"])
    except Fault:
      continue
    for name, array in arrays.items():  # a bit that carries nothing, such as a time stamp's
      np.testing.assert_array_equal(found[name], array)


def test_an_archive_must_hold_plain_arrays_only(tmp_path):
  good = npy(np.ones(3))
  inner = archive(tmp_path / "inner.npz", {"a.npy": good}).read_bytes()
  for name, members in {"nested": {"a.npz": inner}, "text": {"a.txt": b"x"}}.items():
    with pytest.raises(BadData, match="is not an array"):
      read_npz(archive(tmp_path / f"{name}.npz", members))
  with pytest.raises(BadData, match="compression"):
    read_npz(archive(tmp_path / "bz.npz", {"a.npy": good}, zipfile.ZIP_BZIP2))
  with pytest.raises(BadData, match="has no array 'pos', only a"):
    read_npz(archive(tmp_path / "a.npz", {"a.npy": good}), ["pos"])
  with pytest.raises(BadData, match="members"):
    read_npz(archive(tmp_path / "many.npz", {f"{i}.npy": b"" for i in range(1001)}))
  with pytest.raises(BadData, match="pickled"):
    read_npz(archive(tmp_path / "o.npz", {"a.npy": npy(np.array([{}], object), allow_pickle=True)}))


def test_a_duplicate_an_overlap_and_an_encrypted_member_are_refused(tmp_path):
  path = archive(tmp_path / "a.npz", {"a.npy": npy(np.ones(3)), "b.npy": npy(np.ones(3))})
  data = path.read_bytes()
  path.write_bytes(data.replace(b"b.npy", b"a.npy"))
  with pytest.raises(BadData, match="two members"):
    read_npz(path)
  directory = data.index(b"PK\x01\x02")
  encrypted = bytearray(data)
  encrypted[directory + 8] |= 1
  path.write_bytes(bytes(encrypted))
  with pytest.raises(BadData, match="encrypted"):
    read_npz(path)
  second = data.index(b"PK\x01\x02", directory + 4)
  overlapping = bytearray(data)
  overlapping[second + 42:second + 46] = bytes(4)
  path.write_bytes(bytes(overlapping))
  with pytest.raises(BadData, match="overlap"):
    read_npz(path)


def test_a_bomb_is_refused_by_its_ratio_and_by_the_bytes_that_come_out(tmp_path):
  path = tmp_path / "bomb.npz"
  np.savez_compressed(path, a=np.zeros(4 << 20, np.uint8))
  assert path.stat().st_size < 10_000
  with pytest.raises(BadData, match="at most 100 to 1"):
    read_npz(path)
  np.savez(path, a=np.zeros(2000), b=np.zeros(2000))
  with pytest.raises(BadData, match="exceed the cap"):
    read_npz(path, max_bytes=20_000)
  assert read_npz(path, max_bytes=40_000)["b"].shape == (2000,)
  # The directory lies: it says that the member is small, and much comes out.
  data = bytearray(archive(path, {"a.npy": npy(np.zeros(4 << 20, np.uint8))}, zipfile.ZIP_DEFLATED).read_bytes())
  directory = data.index(b"PK\x01\x02")
  data[directory + 24:directory + 28] = (1000).to_bytes(4, "little")
  path.write_bytes(bytes(data))
  with pytest.raises(BadData):
    read_npz(path)


@hypothesis.given(st.binary(max_size=300), st.sampled_from(["raw", "npy", "stored", "deflated"]))
@hypothesis.settings(max_examples=100, deadline=None)
def test_random_bytes_are_never_more_than_a_fault(tmp_path_factory, data, wrap):
  path = tmp_path_factory.mktemp("fuzz") / "a.npz"
  path.write_bytes(b"\x93NUMPY\x01\x00" + data if wrap == "npy" else data)
  if wrap in ("stored", "deflated"):
    archive(path, {"a.npy": b"\x93NUMPY\x01\x00" + data}, zipfile.ZIP_DEFLATED if wrap == "deflated" else 0)
  for read in (read_npy, read_npz):
    with pytest.raises(Fault):
      read(path)
  assert zlib.crc32(b"") == 0
