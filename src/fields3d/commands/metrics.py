"""Measure meshes or images against others: A is the prediction, B the truth.

mesh: both are moved by the truth's frame: its box's centre to the origin, its farthest vertex to distance 1. Distances
are given in that frame, or in the files' own unit with --frame world; thresholds are always in that frame. Each metric
stands beside its floor (two independent samplings of the truth) and its 95% bootstrap interval over the points.

images: two files, or two folders whose images have the same names. PSNR, SSIM, and LPIPS where its weights are found
(FIELDS3D_LPIPS), for each image and as mean and median with 95% bootstrap intervals over the images.

examples:
  fields3d metrics mesh reconstruction.glb truth.obj
  fields3d metrics mesh a.ply b.ply --points 100000 --thresholds 0.005,0.01 --json
  fields3d metrics images rendered/ photographs/ --background white
"""

import argparse
import dataclasses
import json

from fields3d.commands.options import existing_file, existing_path, positive_float, seed, whole

HELP = "measure a mesh or images against others"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, help="what A and B are: mesh or images")
  mesh = kinds.add_parser("mesh", help="two meshes")
  mesh.add_argument("prediction", type=existing_file, metavar="A", help="the mesh to measure: OBJ PLY STL OFF GLB")
  mesh.add_argument("truth", type=existing_file, metavar="B", help="the mesh to measure it by")
  mesh.add_argument("--points", type=whole(2, 10**7), default=30_000, metavar="N",
                    help="points on each surface (default %(default)s)")
  mesh.add_argument("--iou-points", type=whole(2, 10**8), default=100_000, metavar="N",
                    help="points in the joint box (default %(default)s)")
  mesh.add_argument("--thresholds", type=thresholds, default=(0.01, 0.02), metavar="T,...",
                    help="of the F-score, in the truth's frame (default 0.01,0.02)")
  mesh.add_argument("--frame", choices=("normalised", "world"), default="normalised",
                    help="in which distances are given (default %(default)s)")
  images = kinds.add_parser("images", help="two images, or two folders of them")
  images.add_argument("prediction", type=existing_path, metavar="A", help="the image or folder to measure")
  images.add_argument("truth", type=existing_path, metavar="B", help="the image or folder to measure it by")
  images.add_argument("--background", choices=("white", "black"), default="white",
                      help="under transparent pixels (default %(default)s)")
  images.add_argument("--mask", type=existing_path, metavar="M",
                      help="an image, or a folder of them by name, black where pixels do not count")
  images.add_argument("--lpips", type=existing_file, metavar="FILE", help="LPIPS's weights (default: $FIELDS3D_LPIPS)")
  for kind in (mesh, images):
    kind.add_argument("--seed", type=seed, default=0, metavar="S",
                      help="of points and intervals (default %(default)s)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")


def thresholds(text: str) -> tuple[float, ...]:
  """Distances "T,...", each once.

  >>> thresholds("0.01,0.02,0.01")
  (0.01, 0.02)
  """
  return tuple(dict.fromkeys(positive_float(part) for part in text.split(",")))


def run(args: argparse.Namespace) -> int:
  title, found, warnings, record = {"mesh": _mesh, "images": _images}[args.kind](args)
  if args.json:
    shown = {"prediction": str(args.prediction), "truth": str(args.truth), **record,
             "metrics": [dataclasses.asdict(metric) for metric in found], "warnings": warnings}
    print(json.dumps(shown, indent=2, allow_nan=False))
    return 0
  from fields3d.commands.results_table import print_metrics
  print_metrics(title, found, protocols=True)
  for line in warnings:
    print(f"warning: {line}")
  return 0


def _mesh(args: argparse.Namespace) -> tuple:
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


def _images(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds; prints the images' own figures."""
  from fields3d.commands.image_pairs import compare_images, pairs, print_rows
  rows, protocol, found, warnings = compare_images(pairs(args.prediction, args.truth, args.mask), args.background,
                                                   args.lpips, args.seed)
  if not args.json and len(rows) > 1:
    print_rows(rows)
  own = [{"name": row.name, "status": row.status, **{m.name: m.value for m in row.metrics}} for row in rows]
  title = f"{args.prediction} against {args.truth} [{protocol}]"
  return title, found, warnings, {"protocol": protocol, "images": own}
