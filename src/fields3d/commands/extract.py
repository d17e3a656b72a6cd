"""Extract a run's surfaces, each as a mesh file.

A run on shapes gives one mesh for each training shape: its fitted code is decoded on a grid over the data's box by marching
cubes, in color where the field has any. A run on photographs gives one mesh: the zero level of its distance where it has
one, else the level --density-level of its density, with the colours seen head-on.

Method sparse evaluates distances near the surface only, and gives the same mesh as dense, many times sooner; a density
says nothing of how far its surface is, so it is always evaluated densely. Meshes are closed at the box; --components and
--faces come after, then colours: of the vertices, or a texture (--texture). Colours of photographs hold the light and are shown
without more (a GLB's material is unlit). Files are in the frame of the original data (photographs: the model frame), +Y up as in
the data. extract.json beside the files says what was extracted and how, and where photographs came in another frame the way
there: world = rotation @ x * scale + offset. Files that the one before it lists of another step or other settings are deleted.
The same run, step and options give the same files.

examples:
  fields3d extract runs/quickstart --resolution 256 --out meshes
  fields3d extract runs/quickstart --index 0,3 --format ply --largest-component
  fields3d extract runs/mic --resolution 256 --components 4 --faces 50000 --texture 1024
"""

import argparse
import dataclasses
import pathlib

from fields3d.commands.options import existing_dir, indices, non_negative_int, positive_float, positive_int, real, whole
from fields3d.core.errors import OK, BadData, Diverged, UsageFault

HELP = "extract a run's surfaces as meshes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--resolution", type=whole(8, 2048), metavar="R",
                      help="grid nodes per axis, 8 to 2048 (default: the config's extract_resolution)")
  parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where to write (default DIR/meshes)")
  parser.add_argument("--format", choices=("glb", "ply", "obj"), default="glb",
                      help="file format (default %(default)s)")
  parser.add_argument("--index", type=indices, metavar="I,J", help="training shapes to extract (default: all)")
  parser.add_argument("--method", choices=("sparse", "dense"),
                      help="evaluate the field near the surface, or everywhere (default: sparse for distances)")
  parser.add_argument("--lipschitz", type=positive_float, metavar="L",
                      help="how fast the field may change per unit length; a larger one is safer and slower")
  parser.add_argument("--density-level", type=real(ge=1e-30, le=1e30), default=10.0, metavar="S",
                      help="density on the surface, per unit of the model frame: at 10, half the light is absorbed "
                      "in 0.07 units (default %(default)s)")
  kept = parser.add_mutually_exclusive_group()
  kept.add_argument("--largest-component", action="store_const", const=1, dest="components",
                    help="keep each mesh's largest component only")
  kept.add_argument("--components", type=positive_int, metavar="N", help="keep each mesh's N largest components")
  parser.add_argument("--faces", type=whole(4), metavar="N", help="simplify to about N triangles")
  parser.add_argument("--texture", type=whole(16, 16384), metavar="SIZE",
                      help="bake colours into a texture of SIZE x SIZE, in a glb or beside an obj")
  parser.add_argument("--step", type=non_negative_int, metavar="K",
                      help="a checkpoint's step (default: the newest sound one)")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.folder_records import write_record
  from fields3d.commands.rundir import open_run
  from fields3d.commands.surfaces import surfaces_of
  from fields3d.core.strict_json import make_directory

  if args.texture and args.format == "ply":
    raise UsageFault("--texture", "a ply file holds no texture", "use --format glb or obj")
  opened = open_run(args.workdir, step=args.step)
  surfaces = surfaces_of(opened, args.index, args.density_level)
  if args.method == "sparse" and surfaces[0].method == "dense":
    raise UsageFault("--method", "sparse needs a distance, and the run has a density", "use dense")
  out = args.out or args.workdir / "meshes"
  make_directory(out)
  resolution = args.resolution or opened.config.get("extract_resolution", 128)
  facts = {"step": opened.step, "resolution": resolution, "method": args.method or surfaces[0].method,
           **{name: getattr(args, name) for name in ("lipschitz", "density_level", "components", "faces", "texture")}}
  rows = [_extract(surface, out, {**facts, "index": surface.index}, args) for surface in surfaces]
  done = [row for row in rows if row["file"]]
  write_record(out / "extract.json", {"run": str(args.workdir), **facts, "shapes": rows})
  _print(rows, out, opened.step)
  if broken := sum(not row.get("finite", True) for row in rows):
    raise Diverged(args.workdir, f"{broken} of {len(rows)} shapes have values that are not finite",
                   "use an earlier checkpoint (--step)" + "; the others are written" * bool(done))
  if len(done) < len(rows):
    remedy = "train longer" + ", or try another --density-level" * (surfaces[0].method == "dense")
    raise BadData(args.workdir, f"{len(rows) - len(done)} of {len(rows)} shapes have no surface in the box",
                  remedy + "; the others are written" * bool(done))
  return OK


def _extract(surface, out: pathlib.Path, facts: dict, args: argparse.Namespace) -> dict:
  """Extracts, inspects and writes one surface; returns its row of the table."""
  from fields3d.commands.surfaces import finished, mesh_of
  from fields3d.extraction.export import export
  from fields3d.geometry.meshes import inspect_mesh

  row = {"index": facts["index"], "name": surface.name, "file": None}
  try:
    mesh, report = mesh_of(surface, facts["resolution"], facts["method"], args.lipschitz)
  except (BadData, Diverged) as fault:
    return {**row, "problem": fault.what, "finite": not isinstance(fault, Diverged)}
  mesh, texture = finished(mesh, surface.color, args.components, args.faces, args.texture)
  path = export(mesh, out / f"{surface.stem}.{args.format}", args.format, surface.name, frame=surface.frame,
                extras=facts, texture=texture, unlit=surface.unlit)
  beside = [path.with_suffix(ending).name for ending in (".mtl", ".png") if texture is not None and args.format == "obj"]
  quality = inspect_mesh(mesh)
  kept = {name: getattr(quality, name) for name in ("components", "watertight", "manifold", "genus")}
  return {**row, "file": path.name, "beside": beside, "vertices": len(mesh.vertices), "faces": len(mesh.faces), **kept,
          "texels": texture and texture.texels,
          "evaluations": report.evaluations, "slope": report.slope, "lipschitz": report.lipschitz,
          "frame": dataclasses.asdict(surface.frame), "world": surface.world, "seconds": round(report.seconds, 3)}


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
  named = lambda some: some[0]["file"] + (f" and {len(some) - 1} more" if some[1:] else "")
  if coarse := [row for row in rows if row.get("texels") is not None and 2 * row["texels"] < row["faces"]]:
    print(f"{named(coarse)}: {coarse[0]['texels']:,} texels on "
          f"{coarse[0]['faces']:,} faces show less than colours of vertices; raise --texture, lower --faces, or leave --texture out")
  if open_ := [row for row in rows if row["file"] and not row["watertight"]]:
    print(f"{named(open_)}: simplified, some edge has not two faces; "
          "a larger --faces, or none, keeps it watertight")
