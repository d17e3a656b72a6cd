"""Weight files written by hand, byte by byte, and what may not happen when one is read."""

import hashlib
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from fields3d.core.errors import BadData, MissingInput
from fields3d.metrics.torch_archive import MAGIC, read_pickled_arrays, read_torch

KERNEL = np.arange(24, dtype="<f4").reshape(2, 3, 4)


def text(value):
  return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value):
  return b"J" + struct.pack("<i", value)


def numbers(*values):
  return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(kind, key, count, offset, shape, strides, legacy=False):
  """The instructions of one tensor, as torch.save writes them."""
  storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + whole(count)
  storage += b"Nt" if legacy else b"t"
  return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"Q" + whole(offset) + numbers(*shape)
          + numbers(*strides) + b"\x89ccollections\nOrderedDict\n)RtR")


def program(entries):
  """A state dict: an OrderedDict with `_metadata`."""
  filled = b"(" + b"".join(text(name) + value for name, value in entries.items()) + b"u" if entries else b""
  return b"\x80\x02ccollections\nOrderedDict\n)R" + filled + b"}" + text("_metadata") + b"}sb."


def write_zip(path, body, storages, compression=zipfile.ZIP_STORED, byteorder=b"little"):
  with zipfile.ZipFile(path, "w", compression) as archive:
    archive.writestr("net/data.pkl", body)
    archive.writestr("net/byteorder", byteorder)
    for key, value in storages.items():
      archive.writestr(f"net/data/{key}", value)
  return path


def write_legacy(path, body, storages, little=True):
  """storages: key -> (count, bytes)."""
  parts = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": little}, 2), body,
           pickle.dumps(list(storages), 2)]
  path.write_bytes(b"".join(parts + [struct.pack("<q", count) + data for count, data in storages.values()]))
  return path


def entries(legacy=False):
  """Names -> instructions of: a whole storage, its transposed window, halves, a scalar of int64."""
  def of(*window):
    return tensor(*window, legacy=legacy)

  return {"conv.weight": of("FloatStorage", "7", 24, 0, (2, 3, 4), (12, 4, 1)),
          "conv.window": of("FloatStorage", "7", 24, 5, (4, 2), (1, 4)),
          "half": of("HalfStorage", "8", 3, 0, (3,), (1,)),
          "brain": of("BFloat16Storage", "10", 2, 0, (2,), (1,)),
          "steps": of("LongStorage", "9", 1, 0, (), ())}


STORAGES = {"7": KERNEL.tobytes(), "8": np.float16([1, 2.5, -3]).tobytes(), "9": np.int64([2**40]).tobytes(),
            "10": np.uint16([0x3F80, 0xC040]).tobytes()}  # 1 and -3: the upper halves of float32.
COUNTS = {"7": 24, "8": 3, "9": 1, "10": 2}


def write(path, format):
  if format == "zip":
    return write_zip(path, program(entries()), STORAGES)
  return write_legacy(path, program(entries(True)), {key: (COUNTS[key], data) for key, data in STORAGES.items()})


@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_tensors_come_out_with_their_windows_and_types(tmp_path, format):
  found = read_torch(write(tmp_path / "net.pth", format))
  assert list(found) == ["conv.weight", "conv.window", "half", "brain", "steps"]
  np.testing.assert_array_equal(found["conv.weight"], KERNEL)
  np.testing.assert_array_equal(found["conv.window"], [[5 + i + 4 * j for j in range(2)] for i in range(4)])
  assert found["conv.window"].dtype == np.float32 and not found["conv.window"].flags.writeable
  assert found["half"].dtype == np.float16 and found["half"].tolist() == [1, 2.5, -3]
  assert found["brain"].astype(np.float32).tolist() == [1, -3]
  assert found["steps"].dtype == np.int64 and found["steps"].item() == 2**40


@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_a_cut_or_changed_file_is_refused(tmp_path, format):
  path = write(tmp_path / "net.pth", format)
  data = path.read_bytes()
  for cut in range(0, len(data), 37):
    path.write_bytes(data[:cut])
    with pytest.raises(BadData):
      read_torch(path)
  path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
  with pytest.raises(BadData, match="sha256"):
    read_torch(path, sha256=hashlib.sha256(data).hexdigest())
  with pytest.raises(MissingInput):
    read_torch(tmp_path / "none.pth")


def test_a_flipped_bit_of_a_storage_is_found_by_the_zip_s_checksum(tmp_path):
  path = write(tmp_path / "net.pth", "zip")
  path.write_bytes(path.read_bytes().replace(KERNEL.tobytes(), KERNEL.tobytes()[:-1] + b"\x07"))
  with pytest.raises(BadData, match="CRC"):
    read_torch(path)


class Trap:
  """What a hostile pickle holds: unpickled, it makes a directory."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("format", ["zip", "legacy", "numpy"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, format, protocol):
  proof = tmp_path / "proof"
  body, path = pickle.dumps({"conv": Trap(proof)}, protocol), tmp_path / "bad.pth"
  read = read_pickled_arrays if format == "numpy" else read_torch
  if format == "numpy":
    path.write_bytes(body)
  else:
    write_zip(path, body, {}) if format == "zip" else write_legacy(path, body, {})
  with pytest.raises(BadData, match="mkdir|instruction"):
    read(path)
  assert not proof.exists()
  pickle.loads(body)  # The trap works.
  assert proof.exists()


@pytest.mark.parametrize("body, words", [
    (b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.", "os.system"),
    (b"\x80\x02cbuiltins\neval\n" + text("1") + b"\x85R.", "builtins.eval"),
    (b"\x80\x04" + text("os") + text("system") + b"\x93.", "os.system"),
    (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls 'torch.FloatStorage'"),
    (b"(S'true'\nios\nsystem\n.", "instruction"),
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "broken"),
    (b"\x80\x02}" + text("lr") + whole(3) + b"s.", "lr is a int"),
    (b"\x80\x02]" + whole(3) + b"a.", "list"),
    (b"\x80\x02}q\x00" + text("me") + b"h\x00s.", "dict"),
    (b"\x80\x02}", "ends early"),
    (b"\x80\x02\x86.", "more from its stack"),
])
def test_what_is_no_state_dict_is_refused_by_name(tmp_path, body, words):
  with pytest.raises(BadData, match=words):
    read_torch(write_zip(tmp_path / "bad.pth", body, {}))


@pytest.mark.parametrize("window, words", [
    ((4, 0, (5,), (1,)), "reaches element 4"), ((4, 2, (2, 2), (1, 2)), "reaches"), ((4, -1, (1,), (1,)), "window"),
    ((4, 0, (2, 2), (-1, 1)), "window"), ((4, 0, (2**30, 2), (0, 1)), "repeats"), ((4, 0, (2,), ()), "window"),
    ((5, 0, (1,), (1,)), "not of 5"), ((2**30, 0, (1,), (1,)), "not of"),
])
def test_a_window_beyond_its_storage_is_refused(tmp_path, window, words):
  count, *rest = window
  body = program({"x": tensor("FloatStorage", "0", count, *rest)})
  with pytest.raises(BadData, match=words):
    read_torch(write_zip(tmp_path / "bad.pth", body, {"0": bytes(16)}))


def test_a_bomb_is_refused(tmp_path):
  body = program(entries())
  with pytest.raises(BadData, match="compressed"):
    read_torch(write_zip(tmp_path / "a.pth", body, STORAGES, zipfile.ZIP_DEFLATED))
  with pytest.raises(BadData, match="big-endian"):
    read_torch(write_zip(tmp_path / "b.pth", body, STORAGES, byteorder=b"big"))
  with pytest.raises(BadData, match="instructions"):
    read_torch(write_zip(tmp_path / "c.pth", b"\x80\x02" + b"N" * 2_000_001 + b".", {}))
  laughs = b"\x80\x02}q\x00" + text("x") + b"Ns"  # Dicts that hold the one before a hundred times.
  for level in range(1, 8):
    laughs += b"}q" + bytes([level])
    laughs += b"(" + b"".join(text(str(i)) + b"h" + bytes([level - 1]) for i in range(100)) + b"u"
  with pytest.raises(BadData):
    read_torch(write_zip(tmp_path / "d.pth", laughs + b".", {}))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickled_numpy_arrays_are_read(tmp_path, protocol):
  tree = {"net": {"kernel": np.asfortranarray(KERNEL), "bias": np.arange(3, dtype=">f8")}}
  path = tmp_path / "a.ckpt"
  path.write_bytes(pickle.dumps(tree, protocol))
  if protocol == 2:  # Spells bytes as a call of a codec.
    with pytest.raises(BadData, match="_codecs"):
      read_pickled_arrays(path)
    return
  found = read_pickled_arrays(path)
  np.testing.assert_array_equal(found["net.kernel"], KERNEL)
  np.testing.assert_array_equal(found["net.bias"], [0, 1, 2])


def test_objects_in_numpy_arrays_are_refused(tmp_path):
  path = tmp_path / "a.ckpt"
  path.write_bytes(pickle.dumps({"x": np.array([{}], object)}, 4))
  with pytest.raises(BadData, match="not of numbers"):
    read_pickled_arrays(path)


def test_no_changed_byte_leads_out_of_the_faults(tmp_path):
  rng, path = np.random.default_rng(0), tmp_path / "net.pth"
  for format in ("zip", "legacy"):
    data = write(path, format).read_bytes()
    for _ in range(300):
      changed = bytearray(data)
      for place in rng.integers(len(data), size=3):
        changed[place] = rng.integers(256)
      path.write_bytes(changed)
      try:
        read_torch(path)
      except BadData:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("new", [True, False])
def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path, new):
  torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
  net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(4, 5).half())
  state = net.state_dict()
  base = torch.arange(24.0).reshape(4, 6)
  state |= {"view": base[1:, ::2].T, "whole": base, "brain": base.bfloat16(), "flags": base > 3}
  path = tmp_path / "net.pth"
  torch.save(state, path, _use_new_zipfile_serialization=new)
  found = read_torch(path)
  assert list(found) == list(state)
  for name, value in state.items():
    own = value.float() if value.dtype == torch.bfloat16 else value
    np.testing.assert_array_equal(found[name].astype(own.numpy().dtype), own.numpy())
