"""eval/<step>.json: what a command found of a run at one step, written section by section and read back."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.strict_json import one_at_a_time, read, write
from fields3d.evaluation.results import Evaluation, Metric, Row, bare

_REMEDY = "evaluate the run again"


@dataclasses.dataclass(frozen=True)
class Record:
  """What is known of a run at one step.

  checkpoint: sha256 of the checkpoint's manifest, None where there is none.
  evaluations: the config's section -> what its evaluator found. provenance: section -> {"command", "commit", "time"}.
  failed: section -> the line that says why it has no evaluation.
  """
  step: int
  command: str
  environment: Mapping[str, Any]
  checkpoint: str | None
  evaluations: Mapping[str, Evaluation]
  provenance: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
  failed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def record_path(workdir: pathlib.Path, step: int) -> pathlib.Path:
  """Where the record of a step stands."""
  return workdir / "eval" / f"{step}.json"


def recorded_steps(workdir: pathlib.Path) -> list[int]:
  """The steps that have a record, rising."""
  return sorted(int(path.stem) for path in (workdir / "eval").glob("*.json") if path.stem.isdecimal())


def write_record(path: pathlib.Path, record: Record) -> None:
  """Writes the record, whole or not at all.

  Raises:
    CannotWrite, IOFault: the directory refuses or the disk is full.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  found = {section: {**evaluation.to_json(), "provenance": dict(record.provenance.get(section, {}))}
           for section, evaluation in record.evaluations.items()}
  write(path, {"step": record.step, "command": record.command, "checkpoint": record.checkpoint,
               "environment": dict(record.environment), "failed": dict(record.failed), "evaluations": found})


def add_to_record(path: pathlib.Path, new: Record, order: Sequence[str]) -> None:
  """Writes a record with what the file has of other sections of the same checkpoint, also if that came there meanwhile.

  Args:
    new: what one command has found so far. order: of the sections; others come behind.

  Raises:
    As `read_record` and `write_record`.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with one_at_a_time(path.parent):
    old = read_record(path) if path.is_file() else new
    if old.checkpoint == new.checkpoint:
      found, made = {**old.evaluations, **new.evaluations}, {**old.provenance, **new.provenance}
      known = [*(section for section in order if section in found), *(section for section in found if section not in order)]
      missed = {section: line for section, line in old.failed.items() if section not in new.evaluations}
      new = dataclasses.replace(new, evaluations={section: found[section] for section in known},
                                provenance={section: made[section] for section in known}, failed={**missed, **new.failed})
    write_record(path, new)


def read_record(path: pathlib.Path) -> Record:
  """The record in a file; one of an older form has no checkpoint and no provenance of its sections.

  Raises:
    MissingInput: it is not there. BadData: it is not such a record.
  """
  if not path.is_file():
    raise MissingInput(path, "no such record of an evaluation", "run fields3d evaluate first")
  found = read(path)
  try:
    made = provenance(found["command"], found["environment"])
    sections = found["evaluations"]
    return Record(int(found["step"]), str(found["command"]), dict(found["environment"]), found.get("checkpoint"),
                  {section: _evaluation(entry) for section, entry in sections.items()},
                  {section: _provenance(entry.get("provenance") or made) for section, entry in sections.items()},
                  {str(section): str(line) for section, line in found.get("failed", {}).items()})
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    problem = f"has no {error}" if isinstance(error, KeyError) else "is not of its form"
    raise BadData(path, f"is no record of an evaluation: {problem}", _REMEDY) from error


def _provenance(found: Mapping[str, Any]) -> dict[str, Any]:
  if not isinstance(found["command"], str):
    raise TypeError("command")
  return dict(found)


def provenance(command: str, environment: Mapping[str, Any]) -> dict[str, Any]:
  """What a table says of its making: command, commit, time.

  >>> provenance("fields3d evaluate r", {"git": {"commit": "0123456789abcdef", "dirty": True}})["commit"]
  '0123456789 with changes'
  """
  git = environment.get("git") or {}
  commit = f"{git['commit'][:10]}{' with changes' * bool(git.get('dirty'))}" if git.get("commit") else None
  return {"command": command, "commit": commit, "time": environment.get("time")}


def _evaluation(entry: Mapping[str, Any]) -> Evaluation:
  metrics = tuple(_metric(metric) for metric in entry["metrics"])
  names = {name for row in entry["rows"] for name in row["metrics"]}
  known = {row_name(metric.name, names): metric for metric in metrics}
  rows = tuple(_row(row, known) for row in entry["rows"])
  return Evaluation(str(entry["name"]), metrics, rows, tuple(map(str, entry["warnings"])), dict(entry["settings"]),
                    str(entry.get("unit", "shape")), str(entry.get("control", "floor")))


def row_name(name: str, names: Collection[str] = ()) -> str:
  """The name that a row's metric has, of the set's: without statistic, and without the protocol in brackets where no row's
  metric, of `names`, has them.

  >>> row_name("psnr [mic test 200x200, white, sRGB]/mean")
  'psnr'
  >>> row_name("iou [occnet]/mean", ["iou", "iou [occnet]"])
  'iou [occnet]'
  """
  plain = name.removesuffix("/mean").removesuffix("/median")
  return plain if plain in names else bare(name).removesuffix("/mean").removesuffix("/median")


def _metric(found: Mapping[str, Any]) -> Metric:
  metric = Metric(**found)
  if metric.better not in ("lower", "higher") or not all(isinstance(text, str) for text in (metric.name, metric.protocol, metric.subject)):
    raise ValueError(metric.name)
  if not all(isinstance(number, int) for number in (metric.n, metric.seed)):
    raise ValueError(metric.name)
  for value in (metric.value, metric.low, metric.high, metric.floor):
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
      raise ValueError(metric.name)
  return metric


def _row(found: Mapping[str, Any], known: Mapping[str, Metric]) -> Row:
  """A row; its metrics have the seed and the protocol of the set's."""
  def metrics(kind):
    out = []
    for name, part in found.get(kind, {}).items():
      shared = known.get(name)
      better = part.get("better") or (shared.better if shared else None)
      out.append(_metric({"name": name, "value": part["value"], "low": part["low"], "high": part["high"],
                          "n": part["n"], "floor": part["floor"], "seed": shared.seed if shared else 0,
                          "better": better, "protocol": shared.protocol if shared else ""}))
    return tuple(out)

  return Row(str(found["name"]), str(found["label"]), int(found["index"]), str(found["status"]), metrics("metrics"),
             metrics("baseline"), dict(found.get("facts", {})),
             {str(kind): str(file) for kind, file in found.get("files", {}).items()})


def with_files_of(evaluation: Evaluation, here: pathlib.Path) -> Evaluation:
  """The evaluation with the files that are still there, and only such as lie below `here`."""
  rows = [dataclasses.replace(row, files={kind: file for kind, file in row.files.items() if _is_below(here, file)})
          for row in evaluation.rows]
  return dataclasses.replace(evaluation, rows=rows)


def _is_below(here: pathlib.Path, file: str) -> bool:
  path = pathlib.PurePath(file)
  return not path.is_absolute() and ".." not in path.parts and (here / path).is_file()
