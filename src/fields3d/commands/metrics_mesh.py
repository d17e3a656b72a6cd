"""Measure a mesh against another.

Both are moved by the truth's frame: its box's centre to the origin, its farthest vertex to distance 1. Distances are
given in that frame, or in the files' own unit with --frame world; thresholds are always in that frame. Each metric
stands beside its floor (two independent samplings of the truth) and its 95% bootstrap interval over the points.

--metrics chooses groups: surface (two chamfer distances, normal consistency, Hausdorff, F-scores) and iou, which are
measured unless others are asked for; distances (chamfer in every convention, accuracy and completeness), normals
(angles), edges, voxels, transport (EMD, density-aware chamfer), silhouettes (LFD-like); all.

--protocol measures as one published table does instead: in its frame, with its points and its units, which are listed
by fields3d metrics --protocols.

examples:
  fields3d metrics mesh reconstruction.glb truth.obj
  fields3d metrics mesh a.ply b.ply --points 100000 --thresholds 0.005,0.01 --json
  fields3d metrics mesh a.ply b.ply --metrics distances,normals --frame world --max-distance 20
  fields3d metrics mesh a.ply b.ply --protocol deepsdf
"""

import argparse
import dataclasses

from fields3d.commands.options import existing_file, positive_float, whole
from fields3d.core.errors import nearest

HELP = "two meshes"
GROUPS = ("surface", "iou", "distances", "normals", "edges", "voxels", "transport", "silhouettes")
PROTOCOLS = ("deepsdf", "occnet", "vecset", "get3d")
_SETTINGS = {"points": 30_000, "iou_points": 100_000, "thresholds": (0.01, 0.02), "frame": "normalised", "metrics": ("surface", "iou"),
             "max_distance": None}  # where no protocol settles them


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_file, metavar="A", help="the mesh to measure: OBJ PLY STL OFF GLB")
  parser.add_argument("truth", type=existing_file, metavar="B", help="the mesh to measure it by")
  parser.add_argument("--points", type=whole(2, 10**7), metavar="N",
                      help="points on each surface (default 30000)")
  parser.add_argument("--iou-points", type=whole(2, 10**8), metavar="N",
                      help="points in the joint box (default 100000)")
  parser.add_argument("--thresholds", type=thresholds, metavar="T,...",
                      help="of the F-score, in the truth's frame (default 0.01,0.02)")
  parser.add_argument("--frame", choices=("normalised", "world"),
                      help="in which distances are given (default normalised)")
  parser.add_argument("--metrics", type=groups, metavar="GROUP,...",
                      help="which groups of metrics, or all (default surface,iou)")
  parser.add_argument("--max-distance", type=positive_float, metavar="D",
                      help="leave points farther than D, in --frame, out of accuracy and completeness")
  parser.add_argument("--protocol", choices=PROTOCOLS, help="measure as a published table does, which settles all of these")


def groups(text: str) -> tuple[str, ...]:
  """Groups of metrics "GROUP,...", each once.

  >>> groups("iou,edges,iou"), len(groups("all"))
  (('iou', 'edges'), 8)
  """
  chosen = GROUPS if text == "all" else tuple(dict.fromkeys(text.split(",")))
  for name in chosen:
    if name not in GROUPS:
      raise argparse.ArgumentTypeError(f"no group {name!r}, {nearest(name, (*GROUPS, 'all'))}")
  return chosen


def thresholds(text: str) -> tuple[float, ...]:
  """Distances "T,...", each once.

  >>> thresholds("0.01,0.02,0.01")
  (0.01, 0.02)
  """
  return tuple(dict.fromkeys(positive_float(part) for part in text.split(",")))


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds."""
  from fields3d.core.errors import BadData, UsageFault
  from fields3d.core.types import Mesh
  from fields3d.data.meshes import read_mesh
  from fields3d.evaluation.geometry import compare
  from fields3d.evaluation.protocols import measure_meshes, mesh_protocol, protocol_frame
  from fields3d.geometry.meshes import normalise
  own = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
  if args.protocol and own:
    raise UsageFault(f"--{next(iter(own)).replace('_', '-')}", f"is settled by --protocol {args.protocol}", "leave one of them out")
  prediction, warnings = read_mesh(args.prediction)
  truth, more = read_mesh(args.truth)
  warnings = [f"{args.prediction}: {w}" for w in warnings] + [f"{args.truth}: {w}" for w in more]
  title = f"{args.prediction} against {args.truth}"
  if args.protocol:
    frame = protocol_frame(truth, mesh_protocol(args.protocol))
    found = measure_meshes(prediction, truth, args.protocol, seed=args.seed)
    record = {"protocol": args.protocol, "frame": dataclasses.asdict(frame)}
    return f"{title} [{args.protocol}]", found, warnings, record
  truth, frame = normalise(truth, margin=1.0)
  prediction = Mesh((prediction.vertices - frame.offset) / frame.scale, prediction.faces)
  settings = _SETTINGS | own
  world = settings.pop("frame") == "world"
  limit = settings["max_distance"] and settings["max_distance"] / (frame.scale if world else 1.0)
  try:
    found = compare(prediction, truth, seed=args.seed, frame=frame if world else None, groups=settings.pop("metrics"),
                    **{**settings, "max_distance": limit})
  except BadData as fault:  # the truth has been normalised, so it is the other
    if fault.where != "mesh":
      raise
    raise BadData(args.prediction, f"in the frame of {args.truth} {fault.what}", fault.remedy) from fault
  return title, found, warnings, {"frame": dataclasses.asdict(frame)}
