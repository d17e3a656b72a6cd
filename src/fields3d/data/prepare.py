"""From sources to prepared shapes: mended, normalised, signed, sampled, cached by content, in parallel.

The key of an entry is the sha256 of the source's content and of the recipe, so preparing again costs a hash, a killed
run goes on where it was, and no two recipes are ever mixed up. What an entry holds depends on its key alone: any number
of workers, in any order, write the same bytes.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from fields3d.core.errors import BadData, CannotWrite, Fault, MissingInput, UsageFault, available_cores
from fields3d.core.strict_json import make_directory
from fields3d.core.types import Mesh
from fields3d.data import cache
from fields3d.data.engines import ENGINES, Lost
from fields3d.data.pipeline import SdfSamples, generator
from fields3d.data.quality import Row
from fields3d.data.sdf_samples import TRAINING, Protocol, record_type, sample_sdf
from fields3d.data.sources import SampleSource, Source
from fields3d.geometry.distance import expose
from fields3d.geometry.meshes import face_areas, inspect_mesh, keep_largest, normalise

_SHEET_SHARE = 0.01  # of the area, from which it is worth a warning


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How shapes are prepared.

  protocol: the samples to draw; None prepares the mesh alone.
  sign: "auto" takes the winding number and rejects a mesh with boundary edges; "winding" takes open ones too;
    "pseudonormal" and "unsigned" as in `geometry.distance`.
  keep_largest: keep the component of the largest area only.
  strict: reject whatever there is a warning of.
  margin: the shape's bounding sphere has radius 1 / margin.
  """
  protocol: Protocol | None = TRAINING
  sign: Literal["auto", "winding", "pseudonormal", "unsigned"] = "auto"
  keep_largest: bool = False
  strict: bool = False
  seed: int = 0
  margin: float = 1.03


@dataclasses.dataclass(frozen=True)
class Prepared:
  """One prepared shape, before it is written."""
  facts: dict[str, Any]
  mesh: Mesh | None
  exposed: np.ndarray | None
  samples: SdfSamples | None


def entry_key(digest: str, recipe: Recipe) -> str:
  """The name of the entry that a content and a recipe make."""
  text = json.dumps([cache.VERSION, digest, dataclasses.asdict(recipe)], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def make(source: Source, recipe: Recipe, key: str) -> Prepared:
  """Prepares one shape; a pure function of the source's content, the recipe and the key.

  Raises:
    BadData: the shape is rejected, for the reason given. MissingInput: its file is not there.
  """
  content, warnings = source.read()
  if isinstance(source, SampleSource):
    return _made_of_samples(source, content, warnings, recipe)
  if recipe.keep_largest:
    content, before = keep_largest(content), len(content.faces)
    if len(content.faces) < before:
      warnings = [*warnings, f"{before - len(content.faces)} faces of smaller components dropped"]
  if len(content.faces) == 0:
    raise BadData(source.name, "has no face with an area", "give a mesh with faces")
  report = inspect_mesh(content)
  if recipe.sign == "auto" and report.boundary_edges:
    raise BadData(source.name, f"open mesh with {report.boundary_edges} boundary edges: what is inside is not defined",
                  "close its holes, or pass --sign=winding")
  mesh, frame = normalise(content, "unit_sphere", recipe.margin)
  sign = "winding" if recipe.sign == "auto" else recipe.sign
  rng = generator(recipe.seed, int(key[:15], 16))
  exposed, sheet_share, exact = np.ones(len(mesh.faces), bool), 0.0, True
  if sign == "winding":
    found, areas = expose(mesh, rng), face_areas(mesh)
    exposed = found.exposed
    sheet_share = float(areas[found.sheet].sum() / areas.sum())
    exact = found.clean and not report.boundary_edges and not found.sheet.any()
    if not exposed[~found.sheet].any():
      raise BadData(source.name, "encloses no volume", "give a solid, or pass --sign=unsigned")
  warnings = [*warnings, *report.warnings()]
  if sheet_share > _SHEET_SHARE:
    warnings.append(f"{sheet_share:.0%} of the area are sheets with empty space on both sides")
  _reject_if_strict(source, warnings, recipe)
  samples = None if recipe.protocol is None else sample_sdf(mesh, recipe.protocol, rng, sign, exposed)
  facts = {"sign": sign, "exact": exact, "frame": {"offset": list(frame.offset), "scale": frame.scale},
           "vertices": len(mesh.vertices), "faces": len(mesh.faces), "components": report.components,
           "boundary_edges": report.boundary_edges, "inner_faces": int((~exposed).sum()),
           "sheet_share": round(sheet_share, 6), "mesh": True, "mesh_colors": mesh.colors is not None}
  return Prepared({**facts, **_sample_facts(samples), "warnings": warnings}, mesh, exposed, samples)


def _made_of_samples(source: SampleSource, samples: SdfSamples, warnings: list[str], recipe: Recipe) -> Prepared:
  _reject_if_strict(source, warnings, recipe)
  frame = source.frame()
  facts = {"sign": "given", "exact": False, "frame": {"offset": list(frame.offset), "scale": frame.scale},
           "mesh": False, "mesh_colors": False, "warnings": warnings}
  return Prepared({**facts, **_sample_facts(samples)}, None, None, samples)


def _reject_if_strict(source: Source, warnings: Sequence[str], recipe: Recipe) -> None:
  if recipe.strict and warnings:
    raise BadData(source.name, "strict: " + ", ".join(warnings), "mend it, or leave out --strict")


def _sample_facts(samples: SdfSamples | None) -> dict[str, Any]:
  if samples is None:
    return {"num_samples": 0, "num_outside": 0, "normals": False, "colors": False}
  return {"num_samples": len(samples.sdf), "num_outside": samples.num_outside,
          "normals": samples.normals is not None, "colors": samples.colors is not None}


def prepare_one(source: Source, key: str, recipe: Recipe, root: pathlib.Path) -> Row | Lost:
  """Prepares one shape into the cache, unless it is there; a shape that is not acceptable gives a rejected row.

  One that meets a bug of ours or needs more memory than there is gives a `Lost`: the others go on, and it may do another time.
  """
  try:
    if not cache.has_entry(root, key):
      made = make(source, recipe, key)
      cache.write_entry(root, key, made.facts, made.mesh, made.exposed, made.samples)
  except (BadData, MissingInput) as fault:
    return _rejected(source, _reason(source, fault))
  except Fault:
    raise
  except MemoryError:
    return Lost("needs more memory than there is; prepare it elsewhere, or simplify it")
  except Exception as error:
    at = traceback.extract_tb(error.__traceback__)[-1]
    return Lost(f"a bug of ours: {type(error).__name__} ({error}) at {pathlib.Path(at.filename).name}:{at.lineno}")
  facts = cache.read_facts(root, key)
  warnings = tuple(facts.pop("warnings"))
  status = "warned" if warnings else "accepted"
  return Row(source.name, source.label, status, warnings, key, source.licence, source.creator, facts)


def _rejected(source: Source, reason: str) -> Row:
  return Row(source.name, source.label, "rejected", (reason,), "", source.licence, source.creator)


@dataclasses.dataclass(frozen=True)
class Done:
  """A finished shape: its place among the sources, its content's sha256 ("" where it is to be tried again), its row."""
  index: int
  digest: str
  row: Row


@dataclasses.dataclass(frozen=True)
class _Call:
  """A shape still to be made."""
  index: int
  digest: str
  arguments: tuple[Source, str, Recipe, pathlib.Path]


def prepare(sources: Sequence[Source], recipe: Recipe, root: str | os.PathLike, workers: int | None = None,
            progress: Callable[[Row], None] | None = None, engine: str = "processes",
            timeout: float | None = None) -> list[Row]:
  """Prepares shapes into a cache folder; what is there already is not made again.

  Args:
    root: the cache folder; made if it is not there.
    workers: processes; the cores of this process by default. Few shapes, or one worker: none but this one.
    progress: called with each row as it comes, in any order.
    engine: a name of `engines.ENGINES`.
    timeout: seconds a shape may take; an hour by default. Given, even one worker is a process of its own.

  Returns:
    A row for each source, in their order.

  Raises:
    CannotWrite: the folder refuses, or the disk has no room for the samples. IOFault: the disk is full. Whatever is
      raised, what was finished stays, and the same call goes on from there. A shape that ends its worker twice or takes
      too long is a rejected row, and the same call tries it again.
  """
  rows: dict[int, Row] = {}
  for done in stream(sources, recipe, root, workers, engine, timeout=timeout):
    rows[done.index] = done.row
    if progress:
      progress(done.row)
  return [rows[index] for index in range(len(sources))]


def stream(sources: Sequence[Source], recipe: Recipe, root: str | os.PathLike, workers: int | None = None,
           engine: str = "processes", known: Mapping[int, Done] | None = None,
           timeout: float | None = None) -> Iterator[Done]:
  """As `prepare`, but gives one finished shape at a time, in any order, and holds none.

  Args:
    known: shapes finished earlier with this recipe, by index; where the content is the same, so is the row.
  """
  root = pathlib.Path(root)
  workers = available_cores() if workers is None else workers
  if workers < 1:
    raise UsageFault("workers", f"{workers} is out of range", "give a number at least 1")
  make_directory(root)
  cache.sweep(root)
  pool, first, running = None, None, {}
  with contextlib.ExitStack() as stack:
    def submit(call: _Call) -> None:
      running[call.index] = call
      pool.submit(call.index, prepare_one, *call.arguments)

    def finished() -> Iterator[Done]:
      for index, row in pool.wait():
        yield _done(running.pop(index), row)

    for item in _look_up(sources, recipe, root, known or {}):
      if isinstance(item, Done):
        yield item
      elif workers == 1 and engine == "processes" and timeout is None:
        yield _done(item, prepare_one(*item.arguments))
      elif first is None and timeout is None:
        first = item  # one alone is not worth a process
      else:
        if pool is None:
          pool = stack.enter_context(ENGINES[engine](workers, timeout))
          if first is not None:
            submit(first)
        while len(running) >= pool.capacity:
          yield from finished()
        submit(item)
    if first is not None and pool is None:
      yield _done(first, prepare_one(*first.arguments))
    while running:
      yield from finished()


def _done(call: _Call, found: Row | Lost) -> Done:
  """What a call gave; what was lost is to be tried again."""
  source, _, _, root = call.arguments
  if not isinstance(found, Lost):
    return Done(call.index, call.digest, found)
  logging.getLogger(__name__).warning("%s: %s", source.name, found.reason)
  cache.sweep(root)
  return Done(call.index, "", _rejected(source, found.reason))


def _look_up(sources: Sequence[Source], recipe: Recipe, root: pathlib.Path,
             known: Mapping[int, Done]) -> Iterator[Done | _Call]:
  """What is there already, and the calls that make the rest; refuses first what the disk has no room for."""
  checked = False
  for index, source in enumerate(sources):
    try:
      digest = source.digest()
    except (BadData, MissingInput) as fault:
      yield Done(index, "", _rejected(source, _reason(source, fault)))
      continue
    key, before = entry_key(digest, recipe), known.get(index)
    there = cache.has_entry(root, key)
    if before and before.digest == digest and (there or not before.row.key):
      yield before
    elif there:
      yield _done(_Call(index, digest, (source, key, recipe, root)), prepare_one(source, key, recipe, root))
    else:
      if not checked:
        _require_disk(root, sources[index:], recipe)
        checked = True
      yield _Call(index, digest, (source, key, recipe, root))


def _reason(source: Source, fault: Fault) -> str:
  """A fault's text, less the shape's name, which stands beside it."""
  return str(fault).removeprefix(f"{source.name}: ")


def _require_disk(root: pathlib.Path, sources: Sequence[Source], recipe: Recipe) -> None:
  """Refuses before the work what the disk has no room for; only where it may be short are the missing ones counted."""
  each = (recipe.protocol.num if recipe.protocol else 0) * record_type(normals=True, colors=True).itemsize
  free = shutil.disk_usage(root).free
  if len(sources) * each <= free:
    return
  missing = 0
  for source in sources:
    with contextlib.suppress(BadData, MissingInput):
      missing += not cache.has_entry(root, entry_key(source.digest(), recipe))
  if missing * each > free:
    raise CannotWrite(root, f"{missing} shapes need up to {missing * each / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
                      "lower the number of samples, or give a folder on another disk")
