"""Extract the surfaces of a run's training shapes, each as a mesh file.

Each shape's fitted code is decoded on a grid over [-1, 1]^3 by marching cubes, in color where the field has any. The
default method evaluates the field near the surface only, and gives the same mesh as --method dense, many times sooner.
Meshes are closed at the box. Files are in the frame of the original data, +Y up. extract.json beside the files says
what was extracted and how. The same run, step and options give the same files.

examples:
  fields3d extract runs/quickstart --resolution 256 --out meshes
  fields3d extract runs/quickstart --index 0,3 --format ply --largest-component
"""

import argparse
import dataclasses
import pathlib
import re

from fields3d.commands.options import existing_dir, indices, non_negative_int, positive_float, whole
from fields3d.core.errors import OK, BadData, UsageFault

HELP = "extract the training shapes' surfaces as meshes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--resolution", type=whole(8, 2048), metavar="R",
                      help="grid nodes per axis, 8 to 2048 (default: the config's extract_resolution)")
  parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where to write (default DIR/meshes)")
  parser.add_argument("--format", choices=("glb", "ply", "obj"), default="glb",
                      help="file format (default %(default)s)")
  parser.add_argument("--index", type=indices, metavar="I,J", help="training shapes to extract (default: all)")
  parser.add_argument("--method", choices=("sparse", "dense"), default="sparse",
                      help="evaluate the field near the surface, or everywhere (default %(default)s)")
  parser.add_argument("--lipschitz", type=positive_float, metavar="L",
                      help="how fast the field may change per unit length; a larger one is safer and slower")
  parser.add_argument("--largest-component", action="store_true", help="keep each mesh's largest component only")
  parser.add_argument("--step", type=non_negative_int, metavar="K",
                      help="a checkpoint's step (default: the newest sound one)")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.rundir import open_run
  from fields3d.core import strict_json

  opened = open_run(args.workdir, step=args.step)
  shapes = opened.dataset.shapes("train")
  chosen = range(len(shapes)) if args.index is None else args.index
  if beyond := [i for i in chosen if i >= len(shapes)]:
    raise UsageFault("--index", f"there is no training shape {beyond[0]}", f"give indices from 0 to {len(shapes) - 1}")
  out = args.out or args.workdir / "meshes"
  resolution = args.resolution or opened.config.get("extract_resolution", 128)
  facts = {"step": opened.step, "resolution": resolution, "method": args.method}
  rows = [_extract_shape(opened, shapes[i], out, {**facts, "index": i}, args) for i in chosen]
  if done := [row for row in rows if row["file"]]:
    strict_json.write(out / "extract.json", {"run": str(args.workdir), **facts, "shapes": rows})
  _print(rows, out, opened.step)
  if len(done) < len(rows):
    raise BadData(args.workdir, f"{len(rows) - len(done)} of {len(rows)} shapes have no surface in [-1, 1]^3",
                  "train longer; the others are written")
  return OK


def _extract_shape(opened, shape, out: pathlib.Path, facts: dict, args: argparse.Namespace) -> dict:
  """Extracts, inspects and writes one shape; returns its row of the table."""
  from fields3d.core.task import field_of, lookup
  from fields3d.extraction.export import export
  from fields3d.extraction.sparse import LIPSCHITZ, extract
  from fields3d.geometry.meshes import inspect_mesh, keep_largest

  field = field_of(opened.predict, lookup(opened.predict, "code", "extract")(facts["index"]), opened.dataset.info)
  row = {"index": facts["index"], "name": shape.name, "file": None}
  try:
    mesh, report = extract(field, facts["resolution"], method=args.method, lipschitz=args.lipschitz or LIPSCHITZ)
  except BadData as fault:
    return {**row, "problem": fault.what}
  mesh = keep_largest(mesh) if args.largest_component else mesh
  stem = f"{facts['index']:04d}_" + re.sub(r"[^\w.-]+", "_", shape.name)[:100]
  path = export(mesh, out / f"{stem}.{args.format}", args.format, shape.name, frame=shape.frame, extras=facts)
  quality = inspect_mesh(mesh)
  kept = {name: getattr(quality, name) for name in ("components", "watertight", "manifold", "genus")}
  return {**row, "file": path.name, "vertices": len(mesh.vertices), "faces": len(mesh.faces), **kept,
          "evaluations": report.evaluations, "slope": report.slope, "lipschitz": report.lipschitz,
          "frame": dataclasses.asdict(shape.frame), "seconds": round(report.seconds, 3)}


def _print(rows: list[dict], out: pathlib.Path, step: int) -> None:
  """Prints the table, one line a shape, and what to beware of."""
  columns = ("file", "vertices", "faces", "components", "watertight", "genus", "evaluations", "seconds")
  table = [columns]
  for row in rows:
    if not row["file"]:
      table.append((f"{row['index']:04d} {row['name']}: {row['problem']}",))
      continue
    words = {True: "yes", False: "no", None: "-"}
    cells = [row[c] for c in columns]
    table.append([words[c] if c is None or isinstance(c, bool) else f"{c:,}" if isinstance(c, int) else
                  f"{c:.2f}" if isinstance(c, float) else c for c in cells])
  widths = [max(len(line[i]) for line in table if len(line) > 1) for i in range(len(columns))]
  for line in table:
    first, *rest = line
    print("  ".join([first.ljust(widths[0] if rest else 0), *(c.rjust(w) for c, w in zip(rest, widths[1:]))]).rstrip())
  print(f"step {step}: {sum(bool(row['file']) for row in rows)} of {len(rows)} shapes are in {out}")
  steep = [row for row in rows if row.get("slope") and row["slope"] > row["lipschitz"]]
  if steep:
    most = max(row["slope"] for row in steep)
    print(f"{len(steep)} of {len(rows)} fields are somewhere steeper than --lipschitz {steep[0]['lipschitz']:g}: "
          f"specks of a few cells may be missing; --lipschitz {most:.2g} or --method dense finds them")
