"""Strict JSON: everything sound is read, every loophole is a fault of one line with its place."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fields3d.core import strict_json
from fields3d.core.errors import BadData, CannotWrite, IOFault, MissingInput

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                      | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES)
def test_what_is_written_reads_back(tmp_path_factory, value):
  path = tmp_path_factory.mktemp("json") / "x.json"
  strict_json.write(path, value)
  assert strict_json.read(path) == value


@pytest.mark.parametrize(("text", "message"), [
    ('{"a": NaN}', "NaN is not a finite number"), ('{"a": -Infinity}', "-Infinity is not a finite number"),
    ('{"a": 1e400}', "1e400 is not a finite number"), ('{"a": {"b": 1, "b": 1}}', "key 'b' stands twice"),
    ('{"a": 1,}', "line 1 column"), ('{"a": 1}\n// no', "line 2 column 1"), ("", "line 1 column 1"),
    ("[" * 100_000, "nested too deeply|Expecting"), ("9" * 5000, "not JSON"),
])
def test_every_loophole_is_a_fault(text, message):
  with pytest.raises(BadData, match=message) as caught:
    strict_json.loads(text, "x.json")
  assert str(caught.value).startswith("x.json: ") and "\n" not in str(caught.value)


def test_a_byte_order_mark_is_accepted_and_other_encodings_are_not(tmp_path):
  path = tmp_path / "x.json"
  path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
  assert strict_json.read(path) == {"a": 1}
  path.write_bytes('{"a": "ä"}'.encode("latin-1"))
  with pytest.raises(BadData, match="byte 7 is not UTF-8"):
    strict_json.read(path)
  with pytest.raises(MissingInput):
    strict_json.read(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "x.json"
  strict_json.write(path, 1)

  def full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(strict_json.os, "fsync", full)
  with pytest.raises(IOFault):
    strict_json.write(path, 2)
  assert strict_json.read(path) == 1 and list(tmp_path.iterdir()) == [path]
  with pytest.raises(ValueError, match="JSON"):
    strict_json.write(path, float("nan"))


def test_a_directory_in_a_files_place_and_a_file_in_a_directorys_cannot_be_written(tmp_path):
  (tmp_path / "folder").mkdir()
  (tmp_path / "file").write_text("")
  below = tmp_path / "file" / "a"
  for work, path, text in ((lambda: strict_json.write(tmp_path / "folder", 1), tmp_path / "folder", "is a directory"),
                           (lambda: strict_json.make_place(tmp_path / "folder"), tmp_path / "folder", "is a directory"),
                           (lambda: strict_json.make_place(below / "x.json"), below, "lies below a file"),
                           (lambda: strict_json.make_directory(below), below, "lies below a file"),
                           (lambda: strict_json.make_directory(tmp_path / "file"), tmp_path / "file", "is there and is no directory")):
    with pytest.raises(CannotWrite, match=text) as caught:
      work()
    assert caught.value.where == str(path)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
  strict_json.make_place(tmp_path / "new" / "below" / "x.json")
  assert not list((tmp_path / "new" / "below").iterdir())


def test_a_link_is_written_through_and_a_pipe_is_not_replaced(tmp_path):
  (tmp_path / "target.json").write_text("{}")
  (tmp_path / "link.json").symlink_to("target.json")
  strict_json.write(tmp_path / "link.json", {"a": 1})
  assert (tmp_path / "link.json").is_symlink() and strict_json.read(tmp_path / "target.json") == {"a": 1}
  os.mkfifo(tmp_path / "pipe")
  with pytest.raises(CannotWrite, match="is a device or a pipe"):
    strict_json.write(tmp_path / "pipe", {})
  assert (tmp_path / "pipe").is_fifo()


def test_a_refused_write_names_the_file_and_not_its_temporary_name(tmp_path):
  with pytest.raises(OSError, match="No such file") as caught:
    strict_json.replace(tmp_path / "none" / "x.json", b"")
  assert caught.value.filename == str(tmp_path / "none" / "x.json")
