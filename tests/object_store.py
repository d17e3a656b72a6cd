"""An object store on a folder, as etils.epath sees gs://: flat names, whole objects, no renames, no appends."""

import io
import os
import pathlib
from urllib.parse import quote, unquote

from etils.epath import backend, gpath, stat_utils


class Cut(BaseException):
  """The machine is lost: nothing after this reaches the store."""


class ObjectStore(backend.Backend):
  """Objects are files of one flat folder; an object is there, whole, from the moment its writer is closed.

  `left` counts down the changes until the store is cut off; None for never. `done` lists the changes.
  """

  def __init__(self, folder: pathlib.Path):
    self.folder, self.left, self.done = folder, None, []
    folder.mkdir(exist_ok=True)

  def names(self) -> list[str]:
    return sorted(unquote(name) for name in os.listdir(self.folder))

  def at(self, path) -> pathlib.Path:
    return self.folder / quote(str(path).removeprefix("gs://"), safe="")

  def change(self, kind, path):
    if self.left is not None:
      if self.left == 0:
        raise Cut(path)
      self.left -= 1
    self.done.append((kind, str(path)))

  def open(self, path, mode):
    assert set(mode) <= {"r", "w", "b"}, f"an object cannot be opened with {mode!r}"
    if "r" in mode:
      return open(self.at(path), mode)
    store = self

    class Writer(io.BytesIO):
      def close(self):
        data = None if self.closed else self.getvalue()
        super().close()  # first: from Python 3.13 on, an object that closing failed for is complained of when it goes
        if data is not None:
          store.change("write", path)
          store.at(path).write_bytes(data)

      def __exit__(self, kind, error, traceback):
        super().close() if kind else self.close()

    return Writer()

  def _below(self, path):
    prefix = str(path).removeprefix("gs://").rstrip("/") + "/"
    return [name[len(prefix):] for name in self.names() if name.startswith(prefix)]

  def exists(self, path):
    return self.at(path).exists() or self.isdir(path)

  def isdir(self, path):
    return bool(self._below(path))

  def listdir(self, path):
    if not (found := self._below(path)):
      raise FileNotFoundError(path)
    return sorted({name.split("/")[0] for name in found})

  def remove(self, path):
    self.change("remove", path)
    self.at(path).unlink()

  def stat(self, path):
    size = self.at(path).stat().st_size
    return stat_utils.StatResult(is_directory=False, length=size, mtime=0, owner=None, group=None, mode=None)

  def refuse(self, *arguments, **settings):
    raise NotImplementedError("an object store has no such thing")

  glob = walk = makedirs = mkdir = rmtree = rename = replace = copy = refuse


def stand_in(monkeypatch, folder: pathlib.Path) -> ObjectStore:
  """What is under gs:// from now on."""
  store = ObjectStore(folder)
  monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", store)
  return store
