"""Look into a mesh file, a run directory or a checkpoint, and say what is wrong with it.

mesh: what the file holds, and what becomes of it once mended (repeated faces, orientation...). run: its config, its
last metrics, its checkpoints. checkpoint: every file against the manifest's sha256; PATH is one step, a directory of
steps, or a run. cameras: the cameras of a scene (transforms*.json, poses_bounds.npy, COLMAP), in the model frame, with a
picture of their frusta and doubts about their convention. A damaged checkpoint ends with exit code 65, and so do a mesh
or cameras with warnings if --strict is given.

examples:
  fields3d inspect mesh bunny.obj
  fields3d inspect mesh bunny.obj --json | python -m json.tool
  fields3d inspect checkpoint runs/quickstart
  fields3d inspect cameras captures/garden --out garden.png
"""

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from fields3d.core.errors import BadData, MissingInput

_GRID_POINTS = 2**15
HELP = "look into a mesh, a run, a checkpoint or a scene's cameras"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("kind", choices=("mesh", "run", "checkpoint", "cameras"), help="what PATH is")
  parser.add_argument("path", type=pathlib.Path, metavar="PATH", help="a mesh file, a run directory, a checkpoint, or a scene's folder")
  parser.add_argument("--json", action="store_true", help="print one JSON object")
  parser.add_argument("--strict", action="store_true", help="mesh, cameras: warnings are faults")
  parser.add_argument("--all", action="store_true", help="cameras: a row for each, not for each group of equal ones")
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("cameras.png"),
                      help="cameras: the picture's file, .png, .svg or .pdf (default: cameras.png)")


def run(args: argparse.Namespace) -> int:
  if args.kind == "cameras":
    found = _cameras(args.path, args.strict, args.out)
  else:
    found = {"mesh": _mesh, "run": _run, "checkpoint": _checkpoint}[args.kind](args.path, args.strict)
  if args.json:
    print(json.dumps(found, indent=2, allow_nan=False))
  else:
    {"mesh": _print_mesh, "run": _print_run, "checkpoint": _print_checkpoint,
     "cameras": _print_every_camera if args.all else _print_cameras}[args.kind](found)
  damaged = [step for step in found.get("steps", []) if step["problems"]] if args.kind == "checkpoint" else []
  if damaged:
    raise BadData(args.path, f"{len(damaged)} of {len(found['steps'])} checkpoints are damaged",
                  "training resumes from the newest sound one")
  return 0


def _mesh(path: pathlib.Path, strict: bool) -> dict[str, Any]:
  """The report of the file as it stands and once mended, and the warnings."""
  from fields3d.data.meshes import parse_mesh, read_mesh
  from fields3d.geometry.meshes import inspect_mesh
  from fields3d.geometry.repair import repair
  if strict:
    read_mesh(path, strict=True)
  mesh, warnings = parse_mesh(path)
  mended, notes = repair(mesh)
  after = inspect_mesh(mended, crossings=True)
  return {"path": str(path), "colors": mesh.colors is not None, "file": inspect_mesh(mesh, crossings=True).to_json(),
          "mended": after.to_json(), "warnings": warnings + notes + after.warnings()}


def _print_mesh(found: Mapping[str, Any]) -> None:
  from rich.table import Table
  table = Table("measure", "in the file", "mended")
  for column in table.columns[1:]:
    column.justify = "right"
  before, after = ({**report, "lowest corner": report["bounds"][0], "highest corner": report["bounds"][1]}
                   for report in (found["file"], found["mended"]))
  for name in (key for key in before if key != "bounds"):
    table.add_row(name.replace("_", " "), _cell(before[name]), _cell(after[name]))
  _show(found["path"], table)
  for warning in found["warnings"]:
    print(f"warning: {warning}")


def _run(path: pathlib.Path, strict: bool) -> dict[str, Any]:
  """The config, the last value of each metric, and the checkpoints of a run."""
  del strict
  import numpy as np

  from fields3d.commands.experiment import read_run_config
  from fields3d.training.logging import read_metrics
  from fields3d.training.manifest import candidates, verify
  record = read_run_config(path)
  metrics = {}
  if (path / "metrics.jsonl").exists():
    metrics = {name: float(known[-1]) for name, values in read_metrics(path).items()
               if len(known := values[np.isfinite(values)])}
  directory = path / "checkpoints"
  found = [{"step": step, "problems": verify(directory / str(step), contents=False)} for step in candidates(directory)]
  return {"path": str(path), "source": record.get("source"), "overrides": record.get("overrides", []),
          "config": record["config"], "metrics": metrics, "checkpoints": found, "grids": _grids(record["config"])}


def _grids(config: Mapping[str, Any], path: str = "") -> dict[str, str]:
  """The use of rows and the collisions of every hash grid that the config names, by its place."""
  import inspect

  import numpy as np

  from fields3d.encodings.hashgrid import hashgrid
  from fields3d.encodings.occupancy import describe, grid_report
  if config.get("name") == "hashgrid":
    defaults = {name: p.default for name, p in inspect.signature(hashgrid).parameters.items()}
    sizes = {name: config.get(name, defaults[name])
             for name in ("levels", "log2_rows", "coarsest", "finest", "interpolation")}
    points = np.random.default_rng(0).uniform(-1, 1, (_GRID_POINTS, 3))
    return {path: describe(grid_report(points, **sizes))}
  found = {}
  for name, section in config.items():
    if isinstance(section, Mapping):
      found |= _grids(section, f"{path}.{name}" if path else name)
  return found


def _print_run(found: Mapping[str, Any]) -> None:
  from rich.table import Table
  table = Table("setting", "value")
  for name, value in _flat(found["config"]):
    table.add_row(name, _cell(value))
  _show(f"{found['path']}  from {found['source']} {' '.join(found['overrides'])}", table)
  if found["metrics"]:
    table = Table("metric", "last value")
    for name, value in found["metrics"].items():
      table.add_row(name, _cell(value))
    _show("", table)
  for name, report in found["grids"].items():
    print(f"{name}, at {_GRID_POINTS:,} random points of its box:\n{report}")
  for entry in found["checkpoints"]:
    print(f"checkpoint {entry['step']}: {'; '.join(entry['problems']) or 'complete'}")
  if not found["checkpoints"]:
    print("no checkpoints")


def _checkpoint(path: pathlib.Path, strict: bool) -> dict[str, Any]:
  """Every step at PATH with its problems, all contents hashed."""
  del strict
  from fields3d.training.manifest import NAME, candidates, verify
  directory = path / "checkpoints" if (path / "checkpoints").is_dir() else path
  steps = [directory / str(step) for step in candidates(directory)]
  if (path / NAME).exists() or (path.name.isdecimal() and path.is_dir()):
    steps = [path]
  if not steps:
    raise MissingInput(path, "no checkpoint there", "give a run, its checkpoints directory, or one step of it")
  return {"path": str(path), "steps": [{"step": step.name, "problems": verify(step)} for step in steps]}


def _print_checkpoint(found: Mapping[str, Any]) -> None:
  for entry in found["steps"]:
    print(f"checkpoint {entry['step']}: {'sound' if not entry['problems'] else 'damaged'}")
    for problem in entry["problems"]:
      print(f"  {problem}")


def _cameras(path: pathlib.Path, strict: bool, out: pathlib.Path) -> dict[str, Any]:
  """The cameras of a scene, by group and each, warnings and doubts; the picture is written."""
  import numpy as np

  from fields3d.data.scene_files import kind_of, open_scene
  from fields3d.data.scene_frame import to_world
  from fields3d.evaluation.cameras import camera_groups, camera_rows, convention_doubts, draw_cameras, placement_doubts
  kind = kind_of(path)
  scene = open_scene(path, kind)
  poses = np.array([view.camera.pose for group in scene.views.values() for view in group])
  rotation = np.eye(3) if scene.rotation is None else np.array(scene.rotation)
  in_file = np.concatenate([rotation @ poses[:, :, :3], to_world(poses[:, :, 3], scene.frame, rotation)[..., None]], 2)
  doubts = convention_doubts(in_file) + placement_doubts(poses, None if scene.ndc else scene.bounds)
  if strict and (doubts or scene.warnings):
    raise BadData(path, [*doubts, *scene.warnings][0], "correct it, or leave --strict out")
  draw_cameras(out, scene.views, None if scene.ndc else scene.bounds)
  return {"path": str(path), "kind": kind, "protocol": dict(scene.protocol), "near": scene.near, "far": scene.far,
          "groups": camera_groups(scene.views), "cameras": camera_rows(scene.views), "warnings": list(scene.warnings),
          "doubts": doubts, "picture": str(out)}


def _print_cameras(found: Mapping[str, Any]) -> None:
  _print_camera_table(found, found["groups"])


def _print_every_camera(found: Mapping[str, Any]) -> None:
  _print_camera_table(found, found["cameras"])


def _print_camera_table(found: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> None:
  from rich.table import Table
  table = Table(*rows[0])
  for row in rows:
    table.add_row(*(" ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
                    if isinstance(value, list) else str(value) for value in row.values()))
  _show(f"{found['path']}: {found['kind']}, {found['protocol']['split']}, near {found['near']:.4g}, far {found['far']:.4g}",
        table)
  for warning in found["warnings"]:
    print(f"warning: {warning}")
  for doubt in found["doubts"]:
    print(f"doubtful: {doubt}")
  print(f"picture: {found['picture']}")


def _flat(config: Mapping[str, Any], path: str = ""):
  """(dotted name, value) of every leaf."""
  for name, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from _flat(value, f"{path}{name}.")
    else:
      yield path + name, value


def _cell(value: Any) -> str:
  if value is None:
    return "-"
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, int):
    return f"{value:,}"
  if isinstance(value, (tuple, list)):
    return " ".join(_cell(v) for v in value)
  return str(value)


def _show(title: str, table: Any) -> None:
  from rich.console import Console
  console = Console(highlight=False, markup=False, emoji=False)
  if title:
    console.print(title)
  console.print(table)
