"""What a run says: metrics.jsonl always, TensorBoard, a progress bar or plain lines, and environment.json."""

import atexit
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Self, TextIO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fields3d.core import strict_json
from fields3d.core.errors import BadData, Fault, available_cores, from_os_error
from fields3d.core.strict_json import read as read_json
from fields3d.training.tensorboard import TensorBoard
from fields3d.version import __version__

__all__ = ["RunLog", "environment", "read_json", "read_metrics", "write_environment"]

RESERVED = ("step", "time", "note", "nonfinite")


class RunLog:
  """The log of one run. Only the first process of a distributed run writes; elsewhere every call does nothing.

  A record of metrics.jsonl is one line: {"step", "time" (Unix seconds), and the scalars by name}; a scalar that is
  not finite is null and its name is in the list "nonfinite". A note is {"time", "note"}.

  Args:
    workdir: the run directory; made if need be.
    total_steps: where the run ends, for the ETA.
    stream: where the console's lines go; a terminal gets a bar. Once that fails (`| head` has ended), `unread` is True, and
      nothing is raised: metrics.jsonl has all that the console is told.
    active: whether to log at all (process 0).

  Example:
    >>> import io, tempfile
    >>> with tempfile.TemporaryDirectory() as d, RunLog(d, 100, stream=io.StringIO()) as log:
    ...   log.start(0)
    ...   log.scalars(50, {"loss": 0.5})
    ...   read_metrics(d)["loss"].tolist()
    [0.5]
  """

  def __init__(self, workdir: str | os.PathLike, total_steps: int, stream: TextIO | None = None,
               active: bool | None = None):
    if active is None:
      import jax
      active = jax.process_index() == 0
    self._active, self._total, self._stream = active, total_steps, stream or sys.stdout
    self._path = pathlib.Path(workdir) / "metrics.jsonl"
    self._file, self._board, self._bar, self._task = None, None, None, None
    self._mark, self.unread = (0, time.monotonic()), False
    if not active:
      return
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._file, damaged = _reopen(self._path, None)
      self._board = TensorBoard(self._path.parent / "tb")
    except OSError as e:
      raise from_os_error(e, self._path) from e
    if self._stream.isatty():
      self._bar = Progress(TextColumn("step {task.completed:.0f}/{task.total:.0f}"), BarColumn(),
                           TextColumn("{task.description}", markup=False), console=Console(file=self._stream))
      self._task = self._bar.add_task("", total=total_steps)
      atexit.register(self.close)
    if damaged:
      self.note(f"{self._path}: {damaged} damaged lines are left out")

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error) -> None:
    self.close()

  def start(self, step: int) -> None:
    """The run starts, resumes or falls back to after `step`: later records are removed."""
    if not self._active:
      return
    self._mark = (step, time.monotonic())
    try:
      self._file.close()
      self._file, _ = _reopen(self._path, step)
      self._board.start(step)
    except OSError as e:
      raise from_os_error(e, self._path) from e
    if self._bar:
      self._bar.start()
      self._bar.update(self._task, completed=step)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Records the scalars of a step and shows them with the rate since the last call and the time left.

    Raises:
      ValueError: a name is reserved. IOFault: the disk is full.
    """
    if not self._active:
      return
    if clash := [name for name in values if name in RESERVED]:
      raise ValueError(f"{clash[0]!r} is a reserved name of a record")
    values = {name: float(value) for name, value in values.items()}
    nonfinite = [name for name, value in values.items() if not math.isfinite(value)]
    record = {"step": step, "time": round(time.time(), 3),
              **{name: None if name in nonfinite else value for name, value in values.items()}}
    self._write({**record, "nonfinite": nonfinite} if nonfinite else record)
    self._guarded(lambda: self._board.scalars(step, values))
    self._show(step, values)

  def image(self, step: int, name: str, pixels: np.ndarray) -> None:
    """An image (h, w, 3) uint8 sRGB for TensorBoard."""
    if self._active:
      self._guarded(lambda: self._board.image(step, name, pixels))

  def text(self, step: int, name: str, markdown: str) -> None:
    """A text for TensorBoard."""
    if self._active:
      self._guarded(lambda: self._board.text(step, name, markdown))

  def note(self, line: str) -> None:
    """One line for the console and for metrics.jsonl."""
    if self._active:
      self._write({"time": round(time.time(), 3), "note": line})
      self._print(line)

  def close(self) -> None:
    """Ends the bar and the files; again is harmless."""
    if not self._active:
      return
    self._active = False
    if self._bar:
      atexit.unregister(self.close)
      with contextlib.suppress(OSError):
        self._bar.stop()
    self._guarded(lambda: (self._file.close(), self._board.close()))

  def _write(self, record: dict) -> None:
    def write():
      self._file.write(json.dumps(record, allow_nan=False) + "\n")
      self._file.flush()
    self._guarded(write)

  def _guarded(self, write) -> None:
    try:
      write()
    except OSError as e:
      raise from_os_error(e, self._path.parent) from e

  def _show(self, step: int, values: Mapping[str, float]) -> None:
    last, since = self._mark
    self._mark = (step, time.monotonic())
    rate = (step - last) / max(self._mark[1] - since, 1e-9)
    left = (self._total - step) / rate if rate > 0 else math.inf
    shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
    pace = f"{rate:.3g} step/s ETA {duration(left)}"
    if self._bar:
      self._bar.update(self._task, completed=step, description=f"{pace} {shown}")
    else:
      self._print(f"step {step}/{self._total} {shown} {pace}")

  def _print(self, line: str) -> None:
    try:
      if self._bar:
        self._bar.console.print(line, markup=False, highlight=False)
      else:
        print(line, file=self._stream, flush=True)
    except OSError:
      self.unread = True


def duration(seconds: float) -> str:
  """A time span as people write it.

  >>> duration(23.4), duration(125), duration(7325), duration(math.inf)
  ('23 s', '2 min 05 s', '2 h 02 min', 'unknown')
  """
  if not math.isfinite(seconds):
    return "unknown"
  whole = round(seconds)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60:02d} s"
  return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _reopen(path: pathlib.Path, step: int | None) -> tuple[TextIO, int]:
  """Opens the records for appending, without those after `step` and those that are damaged; how many are, but for one cut off."""
  content = path.read_bytes() if path.exists() else b""
  kept, damaged = [], 0
  for line in content.splitlines(keepends=True):
    try:
      record = strict_json.loads(line.decode(), path)
      sound = line.endswith(b"\n") and isinstance(record, dict) and isinstance(record.get("step", 0), int)
    except (Fault, UnicodeDecodeError):
      sound = False
    damaged += not sound and line.endswith(b"\n")
    if sound and (step is None or record.get("step", step) <= step):
      kept.append(line)
  if b"".join(kept) != content:
    strict_json.replace(path, b"".join(kept))
  return open(path, "a", encoding="utf-8"), damaged


def read_metrics(workdir: str | os.PathLike) -> dict[str, np.ndarray]:
  """The columns of a run's metrics.jsonl: "step", "time" and every scalar, (records,) float64, "step" int64.

  NaN stands where a record lacks a scalar or it was not finite. Notes and an unfinished last line are left out.

  Raises:
    MissingInput: there is no such file. BadData: a line is damaged (with its number).
  """
  path = pathlib.Path(workdir) / "metrics.jsonl"
  try:
    lines = path.read_bytes().split(b"\n")[:-1]
  except OSError as e:
    raise from_os_error(e, path) from e
  records = []
  for number, line in enumerate(lines, 1):
    record = strict_json.loads(line.decode(errors="replace"), f"{path}:{number}")
    if not isinstance(record, dict) or ("step" not in record and "note" not in record):
      raise BadData(f"{path}:{number}", "is not a record with a step", "remove the line")
    if "step" in record:
      records.append(record)
  names = dict.fromkeys(name for record in records for name in record if name != "nonfinite")
  columns = {name: np.asarray([record.get(name) for record in records], np.float64) for name in names}
  return {**columns, "step": np.asarray([record["step"] for record in records], np.int64)}


def environment() -> dict:
  """Where and with what a run is made: versions, devices, machine, code. The host's name is left out."""
  import jax
  return {
      "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
      "command": sys.argv,
      "fields3d": __version__,
      "git": _git(),
      "python": platform.python_version(),
      "platform": platform.platform(),
      "packages": _packages(),
      "devices": {"backend": jax.default_backend(), "kinds": sorted({d.device_kind for d in jax.devices()}),
                  "count": jax.device_count(), "processes": jax.process_count()},
      "cpu": {"model": _cpu_model(), "cores": available_cores(),
              "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")},
  }


def write_environment(workdir: str | os.PathLike) -> None:
  """Writes environment.json of the run directory, as of the latest start."""
  strict_json.write(pathlib.Path(workdir) / "environment.json", environment())


def _packages() -> dict[str, str]:
  """The installed version of each requirement; empty where fields3d itself runs uninstalled."""
  versions = {}
  with contextlib.suppress(importlib.metadata.PackageNotFoundError):
    for requirement in importlib.metadata.requires("fields3d") or ():
      name = re.match(r"[\w.-]+", requirement).group()
      with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions[name] = importlib.metadata.version(name)
  return versions


def _cpu_model() -> str:
  try:
    found = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
  except OSError:
    found = None
  return found.group(1) if found else platform.processor() or platform.machine()


def _git() -> dict | None:
  """The commit of the code that runs and whether tracked files differ from it; None outside a git tree."""
  here = pathlib.Path(__file__).resolve()

  def git(*words):
    return subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, timeout=20,
                          check=True).stdout

  try:
    git("ls-files", "--error-unmatch", here.name)
    return {"commit": git("rev-parse", "HEAD").strip(),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no").strip())}
  except (OSError, subprocess.SubprocessError):
    return None
