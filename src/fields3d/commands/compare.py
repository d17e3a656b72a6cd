"""Put runs side by side: each metric with its interval, and the paired bootstrap test of each run against the first.

Reads eval/STEP.json of each run (what fields3d evaluate wrote); RUN may also be such a file. The test pairs the shapes
or views that all runs share; p values are corrected by Holm's method over the tests of a table. Runs that were not
measured alike (another evaluator, split, seed of points, protocol or truth) are refused, saying what differs.

examples:
  fields3d compare runs/a runs/b
  fields3d compare runs/a runs/b runs/c --evaluator test --markdown > table.md
  fields3d compare runs/a/eval/1000.json runs/a/eval/2000.json --json
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence

from fields3d.commands.options import existing_path, non_negative_int, seed
from fields3d.core.errors import OK, MissingInput, UsageFault, nearest

HELP = "put runs side by side, with a paired test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("runs", type=existing_path, nargs="+", metavar="RUN", help="run directories, the first to compare with")
  parser.add_argument("--step", type=non_negative_int, metavar="N",
                      help="the step of each run's evaluation (default: each run's last)")
  parser.add_argument("--evaluator", metavar="NAME", help="a section of evals, or an evaluator's name (default: all shared)")
  parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the resampling (default %(default)s)")
  form = parser.add_mutually_exclusive_group()
  form.add_argument("--json", action="store_true", help="print one JSON object")
  form.add_argument("--markdown", action="store_true", help="print Markdown tables")
  form.add_argument("--latex", action="store_true", help="print LaTeX tables (they need booktabs)")


def run(args: argparse.Namespace) -> int:
  from fields3d.evaluation.comparison import compare_evaluations, comparison_table
  from fields3d.evaluation.tables import latex, markdown
  if len(args.runs) < 2:
    raise UsageFault("compare", "needs two runs or more", "name them: fields3d compare RUN RUN")
  records = read_records(args.runs, args.step)
  compared = [compare_evaluations(section, found, args.seed)
              for section, found in shared_sections(records, args.evaluator).items()]
  if args.json:
    made = {label: {"step": record.step, "checkpoint": record.checkpoint,
                    "commands": {c.section: record.provenance[c.section]["command"] for c in compared}}
            for label, record in records.items()}
    print(json.dumps({"runs": made, "seed": args.seed, "sections": [c.to_json() for c in compared]}, indent=2,
                     allow_nan=False))
    return OK
  tables = [comparison_table(comparison) for comparison in compared]
  if args.markdown or args.latex:
    said = ["; ".join(f"{label}: step {record.step:,}, {record.provenance[c.section]['command']}" for label, record in records.items())
            for c in compared]
    print((markdown if args.markdown else latex)(list(map(_with_footer, tables, said))), end="")
    return OK
  from fields3d.commands.results_table import print_table
  for table in tables:
    print_table(table)
  return OK


def _with_footer(table, line: str):
  import dataclasses
  return dataclasses.replace(table, footer=(*table.footer, line))


def read_records(runs: Sequence[pathlib.Path], step: int | None) -> dict:
  """label -> record of each run; labels are the shortest ends of the paths that tell the runs apart, and their steps.

  Raises:
    MissingInput: a run has no evaluation, or none of that step. BadData: it is damaged.
  """
  from fields3d.evaluation.records import read_record, record_path, recorded_steps
  found = []
  for path in runs:
    if path.is_file():
      found.append(read_record(path))
      continue
    steps = recorded_steps(path)
    if not steps:
      raise MissingInput(path, "holds no evaluation", f"run fields3d evaluate {path} first")
    if step is not None and step not in steps:
      raise MissingInput(path, f"holds no evaluation of step {step}", f"known: {', '.join(map(str, steps))}")
    found.append(read_record(record_path(path, steps[-1] if step is None else step)))
  steps = [record.step for record in found]
  return dict(zip(labels([path.resolve() for path in runs], steps), found))


def labels(paths: Sequence[pathlib.Path], steps: Sequence[int]) -> list[str]:
  """A short name for each path, different from the others'; a step stands with it where paths alone do not differ.

  >>> labels([pathlib.Path("/r/a/x"), pathlib.Path("/r/b/x")], [1, 1])
  ['a/x', 'b/x']
  >>> labels([pathlib.Path("/r/a"), pathlib.Path("/r/a")], [1, 1])
  ['a (1)', 'a (2)']
  """
  for depth in range(1, max(len(path.parts) for path in paths) + 1):
    names = ["/".join(path.parts[-depth:]) for path in paths]
    if len(set(names)) == len(names):
      return names
  names = [path.name for path in paths]
  return [f"{name} ({k})" for k, name in enumerate(names, 1)]


def shared_sections(records: Mapping[str, object], chosen: str | None) -> dict[str, dict]:
  """section -> label -> evaluation, of the sections that every run has under one name.

  Raises:
    UsageFault: there is none, or not the chosen one.
  """
  first, *others = records.values()
  shared = [s for s in first.evaluations if all(s in record.evaluations for record in others)]
  if chosen is not None:
    known = {*shared, *(first.evaluations[s].name for s in shared)}
    if chosen not in known:
      raise UsageFault("--evaluator", f"the runs share no evaluation {chosen!r}", nearest(chosen, known))
    shared = [s for s in shared if chosen in (s, first.evaluations[s].name)]
  if not shared:
    each = "; ".join(f"{label} has {', '.join(record.evaluations) or 'none'}" for label, record in records.items())
    raise UsageFault("compare", f"the runs share no section of evals ({each})", "evaluate them by the same evaluators")
  return {s: {label: record.evaluations[s] for label, record in records.items()} for s in shared}
