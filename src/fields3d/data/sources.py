"""What `prepare` can be pointed at: a mesh file, a directory of them, a pack, DeepSDF's sample files.

A source is one shape before it is prepared. It has `name`, `label`, `licence` and `creator`; `digest()` is the sha256 of
everything that its content depends on, and `read()` gives the content (a mended `Mesh`, or `SdfSamples`) and warnings.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from fields3d.core.errors import BadData, Fault, MissingInput, from_os_error
from fields3d.core.types import Frame, Mesh
from fields3d.data import quality
from fields3d.data.deepsdf_files import SdfSign, read_normalization, read_samples
from fields3d.data.mesh_file import MAX_FILE_BYTES, MeshFile
from fields3d.data.mesh_obj import material_files
from fields3d.data.meshes import READERS, read_mesh
from fields3d.data.packs import pack_files, read_pack
from fields3d.data.pipeline import SdfSamples


class Source(Protocol):
  """One shape before it is prepared."""
  name: str
  label: str
  licence: str
  creator: str

  def digest(self) -> str:
    """sha256 of everything that the content depends on."""

  def read(self) -> tuple[Mesh | SdfSamples, list[str]]:
    """The content and its warnings."""


@dataclasses.dataclass(frozen=True)
class MeshSource:
  """A mesh file."""
  name: str
  label: str
  path: pathlib.Path
  licence: str = ""
  creator: str = ""

  def digest(self) -> str:
    """sha256 of the file, and of the material and buffer files that it names."""
    sha = hashlib.sha256(content_hash(self.path))
    for path in companions(self.path):
      with contextlib.suppress(Fault):  # one that cannot be read is the reader's to judge
        sha.update(content_hash(path))
    return sha.hexdigest()

  def read(self) -> tuple[Mesh, list[str]]:
    """The mended mesh and the reader's warnings."""
    return read_mesh(self.path)


@dataclasses.dataclass(frozen=True)
class SampleSource:
  """A file of DeepSDF's samples, with its normalisation where there is one."""
  name: str
  label: str
  path: pathlib.Path
  normalization: pathlib.Path | None = None
  sdf_sign: SdfSign = "check"
  licence: str = ""
  creator: str = ""

  def digest(self) -> str:
    """sha256 of the sample file, of what is read as its sign, and of its normalisation."""
    frame = b"" if self.normalization is None else content_hash(self.normalization)
    return hashlib.sha256(content_hash(self.path) + self.sdf_sign.encode() + frame).hexdigest()

  def read(self) -> tuple[SdfSamples, list[str]]:
    """The samples, outside first, and the reader's warnings."""
    return read_samples(self.path, self.sdf_sign)

  def frame(self) -> Frame:
    """The frame that the samples are in: the identity where no normalisation is given."""
    return Frame() if self.normalization is None else read_normalization(self.normalization)


def find_sources(path: str | os.PathLike, sdf_sign: SdfSign = "check") -> Sequence[Source]:
  """The shapes at a path, in an order that depends on their names alone.

  A file is one shape, named by its stem. A folder is a pack where it holds <name>.npz and <name>.csv, else every
  mesh file and every .npz of samples below it (links to folders are not followed, nor what `prepare` wrote there): the
  name is the path below the folder without its suffix, the label the name of the file's own folder.

  Raises:
    MissingInput: no such path, no shape there, or a folder that cannot be read. BadData: a file of a kind that is not known.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    if pack_files(path):
      return read_pack(path)
    files = sorted(_walk(path), key=lambda p: p.relative_to(path).as_posix())
    if not files:
      raise MissingInput(path, "holds no mesh", "give a folder with " + ", ".join(READERS) + " or .npz files")
    stems = [_printable(p.relative_to(path).with_suffix("").as_posix()) for p in files]
    twice = {s for s, count in collections.Counter(stems).items() if count > 1}
    names = [_printable(p.relative_to(path).as_posix()) if s in twice else s for p, s in zip(files, stems, strict=True)]
    labels = ["" if p.parent == path else _printable(p.parent.name) for p in files]
    return [_source(name, label, p, sdf_sign) for name, label, p in zip(names, labels, files, strict=True)]
  if not path.exists():
    raise MissingInput(path, "no such file or directory", "give a mesh, a folder of meshes or a pack")
  if path.suffix.lower() not in (*READERS, ".npz"):
    raise BadData(path, f"{path.suffix or 'a file without a suffix'} is no kind of shape",
                  "known: " + ", ".join((*READERS, ".npz")))
  return [_source(_printable(path.stem), "", path, sdf_sign)]


def _printable(name: str) -> str:
  """A file's name as text that can be written: bytes that are no UTF-8 as backslash escapes."""
  return os.fsencode(name).decode("utf-8", "backslashreplace")


def _source(name: str, label: str, path: pathlib.Path, sdf_sign: SdfSign) -> Source:
  if path.suffix.lower() == ".npz":
    return SampleSource(name, label, path, normalization_of(path), sdf_sign)
  return MeshSource(name, label, path)


def normalization_of(path: pathlib.Path) -> pathlib.Path | None:
  """The normalisation file that belongs to <root>/SdfSamples/.../<instance>.npz, where it exists."""
  parts = list(path.parts)
  if "SdfSamples" not in parts:
    return None
  at = len(parts) - 1 - parts[::-1].index("SdfSamples")
  found = pathlib.Path(*parts[:at], "NormalizationParameters", *parts[at + 1:])
  return found if found.is_file() else None


def companions(path: pathlib.Path) -> list[pathlib.Path]:
  """The files that a mesh file names and its reader finds: an OBJ's materials and their textures, a glTF's buffers and pictures.

  None of a file that is above the readers' cap of bytes: it is refused when it is read.
  """
  kind = path.suffix.lower()
  if kind not in (".obj", ".gltf", ".glb"):
    return []
  try:
    with open(path, "rb") as f:
      if os.fstat(f.fileno()).st_size > MAX_FILE_BYTES:
        return []
      data = f.read(int.from_bytes(f.read(20)[12:16], "little") if kind == ".glb" else -1)  # of a GLB its JSON alone
  except OSError as error:
    raise from_os_error(error, path) from None
  file = MeshFile(path, data)
  if kind == ".obj":
    return material_files(file, re.findall(rb"^[ \t]*mtllib[ \t]+(.+)", data.replace(b"\r", b"\n"), re.MULTILINE))[0]
  found = {}
  for name in dict.fromkeys(re.findall(rb'"uri"\s*:\s*("(?!data:)(?:[^"\\]++|\\.)++")', data)):
    with contextlib.suppress(ValueError):  # what is no text is the reader's to judge
      found[file.named(json.loads(name))] = None
  return [other for other in found if other is not None]


def _walk(root: pathlib.Path) -> Iterator[pathlib.Path]:
  def refuse(error: OSError) -> None:
    raise MissingInput(error.filename, (error.strerror or str(error)).lower(), "make the folder readable, or move it away")

  for folder, inner, names in os.walk(root, onerror=refuse):
    inner[:] = sorted(name for name in inner if name[0] != ".")
    parts = set(pathlib.Path(folder).relative_to(root).parts)
    written = [{"entry.json", "mesh.npz"}, {quality.TABLE, quality.INDEX}] if parts else []
    if made := any(files <= set(names) for files in written):  # by an earlier `prepare`, whose folder lies in its source
      inner.clear()
    if made or parts & {"NormalizationParameters", "SurfaceSamples"}:
      continue
    for name in names:
      if name[0] != "." and pathlib.Path(name).suffix.lower() in (*READERS, ".npz"):
        yield pathlib.Path(folder, name)


def content_hash(path: str | os.PathLike) -> bytes:
  """sha256 of a file. Raises: MissingInput, IOFault: it cannot be read."""
  try:
    with open(path, "rb") as f:
      return hashlib.file_digest(f, "sha256").digest()
  except OSError as error:
    raise from_os_error(error, path) from None
