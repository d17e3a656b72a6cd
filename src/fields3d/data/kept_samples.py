"""Samples and meshes that functions make, kept on disk by key: thousands of shapes are sampled once, by several processes."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fields3d.core.errors import available_cores
from fields3d.core.progress import progress
from fields3d.core.types import Mesh
from fields3d.data import cache
from fields3d.data.engines import Processes, results
from fields3d.data.pipeline import SdfSamples

_WHAT = "shapes sampled"


def kept_samples(root: pathlib.Path, wanted: Mapping[str, tuple], make: Callable[..., SdfSamples],
                 workers: int | None = None) -> cache.EntrySamples:
  """The samples of every key, in order; those that are not in the cache yet are made and put there.

  Args:
    root: of the cache. wanted: {key: arguments of `make`}; a key stands for everything that the samples depend on.
    make: a function of a module, (*arguments) -> samples.
    workers: processes; the cores of this process by default. One works in this process.

  Raises:
    CannotWrite, IOFault: the cache refuses, is full, or a worker process died.
  """
  missing = {key: arguments for key, arguments in wanted.items() if not cache.has_entry(root, key)}
  count = min(workers or available_cores(), len(missing))
  if count > 1:
    _in_processes(root, missing, make, count)
  else:
    with progress() as show:
      for done, (key, arguments) in enumerate(missing.items(), 1):
        _keep(root, key, make, arguments)
        show(_WHAT, done, len(missing))
  return cache.EntrySamples(root, tuple(wanted))


def kept_mesh(root: pathlib.Path, key: str, make: Callable[[], Mesh]) -> Mesh:
  """The mesh of a key, made when it is first asked for; colours are kept, and every bit of the rest."""
  if not cache.has_entry(root, key):
    mesh = make()
    cache.write_entry(root, key, {"faces": len(mesh.faces)}, mesh, np.ones(len(mesh.faces), bool), None)
    return mesh
  return cache.read_entry_mesh(root, key)[0]


def _in_processes(root: pathlib.Path, missing: Mapping[str, tuple], make: Callable, workers: int) -> None:
  todo, done, waiting = iter(missing.items()), 0, 0
  with progress() as show, Processes(workers) as engine:
    while done < len(missing):
      while waiting < engine.capacity and (call := next(todo, None)) is not None:
        engine.submit(call[0], _keep, root, call[0], make, call[1])
        waiting += 1
      finished = len(results(engine, root))
      done, waiting = done + finished, waiting - finished
      show(_WHAT, done, len(missing))


def _keep(root: pathlib.Path, key: str, make: Callable, arguments: tuple[Any, ...]) -> None:
  samples = make(*arguments)
  facts = {"normals": samples.normals is not None, "colors": samples.colors is not None,
           "num_outside": samples.num_outside, "num_samples": len(samples.sdf)}
  cache.write_entry(root, key, facts, None, None, samples)
