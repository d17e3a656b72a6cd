"""Measure one mesh against another: A is the prediction, B the truth.

Both are moved by the truth's frame: its box's centre to the origin, its farthest vertex to distance 1. Distances are
given in that frame, or in the files' own unit with --frame world; thresholds are always in that frame. Each metric
stands beside its floor (two independent samplings of the truth) and its 95% bootstrap interval over the points.

examples:
  fields3d metrics mesh reconstruction.glb truth.obj
  fields3d metrics mesh a.ply b.ply --points 100000 --thresholds 0.005,0.01 --json
"""

import argparse
import dataclasses
import json

from fields3d.commands.options import existing_file, positive_float, seed, whole

HELP = "measure a mesh against another"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("kind", choices=("mesh",), help="what A and B are")
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
  parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the points (default %(default)s)")
  parser.add_argument("--json", action="store_true", help="print one JSON object")


def thresholds(text: str) -> tuple[float, ...]:
  """Distances "T,...", each once.

  >>> thresholds("0.01,0.02,0.01")
  (0.01, 0.02)
  """
  return tuple(dict.fromkeys(positive_float(part) for part in text.split(",")))


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.results_table import print_metrics
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
  if args.json:
    record = {"prediction": str(args.prediction), "truth": str(args.truth), "frame": dataclasses.asdict(frame),
              "metrics": [dataclasses.asdict(metric) for metric in found], "warnings": warnings}
    print(json.dumps(record, indent=2, allow_nan=False))
    return 0
  print_metrics(f"{args.prediction} against {args.truth}", found, protocols=True)
  for line in warnings:
    print(f"warning: {line}")
  return 0
