"""Prepare shapes for training (validate, mend, normalise, sign, sample), or find the cameras of photographs.

SOURCE is a mesh file (OBJ PLY STL OFF GLB glTF), a folder of them, a pack (a folder with <name>.npz and <name>.csv), or
DeepSDF's sample files. What is made is cached by content, in parallel; a killed run goes on where it was when the same
command is run again. DIR then holds the shapes, quality.csv (what was accepted, warned of or rejected, and why),
summary.json and index.json; train on it with `data = dict(name="prepared", path=DIR)`.

A folder that holds photographs (PNG, JPEG, WebP, BMP) and no shape becomes a scene instead: pycolmap (pip install
'fields3d[colmap]') finds the cameras, and DIR holds images/ (upright), sparse/0 and what --downscale asks for.

examples:
  fields3d prepare models/ --out prepared/models
  fields3d prepare teapot.obj --out prepared/teapot --sign=winding --samples 250000
  fields3d prepare photographs/ --out captures/garden --downscale 2,4

Many shapes go in parts, on any machines that see one folder, each killed and run again at will; then they are merged:
  sbatch --array=0-63 --wrap 'fields3d prepare models/ --out D --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT'
  fields3d prepare --merge D
Parts are counted from 0 (--array=0-63, not 1-64). A shape that ends its worker twice or takes too long is rejected and
named, the others go on; the same command tries it again. --engine ray spreads one command over the Ray cluster that
$RAY_ADDRESS names, or over this machine (pip install 'fields3d[ray]').
"""

import argparse
import heapq
import itertools
import pathlib
import re

from fields3d.commands import options
from fields3d.core.errors import BadData, CannotWrite, MissingInput, UsageFault

HELP = "validate, normalise and sample meshes for training; find the cameras of photographs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("source", metavar="SOURCE", nargs="?",
                      help="a mesh, a folder of meshes, a pack, DeepSDF's samples, or a folder of photographs")
  parser.add_argument("--out", metavar="DIR", help="the folder to write to")
  parser.add_argument("--shard", type=_part, metavar="I/N", help="prepare the I-th of N parts only, I from 0 to N-1")
  parser.add_argument("--merge", nargs="+", type=options.existing_dir, metavar="D",
                      help="make one table of the parts in these folders, in place or in --out")
  parser.add_argument("--format", choices=("fields3d", "deepsdf"), default="fields3d",
                      help="fields3d: our entries; deepsdf: also DeepSDF's own files beside them")
  parser.add_argument("--sign", choices=("auto", "winding", "pseudonormal", "unsigned"), default="auto",
                      help="what is inside: auto is the winding number, and rejects open meshes")
  parser.add_argument("--samples", type=options.non_negative_int, default=500_000, metavar="N",
                      help="samples a shape; 0 prepares the meshes alone (default 500000)")
  parser.add_argument("--test-time", action="store_true",
                      help="draw as DeepSDF does for test shapes: variances 0.05 and 0.0005")
  parser.add_argument("--classes", metavar="A,B", help="take these labels only")
  parser.add_argument("--limit", type=options.positive_int, metavar="N", help="take the first N shapes only")
  parser.add_argument("--keep-largest", action="store_true", help="keep each mesh's largest component only")
  parser.add_argument("--strict", action="store_true", help="reject whatever there is a warning of")
  parser.add_argument("--sdf-sign", choices=("check", "negative-inside", "positive-inside"), default="check",
                      help="the sign convention of sample files; check rejects what looks inverted")
  parser.add_argument("--workers", type=options.positive_int, metavar="N", help="processes (default: all cores)")
  parser.add_argument("--engine", choices=("processes", "ray"), default="processes", help="what they run on")
  parser.add_argument("--timeout", type=options.real(gt=0), metavar="S",
                      help="seconds a shape may take before it is given up (default: an hour; with --workers 1, none)")
  parser.add_argument("--seed", type=options.seed, default=0, metavar="S", help="of all that is random (default 0)")
  photographs = parser.add_argument_group("photographs")
  photographs.add_argument("--matching", choices=("exhaustive", "sequential"), default="exhaustive",
                           help="compare all pairs, or the neighbours by name, as of a film's frames")
  photographs.add_argument("--camera-model", default="SIMPLE_RADIAL", metavar="MODEL",
                           help="COLMAP's name of the lens model (default SIMPLE_RADIAL)")
  photographs.add_argument("--downscale", type=options.indices, default=(), metavar="K,...",
                           help="write copies at 1/K of the size too, to images_K/")


def _part(text: str) -> tuple[int, int]:
  index, slash, num = text.partition("/")
  if not (slash and index.isdecimal() and num.isdecimal() and int(num)):
    raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a part such as 0/64")
  if int(index) >= int(num):
    raise argparse.ArgumentTypeError(f"{text[:40]!r}: parts are counted from 0, so the last is {int(num) - 1}/{num} "
                                     f"(a SLURM array: --array=0-{int(num) - 1})")
  return int(index), int(num)


def run(args: argparse.Namespace) -> int:
  from fields3d.data.quality import TABLE
  from fields3d.data.sources import find_sources

  if args.merge:
    return _merge(args)
  if not args.source:
    raise UsageFault("SOURCE", "is missing", "give a mesh, a folder of meshes, a pack or photographs")
  if not args.out:
    raise UsageFault("--out", "is missing", "give the folder to write to")
  try:
    sources = find_sources(args.source, args.sdf_sign)
  except MissingInput:
    if not (folder := _photographs(args.source)):
      raise
    return _find_cameras(folder, args)
  sources = _choose(sources, args)
  if args.format == "deepsdf" and args.shard:
    raise UsageFault("--format", "deepsdf cannot be written in parts", "give it to --merge")
  if args.format == "deepsdf" and not args.samples:
    raise UsageFault("--samples", "0 leaves nothing to write in DeepSDF's format", "give at least 1")
  root = pathlib.Path(args.out)
  if root.exists() and not root.is_dir():
    raise CannotWrite(root, "is a file", "give a folder")
  if args.shard:
    return _prepare_part(sources, root, args)
  rows = _prepare_all(sources, root, args)
  if args.format == "deepsdf":
    _write_deepsdf(rows, root, pathlib.Path(args.source).resolve().stem)
  _print(rows)
  accepted = sum(row.status != "rejected" for row in rows)
  print(f"{accepted} of {len(rows)} shapes are in {root}; the table is {root / TABLE}")
  if not accepted:
    raise BadData(args.source, rows[0].reasons[0] if len(rows) == 1 else "every shape was rejected",
                  "" if len(rows) == 1 else f"see {root / TABLE}")
  return 0


def _prepare_all(sources, root: pathlib.Path, args: argparse.Namespace):
  """All shapes in one run; their rows."""
  from fields3d.core.progress import progress
  from fields3d.data.prepare import prepare
  from fields3d.data.quality import write_report
  with progress() as show:
    ticks = itertools.count(1)
    rows = prepare(sources, _recipe(args), root, args.workers, lambda row: show("shapes prepared", next(ticks), len(sources)),
                   args.engine, args.timeout)
  write_report(rows, root)
  return rows


def _prepare_part(sources, root: pathlib.Path, args: argparse.Namespace) -> int:
  from fields3d.core.progress import progress
  from fields3d.data.parts import Part, part_of, prepare_part
  part = Part(*args.shard)
  settings = {"source": pathlib.Path(args.source).resolve().name, "sdf_sign": args.sdf_sign, "classes": args.classes,
              "limit": args.limit}
  own = sum(part_of(source.name, part.num) == part.index for source in sources)
  with progress() as show:
    rows = prepare_part(sources, part, _recipe(args), root, settings, args.workers, args.engine,
                        lambda n, _: show("shapes prepared", n, own), args.timeout)
  rejected = sum(row.status == "rejected" for row in rows)
  print(f"part {part}: {len(rows)} of {len(sources)} shapes, {rejected} of them rejected, in {part.path(root)}\n"
        f"when all parts are done: fields3d prepare --merge {root}")
  return 0


def _merge(args: argparse.Namespace) -> int:
  from fields3d.core.strict_json import make_directory
  from fields3d.data.parts import merge
  from fields3d.data.quality import TABLE, write_report
  if args.source or args.shard:
    raise UsageFault("--merge", "takes no SOURCE and no --shard", "leave them out")
  if not args.out and len(args.merge) > 1:
    raise UsageFault("--out", "is missing", "give the folder that the merged parts shall be in")
  root = pathlib.Path(args.out or args.merge[0])
  make_directory(root)
  rows, settings = merge(args.merge, root)
  write_report(rows, root)
  if args.format == "deepsdf":
    _write_deepsdf(rows, root, pathlib.Path(settings["source"]).stem)
  _print(rows)
  accepted = sum(row.status != "rejected" for row in rows)
  print(f"{accepted} of {len(rows)} shapes are in {root}; the table is {root / TABLE}")
  if not accepted:
    raise BadData(root, "every shape was rejected", f"see {root / TABLE}")
  return 0


def _photographs(source: str) -> pathlib.Path | None:
  """The folder of photographs that a folder without shapes is or holds."""
  from fields3d.data.photographs import list_photographs
  folders = pathlib.Path(source) / "images", pathlib.Path(source)
  return next((folder for folder in folders if list_photographs(folder)), None)


def _find_cameras(folder: pathlib.Path, args: argparse.Namespace) -> int:
  import rich.console

  from fields3d.core.errors import nearest
  from fields3d.data.colmap_files import MODELS
  from fields3d.data.structure_from_motion import reconstruct
  models = [name for name, _ in MODELS.values()]
  if args.camera_model not in models:
    raise UsageFault("--camera-model", f"unknown model {args.camera_model!r}", nearest(args.camera_model, models))
  if any(k < 2 for k in args.downscale):
    raise UsageFault("--downscale", "a factor below 2 makes no smaller copy", "give factors such as 2,4,8")
  out = pathlib.Path(args.out)
  with rich.console.Console(stderr=True).status("") as status:
    found = reconstruct(folder, out, matching=args.matching, camera_model=args.camera_model, reductions=args.downscale,
                        threads=args.workers, seed=args.seed, progress=status.update)
  model, num = found.model, len(found.model.images)
  for number, camera in model.cameras.items():
    used = sum(image.camera == number for image in model.images)
    print(f"camera {number}: {camera.model} {camera.size[0]}x{camera.size[1]}, {used} photographs: "
          + " ".join(f"{value:.5g}" for value in camera.params))
  others = f"; {found.num_models - 1} smaller models beside it" if found.num_models > 1 else ""
  print(f"{num} of {found.num_photographs} photographs registered, {len(model.points)} points, mean reprojection error "
        f"{model.errors.mean():.3f} pixels{others}; the scene is {out}")
  if num < found.num_photographs / 2:
    raise BadData(folder, f"only {num} of {found.num_photographs} photographs are registered",
                  "take more of them between those that are not, or try --matching exhaustive")
  return 0


def _choose(sources, args: argparse.Namespace):
  if args.classes is not None:
    wanted = set(args.classes.split(","))
    known = {source.label for source in sources if source.label}
    if missing := sorted(wanted - known - {""}):
      raise UsageFault("--classes", f"no shape is labelled {missing[0]!r}", "known: " + ", ".join(sorted(known)))
    sources = [source for source in sources if source.label in wanted]
  return sources[:args.limit]


def _recipe(args: argparse.Namespace):
  import dataclasses

  from fields3d.data.prepare import Recipe
  from fields3d.data.sdf_samples import TESTING, TRAINING
  protocol = dataclasses.replace(TESTING if args.test_time else TRAINING, num=args.samples) if args.samples else None
  return Recipe(protocol, args.sign, args.keep_largest, args.strict, args.seed)


def _write_deepsdf(rows, root: pathlib.Path, source: str) -> None:
  """DeepSDF's layout: sample archives, normalisations, and one split file that names them all."""
  from fields3d.core.types import Frame
  from fields3d.data import cache, deepsdf_files
  dataset, triples = _path_part(source), {}
  for row in rows:
    if row.status == "rejected":
      continue
    label, name = _path_part(row.label or "shapes"), _path_part(row.name)
    others = (f"{name}_{n}" for n in itertools.count(2))  # where two names differ in what no path has
    triple = next(found for other in itertools.chain([name], others) if (found := (dataset, label, other)) not in triples)
    below = pathlib.Path(*triple[:2], triple[2] + ".npz")
    deepsdf_files.write_samples(root / "SdfSamples" / below, cache.read_entry_samples(root, row.key))
    frame = Frame(tuple(row.facts["frame"]["offset"]), row.facts["frame"]["scale"])
    deepsdf_files.write_normalization(root / "NormalizationParameters" / below, frame)
    triples[triple] = None
  if triples:
    deepsdf_files.write_split(root / f"{dataset}.json", list(triples))


def _path_part(name: str) -> str:
  """A name as one part of a path.

  >>> _path_part("chair (1)"), _path_part("../up"), _path_part("..")
  ('chair_1_', '_up', '_')
  """
  return re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"


def _print(rows, most: int = 40) -> None:
  """The quality table on standard output: rejected shapes first, then warnings; plain where it is no terminal."""
  import rich.console
  import rich.markup
  import rich.table

  from fields3d.data.quality import summary
  table = rich.table.Table("shape", "label", "status", "faces", "reasons")
  order = {"rejected": 0, "warned": 1, "accepted": 2}
  for row in heapq.nsmallest(most, rows, key=lambda row: order[row.status]):
    table.add_row(*(rich.markup.escape(str(cell)) for cell in (
        row.name, row.label, row.status, row.facts.get("faces", ""), "; ".join(row.reasons))))
  console = rich.console.Console()
  if not console.is_terminal:
    console = rich.console.Console(width=160)
  console.print(table)
  if len(rows) > most:
    console.print(f"and {len(rows) - most} more")
  counts = summary(rows)
  console.print(", ".join(f"{number} {status}" for status, number in counts["status"].items()))
  for reason, number in list(counts["reasons"].items())[:10]:
    console.print(f"{number:6d}  {rich.markup.escape(reason)}")
