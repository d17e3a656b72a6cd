"""Measure a trained run by every evaluator of its config, and write its report.

Writes eval/STEP.json (every figure with its interval, floor, seed and protocol), the meshes and pictures under
eval/STEP/, and report.html, which opens from disk. Prints the table of results and the paths. The same run, step and
seed give the same figures. --curve N also measures the PSNR of N views at every checkpoint that the run has kept
(train.keep_every), against the seconds of training: eval/curve.json.

examples:
  fields3d evaluate runs/quickstart
  fields3d evaluate runs/quickstart --step 2000 --seed 1
  fields3d evaluate runs/mic --curve 20
"""

import argparse
import pathlib
import re
import shlex
import statistics
from collections.abc import Mapping

from fields3d.commands.options import existing_dir, non_negative_int, positive_int, seed
from fields3d.core.errors import UsageFault, from_os_error

HELP = "measure a trained run, and write its report"
_OURS = re.compile(r"\d{4,}_[\w.-]*\.(glb|png)")  # What an earlier evaluation of the same step left.
_LISTED = 24  # GLBs that are printed one by one.


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--step", type=non_negative_int, metavar="N",
                      help="checkpoint to measure (default: the newest sound one)")
  parser.add_argument("--seed", type=seed, metavar="S",
                      help="of points and intervals (default: each evaluator's own)")
  parser.add_argument("--curve", type=positive_int, metavar="N",
                      help="measure N views at every kept checkpoint too (default: no curve)")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.experiment import read_run_config
  from fields3d.commands.rundir import open_run
  from fields3d.core import strict_json
  from fields3d.evaluation.report import write_report
  from fields3d.training.logging import environment
  sections = read_run_config(args.workdir)["config"].get("evals")
  if not sections:
    raise UsageFault(args.workdir, "its config names no evaluators (evals is empty)",
                     "add a section to evals and train")
  if args.curve:
    _curve(args, sections)
  opened = open_run(args.workdir, args.step)
  evaluations, command = _evaluate(opened, args.seed), _command(args)
  place = {key: value for key, value in environment().items() if key != "command"}
  trained = args.workdir / "environment.json"
  record = {"step": opened.step, "command": command, "environment": place,
            "evaluations": {section: evaluation.to_json() for section, evaluation in evaluations.items()}}
  json_path = args.workdir / "eval" / f"{opened.step}.json"
  strict_json.write(json_path, record)
  shown = place | ({"trained": _excerpt(strict_json.read(trained))} if trained.is_file() else {})
  report = write_report(args.workdir, opened.step, evaluations, command=command, config=opened.config,
                        environment=shown)
  _print(opened.step, evaluations, args.workdir, json_path, report)
  return 0


def _curve(args: argparse.Namespace, sections: Mapping) -> None:
  """Measures, prints and writes PSNR against training time; the report reads the file."""
  from fields3d.commands.curve import measure_curve, print_curve
  from fields3d.core import strict_json
  from fields3d.evaluation.report_views import CURVE_FILE
  record = measure_curve(args.workdir, sections, args.curve, args.seed)
  (args.workdir / CURVE_FILE).parent.mkdir(exist_ok=True)
  strict_json.write(args.workdir / CURVE_FILE, record | {"command": _command(args)})
  print_curve(record)


def _evaluate(opened, chosen: int | None) -> dict:
  """section -> what its evaluator found."""
  from fields3d.core.config import build
  from fields3d.evaluation import EVALUATORS
  from fields3d.evaluation.report import evaluation_dir
  from fields3d.evaluation.results import EvaluationInput
  sections, found = opened.config["evals"], {}
  evaluators = {name: build(EVALUATORS, section, f"evals.{name}") for name, section in sections.items()}
  for section, evaluator in evaluators.items():
    out_dir = evaluation_dir(opened.workdir, opened.step, section)
    _make_empty(out_dir)
    found[section] = evaluator(EvaluationInput(opened.predict, opened.dataset, out_dir, opened.step, chosen))
  return found


def _make_empty(directory: pathlib.Path) -> None:
  """Makes the directory, and removes an earlier evaluation's files from it."""
  try:
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
      if _OURS.fullmatch(path.name):
        path.unlink()
  except OSError as error:
    raise from_os_error(error, directory) from error


def _command(args: argparse.Namespace) -> str:
  words = ["fields3d", "evaluate", str(args.workdir)]
  for name in ("step", "seed", "curve"):
    value = getattr(args, name)
    words += [f"--{name}", str(value)] * (value is not None)
  return shlex.join(words)


def _excerpt(environment: Mapping) -> dict:
  """What the report says of where the run was trained."""
  return {key: environment[key] for key in ("time", "git", "cpu", "devices") if environment.get(key)}


def _print(step: int, evaluations: Mapping, workdir: pathlib.Path, json_path: pathlib.Path,
           report: pathlib.Path) -> None:
  from fields3d.commands.results_table import print_metrics
  from fields3d.evaluation.report import evaluation_dir
  meshes = []
  for section, evaluation in evaluations.items():
    print_metrics(f"{workdir.name}, step {step}: {section}", evaluation.metrics)
    for line in evaluation.warnings:
      print(f"warning: {line}")
    if times := [row.facts["render_ms"] for row in evaluation.rows if "render_ms" in row.facts]:
      print(f"rendering: {statistics.median(times):.0f} ms a frame (median of {len(times)})")
    here = evaluation_dir(workdir, step, section)
    meshes += [here / row.files["mesh"] for row in evaluation.rows if "mesh" in row.files]
  if len(meshes) <= _LISTED:
    print(*meshes, sep="\n", end="\n" * bool(meshes))
  else:
    print(f"{len(meshes)} meshes under {workdir / 'eval' / str(step)}, the first {meshes[0]}")
  print(json_path, report, sep="\n")
