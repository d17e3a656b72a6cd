"""Matrices of distances between every cloud of one set and every cloud of another, in bounded memory.

Pairs are cut into blocks of one fixed size, the last one filled up with repetitions, so that every pair is computed by
the same program: the matrix does not depend on the blocks, nor on how many devices or threads shared them.
"""

import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from fields3d.core.errors import UsageFault, nearest
from fields3d.metrics.clouds import CHAMFERS, checked_clouds, nearest_squared

BLOCK = 16  # pairs of one call
DISTANCES = (*CHAMFERS,)

Progress = Callable[[int, int], None]


def pairwise(a: np.ndarray, b: np.ndarray, distance: str = "chamfer_sum_squared", *, progress: Progress | None = None,
             workers: int | None = None, devices: Sequence[jax.Device] | None = None, block: int = BLOCK) -> np.ndarray:
  """The distance of each cloud of `a` to each of `b`.

  Where `b` is `a` (the same object) each pair is computed once. Chamfer distances are nearest neighbours in float32
  (see `clouds`) averaged in float64: within 1e-6 relative of a float64 search for clouds whose spacing is not below
  1e-4 of the sets' extent.

  Args:
    a, b: (n, p, 3), (m, q, 3), finite; p = q for an EMD.
    distance: a name of `DISTANCES`.
    progress: called with (pairs done, pairs in all).
    workers: threads; by default the CPUs that this process may use. devices: by default all of JAX's.
    block: pairs of one call, for memory and speed; it does not change the result.

  Returns:
    (n, m) float64.

  Raises:
    UsageFault: no such distance, or not sets of clouds of one size. BadData: a coordinate is not finite.

  >>> pairwise(np.zeros((2, 1, 3)), np.ones((1, 1, 3)))
  array([[6.],
         [6.]])
  """
  if distance not in DISTANCES:
    raise UsageFault(distance, "no such distance of clouds", nearest(distance, DISTANCES))
  same = b is a
  a = checked_clouds("a", a)
  b = a if same else checked_clouds("b", b)
  out = np.zeros((len(a), len(b)))
  value = CHAMFERS[distance].value
  a, b, scale = _about_the_origin(a, b, same)
  factor = scale ** CHAMFERS[distance].power
  devices = list(jax.devices() if devices is None else devices)

  def work(task):
    number, (i, j) = task
    full = np.resize(np.arange(len(i)), block)
    pair = jax.device_put((a[i[full]], b[j[full]]), devices[number % len(devices)])
    ab, ba = (np.asarray(x)[:len(i)] for x in nearest_squared(*pair))
    out[i, j] = value(ab, ba) * factor
    if same:
      out[j, i] = value(ba, ab) * factor
    return len(i)

  total, done = (len(a) * (len(a) - 1) // 2 if same else out.size), 0
  for finished in _in_threads(work, enumerate(_blocks(len(a), len(b), same, block)), workers or _cpus()):
    done += finished
    if progress:
      progress(done, total)
  return out


def _blocks(n: int, m: int, same: bool, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Rows and columns of the pairs, `size` at a time; of a set with itself those above the diagonal."""
  rows, columns = [], []
  for i in range(n):
    for j in range(i + 1 if same else 0, m):
      rows.append(i)
      columns.append(j)
      if len(rows) == size:
        yield np.array(rows), np.array(columns)
        rows, columns = [], []
  if rows:
    yield np.array(rows), np.array(columns)


def _in_threads(work: Callable, tasks: Iterator, workers: int) -> Iterator:
  """Results as they come, with two tasks for each thread under way at most."""
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    waiting = set()
    for task in tasks:
      waiting.add(pool.submit(work, task))
      if len(waiting) >= 2 * workers:
        done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
        yield from (future.result() for future in done)
    yield from (future.result() for future in concurrent.futures.as_completed(waiting))


def _about_the_origin(a: np.ndarray, b: np.ndarray, same: bool) -> tuple[np.ndarray, np.ndarray, float]:
  """Both sets as float32 at a scale near 1, and the factor to the old one, a power of two (so that it rounds nothing).

  Sets farther from the origin than twice their extent are moved to it, in float64; others are not, so that float32 clouds
  stay exactly what they are.
  """
  low, high = (np.asarray(fn([fn(a, axis=(0, 1)), fn(b, axis=(0, 1))], axis=0), np.float64) for fn in (np.min, np.max))
  extent = float(np.max(high - low))
  centre = np.where(np.maximum(np.abs(low), np.abs(high)).max() > 2 * extent, (low + high) / 2, 0.0)
  scale = 2.0 ** np.round(np.log2(extent)) if extent > 0 else 1.0
  moved = ((a - centre[None, None]) / scale).astype(np.float32)
  return moved, moved if same else ((b - centre[None, None]) / scale).astype(np.float32), scale


def _cpus() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
