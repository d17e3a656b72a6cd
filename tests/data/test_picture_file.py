"""The file of pictures: made once, byte-equal, grown, mended when damaged."""

import logging

import numpy as np
import pytest

from fields3d.core.errors import CannotWrite, Fault
from fields3d.data import cache
from fields3d.data import picture_file as file
from fields3d.data.picture_file import picture_file
from fields3d.data.shape_subjects import Procedural
from fields3d.data.shape_views import camera_poses

SUBJECTS = [Procedural("mug", 3 * i, 0) for i in range(3)]
POSES = np.stack([camera_poses(0, s.name, 2, (-90.0, 90.0)) for s in SUBJECTS])


def make(root, num=3, **more):
  return picture_file(root, "mugs", SUBJECTS[:num], POSES[:num], 12, 2, **more)


@pytest.fixture
def counted(monkeypatch):
  """The names of the shapes whose pictures are made."""
  made, take = [], file.take
  monkeypatch.setattr(file, "take", lambda subject, *rest: made.append(subject.name) or take(subject, *rest))
  return made


def test_what_is_there_is_not_made_again_and_its_bytes_stay(tmp_path, counted):
  first = make(tmp_path)
  content = (tmp_path / "views" / "mugs.bin").read_bytes()
  again = make(tmp_path)
  np.testing.assert_array_equal(first, again)
  assert (tmp_path / "views" / "mugs.bin").read_bytes() == content and len(counted) == 3
  for subject, poses, pixels in zip(SUBJECTS, POSES, first, strict=True):
    np.testing.assert_array_equal(pixels, subject.pictures(poses, 12, 2))


def test_a_cache_below_a_plain_file_cannot_be_written(tmp_path):
  (tmp_path / "file").touch()
  for write in (make, lambda root: cache.write_entry(root, "key", {}, None, None, None)):
    with pytest.raises(CannotWrite, match="lies below a file"):
      write(tmp_path / "file" / "cache")


def test_a_file_for_which_the_disk_has_no_room_does_not_grow(tmp_path, monkeypatch):
  first = make(tmp_path, 1).copy()
  size = (tmp_path / "views" / "mugs.bin").stat().st_size
  with monkeypatch.context() as m:
    m.setattr(file.os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(122, "quota")))
    with pytest.raises((OSError, Fault)):
      make(tmp_path)
  assert (tmp_path / "views" / "mugs.bin").stat().st_size == size
  np.testing.assert_array_equal(make(tmp_path)[:1], first)


def test_more_shapes_are_added_and_fewer_are_the_first_of_them(tmp_path, counted):
  make(tmp_path, num=1)
  all_three = np.array(make(tmp_path))
  assert counted == [s.name for s in SUBJECTS]
  np.testing.assert_array_equal(make(tmp_path, num=2), all_three[:2])
  assert len(counted) == 3


def test_any_number_of_processes_writes_the_same_bytes(tmp_path, monkeypatch):
  make(tmp_path / "one")
  monkeypatch.setattr(file, "_ALONE", 0)
  make(tmp_path / "two", workers=2)
  one, two = ((tmp_path / name / "views" / "mugs.bin").read_bytes() for name in ("one", "two"))
  assert one == two


@pytest.mark.parametrize("where", [200, -1], ids=["first record", "last byte"])
def test_a_damaged_record_is_made_again_with_a_warning(tmp_path, counted, caplog, where):
  make(tmp_path)
  path = tmp_path / "views" / "mugs.bin"
  sound = path.read_bytes()
  damaged = bytearray(sound)
  damaged[where] ^= 1
  path.write_bytes(damaged)
  with caplog.at_level(logging.WARNING):
    make(tmp_path)
  assert path.read_bytes() == sound and len(counted) == 4
  assert "1 of 3 records are damaged" in caplog.text


def test_a_file_cut_short_goes_on_where_it_ends(tmp_path, counted):
  make(tmp_path)
  path = tmp_path / "views" / "mugs.bin"
  sound = path.read_bytes()
  path.write_bytes(sound[:len(sound) // 2])
  make(tmp_path)
  assert path.read_bytes() == sound and counted[3:] == [s.name for s in SUBJECTS[1:]]


def test_other_cameras_are_other_pictures(tmp_path, counted):
  first = np.array(make(tmp_path))
  moved = picture_file(tmp_path, "mugs", SUBJECTS, POSES[::-1], 12, 2)
  assert len(counted) == 6 or np.array_equal(POSES[1], POSES[::-1][1]) and len(counted) == 5
  assert not np.array_equal(first[0], moved[0])


def test_a_disk_without_room_is_refused_before_the_work(tmp_path, counted, monkeypatch):
  usage = file.shutil.disk_usage(tmp_path)
  monkeypatch.setattr(file.shutil, "disk_usage", lambda path: usage._replace(free=1000))
  with pytest.raises(CannotWrite, match="the disk has no room"):
    make(tmp_path)
  assert not counted
