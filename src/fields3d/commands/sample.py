"""Draw new shapes from a trained run and write each as a mesh file, or as a cloud of points.

Codes are drawn from the distribution that the run's task has fitted (its predict function `sample`), decoded by `sdf`
and, where there is one, `color`. The same run, step, --num and --seed give the same shapes. A draw without a surface in
the box is reported and not written. samples.json beside the files says which seed and step they are of;
files that the one before it lists of others are deleted.

--label draws of one class, from a run that knows classes; --scan draws what fits a partial scan: the points of a PLY,
OBJ, NPY or NPZ file, in the run's normalised frame (`predict` functions `sample_label` and `complete`). Of a run that draws
clouds of points, clouds are written; --surfaces makes surfaces of them, by a shape autoencoder
(experiments/classic/point_surfaces.py).

examples:
  fields3d sample runs/quickstart --num 8 --seed 1 --out shapes
  fields3d sample runs/quickstart --num 2 --resolution 256 --format ply --step 2000
  fields3d sample runs/prior --num 4 --label chair --specks 0.05
  fields3d sample runs/point_gan --surfaces runs/point_surfaces
  fields3d sample runs/completion --num 4 --scan half_a_chair.ply
"""

import argparse
import pathlib

from fields3d.commands.options import existing_dir, non_negative_int, real, seed, whole

HELP = "draw new shapes from a trained run and write their meshes or clouds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--num", type=whole(1, 100_000), default=4, metavar="N",
                      help="shapes to draw (default %(default)s)")
  parser.add_argument("--seed", type=seed, default=0, metavar="S", help="seed of the draw (default %(default)s)")
  given = parser.add_mutually_exclusive_group()
  given.add_argument("--label", metavar="NAME", help="draw from this class of the training data")
  given.add_argument("--scan", type=pathlib.Path, metavar="FILE", help="draw what fits the points of this file")
  parser.add_argument("--surfaces", type=existing_dir, metavar="RUN",
                      help="the shape autoencoder that makes surfaces of the run's clouds (default: none)")
  parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where to write (default DIR/samples)")
  parser.add_argument("--resolution", type=whole(8, 4096), metavar="R",
                      help="grid nodes per axis (default: the config's extract_resolution)")
  parser.add_argument("--specks", type=real(ge=0, lt=1), default=0.0, metavar="SHARE",
                      help="take away pieces below this share of a shape's largest piece, by area (default: none)")
  parser.add_argument("--format", choices=("glb", "ply", "obj"),
                      help="file format (default: glb, of clouds ply)")
  parser.add_argument("--step", type=non_negative_int, metavar="K",
                      help="a checkpoint's step (default: the newest sound one)")


def run(args: argparse.Namespace) -> int:
  import jax

  from fields3d.commands.rundir import open_run, with_surfaces
  from fields3d.core.errors import UsageFault
  from fields3d.core.strict_json import make_directory
  from fields3d.core.task import field_of
  from fields3d.evaluation.samples import cloud_key

  opened = open_run(args.workdir, step=args.step)
  opened = with_surfaces(opened, args.surfaces) if args.surfaces else opened
  clouds = "points" in opened.predict and "sdf" not in opened.predict
  for flag, value in (("--resolution", args.resolution), ("--specks", args.specks)):
    if clouds and value:
      raise UsageFault(flag, f"{args.workdir} draws clouds of points", "leave it out, or give --surfaces RUN")
  out = args.out or args.workdir / "samples"
  make_directory(out)
  codes = _draw(opened, args, jax.random.key(args.seed))
  resolution = args.resolution or opened.config.get("extract_resolution", 128)
  facts = {"seed": args.seed, "step": opened.step} | ({} if clouds else {"resolution": resolution})
  facts |= {"specks": args.specks} if args.specks else {}
  facts |= {"surfaces": str(args.surfaces)} if args.surfaces else {}
  facts |= {"label": args.label} if args.label else {"scan": str(args.scan)} if args.scan else {}
  paths = [out / f"{i:04d}.{args.format or ('ply' if clouds else 'glb')}" for i in range(args.num)]
  if clouds:
    rows = [_write_cloud(opened.predict["points"](codes[i], cloud_key(args.seed, i)), path, i) for i, path in enumerate(paths)]
  else:
    rows = [_write_shape(field_of(opened.predict, codes[i], opened.dataset.info), path, {**facts, "index": i})
            for i, path in enumerate(paths)]
  return _report(out, {"run": str(args.workdir), "num": args.num, **facts}, rows)


def _draw(opened, args: argparse.Namespace, key):
  """The codes that were asked for."""
  import numpy as np

  from fields3d.commands.point_files import read_points
  from fields3d.core.errors import BadData, UsageFault, nearest
  from fields3d.core.task import lookup

  where = f"{args.workdir}: the task cannot be sampled"
  if args.label is None and args.scan is None:
    return lookup(opened.predict, "sample", where)(key, args.num)
  if args.label is not None:
    draw, classes = lookup(opened.predict, "sample_label", f"{where} by class"), list(opened.dataset.info["classes"])
    if args.label not in classes:
      raise UsageFault("--label", f"the training data has no class {args.label!r}", nearest(args.label, classes))
    return draw(key, classes.index(args.label), args.num)
  draw = lookup(opened.predict, "complete", f"{where} from a scan")
  found = read_points(args.scan)
  if found.is_set:
    raise UsageFault("--scan", f"{args.scan} is a set of clouds ({len(found.clouds)})", "give the file of one scan, points (n, 3)")
  cloud = found.clouds[0]
  largest = float(np.abs(cloud).max())
  if largest > 1.1:
    raise BadData(args.scan, f"a point is {largest:.3g} from the axes, outside the run's frame, the unit sphere",
                  "move and scale the scan as the shape it is of would be normalised")
  return draw(np.float32(cloud), key, args.num)


def _write_shape(field, path: pathlib.Path, facts: dict) -> dict:
  """Extracts and writes the shape of a code; returns its row of the table."""
  from fields3d.core.errors import BadData, Diverged
  from fields3d.extraction.export import export
  from fields3d.extraction.sparse import extract
  from fields3d.geometry.meshes import without_specks

  row = {"index": facts["index"], "file": None, "vertices": 0, "faces": 0}
  try:
    mesh, _ = extract(field, facts["resolution"])
  except (BadData, Diverged) as fault:
    return {**row, "problem": fault.what, "finite": not isinstance(fault, Diverged)}
  mesh = without_specks(mesh, facts["specks"]) if "specks" in facts else mesh
  export(mesh, path, path.suffix[1:], extras=facts)
  return {**row, "file": path.name, "vertices": len(mesh.vertices), "faces": len(mesh.faces)}


def _write_cloud(points, path: pathlib.Path, index: int) -> dict:
  """Writes the points (n, 3) of a code; returns its row of the table."""
  import numpy as np
  import trimesh

  from fields3d.core import strict_json
  from fields3d.core.errors import from_os_error

  points = np.asarray(points, np.float64)
  if not np.isfinite(points).all():
    return {"index": index, "file": None, "vertices": 0, "faces": 0, "problem": "points are not finite", "finite": False}
  content = trimesh.PointCloud(points).export(file_type=path.suffix[1:])
  strict_json.make_place(path)
  try:
    strict_json.replace(path, content.encode() if isinstance(content, str) else content)
  except OSError as error:
    raise from_os_error(error, path) from error
  return {"index": index, "file": path.name, "vertices": len(points), "faces": 0}


def _report(out: pathlib.Path, facts: dict, rows: list[dict]) -> int:
  """Prints the table and writes samples.json; a fault if no draw has a surface."""
  from rich.console import Console
  from rich.table import Table

  from fields3d.commands.folder_records import write_record
  from fields3d.core.errors import BadData, Diverged

  drawn = [row for row in rows if row["file"]]
  write_record(out / "samples.json", {**facts, "shapes": rows})
  broken = sum(not row.get("finite", True) for row in rows)
  if not drawn and not broken:
    raise BadData(out, f"none of the {len(rows)} draws has a surface", "train longer, or try another --seed")
  table = Table("shape", "file", "vertices", "faces")
  for row in rows:
    table.add_row(str(row["index"]), str(out / row["file"]) if row["file"] else row["problem"], str(row["vertices"]),
                  str(row["faces"]))
  Console().print(table)
  print(f"{len(drawn)} of {len(rows)} shapes of step {facts['step']}, seed {facts['seed']}, are in {out}")
  if broken:
    raise Diverged(out, f"{broken} of {len(rows)} draws have values that are not finite", "use an earlier checkpoint (--step)")
  return 0
