"""Measure a point cloud against another, or a set of clouds against a set of references.

Two point files (PLY, OBJ, NPZ or NPY with points (n, 3)): chamfer distances in every convention, Hausdorff,
density-aware chamfer, and the exact EMD where both have the same number of points, 2,048 at most. --protocol leaves the
protocol's own two. The floor is the same between two halves of B.

Two folders of such files, or two NPZ or NPY files with clouds (n, p, 3): MMD, COV, 1-NNA with both one-sided
accuracies, precision, recall, density, coverage, a Vendi-like diversity, JSD and a Frechet distance of A, the samples,
against B, the references, by the protocol; --emd adds the exact EMD, --emd annealed the published tables'
approximation. Lengths are the files' own: a protocol's figures are comparable only in its unit (pointflow and pvd:
shapes within the ball of radius 1/2, no shape rescaled by itself). The real control beside each figure is half of B
against the other half, or, with --train, random training clouds in A's place; --train also tests for copies of them.

examples:
  fields3d metrics points a.ply b.ply
  fields3d metrics points samples.npy references.npy --train training.npy --protocol pointflow
  fields3d metrics points drawn/ held_out/ --points 512 --emd --json
"""

import argparse
import functools

from fields3d.commands.options import existing_path, whole

HELP = "point clouds, or sets of them"
_PROTOCOLS = ("pointflow", "pvd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("prediction", type=existing_path, metavar="A", help="a cloud, or a folder or file of samples")
  parser.add_argument("truth", type=existing_path, metavar="B", help="the cloud or the references to measure it by")
  parser.add_argument("--train", type=existing_path, metavar="C", help="training clouds, for sets")
  parser.add_argument("--protocol", choices=_PROTOCOLS,
                      help="whose conventions (default: pointflow's for sets, all for two clouds)")
  parser.add_argument("--points", type=whole(8, 10**7), metavar="N",
                      help="of each cloud, at random (default: all of two clouds; for sets the protocol's number, or "
                           "the smallest cloud's if that is less)")
  parser.add_argument("--emd", nargs="?", const="exact", default="none", choices=("exact", "annealed"), metavar="KIND",
                      help="for sets: under EMD too, exact or annealed as in the published tables (slow); two clouds have the exact one")
  parser.add_argument("--neighbours", type=whole(1, 1000), metavar="K",
                      help="for sets: of precision, recall, density and coverage (default 5)")


def measure(args: argparse.Namespace) -> tuple:
  """Title, metrics, warnings, and what else the JSON holds."""
  from fields3d.commands.point_files import read_points
  from fields3d.core.errors import UsageFault
  given = [read_points(path) for path in (args.prediction, args.truth, args.train) if path is not None]
  if given[0].is_set != given[1].is_set or not given[-1].is_set and args.train:
    raise UsageFault("metrics points", "a cloud against a set of clouds", "give two clouds, or sets (--train is a set)")
  warnings = [line for one in given for line in one.warnings]
  for flag, value in (("--emd", args.emd == "annealed"), ("--neighbours", args.neighbours)):
    if value and not given[0].is_set:
      raise UsageFault(flag, "is of sets of clouds, and these are two clouds", "leave it out")
  found, more, record = (_sets if given[0].is_set else _pair)(args, given)
  return f"{args.prediction} against {args.truth}", found, warnings + more, record


def _pair(args: argparse.Namespace, given: list) -> tuple:
  from fields3d.commands.point_files import resampled
  from fields3d.evaluation.cloud_pair import compare_clouds
  from fields3d.evaluation.cloud_protocols import cloud_protocol
  a, b = (one.clouds[0] for one in given)
  if args.points:
    a, b = (resampled([cloud], args.points, args.seed, stream)[0] for stream, cloud in enumerate((a, b)))
  found, warnings = compare_clouds(a, b, cloud_protocol(args.protocol) if args.protocol else None, args.seed)
  return found, warnings, {"points": [len(a), len(b)]}


def _sets(args: argparse.Namespace, given: list) -> tuple:
  from fields3d.commands.point_files import resampled
  from fields3d.core.progress import progress
  from fields3d.evaluation.cloud_protocols import cloud_protocol
  from fields3d.evaluation.set_comparison import Clouds, compare_sets
  protocol = cloud_protocol(args.protocol or "pointflow")
  least = min(one.least for one in given)
  points = args.points or min(least, protocol.points)
  warnings = []
  if points != protocol.points:
    warnings.append(f"{points} points a cloud, {protocol.name} takes {protocol.points}: not comparable with its tables")
  sets = [Clouds.whole(resampled(one.clouds, points, args.seed, stream)) for stream, one in enumerate(given)]
  with progress() as show:
    found = compare_sets(sets[0], sets[1], sets[2] if args.train else None, protocol, emd=args.emd, k=args.neighbours or 5, seed=args.seed,
                         sampling="at random from each file", watch=lambda what: functools.partial(show, f"pairs ({what})"))
  record = {"protocol": protocol.name, "points": points, "sources": list(protocol.sources)}
  if args.train:
    record["nearest_training"] = [{"index": int(i), "distance": float(far)}
                                  for i, far in zip(found.nearest, found.distance, strict=True)]
  return list(found.metrics), warnings + list(found.warnings), record
