"""Checkpoints that are either whole and verified or not there: orbax writes the arrays, we commit and check them.

`save` returns as soon as the arrays are copied off the devices; a thread waits for orbax, hashes every file, writes
the manifest and renames `<step>.tmp` to `<step>`. Only then does the step exist. `restore` verifies the newest step
and, loudly, takes the one before where it is damaged. A damaged step is left where it is until the same step is
saved again; then it is moved to `<step>.damaged`, which nothing removes.
"""

import errno
import logging
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from fields3d.core.errors import BadData, CannotWrite, Diverged, Fault, IOFault, MissingInput
from fields3d.core.strict_json import sync_directory
from fields3d.training.leaves import describe, first_nonfinite, is_key, leaf_name, placed, to_plain
from fields3d.training.manifest import candidates, read_manifest, steps, verify, write_manifest

PyTree = Any
LOG = logging.getLogger("fields3d.checkpoint")


class Checkpoints:
  """The checkpoints of one run, saved in the background, one at a time.

  Every process of a distributed run makes one and calls `save`, `wait` and `restore` alike; process 0 commits. Leaves
  are jax or numpy arrays (typed PRNG keys too); numbers become numpy arrays.

  Args:
    directory: made when the first step is saved.
    keep: the number of newest steps that stay, at least 1.
    keep_every: steps divisible by it stay for ever; None for no such step.
    warn: called with one line for each damaged or unfinished step that is passed over.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as d, Checkpoints(d) as checkpoints:
    ...   checkpoints.save(5, {"w": jnp.ones(3)}, blocking=True)
    ...   step, tree = checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
    >>> step, tree["w"].tolist()
    (5, [1.0, 1.0, 1.0])
  """

  def __init__(self, directory: str | os.PathLike, keep: int = 3, keep_every: int | None = None,
               warn: Callable[[str], None] = LOG.warning):
    if keep < 1 or (keep_every is not None and keep_every < 1):
      raise ValueError(f"keep={keep} and keep_every={keep_every} must be at least 1")
    self.directory = pathlib.Path(directory).absolute()
    self.committed: int | None = None
    self._keep, self._keep_every, self._warn = keep, keep_every, warn
    self._thread: threading.Thread | None = None
    self._error: Fault | None = None
    self._finished: int | None = None
    self._damaged: set[int] = set()  # whose contents were found to be

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind, error, traceback) -> None:
    """Waits for the save under way; where an error leaves, without the other processes, which may never come here."""
    if kind is None:
      self.wait()
    elif fault := self._join():
      self._warn(str(fault))

  def save(self, step: int, tree: Mapping[str, PyTree], blocking: bool = False, prune: bool = True) -> None:
    """Starts to save; the arrays may be donated or overwritten as soon as it returns.

    Args:
      step: its name; a sound step of that name is replaced.
      tree: a dict of trees of arrays.
      blocking: wait until the step is durable.
      prune: remove the old steps that it replaces.

    Raises:
      Diverged: a leaf holds a NaN or an infinity; nothing is written.
      CannotWrite, IOFault: this save could not start, or the one before failed.
    """
    self.wait()
    building, fault = self.directory / f"{step}.tmp", None
    if found := first_nonfinite(tree):
      fault = Diverged(self.directory / str(step), "{} holds {} non-finite values, so it is not saved".format(*found),
                       "resume from the last checkpoint with a lower learning rate")
    _together(fault)
    _together(self._clear(building))
    plain, described = to_plain(tree)
    try:
      with _saving():
        response = ocp.save_async(building / "state", plain)
    except Exception as e:
      raise _write_fault(e, building.with_suffix("")) from e
    self._thread = threading.Thread(target=self._finish, args=(step, building, response, described, prune))
    self._thread.start()
    if blocking:
      self.wait()

  def wait(self) -> None:
    """Returns when the save under way is durable, and raises what it met; `committed` is then its step."""
    if self._thread is None:
      return
    _together(self._join())
    self.committed = self._finished

  def _join(self) -> Fault | None:
    """Returns when this process's part of the save under way is done, with what it met."""
    if self._thread is not None:
      self._thread.join()
    self._thread, error, self._error = None, self._error, None
    return error

  def restore(self, abstract: Mapping[str, PyTree], step: int | None = None, allow_nonfinite: bool = False,
              before: int | None = None) -> tuple[int, PyTree] | None:
    """The newest sound step, or exactly `step`, placed as `abstract` says.

    Args:
      abstract: a dict of trees with ShapeDtypeStructs (their sharding, else the first device), jax arrays (their
        sharding) or numpy arrays (restored as numpy). Top-level entries that it leaves out are not read; within an
        entry every leaf must match.
      step: which one; None for the newest that verifies.
      allow_nonfinite: take NaNs and infinities as they are.
      before: a step that is given up for the newest sound one before it, and removed; it stays where there is none.

    Returns:
      (step, tree), or None where no step was ever saved, or none that is sound before `before`.

    Raises:
      MissingInput: `step` is not there.
      BadData: no step is sound, the tree is another one, or it holds non-finite values.
    """
    self.wait()
    chosen, fault = None, None
    if jax.process_index() == 0:
      try:
        chosen = self._choose(step, before)
      except Fault as e:
        fault = e
    _together(fault)
    if jax.process_count() > 1:
      chosen = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if chosen is None else chosen)))
      chosen = None if chosen < 0 else chosen
    if chosen is None:
      return None
    try:
      tree = load(self.directory / str(chosen), abstract)
    except Fault:
      if jax.process_count() > 1 or (self.directory / str(chosen)).exists():
        raise
      return self.restore(abstract, step, allow_nonfinite, before)  # as `_choose` does
    if not allow_nonfinite and (found := first_nonfinite(tree)):
      fault = BadData(self.directory / str(chosen), "{} holds {} non-finite values".format(*found),
                      "take an earlier step, or pass --allow-nonfinite to go on with them")
    _together(fault)
    if before is not None and jax.process_index() == 0:
      (self.directory / str(before)).rename(self.directory / f"{before}.stale")
    return chosen, tree

  def _choose(self, step: int | None, before: int | None) -> int | None:
    """The step to restore. Where the run that trains here meanwhile has removed one, it looks again: newer ones are there."""
    if self.directory.is_file():
      raise foreign(self.directory)
    there = [number for number in candidates(self.directory) if before is None or number < before]
    if step is not None:
      if step not in there:
        known = ", ".join(map(str, steps(self.directory))) or "none"
        raise MissingInput(self.directory, f"has no step {step}", f"known: {known}")
      if problems := verify(self.directory / str(step)):
        if not (self.directory / str(step)).exists():
          return self._choose(step, before)
        raise BadData(problems[0], "the checkpoint is damaged", "leave --step out to use the newest sound one")
      return step
    for unfinished in sorted(self.directory.glob("*.tmp")):
      self._warn(f"{unfinished}: an unfinished save, ignored")
    for number in reversed(there):
      if not (problems := verify(self.directory / str(number))):
        return number
      if not (self.directory / str(number)).exists():
        return self._choose(step, before)
      self._damaged.add(number)
      more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
      self._warn(f"step {number} is damaged, the one before is tried: {problems[0]}{more}")
    if there and before is None:
      raise BadData(self.directory, f"none of its {len(there)} checkpoints is sound",
                    "restore a copy, or start in a new --workdir")
    return None

  def _clear(self, building: pathlib.Path) -> Fault | None:
    """Makes the directory and removes what broken-off saves and prunes left in it (process 0)."""
    if jax.process_index() != 0:
      return None
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
      for leftover in [*self.directory.glob("*.tmp"), *self.directory.glob("*.stale")]:
        shutil.rmtree(leftover)
      building.mkdir()
    except OSError as e:
      return _write_fault(e, building.with_suffix(""))
    return None

  def _finish(self, step: int, building: pathlib.Path, response: Any, described: dict, prune: bool) -> None:
    """Runs in the thread: orbax's own commit, then ours."""
    try:
      response.result()
      if jax.process_index() == 0:
        write_manifest(building, {"step": step, "jax": jax.__version__, "tree": described})
        self._commit(step, building, prune)
      self._finished = step
    except Exception as e:
      self._error = _write_fault(e, building.with_suffix(""))
      if jax.process_index() == 0:
        shutil.rmtree(building, ignore_errors=True)

  def _commit(self, step: int, building: pathlib.Path, prune: bool) -> None:
    final = self.directory / str(step)
    if final.exists():
      aside = self.directory / f"{step}.{'damaged' if verify(final) else 'stale'}"
      shutil.rmtree(aside, ignore_errors=True)
      final.rename(aside)
    building.rename(final)
    self._damaged.discard(step)
    sync_directory(self.directory)
    sync_directory(self.directory.parent)
    try:
      if prune:
        self._prune()
    except OSError as e:
      self._warn(f"{self.directory}: old checkpoints could not be removed: {e}")

  def _prune(self) -> None:
    """Removes old steps. Damaged ones count for nothing and stay; a killed removal leaves only `<step>.stale`."""
    there = [step for step in steps(self.directory) if step not in self._damaged]
    for old in set(there) - set(retained(there, self._keep, self._keep_every)):
      (self.directory / str(old)).rename(self.directory / f"{old}.stale")
    for stale in self.directory.glob("*.stale"):
      shutil.rmtree(stale)


def retained(there: list[int], keep: int, keep_every: int | None) -> list[int]:
  """Which of the ascending steps stay: the newest, and those that keep_every divides.

  >>> retained([4, 5, 6, 7], keep=2, keep_every=4)
  [4, 6, 7]
  """
  return [step for step in there if step in there[-keep:] or (keep_every is not None and step % keep_every == 0)]


def load(step_dir: pathlib.Path, abstract: Mapping[str, PyTree]) -> PyTree:
  """One step's tree, without verifying its files; every leaf as `abstract` has it, or a fault that names one not so."""
  described = read_manifest(step_dir)["tree"]
  described = {name: there for name, there in described.items() if name.split("/")[0] in abstract}
  flat, treedef = jax.tree_util.tree_flatten_with_path(abstract)
  wanted = {leaf_name(path): leaf for path, leaf in flat}
  problems = [f"has no {name}" for name in wanted if name not in described]
  problems += [f"holds {name}, which the config's state has not" for name in described if name not in wanted]
  for name, leaf in wanted.items():
    if name in described and described[name] != (ours := describe(leaf)):
      there = described[name]
      problems.append(f"{name} is {there['dtype']}{there['shape']}, the config makes {ours['dtype']}{ours['shape']}")
  if problems:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise BadData(step_dir, problems[0] + more, "use the config of that run, or start a new one with init_from")
  context = ocp.Context()
  context.pytree.loading.partial_load = True
  try:
    with context:
      plain = ocp.load(step_dir / "state", treedef.unflatten(placed(leaf) for leaf in wanted.values()))
  except Exception as e:
    raise BadData(step_dir, f"cannot be read: {_first_line(e)}", "take an earlier step") from e
  leaves = [jax.random.wrap_key_data(value, impl=leaf.dtype) if is_key(leaf) else value
            for leaf, value in zip(wanted.values(), jax.tree.leaves(plain), strict=True)]
  return treedef.unflatten(leaves)


def _saving() -> ocp.Context:
  """How orbax writes. Not compressed: zstd took most of the time to make random weights 8 % smaller. In chunks of
  8 MiB, whose buffers are used again when read, and files of 128 MiB, which are hashed side by side."""
  context = ocp.Context()
  context.array.saving.use_compression = False
  context.array.saving.storage_options.chunk_byte_size = 8 << 20
  context.array.saving.ocdbt_target_data_file_size = 128 << 20
  return context


def foreign(path: pathlib.Path) -> BadData:
  """The fault for a file of weights where a run is expected: it is never opened."""
  return BadData(path, "is not a run of fields3d; pickled weights can run code when read, so they are never opened",
                 "give a run directory (fields3d train makes one)")


def _together(fault: Fault | None) -> None:
  """Raises on every process if any has a fault, so that none waits for another in vain."""
  if jax.process_count() > 1:
    bad = multihost_utils.process_allgather(np.asarray(fault is not None))
    if fault is None and bad.any():
      fault = IOFault(f"process {int(bad.argmax())}", "met a fault in the checkpoint", "see its own message")
  if fault is not None:
    raise fault


def _write_fault(error: Exception, where: pathlib.Path) -> Fault:
  """The fault that a failed write means; tensorstore says disk full and permission in its text alone."""
  codes, texts, link = [], [], error
  while link is not None:
    codes.append(link.errno if isinstance(link, OSError) else None)
    texts.append(str(link))
    link = link.__cause__ or link.__context__
  text = " ".join(texts)
  if isinstance(error, Fault):
    return error
  if errno.ENOSPC in codes or errno.EDQUOT in codes or "No space left" in text or "quota exceeded" in text:
    return IOFault(where, "no space left on the device, so the step is not saved",
                   "free some space and run the same command again")
  refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
  if any(c in refused for c in codes) or "Permission denied" in text or "Read-only file system" in text:
    return CannotWrite(where, _first_line(error), "give a --workdir that you may write to")
  return IOFault(where, f"the step is not saved: {_first_line(error)}", "check the disk and run the same command again")


def _first_line(error: Exception) -> str:
  return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
