"""Transfer: parameters of another run taken leaf by leaf, with a list of what was taken, reshaped or left."""

import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from fields3d.core.errors import BadData, MissingInput
from fields3d.training.checkpoint import LOG, PyTree, foreign
from fields3d.training.leaves import first_nonfinite, leaf_name
from fields3d.training.manifest import candidates, verify


class Row(NamedTuple):
  """One line of the report: a leaf's name, "taken", "reshaped" or "left", and why."""
  name: str
  verdict: str
  reason: str


def restore_partial(run: str | os.PathLike, params: PyTree, row_tables: tuple[str, ...] = ("codes",),
                    warn=LOG.warning) -> tuple[PyTree, list[Row]]:
  """The parameters of `run` (averaged ones where it keeps an average) put into `params` wherever they fit.

  A leaf of the same name and shape is taken, cast where only the floating type differs. A table whose rows are
  items (a part of its name is in `row_tables`) and whose other axes agree is reshaped: row i of the run becomes row i,
  surplus rows of the run are dropped and surplus rows here keep their initial values. Every other leaf is left as
  it is: a kernel's or a hash table's rows have no meaning one by one.

  Args:
    run: a run directory, its checkpoints directory, or one step of it; the newest sound step counts.
    params: {group: pytree} of jax arrays, whose placement the result keeps.
    row_tables: parts of names that mark tables of items.
    warn: called with a line for each damaged step passed over.

  Returns:
    (params, rows): rows of both sides, those of `params` first.

  Raises:
    MissingInput: nothing is there. BadData: nothing sound is there, or it holds non-finite values.
  """
  step_dir = _newest(pathlib.Path(run).absolute(), warn)
  theirs = _read(step_dir)
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  leaves, rows = [], []
  for path, leaf in flat:
    name = leaf_name(path)
    value, row = _match(name, leaf, theirs.pop(name, None), row_tables)
    leaves.append(leaf if value is None else jax.device_put(value.astype(leaf.dtype), leaf.sharding))
    rows.append(row)
  rows += [Row(name, "left", f"shape {value.shape} of the run has no place here") for name, value in theirs.items()]
  return treedef.unflatten(leaves), rows


def newest_step(run: str | os.PathLike) -> pathlib.Path:
  """The directory of the step that `restore_partial` takes of a run. Raises: as there."""
  return _newest(pathlib.Path(run).absolute(), LOG.warning)


def _match(name: str, ours: jax.Array, value: np.ndarray | None,
           row_tables: tuple[str, ...]) -> tuple[np.ndarray | jax.Array | None, Row]:
  if value is None:
    return None, Row(name, "left", "new here: keeps its initial value")
  floating = [jax.numpy.issubdtype(x.dtype, np.floating) for x in (ours, value)]
  if ours.dtype != value.dtype and not all(floating):
    return None, Row(name, "left", f"{value.dtype} there, {ours.dtype} here")
  if value.shape == ours.shape:
    cast = "" if ours.dtype == value.dtype else f", {value.dtype} cast to {ours.dtype}"
    return value, Row(name, "taken", f"shape {value.shape}{cast}")
  by_rows = not set(row_tables).isdisjoint(name.split("/"))
  if by_rows and value.ndim == ours.ndim > 0 and value.shape[1:] == ours.shape[1:]:
    num = min(len(value), len(ours))
    put = jax.jit(lambda table, rows: table.at[:num].set(rows), out_shardings=ours.sharding)  # ours may lie on many hosts
    merged = put(ours, value[:num].astype(ours.dtype))
    return merged, Row(name, "reshaped", f"rows 0 to {num - 1} of {len(value)} there into {len(ours)} here")
  return None, Row(name, "left", f"shape {value.shape} there, {ours.shape} here")


def _newest(path: pathlib.Path, warn) -> pathlib.Path:
  if path.is_file():
    raise foreign(path)
  if not path.exists():
    raise MissingInput(path, "is not there", "give the directory of a finished run")
  if path.name.isdecimal() and (path / "state").is_dir():
    if problems := verify(path):
      raise BadData(problems[0], "the checkpoint is damaged", "give the run directory to use its newest sound one")
    return path
  directory = path / "checkpoints" if (path / "checkpoints").is_dir() else path
  for step in reversed(candidates(directory)):
    if not (problems := verify(directory / str(step))):
      return directory / str(step)
    if not (directory / str(step)).exists():  # the run, which still trains, has removed it: newer ones are there
      return _newest(path, warn)
    warn(f"step {step} is damaged, the one before is tried: {problems[0]}")
  raise BadData(path, "holds no sound checkpoint", "give the directory of a finished run")


def _read(step_dir: pathlib.Path) -> dict[str, np.ndarray]:
  """{name: value} of the run's parameters, read without its optimiser state."""
  there: Any = ocp.metadata(step_dir / "state").metadata["state"]
  wanted = {part: jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), there[part])
            for part in ("params", "ema") if there.get(part)}
  context = ocp.Context()
  context.pytree.loading.partial_load = True
  with context:
    got = ocp.load(step_dir / "state", {"state": wanted})["state"]
  averaged = {**got["params"], **got.get("ema", {})}
  if found := first_nonfinite(averaged):
    raise BadData(step_dir, "{} holds {} non-finite values".format(*found), "give another run")
  return {leaf_name(path): value for path, value in jax.tree_util.tree_leaves_with_path(averaged)}
