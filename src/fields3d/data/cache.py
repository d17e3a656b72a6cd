"""Prepared shapes on disk: one folder each, named by the hash of what it was made from.

<root>/<key>/entry.json      facts (see `prepare.make`)
<root>/<key>/mesh.npz        vertices, faces, exposed, colors where there are any, in the model frame
<root>/<key>/samples.npy     records of `sdf_samples.record_type`, where samples were asked for
<root>/<key>/surface.npy     points on the surface (m, 3) float32, where they were asked for

A folder appears whole, by one rename, after its files are on the disk; so a run killed at any point leaves nothing
half-made, and two runs may share a root.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fields3d.core import strict_json
from fields3d.core.errors import BadData, from_os_error
from fields3d.core.types import Mesh
from fields3d.data.npz import read_npy, read_npz
from fields3d.data.pipeline import SdfSamples, generator
from fields3d.data.sdf_samples import from_records, record_type, to_records
from fields3d.geometry.meshes import sample_surface

SURFACE = "surface.npy"
POOL = 8192  # points on a surface that batches draw from
VERSION = 2  # of everything that decides an entry's content besides its key
_OPEN_FILES = 256


def default_root() -> pathlib.Path:
  """$FIELDS3D_CACHE, else $XDG_CACHE_HOME/fields3d, else ~/.cache/fields3d."""
  if own := os.environ.get("FIELDS3D_CACHE"):
    return pathlib.Path(own)
  base = os.environ.get("XDG_CACHE_HOME")
  return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "fields3d"


def write_entry(root: pathlib.Path, key: str, facts: Mapping[str, Any], mesh: Mesh | None, exposed: np.ndarray | None,
                samples: SdfSamples | None) -> None:
  """Writes an entry, whole or not at all; where another process was first, its entry stays.

  Raises:
    CannotWrite, IOFault: the root refuses, or the disk is full.
  """
  made = root / f".{socket.gethostname()}.{os.getpid()}.{key}"
  strict_json.make_directory(root)
  try:
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    if mesh is not None:
      arrays = {"vertices": mesh.vertices, "faces": mesh.faces, "exposed": exposed}
      arrays |= {} if mesh.colors is None else {"colors": mesh.colors}
      _write(made / "mesh.npz", lambda f: np.savez(f, **arrays))
    if samples is not None:
      _write(made / "samples.npy", lambda f: np.save(f, to_records(samples), allow_pickle=False))
    if samples is not None and samples.surface is not None:
      _write(made / SURFACE, lambda f: np.save(f, samples.surface, allow_pickle=False))
    strict_json.write(made / "entry.json", dict(facts, version=VERSION))
    if not has_entry(root, key):
      shutil.rmtree(root / key, ignore_errors=True)
      try:
        os.rename(made, root / key)
      except OSError:
        if not has_entry(root, key):
          raise
    strict_json.sync_directory(root)
  except OSError as error:
    raise from_os_error(error, root) from None
  finally:
    shutil.rmtree(made, ignore_errors=True)


def has_entry(root: pathlib.Path, key: str) -> bool:
  """Whether an entry is there, whole."""
  return (root / key / "entry.json").is_file()


def read_facts(root: pathlib.Path, key: str) -> dict[str, Any]:
  """The facts of an entry.

  Raises:
    MissingInput: no such entry. BadData: it is of another version.
  """
  path = root / key / "entry.json"
  facts = strict_json.read(path)
  if not isinstance(facts, dict) or facts.get("version") != VERSION:
    raise BadData(path, "was written by another version", "prepare the data again")
  return facts


def read_entry_mesh(root: pathlib.Path, key: str) -> tuple[Mesh, np.ndarray]:
  """The mesh of an entry, and which of its faces bound the solid (f,) bool."""
  arrays = read_npz(root / key / "mesh.npz")
  try:
    return Mesh(arrays["vertices"], arrays["faces"], arrays.get("colors")), arrays["exposed"]
  except KeyError as error:
    raise BadData(root / key / "mesh.npz", f"has no array {error}", "delete the entry and prepare it again") from None


def read_entry_samples(root: pathlib.Path, key: str) -> SdfSamples:
  """The samples of an entry as views of the mapped files."""
  facts = read_facts(root, key)
  kind = record_type(facts["normals"], facts["colors"])
  samples = from_records(read_npy(root / key / "samples.npy", kind, mmap=True), facts["num_outside"])
  if not (root / key / SURFACE).is_file():
    return samples
  surface = read_npy(root / key / SURFACE, np.dtype(np.float32), mmap=True)
  if surface.ndim != 2 or surface.shape[1] != 3 or not len(surface):
    raise BadData(root / key / SURFACE, f"has shape {surface.shape}, not (points, 3)", "delete the entry and prepare it again")
  return dataclasses.replace(samples, surface=surface)


class EntrySamples(Sequence):
  """The samples of many entries, mapped on demand; so many files at a time are open that no limit is met.

  with_surface: entries of meshes get their points on the surface when they are first opened.
  """

  def __init__(self, root: pathlib.Path, keys: Sequence[str], with_surface: bool = False):
    self._keys = tuple(keys)

    def opened(key: str) -> SdfSamples:
      if with_surface and not (root / key / SURFACE).is_file():
        _add_surface(root, key)
      return read_entry_samples(root, key)

    self._open = functools.lru_cache(maxsize=_OPEN_FILES)(opened)

  def __len__(self) -> int:
    return len(self._keys)

  def __getitem__(self, index: int) -> SdfSamples:
    return self._open(self._keys[index])


def _add_surface(root: pathlib.Path, key: str) -> None:
  """Draws POOL points, uniform by area, from the faces that bound an entry's solid; the file appears whole."""
  mesh, exposed = read_entry_mesh(root, key)
  rng = generator(0, 3, int(key[:15], 16))
  points = sample_surface(Mesh(mesh.vertices, mesh.faces[exposed]), POOL, rng).points.astype(np.float32)
  path, made = root / key / SURFACE, root / key / f".{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
  try:
    _write(made, lambda f: np.save(f, points, allow_pickle=False))
    os.replace(made, path)
  except OSError as error:
    raise from_os_error(error, path) from None


def sweep(root: pathlib.Path) -> None:
  """Removes what processes of this machine that are no more left half-made."""
  for path in root.glob(f".{socket.gethostname()}.*"):
    process = path.name.removeprefix(f".{socket.gethostname()}.").split(".")[0]
    if process.isdigit() and not _alive(int(process)):
      shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def _write(path: pathlib.Path, save: Callable) -> None:
  with open(path, "wb") as f:
    save(f)
    f.flush()
    os.fsync(f.fileno())
