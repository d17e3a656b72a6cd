"""Prepare shapes for training: validate, mend, normalise, sign, sample; cached by content, parallel, resumable.

SOURCE is a mesh file (OBJ PLY STL OFF GLB glTF), a folder of them, a pack (a folder with <name>.npz and <name>.csv), or
DeepSDF's sample files. A killed run goes on where it was when the same command is run again. DIR then holds the shapes,
quality.csv (what was accepted, warned of or rejected, and why), summary.json and index.json; train on it with
`data = dict(name="prepared", path=DIR)`.

examples:
  fields3d prepare models/ --out prepared/models
  fields3d prepare teapot.obj --out prepared/teapot --sign=winding --samples 250000
"""

import argparse
import pathlib

from fields3d.commands import options
from fields3d.core.errors import BadData, CannotWrite, UsageFault

HELP = "validate, normalise and sample meshes for training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("source", metavar="SOURCE", help="a mesh, a folder of meshes, a pack, or DeepSDF's samples")
  parser.add_argument("--out", required=True, metavar="DIR", help="the folder to write to")
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
  parser.add_argument("--seed", type=options.seed, default=0, metavar="S", help="of the samples (default 0)")


def run(args: argparse.Namespace) -> int:
  import rich.console
  import rich.progress

  from fields3d.data.prepare import prepare
  from fields3d.data.quality import TABLE, write_report
  from fields3d.data.sources import find_sources

  sources = _choose(find_sources(args.source, args.sdf_sign), args)
  if args.format == "deepsdf" and not args.samples:
    raise UsageFault("--samples", "0 leaves nothing to write in DeepSDF's format", "give at least 1")
  root = pathlib.Path(args.out)
  if root.exists() and not root.is_dir():
    raise CannotWrite(root, "is a file", "give a folder")
  console = rich.console.Console(stderr=True)
  with rich.progress.Progress(console=console, disable=not console.is_terminal) as bar:
    task = bar.add_task("preparing", total=len(sources))
    rows = prepare(sources, _recipe(args), root, args.workers, lambda row: bar.advance(task))
  write_report(rows, root)
  if args.format == "deepsdf":
    _write_deepsdf(rows, root, args.source)
  _print(rows)
  accepted = [row for row in rows if row.status != "rejected"]
  print(f"{len(accepted)} of {len(rows)} shapes are in {root}; the table is {root / TABLE}")
  if not accepted:
    raise BadData(args.source, rows[0].reasons[0] if len(rows) == 1 else "every shape was rejected",
                  "" if len(rows) == 1 else f"see {root / TABLE}")
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
  import re

  from fields3d.core.types import Frame
  from fields3d.data import cache, deepsdf_files
  dataset = re.sub(r"[^\w.-]+", "_", pathlib.Path(source).resolve().stem)
  triples = []
  for row in rows:
    if row.status == "rejected":
      continue
    triple = (dataset, row.label or "shapes", re.sub(r"[^\w.-]+", "_", row.name))
    below = pathlib.Path(*triple[:2], triple[2] + ".npz")
    deepsdf_files.write_samples(root / "SdfSamples" / below, cache.read_entry_samples(root, row.key))
    frame = Frame(tuple(row.facts["frame"]["offset"]), row.facts["frame"]["scale"])
    deepsdf_files.write_normalization(root / "NormalizationParameters" / below, frame)
    triples.append(triple)
  if triples:
    deepsdf_files.write_split(root / f"{dataset}.json", triples)


def _print(rows, most: int = 40) -> None:
  """The quality table on standard output: rejected shapes first, then warnings; plain where it is no terminal."""
  import rich.console
  import rich.markup
  import rich.table

  from fields3d.data.quality import summary
  table = rich.table.Table("shape", "label", "status", "faces", "reasons")
  order = {"rejected": 0, "warned": 1, "accepted": 2}
  ranked = sorted(rows, key=lambda row: order[row.status])
  for row in ranked[:most]:
    table.add_row(*(rich.markup.escape(str(cell)) for cell in (
        row.name, row.label, row.status, row.facts.get("faces", ""), "; ".join(row.reasons))))
  console = rich.console.Console()
  if not console.is_terminal:
    console = rich.console.Console(width=160)
  console.print(table)
  if len(ranked) > most:
    console.print(f"and {len(ranked) - most} more")
  counts = summary(rows)
  console.print(", ".join(f"{number} {status}" for status, number in counts["status"].items()))
  for reason, number in list(counts["reasons"].items())[:10]:
    console.print(f"{number:6d}  {rich.markup.escape(reason)}")
