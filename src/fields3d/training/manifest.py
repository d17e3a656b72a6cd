"""What makes a checkpoint a checkpoint: a manifest of every file's sha256, written last.

A step is a directory `<checkpoints>/<step>/` with `state/` (orbax's) and `manifest.json` (ours). It is built as
`<step>.tmp/` and renamed when all of it is on the disk, so that a directory named by a number is complete; if one is
not (a flipped bit, a lost file, a copy that broke off), its manifest says so and the step counts as absent.
The hash finds accidents, not forgery: who can change a file can change the manifest too.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from fields3d.core import strict_json
from fields3d.core.errors import BadData, Fault

NAME = "manifest.json"
FORMAT = "fields3d checkpoint 1"


def write_manifest(step_dir: pathlib.Path, facts: Mapping) -> None:
  """Hashes every file below `step_dir`, makes them durable, and writes the manifest last.

  Args:
    step_dir: a directory whose other files are final.
    facts: JSON-able; must hold "step" and "tree".
  """
  paths = sorted(p for p in step_dir.rglob("*") if p.is_file() and p != step_dir / NAME)
  with ThreadPoolExecutor() as pool:
    hashes = pool.map(lambda path: _hash(path, durable=True), paths)
    files = {path.relative_to(step_dir).as_posix(): {"size": path.stat().st_size, "sha256": digest}
             for path, digest in zip(paths, hashes, strict=True)}
  for path in (p for p in step_dir.rglob("*") if p.is_dir()):
    strict_json.sync_directory(path)
  body = {"format": FORMAT, **facts, "files": files}
  strict_json.replace(step_dir / NAME, _encode(body))


def read_manifest(step_dir: str | os.PathLike) -> dict:
  """The manifest, its own digest verified.

  Raises:
    BadData, MissingInput: there is none or it is damaged.
  """
  path = pathlib.Path(step_dir) / NAME
  body = strict_json.read(path)
  if not isinstance(body, dict) or body.get("format") != FORMAT or not isinstance(body.get("files"), dict):
    raise BadData(path, f"is not a manifest of the form {FORMAT!r}", "use another step")
  digest = body.pop("digest", None)
  if _encode(body) != path.read_bytes():
    raise BadData(path, f"does not match its own digest {str(digest)[:12]}...", "use another step")
  return body


def verify(step_dir: str | os.PathLike, contents: bool = True) -> list[str]:
  """The problems of a checkpoint, one line each; empty when it is sound.

  Exact: any change to a listed file or to the manifest is found. Files that the manifest does not list are ignored
  (orbax reads none of them).

  Args:
    step_dir: `<checkpoints>/<step>`.
    contents: False compares names and sizes only, which reads nothing but the manifest.
  """
  step_dir = pathlib.Path(step_dir)
  try:
    manifest = read_manifest(step_dir)
  except (Fault, OSError) as e:
    return [str(e)]
  problems = []
  if step_dir.name.isdigit() and manifest["step"] != int(step_dir.name):
    problems.append(f"{step_dir}: holds step {manifest['step']}")
  with ThreadPoolExecutor() as pool:
    found = pool.map(lambda item: _problem(step_dir / item[0], item[1], contents), manifest["files"].items())
    return problems + [problem for problem in found if problem]


def _problem(path: pathlib.Path, entry: Mapping, contents: bool) -> str | None:
  """What is wrong with a file that should be as `entry` says."""
  try:
    size = path.stat().st_size
    if size != entry["size"]:
      return f"{path}: {size} bytes, {entry['size']} expected"
    if contents and _hash(path) != entry["sha256"]:
      return f"{path}: content differs from its sha256"
  except OSError as e:
    return f"{path}: {(e.strerror or str(e)).lower()}"
  return None


def candidates(directory: str | os.PathLike) -> list[int]:
  """The steps of which a directory stands there, sound or not, ascending."""
  try:
    return sorted(int(entry.name) for entry in os.scandir(directory)
                  if entry.name.isdecimal() and str(int(entry.name)) == entry.name and entry.is_dir())
  except FileNotFoundError:
    return []


def steps(directory: str | os.PathLike) -> list[int]:
  """The steps whose manifest is sound and whose files have their sizes, ascending (`verify` reads contents too)."""
  return [s for s in candidates(directory) if not verify(pathlib.Path(directory) / str(s), contents=False)]


def digest_of(step_dir: str | os.PathLike) -> str | None:
  """sha256 of a checkpoint's manifest, which holds those of its files: what names its content; None where there is none."""
  path = pathlib.Path(step_dir) / NAME
  return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _encode(body: Mapping) -> bytes:
  """The only text of a manifest with this body: so not even a change that JSON would forgive passes."""
  digest = hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()
  return (json.dumps({**body, "digest": digest}, indent=1, allow_nan=False) + "\n").encode()


def _hash(path: pathlib.Path, durable: bool = False) -> str:
  with open(path, "rb") as f:
    if durable:
      os.fsync(f.fileno())
    return hashlib.file_digest(f, "sha256").hexdigest()
