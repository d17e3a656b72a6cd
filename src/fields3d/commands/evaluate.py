"""Measure a trained run by the evaluators of its config, and write its tables and its report.

Writes eval/STEP.json (every figure with its interval, floor, seed and protocol) and the same as tables, STEP.md and
STEP.tex (to \\input; needs booktabs); meshes and pictures under eval/STEP/; and report.html, which opens from disk.
Prints the table of results and the paths. The same run, step and seed give the same figures. An evaluator that fails
does not lose the others' results: its fault is one line, and its code the command's.

--only takes sections of the config's evals, or names of evaluators; what eval/STEP.json holds of the other sections
for the same checkpoint is kept. An evaluator that the config has no section for is run with its own defaults, which
--config.evals.EVALUATOR.a=VALUE changes. --only none measures nothing and writes tables and report of what is there.

--curve N measures the PSNR of N views at every checkpoint that the run has kept (train.keep_every), against the
seconds of training: eval/curve.json. Evaluators that have measured this checkpoint before, with the same settings, seed
and --surfaces, are not run again.

--config.a.b=VALUE measures the run with another setting than it was trained with, of an evaluator or of anything that the
state does not depend on, such as how finely rays are marched; the command says so in every table.

--surfaces RUN gives a run that draws clouds a surface for each, by a shape autoencoder (experiments/classic/point_surfaces.py):
what is measured of meshes, and pictures of them, is of those.

examples:
  fields3d evaluate runs/quickstart
  fields3d evaluate runs/quickstart --step 2000 --seed 1
  fields3d evaluate runs/quickstart --only test
  fields3d evaluate runs/prior --only efficiency --config.evals.efficiency.repeats=10
  fields3d evaluate runs/point_gan --only quality --surfaces runs/point_surfaces
  fields3d evaluate runs/mic --curve 20
  fields3d evaluate runs/mic --config.task.renderer.refine=4 --config.evals.at200.max_views=20
"""

import argparse
import contextlib
import dataclasses
import inspect
import json
import pathlib
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fields3d.commands.options import existing_dir, non_negative_int, positive_int, seed
from fields3d.core.errors import MissingInput, UsageFault, from_os_error, nearest
from fields3d.core.strict_json import make_directory

HELP = "measure a trained run, and write its tables and its report"
_OURS = re.compile(r"\d{4,}_[\w.-]*\.(glb|png)")  # What an earlier evaluation of the same step left.
_LISTED = 24  # GLBs that are printed one by one.


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--step", type=non_negative_int, metavar="N",
                      help="checkpoint to measure (default: the newest sound one)")
  parser.add_argument("--seed", type=seed, metavar="S",
                      help="of points and intervals (default: each evaluator's own)")
  parser.add_argument("--only", type=lambda text: tuple(text.split(",")), metavar="NAME,...",
                      help="evaluators to run, by section or name; none runs none (default: all)")
  parser.add_argument("--surfaces", type=existing_dir, metavar="RUN",
                      help="the shape autoencoder that makes surfaces of the run's clouds (default: none)")
  parser.add_argument("--curve", type=positive_int, metavar="N",
                      help="measure N views at every kept checkpoint too (default: no curve)")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.experiment import apply_overrides, read_run_config
  config = read_run_config(args.workdir)["config"]
  config["evals"] = with_evaluators(config.get("evals") or {}, args.only or ())
  config = apply_overrides(config, args.overrides) if args.overrides else config
  sections = config["evals"]
  if not sections:
    raise UsageFault(args.workdir, "its config names no evaluators (evals is empty)",
                     "add a section to evals and train")
  wanted = choose(args.only, sections)
  if args.curve:
    _curve(args, sections)
    wanted = _outdated(args, sections, wanted)
  step, measured, fault = _measure(args, sections, wanted) if wanted else (_known_step(args), (), None)
  _finish(args, read_run_config(args.workdir)["config"], step, measured)
  if fault is not None:
    raise fault
  return 0


def with_evaluators(sections: Mapping[str, Mapping], only: Sequence[str]) -> dict[str, Mapping]:
  """The sections, and one of its own defaults for each evaluator that `--only` names and no section is or has.

  >>> with_evaluators({"a": {"name": "views"}}, ["views", "quality"])
  {'a': {'name': 'views'}, 'quality': {'name': 'quality'}}
  """
  from fields3d.evaluation import EVALUATORS
  known = {*sections, *(section.get("name") for section in sections.values())}
  return {**sections, **{name: {"name": name} for name in only if name in EVALUATORS and name not in known}}


def choose(only: Sequence[str] | None, sections: Mapping[str, Mapping]) -> list[str]:
  """The sections that `--only` names, by section or by evaluator, in the config's order; all when None.

  Raises:
    UsageFault: a name that is neither.

  >>> choose(["views"], {"a": {"name": "views"}, "b": {"name": "geometry"}})
  ['a']
  """
  from fields3d.evaluation import EVALUATORS
  if only is None:
    return list(sections)
  known = {*sections, *(section.get("name") for section in sections.values())} - {None}
  for name in only:
    if name not in known and name != "none":
      raise UsageFault("--only", f"there is no evaluator {name!r}", nearest(name, {*known, *EVALUATORS}))
  return [section for section, settings in sections.items() if section in only or settings.get("name") in only]


def _curve(args: argparse.Namespace, sections: Mapping) -> None:
  """Measures, prints and writes PSNR against training time; the report reads the file."""
  from fields3d.commands.curve import measure_curve, print_curve
  from fields3d.core import strict_json
  from fields3d.evaluation.report_views import CURVE_FILE
  record = measure_curve(args.workdir, sections, args.curve, args.seed, args.overrides)
  (args.workdir / CURVE_FILE).parent.mkdir(exist_ok=True)
  strict_json.write(args.workdir / CURVE_FILE, record | {"command": _command(args)})
  print_curve(record)


def _outdated(args: argparse.Namespace, sections: Mapping, wanted: Sequence[str]) -> list[str]:
  """Those of the wanted sections that have not measured this checkpoint with the same settings and seed."""
  from fields3d.evaluation.records import read_record, record_path
  from fields3d.training.manifest import steps
  step = args.step if args.step is not None else max(steps(args.workdir / "checkpoints"), default=None)
  if step is None or not record_path(args.workdir, step).is_file():
    return list(wanted)
  record = read_record(record_path(args.workdir, step))
  if record.checkpoint != _checkpoint(args.workdir, step):
    return list(wanted)
  before = lambda name: _made_with(record.provenance[name]["command"], sections[name])
  return [name for name in wanted if name in record.failed or name not in record.evaluations
          or before(name) != _made_with(_command(args), sections[name])
          or not _is_of(record.evaluations[name], sections[name], args.seed)]


def _made_with(command: str, section: Mapping[str, Any]) -> set[tuple[str, str]]:
  """What a command says that changes an evaluation's figures besides its own settings.

  >>> sorted(_made_with("fields3d evaluate a --only b --surfaces c --config.task.d=1 --config.evals.b.e=2", {"name": "quality"}))
  [('--config.task.d', '1'), ('--surfaces', 'c')]
  """
  words = shlex.split(command)
  made = {word.partition("=")[::2] for word in words if word.startswith("--config.") and not word.startswith("--config.evals.")}
  if _asks_surface(section):
    made |= {(flag, value) for flag, value in zip(words, words[1:]) if flag == "--surfaces"}
  return made


def _is_of(evaluation, section: Mapping[str, Any], chosen: int | None) -> bool:
  """Whether an evaluation was made with these settings."""
  from fields3d.evaluation import EVALUATORS
  if evaluation.name != section["name"] or evaluation.name not in EVALUATORS:
    return False
  settings = {name: p.default for name, p in inspect.signature(EVALUATORS[evaluation.name]).parameters.items()
              if p.default is not inspect.Parameter.empty} | {k: v for k, v in section.items() if k != "name"}
  settings |= {} if chosen is None else {"seed": chosen}
  plain = json.loads(json.dumps(settings, default=str))
  return all(evaluation.settings.get(name) == value for name, value in plain.items())


def _known_step(args: argparse.Namespace) -> int:
  """The step whose record is to be shown; there is one."""
  from fields3d.evaluation.records import read_record, record_path, recorded_steps
  known = recorded_steps(args.workdir) if args.step is None else [args.step]
  if not known:
    raise MissingInput(args.workdir / "eval", "holds no evaluation", "leave --only none out")
  read_record(record_path(args.workdir, known[-1]))
  return known[-1]


def _checkpoint(workdir: pathlib.Path, step: int) -> str | None:
  from fields3d.training.manifest import digest_of
  return digest_of(workdir / "checkpoints" / str(step))


def _measure(args: argparse.Namespace, sections: Mapping, wanted: Sequence[str]) -> tuple[int, Sequence[str], Exception | None]:
  """Runs the wanted evaluators and adds what each finds to the record, so that nothing found is lost.

  Returns:
    The step, the sections measured, and the first fault that an evaluator met, None without any.

  Raises:
    Fault: nothing was found at all.
  """
  from fields3d.commands.rundir import open_run, with_surfaces
  from fields3d.core.config import build
  from fields3d.evaluation import EVALUATORS
  from fields3d.evaluation.records import Record, add_to_record, provenance, read_record, record_path
  from fields3d.training.logging import environment
  evaluators = {}
  for name in wanted:
    with _told_by(name, sections[name]):
      evaluators[name] = build(EVALUATORS, sections[name], f"evals.{name}")
  opened = open_run(args.workdir, args.step, [(path, text) for path, text in args.overrides if not path.startswith("evals.")])
  if args.surfaces:
    opened = with_surfaces(opened, args.surfaces)
    if not any(map(_asks_surface, (sections[name] for name in wanted))):
      raise UsageFault("--surfaces", f"none of {', '.join(wanted)} asks for a surface", "add --only quality, or rendered")
  place = {key: value for key, value in environment().items() if key != "command"}
  made, path = provenance(_command(args), place), record_path(args.workdir, opened.step)
  checkpoint, found, faults = _checkpoint(args.workdir, opened.step), {}, {}
  if path.is_file():
    read_record(path)  # a damaged one is told before anything is measured
  for name, evaluator in evaluators.items():
    try:
      with _told_by(name, sections[name]):
        found[name] = _evaluate(opened, name, evaluator, args.seed)
      if args.surfaces and _asks_surface(sections[name]):
        said = f"where a surface was asked for, {args.surfaces} made it of the run's clouds"
        found[name] = dataclasses.replace(found[name], warnings=[*found[name].warnings, said])
    except Exception as error:  # Whatever it is, the others' results count; main says what it means.
      faults[name] = error
    if found:
      add_to_record(path, Record(opened.step, made["command"], place, checkpoint, found, dict.fromkeys(found, made),
                                 {n: _line(e) for n, e in faults.items()}), list(sections))
  errors = list(faults.values())
  for error in errors[1:]:
    print(f"fields3d: {_line(error)}", file=sys.stderr)
  if not found:
    raise errors[0]
  return opened.step, list(found), errors[0] if errors else None


@contextlib.contextmanager
def _told_by(section: str, settings: Mapping[str, Any]) -> Iterator[None]:
  """Evaluators do not know their section: their faults, of `evals` or `evals.EVALUATOR`, are told by its flag."""
  try:
    yield
  except UsageFault as fault:
    where = re.sub(rf"^evals(\.{settings.get('name')}\b)?(?![\w-])", lambda _: f"--config.evals.{section}", fault.where)
    raise UsageFault(where, fault.what, fault.remedy) from fault


def _asks_surface(section: Mapping[str, Any]) -> bool:
  return section.get("pred") != "points"


def _line(error: Exception) -> str:
  from fields3d.commands.main import as_fault
  return str(as_fault(error) or " ".join(f"{type(error).__name__}: {error}".split())[:300])


def _evaluate(opened, section: str, evaluator, chosen: int | None):
  """What an evaluator finds; its files are put into an empty directory."""
  from fields3d.commands.step_program import training_program
  from fields3d.evaluation.report import evaluation_dir
  from fields3d.evaluation.results import EvaluationInput
  out_dir = evaluation_dir(opened.workdir, opened.step, section)
  _make_empty(out_dir)
  return evaluator(EvaluationInput(opened.predict, opened.dataset, out_dir, opened.step, chosen,
                                   lambda: training_program(opened)))


def _make_empty(directory: pathlib.Path) -> None:
  """Makes the directory, and removes an earlier evaluation's files from it."""
  make_directory(directory)
  try:
    for path in directory.iterdir():
      if _OURS.fullmatch(path.name):
        path.unlink()
  except OSError as error:
    raise from_os_error(error, directory) from error


def _command(args: argparse.Namespace) -> str:
  words = ["fields3d", "evaluate", str(args.workdir)]
  for name in ("step", "seed", "only", "surfaces", "curve"):
    value = getattr(args, name)
    words += [f"--{name}", ",".join(value) if name == "only" else str(value)] if value is not None else []
  return shlex.join(words + [f"--config.{path}={text}" for path, text in args.overrides])


def _finish(args: argparse.Namespace, config: Mapping, step: int, measured: Sequence[str]) -> None:
  """Writes tables and report of the record on the disk, and prints what was measured now."""
  from fields3d.core import strict_json
  from fields3d.evaluation.records import read_record, record_path, with_files_of
  from fields3d.evaluation.report import evaluation_dir, write_report
  from fields3d.evaluation.tables import latex, markdown, record_tables
  json_path, trained = record_path(args.workdir, step), args.workdir / "environment.json"
  with strict_json.one_at_a_time(json_path.parent):
    record = read_record(json_path)
    tables, written = record_tables(record, args.workdir.resolve().name), [json_path]
    for suffix, write in ((".md", markdown), (".tex", latex)):
      written.append(json_path.with_suffix(suffix))
      try:
        strict_json.replace(written[-1], write(tables).encode())
      except OSError as error:
        raise from_os_error(error, written[-1]) from error
    evaluations = {section: with_files_of(evaluation, evaluation_dir(args.workdir, step, section))
                   for section, evaluation in record.evaluations.items()}
    shown = dict(record.environment)
    shown |= {"trained": _excerpt(strict_json.read(trained))} if trained.is_file() else {}
    report = write_report(args.workdir, step, evaluations, command=_commands(record), config=config,
                          environment=shown, failed=record.failed)
  _print(step, {section: evaluations[section] for section in measured if section in evaluations}, args.workdir)
  print(*written, report, sep="\n")


def _commands(record) -> str:
  """The commands that made a record, a line each, with what each made where there are several."""
  made = {}
  for section, facts in record.provenance.items():
    made.setdefault(facts["command"], []).append(section)
  return "\n".join(command if len(made) == 1 else f"{command}  # {', '.join(sections)}" for command, sections in made.items())


def _excerpt(environment: Mapping) -> dict:
  """What the report says of where the run was trained."""
  return {key: environment[key] for key in ("time", "git", "cpu", "devices") if environment.get(key)}


def _print(step: int, evaluations: Mapping, workdir: pathlib.Path) -> None:
  from fields3d.commands.results_table import print_metrics
  from fields3d.evaluation.report import evaluation_dir
  meshes = []
  for section, evaluation in evaluations.items():
    print_metrics(f"{workdir.name}, step {step}: {section}", evaluation.metrics, control=evaluation.control)
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
