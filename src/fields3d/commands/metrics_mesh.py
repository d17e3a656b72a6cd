"""Measure a mesh against another.

Both are moved by the truth's frame: its box's centre to the origin, its farthest vertex to distance 1. Distances are
given in that frame, or in the files' own unit with --frame world; thresholds are always in that frame. Each metric
stands beside its floor (two independent samplings of the truth) and its 95% bootstrap interval over the points.

examples:
  fields3d metrics mesh reconstruction.glb truth.obj
  fields3d metrics mesh a.ply b.ply --points 100000 --thresholds 0.005,0.01 --json
"""

import argparse
import dataclasses

from fields3d.commands.options import existing_file, positive_float, whole

HELP = "two meshes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_file, metavar="A", help="the mesh to measure: OBJ PLY STL OFF GLB")
  parser.add_argument("truth", type=existing_file, metavar="B", help="the mesh to measure it by")
  parser.add_argument("--points", type=whole(2, 10**7), default=30_000, metavar="N",
                      help="points on each surface (default %(default)s)")
  parser.add_argument("--iou-points", type=whole(2, 10**8), default=100_000, metavar="N",
                      help="points in the joint box (default %(default)s)")
  parser.add_argument("--thresholds", type=thresholds, default=(0.01, 0.02), metavar="T,...",
                      help="of the F-score, in the truth's frame (default 0.01,0.02)")
  parser.add_argument("--frame", choices=("normalised", "world"), default="normalised",
                      help="in which distances are given (default %(default)s)")


def thresholds(text: str) -> tuple[float, ...]:
  """Distances "T,...", each once.

  >>> thresholds("0.01,0.02,0.01")
  (0.01, 0.02)
  """
  return tuple(dict.fromkeys(positive_float(part) for part in text.split(",")))


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds."""
  from fields3d.core.types import Mesh
  from fields3d.data.meshes import read_mesh
  from fields3d.evaluation.geometry import compare
  from fields3d.geometry.meshes import normalise
  prediction, warnings = read_mesh(args.prediction)
  truth, more = read_mesh(args.truth)
  warnings = [f"{args.prediction}: {w}" for w in warnings] + [f"{args.truth}: {w}" for w in more]
  truth, frame = normalise(truth, margin=1.0)
  prediction = Mesh((prediction.vertices - frame.offset) / frame.scale, prediction.faces)
  found = compare(prediction, truth, points=args.points, iou_points=args.iou_points, thresholds=args.thresholds,
                  seed=args.seed, frame=frame if args.frame == "world" else None)
  return f"{args.prediction} against {args.truth}", found, warnings, {"frame": dataclasses.asdict(frame)}
