"""Take the census of meshes: are they sound, can they be printed, do they stand, what do they cost a game?

Each path is a mesh (OBJ PLY STL OFF GLB glTF), a folder of them, or a pack (<name>.npz and <name>.csv); files are judged
as they stand, before any mending, and what cannot be read is told and left out. Lengths are in the files' own unit and
+Y is up, unless --up says otherwise. Of a glTF file draw calls, materials, texel density and the texture coordinates
are told too. Several meshes give a row each and shares with Wilson intervals; where a pack declares watertightness, so
does the agreement with it.

examples:
  fields3d metrics quality chair.glb
  fields3d metrics quality runs/quickstart/samples --json
  fields3d metrics quality prints/ --up z --angle 50
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

from fields3d.commands.options import existing_path, positive_float, real, whole

HELP = "soundness, printability, stability and budget of meshes"
_LISTED = 40  # Meshes that get a row of the table.
_AXES = {"x": 0, "y": 1, "z": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_path, nargs="+", metavar="A", help="a mesh, a folder of them, or a pack")
  parser.set_defaults(truth=None)  # these are measured against nothing
  parser.add_argument("--up", choices=tuple(_AXES), default="y", help="the axis that points up (default %(default)s)")
  parser.add_argument("--points", type=whole(1, 10**6), default=2000, metavar="N",
                      help="points of the wall thickness (default %(default)s)")
  parser.add_argument("--percentile", type=real(ge=0, le=100), default=5.0, metavar="P",
                      help="of the wall thickness that is told (default %(default)s)")
  parser.add_argument("--angle", type=real(gt=0, lt=90), default=45.0, metavar="DEGREES",
                      help="from the vertical beyond which a face overhangs (default %(default)s)")
  parser.add_argument("--tolerance", type=positive_float, default=0.01, metavar="T",
                      help="of the height: what touches the ground (default %(default)s)")
  parser.add_argument("--no-crossings", action="store_true", help="do not look for self-intersections: faster")


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds; prints each mesh's row."""
  from fields3d.core.errors import BadData, Fault
  from fields3d.core.progress import progress
  from fields3d.evaluation.quality import Measures, judge, set_metrics
  how = Measures(not args.no_crossings, args.points, args.percentile, args.angle, args.tolerance, args.seed,
                 _AXES[args.up])
  sources = [source for path in args.prediction for source in _sources(path)]
  rows, warnings = [], []
  with progress() as show:
    for done, (name, read, declared) in enumerate(sources, 1):
      try:
        mesh, told = read()
        facts = judge(mesh, how) | _glb_facts(pathlib.Path(name))
        rows.append({"name": name, **facts} | ({} if declared is None else {"declared_watertight": declared}))
        warnings += [f"{name}: {line}" for line in told]
      except Fault as fault:
        warnings.append(f"left out: {fault}")
      show("meshes judged", done, len(sources))
  if not rows:
    raise BadData(args.prediction[0], f"none of {len(sources)} files is an acceptable mesh", "see fields3d inspect mesh")
  if not args.json:
    _print_rows(rows)
  declared = [row for row in rows if "declared_watertight" in row]
  if declared:
    told = [row["declared_watertight"] for row in declared]
    counts = [(sum(row[name] for row in declared), sum(row[name] == t for row, t in zip(declared, told, strict=True)))
              for name in ("watertight", "watertight_with_degenerate")]
    warnings.append(f"declared watertight: {sum(told)} of {len(told)}; found {counts[0][0]} (agreeing on {counts[0][1]}), "
                    f"or {counts[1][0]} (agreeing on {counts[1][1]}) where faces without area count as faces")
  words = f"{len(rows)} files as they stand, in their own unit, {args.up.upper()} up"
  found = [dataclasses.replace(metric, protocol=metric.protocol.replace("y up", f"{args.up} up").replace(
      "+Y", f"+{args.up.upper()}")) for metric in set_metrics(rows, (), how, words)]
  record = {"prediction": [str(path) for path in args.prediction], "truth": None, "meshes": rows}
  return ", ".join(map(str, args.prediction)), found, warnings, record


def _sources(path: pathlib.Path) -> Iterator[tuple]:
  """Yields (name, () -> (mesh, warnings), declared watertightness or None) of every mesh at a path."""
  from fields3d.core.errors import MissingInput
  from fields3d.data.meshes import READERS, parse_mesh
  from fields3d.data.packs import pack_files, read_pack
  if path.is_file():
    yield str(path), lambda: parse_mesh(path), None
    return
  if pack_files(path) is not None:
    for model in read_pack(path):
      yield f"{path}:{model.name}", lambda model=model: (model.mesh(), []), model.closed_share >= 1
    return
  files = sorted(file for file in path.rglob("*") if file.suffix.lower() in READERS and file.is_file())
  if not files:
    raise MissingInput(path, "holds no mesh", "give a folder with " + ", ".join(READERS))
  for file in files:
    yield str(file), lambda file=file: parse_mesh(file), None


def _glb_facts(path: pathlib.Path) -> dict:
  """What a glTF file costs a game, and its texture coordinates' faults (the worst part's); empty for other files."""
  from fields3d.data.gltf_parts import OPENERS, read_parts
  from fields3d.metrics.game_budget import Part, game_budget
  from fields3d.metrics.uv import uv_report
  if path.suffix.lower() not in OPENERS or not path.is_file():
    return {}
  parts = [Part(part.mesh, part.material, part.uv, part.texture) for part in read_parts(path)[0]]
  budget = dataclasses.asdict(game_budget(parts))
  facts = {name: budget[name] for name in ("draw_calls", "materials", "textured", "texel_density", "density_spread")}
  reports = [dataclasses.asdict(uv_report(part.mesh, part.uv, v_down=True)) for part in parts if part.uv is not None]
  for name in reports[0] if reports else ():
    known = [report[name] for report in reports if report[name] is not None]
    facts[f"uv_{name}"] = max(known) if known else None
  return facts


def _print_rows(rows: Sequence[dict]) -> None:
  from rich.console import Console
  from rich.table import Table
  columns = {"faces": "faces", "watertight": "tight", "edge_manifold": "edges", "vertex_manifold": "vertices",
             "consistently_oriented": "oriented", "components": "parts", "inverted": "inverted",
             "self_intersecting": "crossing", "degenerate": "no area", "duplicate": "twice", "volume": "volume",
             "wall": "wall", "smallest_feature": "least", "overhang": "overhang", "margin": "margin",
             "draw_calls": "draws", "texel_density": "texels", "uv_overlap": "uv twice", "uv_stretch": "stretch"}
  columns = {key: title for key, title in columns.items() if any(row.get(key) is not None for row in rows)}
  table = Table("mesh", *columns.values())
  for row in rows[:_LISTED]:
    cells = [row.get(key) for key in columns]
    table.add_row(pathlib.Path(row["name"]).name, *(_cell(cell) for cell in cells))
  console = Console()
  console = console if console.is_terminal else Console(width=200)
  console.print(table, markup=False, highlight=False)
  if len(rows) > _LISTED:
    print(f"... and {len(rows) - _LISTED} more (all of them with --json)")


def _cell(value: bool | int | float | None) -> str:
  """A cell of the table.

  >>> _cell(True), _cell(False), _cell(12345), _cell(0.012345), _cell(None)
  ('yes', 'NO', '12,345', '0.01235', '')
  """
  from fields3d.evaluation.report_tables import number
  if value is None:
    return ""
  if isinstance(value, bool):
    return "yes" if value else "NO"
  return f"{value:,}" if isinstance(value, int) else number(value)
