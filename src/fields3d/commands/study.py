"""Ask people which of two runs' samples is better: a blind page of pairs, and the preference that follows.

fields3d study A B [C...] --out DIR plans a study of folders of GLB or PNG (JPEG, WebP) files, or of runs (their
samples/, meshes/, or what their last evaluation wrote), and shows it at 127.0.0.1 only. Samples of the same name form a
pair; which pairs come when and on which side follows from the seed and the rater's number. fields3d study DIR resumes
it; a second rater opens /?rater=2. Every choice is a line of DIR/choices.jsonl: trial, rater's number, choice, seconds.

--static writes DIR/study-RATER.html instead, one file that needs no server; put the file of choices that it downloads
into DIR, named choices-RATER.jsonl.

--results prints how often each run was chosen over each other (ties count half) with Wilson's 95% interval, for more
than two runs also strengths by Bradley and Terry with bootstrap intervals over choices, and over raters where there are
several. The share of choices of the left side stands beside: 50% is what sides that do not matter give.

examples:
  fields3d study runs/a runs/b --out study
  fields3d study ours/ theirs/ real/ --out study --trials 150 --static --rater 3
  fields3d study study --results
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

from fields3d.commands.options import existing_dir, seed, whole
from fields3d.core.errors import OK, Unavailable, UsageFault, from_os_error

HELP = "a blind comparison of samples by people"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("folders", type=existing_dir, nargs="+", metavar="DIR", help="two or more folders or runs, or one study")
  parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where the study's plan and choices are kept")
  parser.add_argument("--trials", type=whole(1, 100_000), default=100, metavar="N",
                      help="pairs to show, at most (default %(default)s)")
  parser.add_argument("--kind", choices=("auto", "model", "picture"), default="auto",
                      help="what is shown (default: models where all have them)")
  parser.add_argument("--unpaired", action="store_true", help="pair samples at random and not by name")
  parser.add_argument("--question", default="Which of the two looks better?", metavar="TEXT",
                      help="what raters are asked (default %(default)r)")
  parser.add_argument("--seed", type=seed, default=0, metavar="S",
                      help="of pairs, order, sides and bootstrap (default %(default)s)")
  parser.add_argument("--port", type=whole(0, 65535), default=8090, metavar="P",
                      help="port to listen on, 0 for any (default %(default)s)")
  parser.add_argument("--static", action="store_true", help="write one file, and start no server")
  parser.add_argument("--rater", type=whole(1, 9999), default=1, metavar="R", help="whose page (default %(default)s)")
  parser.add_argument("--results", action="store_true", help="print the preference, and start no server")
  parser.add_argument("--json", action="store_true", help="with --results: print one JSON object")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.study_plan import read_study
  if args.results:
    if len(args.folders) != 1:
      raise UsageFault("--results", "takes one study", "name its folder alone: fields3d study DIR --results")
    return _results(args.folders[0], args.seed, args.json)
  if args.json:
    raise UsageFault("--json", "goes with --results only", "leave it out")
  if len(args.folders) == 1:
    folder = args.folders[0]
    study = read_study(folder)
  else:
    study, folder = _plan(args)
  return _write_page(study, folder, args.rater) if args.static else _serve(study, folder, args.port, args.rater)


def _plan(args: argparse.Namespace) -> tuple:
  """Plans a study and writes it; returns it and its folder."""
  from fields3d.commands.compare import labels
  from fields3d.commands.study_plan import make_study, write_study
  if args.out is None:
    raise UsageFault("--out", "is needed for a new study", "say where its plan and choices are kept")
  names = labels([path.resolve() for path in args.folders], [0] * len(args.folders))
  study, possible = make_study(args.folders, names, kind=args.kind, seed=args.seed, num=args.trials,
                               unpaired=args.unpaired, question=args.question)
  write_study(args.out, study)
  print(f"{len(study.trials)} of {possible} possible pairs of {' and '.join(names)} ({study.kind}s), planned in {args.out}")
  plain = sum(b'"baseColorTexture"' in pathlib.Path(file).read_bytes() for file in study.digests) if study.kind == "model" else 0
  if plain:
    print(f"warning: {plain} models have textures, which are not shown: compare pictures of them instead")
  return study, args.out


def _write_page(study, folder: pathlib.Path, rater: int) -> int:
  from fields3d.commands.study_server import page
  from fields3d.core.strict_json import replace
  path = folder / f"study-{rater}.html"
  try:
    replace(path, page(study, folder, rater, static=True).encode())
  except OSError as error:
    raise from_os_error(error, path) from error
  print(f"{path} is written: {path.stat().st_size / 2**20:.1f} MiB; its choices belong into {folder / f'choices-{rater}.jsonl'}")
  return OK


def _serve(study, folder: pathlib.Path, port: int, rater: int) -> int:
  """Serves until interrupted."""
  from fields3d.commands.study_server import Server
  try:
    server = Server(study, folder, port)
  except OSError as error:
    raise Unavailable(f"port {port}", error.strerror or str(error), "give another --port, or 0 for any") from error
  port = server.server_address[1]
  print(f"http://127.0.0.1:{port}/?rater={rater}; from another machine: ssh -L {port}:127.0.0.1:{port} USER@HERE, then the "
        f"same address; Ctrl-C ends it, and fields3d study {folder} resumes it", flush=True)
  try:
    server.serve_forever()
  except KeyboardInterrupt:
    print("ended")
  finally:
    server.server_close()
  return OK


def _results(folder: pathlib.Path, chosen: int, as_json: bool) -> int:
  import json

  from fields3d.commands.results_table import print_table
  from fields3d.commands.study_plan import as_choices, read_choices, read_study
  from fields3d.evaluation.preference import analyse
  from fields3d.metrics.statistics import wilson_interval
  study = read_study(folder, check=False)
  found, warnings = read_choices(folder, study)
  preference = analyse(as_choices(study, found), study.labels, chosen, folder)
  sides = [choice for choice in found.values() if choice != "tie"]
  left = sides.count("left"), len(sides)
  beside = {"left": left[0], "of": left[1], "interval": wilson_interval(*left)}
  if as_json:
    print(json.dumps({"study": study.fingerprint, "question": study.question, "seed": chosen, **preference.to_json(),
                      "left_side": beside, "warnings": warnings}, indent=2, allow_nan=False))
    return OK
  for table in _tables(study.question, preference):
    print_table(table)
  print(_left_side(beside))
  for line in warnings:
    print(f"warning: {line}")
  return OK


def _left_side(beside: Mapping) -> str:
  if not beside["of"]:
    return "every choice is a tie"
  low, high = beside["interval"]
  warned = "" if low <= 0.5 <= high else ": raters prefer a side, whatever it shows"
  return (f"the left side was chosen {beside['left']} of {beside['of']} times, "
          f"{beside['left'] / beside['of']:.1%} [{low:.1%}, {high:.1%}]{warned}")


def _tables(question: str, preference) -> Sequence:
  """The tables of shares and, for more than two runs, of strengths."""
  from fields3d.evaluation.tables import Line, Table
  several = preference.num_raters > 1
  ends = lambda interval, form: "unbounded" if interval is None else f"[{interval[0]:{form}}, {interval[1]:{form}}]"
  lines = [Line(f"{s.first} over {s.second}", (), (f"{s.share:.1%}", ends((s.low, s.high), ".1%"), str(s.n), str(s.ties),
                                                   *[ends(s.raters, ".1%")] * several)) for s in preference.shares]
  footer = (f"{preference.num_choices} choices of {preference.num_raters} rater{'s' * several}; ties count half; Wilson's "
            "interval takes choices as independent" + "; over raters: bootstrap, too narrow for under about ten" * several,)
  tables = [Table(question, ("Chosen", "Share", "95% interval", "n", "Ties", *["95% over raters"] * several), tuple(lines),
                  (), footer)]
  if preference.strengths:
    lines = [Line(s.run, (), (f"{s.strength:+.3f}", ends(s.choices, "+.3f"), *[ends(s.raters, "+.3f")] * several, str(s.n)))
             for s in preference.strengths]
    lost = [f"{share:.1%} of resamples over {what}" for share, what in zip(preference.unbounded, ("choices", "raters")) if share]
    said = ["Log-odds by Bradley and Terry, mean 0: a run 1 above another is chosen 73.1% of the time",
            *[f"left out as they bound no strength: {' and '.join(lost)}"] * bool(lost)]
    tables.append(Table("Strength", ("Run", "Strength", "95% interval", *["95% over raters"] * several, "n"), tuple(lines), (),
                        tuple(said)))
  return tables
