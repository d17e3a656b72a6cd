"""Run directories in an object store (gs://, s3://): worked on in a copy on this machine's disk, through etils.epath.

An object store knows no renames, no appending, no flushes and no exclusive creation, so nothing that makes a run durable
on a disk works there. Therefore every command works in a local copy with all that a disk promises, and the store is sent
and fetched whole files only:

- a step exists in the store if and only if its manifest does: the manifest is written last, after every other file was
  read back and had the hash that it should have, and it is removed first;
- records are sent before the step that they lead to, so a step never has fewer records than updates;
- the store is the truth. A copy is taken up again only if it is the same run and not behind the store; another one that is
  further on than the store is moved aside.

The copies lie in $FIELDS3D_SPOOL (default: $XDG_CACHE_HOME/fields3d/spool); any of them may be removed between commands.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath

from fields3d.core import strict_json
from fields3d.core.errors import BadData, Fault, IOFault, Unavailable, UsageFault
from fields3d.core.stores import is_remote
from fields3d.training import lock, manifest
from fields3d.training.checkpoint import LOG, retained

CHECKPOINTS = "checkpoints"
PERIOD = 10.0  # seconds between two looks at what has changed here


def spool(url: str, use: str = "train") -> pathlib.Path:
  """Where the local copy of `url` lies; one to train in and one that is read ("read") do not meet."""
  scheme, _, rest = url.rstrip("/").partition("://")
  parts = rest.split("/")
  if not rest or any(part in ("", ".", "..") for part in parts):
    raise UsageFault(url, "is not a path in a bucket", f"write {scheme}://BUCKET/PATH")
  home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
  root = os.environ.get("FIELDS3D_SPOOL") or os.path.join(home, "fields3d", "spool")
  return pathlib.Path(root).expanduser().absolute().joinpath(use, scheme, *parts)


class Mirror:
  """What is at `url` and its local copy. Every failure of the store is a `Fault` that names the url."""

  def __init__(self, url: str, local: pathlib.Path, warn: Callable[[str], None] = LOG.warning):
    self.url, self.local, self.warn = url.rstrip("/"), local, warn
    self.remote = epath.Path(self.url)
    self._sent: dict[str, tuple[int, int]] = {}  # file -> (size, mtime) as last sent or fetched
    self._unsound: set[int] = set()

  def fetch_files(self, below: bool = True) -> None:
    """Fetches everything but the checkpoints; or only the files at the top, if not `below`."""
    with self.faults():
      found = _files(self.remote, CHECKPOINTS) if below else (p for p in _entries(self.remote) if not p.is_dir())
      for path in (path for path in found if path.name != lock.NAME):
        target = self.local / self._name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        strict_json.replace(target, path.read_bytes())
        self._sent[self._name(path)] = _stamp(target)

  def fetch_file(self) -> None:
    """Fetches what is one file there."""
    with self.faults():
      _copy(self.remote, self.local)
    self._sent["."] = _stamp(self.local)

  def steps(self) -> list[int]:
    """The steps that exist in the store, ascending."""
    with self.faults():
      there = [path for path in _entries(self.remote / CHECKPOINTS) if path.name.isdecimal()]
      return sorted(int(path.name) for path in there if (path / manifest.NAME).exists())

  def fetch_step(self, step: int) -> list[str]:
    """Fetches one step; returns its problems, and leaves nothing here if there are any."""
    source, target = self._step(step), self.local / CHECKPOINTS / str(step)
    building = target.with_name(f"{step}.tmp")
    with self.faults():
      try:
        content = (source / manifest.NAME).read_bytes()
      except FileNotFoundError:
        return [f"{source} is not there"]
      here = target / manifest.NAME
      if here.is_file() and here.read_bytes() == content and not manifest.verify(target):
        return []
      shutil.rmtree(building, ignore_errors=True)
      building.mkdir(parents=True)
      (building / manifest.NAME).write_bytes(content)
      try:
        names = list(manifest.read_manifest(building)["files"])
        for name in names:
          (building / name).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
          list(pool.map(lambda name: _copy(source / name, building / name), names))
        problems = manifest.verify(building)
      except (Fault, FileNotFoundError) as e:
        problems = [str(e)]
      if problems:
        shutil.rmtree(building)
        self._unsound.add(step)
        return problems
      shutil.rmtree(target, ignore_errors=True)
      building.rename(target)
    return []

  def fetch_newest(self) -> None:
    """Fetches the newest sound step, with a warning for each newer one.

    Raises:
      BadData: there are steps, none of them sound.
    """
    there = self.steps()
    for step in reversed(there):
      if not (problems := self.fetch_step(step)):
        return
      if step not in self.steps():  # the run, which still trains, has removed it: newer ones are there
        return self.fetch_newest()
      self.warn(f"{self.url}: step {step} is damaged, the one before is tried: {problems[0]}")
    if there:
      raise BadData(self.url, f"none of its {len(there)} checkpoints is sound", "start in a new --workdir")

  def take_up(self) -> None:
    """Makes the copy what a run continues from: the store's, unless the copy is the same run and further on."""
    config = "config.json"
    with self.faults():
      there = (self.remote / config).read_bytes() if (self.remote / config).exists() else None
    here = (self.local / config).read_bytes() if (self.local / config).is_file() else None
    ours, theirs = manifest.steps(self.local / CHECKPOINTS), self.steps()
    ahead = bool(ours) and ours[-1] > max(theirs, default=-1)
    if ahead and there is not None and here == there:
      return
    if ahead:
      self._move_aside()
    elif here is not None and here != there:
      shutil.rmtree(self.local)
    self.fetch_files(below=False)
    for step in ours:
      if step not in theirs:
        shutil.rmtree(self.local / CHECKPOINTS / str(step), ignore_errors=True)
    self.fetch_newest()

  def _move_aside(self) -> None:
    aside = self.local.with_name(self.local.name + ".old")
    while aside.exists():
      aside = aside.with_name(aside.name + ".old")
    with self.faults():
      self.local.rename(aside)
    self.warn(f"{self.url}: has not the run of the copy here, which is moved to {aside}; copy it to a path in a bucket to go on from it")

  def send_files(self) -> None:
    """Sends what is new or changed here besides the checkpoints."""
    with self.faults():
      for path in _local_files(self.local):
        name = path.relative_to(self.local).as_posix()
        if self._sent.get(name) != (stamp := _stamp(path)):
          (self.remote / name).write_bytes(path.read_bytes())
          self._sent[name] = stamp

  def send(self, keep: int, keep_every: int | None) -> None:
    """Sends files, then the steps that were finished before them, and removes older steps as on a disk."""
    finished = manifest.steps(self.local / CHECKPOINTS)
    self.send_files()
    with self.faults():
      for step in finished:
        self._send_step(step)
    sound = [step for step in self.steps() if step not in self._unsound]
    with self.faults():
      for step in set(sound) - set(retained(sound, keep, keep_every)):
        self._remove_step(step)

  def _send_step(self, step: int) -> None:
    """Sends a step unless the store has it; one that is pruned here meanwhile is left unfinished, that is, absent."""
    source, target = self.local / CHECKPOINTS / str(step), self._step(step)
    head = target / manifest.NAME
    try:
      content = (source / manifest.NAME).read_bytes()
      if step not in self._unsound and head.exists() and head.read_bytes() == content:
        return
      self._remove_step(step)
      files = manifest.read_manifest(source)["files"]
      with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: _send_checked(source / name, target / name, files[name]["sha256"]), files))
    except FileNotFoundError:
      if source.exists():
        raise
      return
    head.write_bytes(content)
    self._unsound.discard(step)

  def _remove_step(self, step: int) -> None:
    head = self._step(step) / manifest.NAME
    if head.exists():
      head.unlink()
    for path in _files(self._step(step)):
      path.unlink()

  def _step(self, step: int) -> Any:
    return self.remote / CHECKPOINTS / str(step)

  def _name(self, path: Any) -> str:
    return str(path)[len(self.url) + 1:]

  @contextlib.contextmanager
  def faults(self) -> Iterator[None]:
    """What a store's library raises is of no common class: anything that is not ours is the store's."""
    try:
      yield
    except Fault:
      raise
    except ImportError as e:
      raise Unavailable(self.url, f"needs another library ({e})", "run pip install 'fields3d[gcs]'") from e
    except Exception as e:
      text = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0][:200]}"
      raise IOFault(self.url, f"the store or its copy {self.local} failed: {text}",
                    "check credentials, bucket and disk, and run the same command again") from e


@contextlib.contextmanager
def mirrored(url: str, keep: int, keep_every: int | None, warn: Callable[[str], None] = LOG.warning,
             period: float = PERIOD, patience: float = lock.PATIENCE) -> Iterator[pathlib.Path]:
  """The local copy of a run to train in; a thread sends what is new every `period` seconds, and the end sends the rest.

  A step is safe from the loss of this machine when it was sent: at most one save and `period` after it was committed.

  Raises:
    UsageFault: another run lives there. BadData: it has checkpoints, none sound. Unavailable, IOFault: the store fails.
  """
  mirror = Mirror(url, spool(url), warn)
  with _held(mirror, patience) as show_life:
    mirror.take_up()
    mirror.local.mkdir(parents=True, exist_ok=True)
    stop, failed = threading.Event(), []

    def send():
      show_life()
      mirror.send(keep, keep_every)

    def work():
      while not stop.wait(period):
        try:
          send()
          failed.clear()
        except Fault as fault:
          if not failed:
            warn(f"{fault}; it is tried again every {period:g} s")
          failed.append(fault)

    thread = threading.Thread(target=work, daemon=True, name="mirror")
    thread.start()
    with _afterwards(send, warn):
      try:
        yield mirror.local
      finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _afterwards(send: Callable[[], None], warn: Callable[[str], None]) -> Iterator[None]:
  """Sends at the end, after a fault too, which then is the one that is raised."""
  try:
    yield
  except BaseException:
    try:
      send()
    except Fault as fault:
      warn(str(fault))
    raise
  send()


@contextlib.contextmanager
def _held(mirror: Mirror, patience: float) -> Iterator[Callable[[], None]]:
  """Holds run.lock in the store, shows life from a thread, and yields what must be called before sending: it does so too.

  Not exact: a store creates nothing exclusively through epath. Of two runs that start within the same second both may
  read their own name; then the one whose name is overwritten stops sending at its next sign of life.
  """
  path, mine, beats, turn = mirror.remote / lock.NAME, lock.identity(), iter(range(1, 10**12)), threading.Lock()

  def show_life():
    with turn, mirror.faults():
      if not lock.same(lock.read(path), mine):
        raise UsageFault(mirror.url, "was taken by another run; nothing more is sent", "stop one of the two")
      path.write_bytes(lock.text(mine, next(beats)).encode())

  with mirror.faults():
    holder = lock.read(path)
    if holder is not None and lock.lives(path, holder, patience):
      who = f"process {holder.get('pid', '?')} on host {holder.get('host', '?')}"
      raise UsageFault(mirror.url, f"is in use by another run ({who})",
                       f"wait for it, give another --workdir, or remove its {lock.NAME} if that run has ended")
    path.write_bytes(lock.text(mine, 0).encode())
  show_life()
  stop = threading.Event()

  def work():
    while not stop.wait(patience * lock.BEAT / lock.PATIENCE):
      with contextlib.suppress(Fault):  # a lock that is lost is the sender's fault to raise
        show_life()

  thread = threading.Thread(target=work, daemon=True, name="lock")
  thread.start()
  try:
    yield show_life
  finally:
    stop.set()
    thread.join()
    with contextlib.suppress(Fault), mirror.faults():
      if lock.same(lock.read(path), mine):
        path.unlink()


@contextlib.contextmanager
def at_hand(words: list[str], warn: Callable[[str], None] = LOG.warning) -> Iterator[list[str]]:
  """A command's words with local copies in place of paths in a store; what the command writes there is sent at its end.

  A run is fetched whole but for its checkpoints, of which comes the newest sound one, the one of --step, or, for a command
  that speaks of all (--curve, inspect), every one. Other folders and files are fetched whole; where nothing is in the store,
  the command makes the file or the folder.
  """
  found = {url: Mirror(url, spool(url, "read"), warn) for word in words if (url := _url(word))}
  with contextlib.ExitStack() as stack:
    for mirror in found.values():
      with mirror.faults():
        there, folder = mirror.remote.exists(), mirror.remote.is_dir()
      _make_way(mirror.local, folder)
      if folder:
        stack.enter_context(lock.locked(mirror.local))
        _fetch_folder(mirror, [] if mirror.url in _beside(words) else words)
      elif there:
        mirror.fetch_file()
      stack.enter_context(_afterwards(mirror.send_files, warn))
    yield [word.removesuffix(url) + str(found[url].local) if (url := _url(word)) else word for word in words]


def _url(word: str) -> str:
  """The path in a store that a word is or gives to an option; "" where there is none.

  >>> _url("gs://bucket/lr=0.1/run"), _url("--out=gs://bucket/lr=0.1"), _url("--step=3")
  ('gs://bucket/lr=0.1/run', 'gs://bucket/lr=0.1', '')
  """
  return next((text for text in (word, word.partition("=")[2]) if is_remote(text)), "")


def _beside(words: list[str]) -> set[str]:
  """The paths of runs that a command takes beside its own: --step and --curve do not speak of them.

  >>> _beside(["evaluate", "gs://b/run", "--surfaces", "gs://b/points"])
  {'gs://b/points'}
  """
  return {url.rstrip("/") for url in _given(words, "--surfaces")}


def _given(words: list[str], option: str) -> list[str]:
  """The values that words give to an option.

  >>> _given(["extract", "--step", "1", "--step=2"], "--step")
  ['1', '2']
  """
  return [*(after for word, after in zip(words, words[1:]) if word == option),
          *(word.partition("=")[2] for word in words if word.startswith(f"{option}="))]


def _make_way(local: pathlib.Path, folder: bool) -> None:
  """A folder's earlier copy stays; where a file or nothing is in the store, nothing but the folder around it is here."""
  if folder and local.is_dir():
    return
  if local.is_dir():
    shutil.rmtree(local)
  local.unlink(missing_ok=True)
  (local if folder else local.parent).mkdir(parents=True, exist_ok=True)


def _fetch_folder(mirror: Mirror, words: list[str]) -> None:
  for path in mirror.local.iterdir():
    if path.name not in (CHECKPOINTS, lock.NAME):
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  mirror.fetch_files()
  there = mirror.steps()
  for step in manifest.candidates(mirror.local / CHECKPOINTS):
    if step not in there:
      shutil.rmtree(mirror.local / CHECKPOINTS / str(step))
  asked = [int(text) for text in _given(words, "--step") if text.isdecimal() and int(text) in there]
  if _given(words, "--curve") or words[:1] in (["run"], ["checkpoint"]):
    asked = there
  for step in asked:
    for problem in mirror.fetch_step(step):
      mirror.warn(f"{mirror.url}: step {step} is damaged: {problem}")
  if not asked and there:
    mirror.fetch_newest()


def _entries(directory: Any) -> list[Any]:
  """What lies directly in a folder of the store, which may be none."""
  try:
    return sorted(directory.iterdir())
  except (FileNotFoundError, NotADirectoryError):
    return []


def _files(directory: Any, skip: str | None = None) -> Iterator[Any]:
  for path in _entries(directory):
    if path.name == skip:
      continue
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _local_files(directory: pathlib.Path) -> list[pathlib.Path]:
  """The files of a run that are sent: all but checkpoints, the lock and what is half written; or the one file itself."""
  if not directory.is_dir():
    return [directory] if directory.is_file() else []
  top = (path for path in directory.iterdir() if path.name not in (CHECKPOINTS, lock.NAME))
  found = (path for entry in top for path in ([entry] if entry.is_file() else entry.rglob("*")))
  return sorted(path for path in found if path.is_file() and path.suffix != ".tmp")


def _stamp(path: pathlib.Path) -> tuple[int, int]:
  found = path.stat()
  return found.st_size, found.st_mtime_ns


def _copy(source: Any, target: Any) -> None:
  """Copies a file between the store and the disk, in parts."""
  with source.open("rb") as reader, target.open("wb") as writer:
    shutil.copyfileobj(reader, writer, 8 << 20)


def _send_checked(source: pathlib.Path, target: Any, sha256: str) -> None:
  """Sends a file and reads it back."""
  _copy(source, target)
  digest = hashlib.sha256()
  with target.open("rb") as file:
    while part := file.read(8 << 20):
      digest.update(part)
  if digest.hexdigest() != sha256:
    raise IOFault(target, "does not read back as it was written", "run the same command again")
