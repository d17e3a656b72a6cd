"""Measure an occupancy grid against another of the same size: .binvox, .npy or .npz.

IoU, precision and recall count every voxel. The chamfer distances go between the centres of surface voxels (those that
share a face with an empty voxel or with the grid's outside), in voxels; --unit side gives them in the grid's longest
side.

examples:
  fields3d metrics voxels sample.binvox model.binvox
  fields3d metrics voxels prediction.npy truth.npz --threshold 0.3 --json
"""

import argparse

from fields3d.commands.options import existing_file, finite_float

HELP = "two occupancy grids"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_file, metavar="A", help="the grid to measure: .binvox .npy .npz")
  parser.add_argument("truth", type=existing_file, metavar="B", help="the grid to measure it by")
  parser.add_argument("--threshold", type=finite_float, default=0.5, metavar="T",
                      help="a voxel of numbers is occupied above T (default %(default)s)")
  parser.add_argument("--unit", choices=("voxel", "side"), default="voxel",
                      help="of distances: a voxel, or the grid's longest side (default %(default)s)")


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds."""
  from fields3d.core.errors import BadData
  from fields3d.data.voxel_files import read_voxels
  from fields3d.evaluation.voxel_metrics import compare_voxels
  prediction, truth = (read_voxels(path, args.threshold) for path in (args.prediction, args.truth))
  if prediction.shape != truth.shape:
    ours, theirs = (" x ".join(map(str, grid.shape)) for grid in (prediction, truth))
    raise BadData(args.prediction, f"has {ours} voxels, {args.truth} has {theirs}", "give grids of one size")
  unit = 1.0 if args.unit == "voxel" else 1 / max(truth.shape)
  warnings = [f"{path}: no voxel is occupied" for path, grid in ((args.prediction, prediction), (args.truth, truth))
              if not grid.any()]
  found = compare_voxels(prediction, truth, unit, args.unit, args.seed)
  record = {"shape": list(truth.shape), "occupied": [int(prediction.sum()), int(truth.sum())]}
  return f"{args.prediction} against {args.truth}", found, warnings, record
