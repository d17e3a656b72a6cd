"""A blind study on disk: which pairs of samples are shown, how to whom, and the choices that were made.

study.json holds the plan with every file's sha256; choices*.jsonl hold a line a choice. What a rater sees, in which
order and on which side, follows from the plan's fingerprint and the rater's number alone.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fields3d.core.errors import BadData, MissingInput, UsageFault, from_os_error
from fields3d.core.strict_json import loads, make_directory, read, write
from fields3d.evaluation.preference import Choice

FORMAT = "fields3d study 1"
PLAN, CHOICES = "study.json", "choices.jsonl"
KINDS = {"model": (".glb",), "picture": (".png", ".jpg", ".jpeg", ".webp")}
_ROW_FILES = {"model": ("mesh", "preview"), "picture": ("picture", "prediction")}  # Of an evaluation's rows, first one.
CHOSEN = ("left", "right", "tie")
MOST_RATERS = 9999


@dataclasses.dataclass(frozen=True)
class Trial:
  """Two runs' samples of one thing. runs: indices; files: absolute paths."""
  item: str
  runs: tuple[int, int]
  files: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Study:
  """The plan. labels: of the runs. digests: path -> sha256 of the file."""
  question: str
  kind: str
  seed: int
  labels: tuple[str, ...]
  trials: tuple[Trial, ...]
  digests: Mapping[str, str]

  @functools.cached_property
  def fingerprint(self) -> str:
    """16 hexadecimal digits of what is compared: runs, things, seed and the files' content, not their places."""
    trials = [(t.item, t.runs, [self.digests[file] for file in t.files]) for t in self.trials]
    return _hash(json.dumps([FORMAT, self.question, self.kind, self.seed, self.labels, trials]))[:16]


def _hash(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()


def samples(path: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
  """kind -> name -> file, of a folder or of a run: its samples/, meshes/, else what its last evaluation wrote."""
  if not (path / "config.json").is_file():
    return _in_folder(path)
  found: dict[str, dict[str, pathlib.Path]] = {}
  for folder in (path / "samples", path / "meshes"):
    found = _in_folder(folder) | found if folder.is_dir() else found
  return _of_evaluation(path) | found


def _in_folder(folder: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
  out: dict[str, dict[str, pathlib.Path]] = {}
  for file in sorted(folder.iterdir()):
    kind = next((kind for kind, suffixes in KINDS.items() if file.suffix.lower() in suffixes), None)
    if kind is None or not file.is_file():
      continue
    if file.stem in out.setdefault(kind, {}):
      raise BadData(folder, f"has two {kind}s called {file.stem!r}", "keep one of them")
    out[kind][file.stem] = file
  return out


def _of_evaluation(path: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
  from fields3d.evaluation.records import read_record, record_path, recorded_steps, with_files_of
  from fields3d.evaluation.report import evaluation_dir
  out: dict[str, dict[str, pathlib.Path]] = {}
  if steps := recorded_steps(path):
    for section, evaluation in read_record(record_path(path, steps[-1])).evaluations.items():
      here = evaluation_dir(path, steps[-1], section)
      for row in with_files_of(evaluation, here).rows:
        for kind, names in _ROW_FILES.items():
          if name := next((name for name in names if name in row.files), None):
            out.setdefault(kind, {})[f"{section}/{row.name}"] = here / row.files[name]
  return out


def make_study(paths: Sequence[pathlib.Path], labels: Sequence[str], *, kind: str = "auto", seed: int = 0,
               num: int = 100, unpaired: bool = False,
               question: str = "Which of the two looks better?") -> tuple[Study, int]:
  """The plan of a study, and how many trials there could be.

  Args:
    paths: two or more folders or runs. kind: "model", "picture", or "auto", what all have, models first.
    num: at most so many trials, spread evenly over the pairs of runs.
    unpaired: pair things at random and not by name.

  Raises:
    BadData: a file is not of its kind. UsageFault: the folders have nothing to compare.
  """
  found = [samples(path) for path in paths]
  kinds = [k for k in KINDS if all(k in f for f in found)] if kind == "auto" else [kind]
  for path, own in zip(paths, found):
    if not kinds or kinds[0] not in own:
      what = kinds[0] if kinds else ", ".join(own) or "GLB, PNG, JPEG or WebP"
      raise UsageFault(path, f"has {'no' if not own or kinds else 'only'} {what} files that can be compared",
                       "give folders of the same kind, or runs with samples/, meshes/ or an evaluation")
  tables = [own[kinds[0]] for own in found]
  pairs = list(itertools.combinations(range(len(paths)), 2))
  every = {(i, j): _pair(tables[i], tables[j], labels[i], labels[j], seed, unpaired) for i, j in pairs}
  trials = []
  for turn in itertools.zip_longest(*([(pair, *three) for three in every[pair]] for pair in pairs)):
    trials += [Trial(item, pair, (str(a), str(b))) for pair, item, a, b in filter(None, turn)]
  chosen = tuple(trials[:num])
  files = dict.fromkeys(file for trial in chosen for file in trial.files)
  digests = {file: check_file(pathlib.Path(file), kinds[0]) for file in files}
  return Study(question, kinds[0], seed, tuple(labels), chosen, digests), len(trials)


def _pair(a: Mapping[str, pathlib.Path], b: Mapping[str, pathlib.Path], first: str, second: str, seed: int,
          unpaired: bool) -> list[tuple[str, pathlib.Path, pathlib.Path]]:
  """(name, file, file) of the things to compare, in an order that the seed shuffles."""
  shuffled = lambda names, label: sorted(names, key=lambda name: _hash(f"{seed}:{label}:{name}"))
  if unpaired:
    together = zip(shuffled(a, first), shuffled(b, second))
    return [(f"{x} and {y}", a[x].resolve(), b[y].resolve()) for x, y in together]
  shared = shuffled(a.keys() & b.keys(), "")
  if not shared:
    raise UsageFault(f"{first} and {second}", f"share no name (first: {min(a)!r} and {min(b)!r})",
                     "name files of the same thing alike, or pair them at random with --unpaired")
  return [(name, a[name].resolve(), b[name].resolve()) for name in shared]


def check_file(path: pathlib.Path, kind: str) -> str:
  """sha256 of a file that is what its name says.

  Raises:
    BadData: it is no GLB 2 or no picture. MissingInput: it cannot be read.
  """
  try:
    content = path.read_bytes()
  except OSError as error:
    raise from_os_error(error, path) from error
  if kind == "model":
    if content[:8] != b"glTF\x02\0\0\0" or int.from_bytes(content[8:12], "little") != len(content):
      raise BadData(path, "is no GLB of version 2, or was cut short", "export it again")
  else:
    from PIL import Image
    try:
      with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
        picture.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
      raise BadData(path, f"is no picture that can be shown: {error}", "export it again") from error
  return hashlib.sha256(content).hexdigest()


def write_study(folder: pathlib.Path, study: Study) -> None:
  """Writes the plan.

  Raises:
    UsageFault: the folder holds another study. CannotWrite, IOFault: it cannot be written.
  """
  make_directory(folder)
  if (folder / PLAN).exists() and read_study(folder, check=False).fingerprint != study.fingerprint:
    raise UsageFault(folder, "holds another study", "give another --out, or resume that one: fields3d study DIR")
  write(folder / PLAN, {"format": FORMAT, "fingerprint": study.fingerprint, **dataclasses.asdict(study)})


def read_study(folder: pathlib.Path, check: bool = True) -> Study:
  """The study in a folder.

  Args:
    check: whether its files must still be what they were.

  Raises:
    MissingInput: there is none, or a file is gone. BadData: the plan or a file is not what was written.
  """
  path = folder / PLAN
  if not path.is_file():
    raise MissingInput(folder, f"holds no study (no {PLAN})", "start one: fields3d study A B --out DIR")
  found = read(path)
  try:
    trials = tuple(Trial(str(t["item"]), tuple(map(int, t["runs"])), tuple(map(str, t["files"]))) for t in found["trials"])
    study = Study(str(found["question"]), str(found["kind"]), int(found["seed"]), tuple(map(str, found["labels"])), trials,
                  dict(found["digests"]))
    sound = (found["format"] == FORMAT and study.kind in KINDS and study.fingerprint == found["fingerprint"]
             and all(0 <= i < j < len(study.labels) for i, j in (t.runs for t in trials)))
  except (KeyError, TypeError, ValueError) as error:
    raise BadData(path, "is no study's plan", "start the study again") from error
  if not sound:
    raise BadData(path, "does not match its own fingerprint", "restore it, or start the study again")
  for file, digest in study.digests.items() if check else ():
    if check_file(pathlib.Path(file), study.kind) != digest:
      raise BadData(file, "has changed since the study began", "restore it, or start another study")
  return study


def presentation(study: Study, rater: int) -> list[tuple[int, bool]]:
  """(trial, whether its second run stands on the left), in the order in which a rater sees them."""
  digest = {t: _hash(f"{study.fingerprint}:{rater}:{t}") for t in range(len(study.trials))}
  return [(t, int(digest[t][-1], 16) % 2 == 1) for t in sorted(digest, key=digest.get)]


def asset(study: Study, file: str) -> str:
  """The name by which a page knows a file; it tells nothing of the run.

  Salted with the fingerprint, so that files of equal content in several runs have one name, which is fine: they are equal.
  """
  return _hash(f"{study.fingerprint}:{study.digests[file]}")[:20]


def payload(study: Study, rater: int, done: Mapping[int, str], mode: str) -> dict[str, Any]:
  """What the page of a rater is given: nothing in it tells the runs apart."""
  trials = []
  for t, swapped in presentation(study, rater):
    left, right = (asset(study, file) for file in (study.trials[t].files[::-1] if swapped else study.trials[t].files))
    trials.append({"trial": t, "left": left, "right": right})
  return {"mode": mode, "study": study.fingerprint, "rater": rater, "kind": study.kind, "trials": trials,
          "done": {str(t): choice for t, choice in done.items()}}


class Choices:
  """choices.jsonl, to which each choice is appended durably."""

  def __init__(self, folder: pathlib.Path, study: Study):
    self._path, self._study, self._lock = folder / CHOICES, study, threading.Lock()

  def add(self, line: Any) -> None:
    """Checks a choice {"rater", "trial", "choice", "seconds"} and appends it.

    Raises:
      BadData: it is not of that form. CannotWrite, IOFault: it cannot be written.
    """
    record = checked(line, self._study)
    text = json.dumps({"study": self._study.fingerprint, **record}) + "\n"
    try:
      with self._lock, open(self._path, "ab+") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
          file.write(b"\n")  # A line that a power cut left half written stands alone.
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
      raise from_os_error(error, self._path) from error


def checked(line: Any, study: Study) -> dict[str, Any]:
  """A choice's own entries.

  Raises:
    BadData: it is not of the form of `Choices.add`.
  """
  def whole(name, low, high):
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
      raise BadData("choice", f"{name} is not a whole number from {low} to {high}", "reload the page")
    return value

  if not isinstance(line, dict) or line.get("choice") not in CHOSEN:
    raise BadData("choice", "is not left, right or tie", "reload the page")
  seconds = line.get("seconds", 0)
  if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e6:
    raise BadData("choice", "seconds is not a time", "reload the page")
  return {"rater": whole("rater", 1, MOST_RATERS), "trial": whole("trial", 0, len(study.trials) - 1),
          "choice": line["choice"], "seconds": round(float(seconds), 1)}


def read_choices(folder: pathlib.Path, study: Study) -> tuple[dict[tuple[int, int], str], list[str]]:
  """(rater, trial) -> "left", "right" or "tie", the last where a rater changed it; and what was left out."""
  found, torn, others = {}, 0, 0
  for path in sorted(folder.glob("choices*.jsonl")):
    for line in path.read_text("utf-8", errors="replace").splitlines():
      if not line.strip():
        continue
      try:
        row = loads(line, path)
        record = checked(row, study)
      except BadData:
        torn += 1
        continue
      if row.get("study") != study.fingerprint:
        others += 1
        continue
      found[record["rater"], record["trial"]] = record["choice"]
  told = [f"{torn} lines are no choices and are left out"] * bool(torn)
  return found, told + [f"{others} choices are of another study and are left out"] * bool(others)


def as_choices(study: Study, found: Mapping[tuple[int, int], str]) -> list[Choice]:
  """The choices as comparisons of runs."""
  sides, out = {}, []
  for (rater, trial), choice in found.items():
    if rater not in sides:
      sides[rater] = dict(presentation(study, rater))
    first, second = study.trials[trial].runs
    score = 0.5 if choice == "tie" else float((choice == "left") != sides[rater][trial])
    out.append(Choice(first, second, score, rater))
  return out
