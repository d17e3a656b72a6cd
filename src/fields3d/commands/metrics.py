"""Measure files that fields3d need not have made: A is the prediction, B the truth.

fields3d metrics KIND --help explains a kind. Every figure stands beside its floor or control, its 95% bootstrap
interval and the protocol in words.

examples:
  fields3d metrics mesh reconstruction.glb truth.obj
  fields3d metrics images rendered/ photographs/ --background white
  fields3d metrics mesh a.ply b.ply --protocol deepsdf
  fields3d metrics --protocols
"""

import argparse
import dataclasses
import importlib
import json

from fields3d.commands.options import seed

HELP = "measure meshes, images and other files against others"

# Each kind is the module commands/metrics_<kind>.py with HELP, add_arguments(parser), whose arguments include
# "prediction" and "truth", and measure(args) -> (title, metrics, warnings, {what else the JSON holds}). Their heavy
# imports stand inside `measure`, so that help stays immediate.
KINDS = ("mesh", "points", "images", "quality", "voxels", "renders")


class ShowProtocols(argparse.Action):
  """Prints every protocol with its source, and leaves."""

  def __call__(self, parser, namespace, values, option_string=None):
    from fields3d.evaluation.protocols import describe
    print(describe())
    parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--protocols", action=ShowProtocols, nargs=0,
                      help="list the protocols of published tables with their sources, and leave")
  kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, help="what A and B are")
  for name in KINDS:
    module = kind_module(name)
    kind = kinds.add_parser(name, help=module.HELP, description=module.__doc__)
    module.add_arguments(kind)
    kind.add_argument("--seed", type=seed, default=0, metavar="S",
                      help="of points and intervals (default %(default)s)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")


def kind_module(name: str):
  """The module of a kind."""
  return importlib.import_module(f"fields3d.commands.metrics_{name}")


def run(args: argparse.Namespace) -> int:
  title, found, warnings, record = kind_module(args.kind).measure(args)
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
