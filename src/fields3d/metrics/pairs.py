"""Matrices of distances between every cloud of one set and every cloud of another, in bounded memory.

Pairs are cut into blocks of one fixed size, the last one filled up with repetitions, so that every pair is computed by
the same program: the matrix does not depend on the blocks, nor on how many devices or threads shared them.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from fields3d.core.errors import UsageFault, available_cores, nearest
from fields3d.metrics.clouds import CHAMFERS, checked_clouds, middle, nearest_squared
from fields3d.metrics.transport import EMDS, emd, sinkhorn

BLOCK = {"cpu": 16}  # pairs of one call; elsewhere 256
DISTANCES = (*CHAMFERS, *EMDS)

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class PairBounds:
  """Sinkhorn's bounds of every pair: upper, lower (n, m) float64; converged (n, m) bool (the bounds hold regardless)."""
  upper: np.ndarray
  lower: np.ndarray
  converged: np.ndarray

  @property
  def gap(self) -> float:
    """The widest relative gap, (upper - lower) / upper."""
    return float(np.max(np.divide(self.upper - self.lower, self.upper, out=np.zeros_like(self.upper),
                                  where=self.upper > 0)))


def pairwise(a: np.ndarray, b: np.ndarray, distance: str = "chamfer_sum_squared", *, progress: Progress | None = None,
             workers: int | None = None, devices: Sequence[jax.Device] | None = None,
             block: int | None = None) -> np.ndarray:
  """The distance of each cloud of `a` to each of `b`.

  Where `b` is `a` (the same object) each pair is computed once. Chamfer distances are nearest neighbours in float32
  (see `clouds`) averaged in float64: within 1e-6 relative of a float64 search for clouds whose spacing is not below
  1e-4 of the sets' extent. Earth mover's distances are exact.

  Args:
    a, b: (n, p, 3), (m, q, 3), finite; p = q for an EMD.
    distance: a name of `CHAMFERS` or `EMDS`. Sinkhorn's bounds are `pairwise_sinkhorn`'s.
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
  if distance == "emd_sinkhorn":
    raise UsageFault(distance, "is an interval, not a number", "pairwise_sinkhorn returns both of its ends")
  if distance not in DISTANCES:
    raise UsageFault(distance, "no such distance of clouds", nearest(distance, DISTANCES))
  if block is not None and block < 1 or workers is not None and workers < 1:
    raise UsageFault("pairwise", f"block {block}, workers {workers}", "give at least 1 of each")
  a, b, same = _checked(a, b)
  out = np.zeros((len(a), len(b)))
  if distance in EMDS:
    def work(i, j):
      out[i, j] = emd(a[i], b[j], distance)
      if same:
        out[j, i] = out[i, j]
    _one_by_one(work, len(a), len(b), same, progress, workers)
  else:
    block = block or BLOCK.get(jax.default_backend(), 256)
    _chamfers(out, a, b, same, distance, progress, workers or available_cores(), jax.devices() if devices is None else devices, block)
  return out


def pairwise_sinkhorn(a: np.ndarray, b: np.ndarray, regularisation: float, convention: str = "emd", *,
                      tolerance: float = 1e-3, most_iterations: int = 2000, progress: Progress | None = None,
                      workers: int | None = None) -> PairBounds:
  """Sinkhorn's bounds of the earth mover's distance of each cloud of `a` to each of `b`.

  Args:
    regularisation, convention, tolerance, most_iterations: of `transport.sinkhorn`. The others: of `pairwise`.
  """
  a, b, same = _checked(a, b)
  upper, lower = np.zeros((2, len(a), len(b)))
  converged = np.ones((len(a), len(b)), bool)

  def work(i, j):
    found = sinkhorn(a[i], b[j], regularisation, convention, tolerance=tolerance, most_iterations=most_iterations)
    for x, y in ((i, j), (j, i)) if same else ((i, j),):
      upper[x, y], lower[x, y], converged[x, y] = found.upper, found.lower, found.converged

  _one_by_one(work, len(a), len(b), same, progress, workers)
  return PairBounds(upper, lower, converged)


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
  same = b is a
  a = checked_clouds("a", a)
  return a, a if same else checked_clouds("b", b), same


def _chamfers(out: np.ndarray, a: np.ndarray, b: np.ndarray, same: bool, name: str, progress: Progress | None,
              workers: int, devices: Sequence[jax.Device], block: int) -> None:
  """Fills the matrix, and of a set with itself both halves (a one-sided distance has two)."""
  a, b, scale = _about_the_origin(a, b, same)
  value, factor = CHAMFERS[name].value, scale ** CHAMFERS[name].power

  def work(number, i, j):
    full = np.resize(np.arange(len(i)), block)
    pair = jax.device_put((a[i[full]], b[j[full]]), devices[number % len(devices)])
    ab, ba = (np.asarray(x)[:len(i)] for x in nearest_squared(*pair))
    out[i, j] = value(ab, ba) * factor
    if same:
      out[j, i] = value(ba, ab) * factor
    return len(i)

  tasks = (functools.partial(work, k, i, j) for k, (i, j) in enumerate(_blocks(len(a), len(b), same, block)))
  _report(tasks, _count(len(a), len(b), same), progress, max(workers, len(devices)))


def _one_by_one(work: Callable, n: int, m: int, same: bool, progress: Progress | None, workers: int | None) -> None:
  def one(i, j):
    work(i, j)
    return 1

  tasks = (functools.partial(one, int(i[0]), int(j[0])) for i, j in _blocks(n, m, same, 1))
  _report(tasks, _count(n, m, same), progress, workers or available_cores())


def _report(tasks: Iterator[Callable], total: int, progress: Progress | None, workers: int) -> None:
  done = 0
  for finished in _in_threads(tasks, workers):
    done += finished
    if progress:
      progress(done, total)


def _count(n: int, m: int, same: bool) -> int:
  return n * (n - 1) // 2 if same else n * m


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


def _in_threads(tasks: Iterator[Callable], workers: int) -> Iterator:
  """Results as they come, with two tasks for each thread under way at most. JAX and scipy let other threads run."""
  pool, waiting = concurrent.futures.ThreadPoolExecutor(workers), set()
  try:
    for task in tasks:
      waiting.add(pool.submit(task))
      if len(waiting) >= 2 * workers:
        done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
        yield from (future.result() for future in done)
    yield from (future.result() for future in concurrent.futures.as_completed(waiting))
  finally:
    pool.shutdown(cancel_futures=True)


def _about_the_origin(a: np.ndarray, b: np.ndarray, same: bool) -> tuple[np.ndarray, np.ndarray, float]:
  """Both sets as float32 near the origin at a scale near 1, and the factor to the old one, a power of two (so that it rounds
  nothing)."""
  centre, extent = middle(a, b)
  scale = 2.0 ** np.round(np.log2(extent)) if extent > 0 else 1.0
  moved = ((a - centre[None, None]) / scale).astype(np.float32)
  return moved, moved if same else ((b - centre[None, None]) / scale).astype(np.float32), scale
