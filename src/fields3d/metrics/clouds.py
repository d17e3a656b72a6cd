"""Distances of two point clouds by nearest neighbours: the chamfer distance in each convention, and its density-aware form.

Of one pair of clouds the search is a k-d tree's, in float64. Of batches it is a dense one in float32, on any device:
every squared distance is a sum of squared differences (never |a|^2 - 2ab + |b|^2, which cancels), so that each is within
4 units in the last place (2.4e-7 relative) of that of the rounded points. Means are taken in float64.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial

from fields3d.core.errors import BadData, UsageFault, nearest

UNROLL = 16  # targets of one turn of the loop; XLA fuses them into one pass over the queries
LANES = 512  # queries at a time, on a CPU: they stay in its cache, and XLA does not cut the loop over threads, twice as slow
CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512}  # a quarter faster where there is AVX-512, the same elsewhere


@dataclasses.dataclass(frozen=True)
class Chamfer:
  """One convention.

  value: squared distances, a's to b (*k, p) and b's to a (*k, q) -> (*k). definition: in words, with who uses it.
  power: of length in the unit.
  """
  value: Callable[[np.ndarray, np.ndarray], np.ndarray]
  definition: str
  power: int


def _mean(squares: np.ndarray) -> np.ndarray:
  return np.mean(squares, axis=-1, dtype=np.float64)


def _mean_root(squares: np.ndarray) -> np.ndarray:
  return np.mean(np.sqrt(squares, dtype=np.float64), axis=-1)


CHAMFERS: Mapping[str, Chamfer] = {
    "chamfer_sum_squared": Chamfer(
        lambda ab, ba: _mean(ab) + _mean(ba),
        "mean squared distance a to b + b to a; PointFlow, PVD; 1000 times it is DeepSDF's", 2),
    "chamfer_mean_squared": Chamfer(
        lambda ab, ba: (_mean(ab) + _mean(ba)) / 2, "(mean squared distance a to b + b to a) / 2", 2),
    "chamfer_sum_unsquared": Chamfer(
        lambda ab, ba: _mean_root(ab) + _mean_root(ba), "mean distance a to b + b to a, not squared; 3DShape2VecSet", 1),
    "chamfer_mean_unsquared": Chamfer(
        lambda ab, ba: (_mean_root(ab) + _mean_root(ba)) / 2,
        "(mean distance a to b + b to a) / 2, not squared; Occupancy Networks' Chamfer-L1", 1),
    "chamfer_one_sided_squared": Chamfer(lambda ab, ba: _mean(ab), "mean squared distance a to b only", 2),
    "chamfer_one_sided_unsquared": Chamfer(lambda ab, ba: _mean_root(ab), "mean distance a to b only, not squared", 1),
}


def chamfer(a: np.ndarray, b: np.ndarray, convention: str = "chamfer_sum_squared") -> float:
  """The chamfer distance of two clouds, exact in float64.

  Args:
    a, b: (p, 3), (q, 3), finite, at least a point each, in the same unit.
    convention: a name of `CHAMFERS`.

  Raises:
    UsageFault: no such convention, or not clouds. BadData: a coordinate is not finite.

  >>> chamfer(np.zeros((1, 3)), np.array([[0, 3.0, 4.0]])), chamfer(
  ...     np.zeros((1, 3)), np.array([[0, 3.0, 4.0]]), "chamfer_mean_unsquared")
  (50.0, 5.0)
  """
  if convention not in CHAMFERS:
    raise UsageFault(convention, "no such chamfer convention", nearest(convention, CHAMFERS))
  a, b = checked_cloud("a", a), checked_cloud("b", b)
  ab, _, ba, _ = _tree_neighbours(a, b)
  return float(CHAMFERS[convention].value(ab, ba))


def density_aware_chamfer(a: np.ndarray, b: np.ndarray, alpha: float = 1000.0) -> float:
  """The density-aware chamfer distance, in [0, 1]; exact in float64.

  Half the sum over both ways of mean_x (1 - exp(-alpha d(x)^2) / n(x)), d(x) being the distance to x's nearest
  neighbour and n(x) the number of points that share this neighbour. Of several nearest neighbours at one distance any
  counts, so that only clouds without such ties have one value. The distance is squared and alpha is 1000 for shapes of
  size about 1, as in the authors' code (the paper's equation 7 prints a distance that is not squared); for clouds of
  different sizes the code's further factor |a| / |b| is left out, as in the equation.

  Args:
    a, b: (p, 3), (q, 3), finite.
    alpha: per squared unit of length, > 0.

  Source: Wu, Pan, Zhang, Wang, Liu & Lin 2021, "Density-aware Chamfer distance as a comprehensive metric for point
  cloud completion", equations 6 and 7.

  >>> density_aware_chamfer(np.eye(3), np.eye(3)), density_aware_chamfer(np.zeros((4, 3)), np.zeros((1, 3)))
  (0.0, 0.375)
  """
  if not alpha > 0:
    raise UsageFault("alpha", f"is {alpha}, not positive", "the published figures use 1000")
  a, b = checked_cloud("a", a), checked_cloud("b", b)
  ab, to_b, ba, to_a = _tree_neighbours(a, b)
  return sum(float(np.mean(1 - np.exp(-alpha * squares) / np.bincount(index)[index])) / 2
             for squares, index in ((ab, to_b), (ba, to_a)))


def _tree_neighbours(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Squared distance and index of each point's nearest neighbour, a's in b and b's in a."""
  out = []
  for queries, targets in ((a, b), (b, a)):
    _, index = scipy.spatial.cKDTree(targets).query(queries, workers=-1)
    out += [np.sum((queries - targets[index])**2, axis=1), index]
  return tuple(out)


def nearest_squared(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Squared distances of the nearest neighbours between clouds, pair by pair, both ways; float32.

  An exact search; each figure is within 4 units in the last place of that of the float32 points. One pair's figures do
  not depend on the others of its batch. Points should lie about the origin, at a scale near 1 (`pairs` sees to it).

  Args:
    a, b: (k, p, 3), (k, q, 3) float32, finite.

  Returns:
    (k, p), a's to b, and (k, q), b's to a.

  >>> nearest_squared(jnp.zeros((1, 2, 3)), jnp.ones((1, 1, 3)))
  (Array([[3., 3.]], dtype=float32), Array([[3.]], dtype=float32))
  """
  search = _one_by_one if jax.default_backend() == "cpu" else _all_at_once
  return search(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))


@functools.partial(jax.jit, compiler_options=CPU_OPTIONS)
def _one_by_one(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """For a CPU: one pair after the other, some queries at a time."""
  def search(queries, targets):
    p = queries.shape[2]
    lanes = min(LANES, p)
    queries = jnp.pad(queries, ((0, 0), (0, 0), (0, -p % lanes)), mode="edge")
    parts = jnp.swapaxes(queries.reshape(len(queries), 3, -1, lanes), 1, 2)
    return jax.lax.map(lambda pair: jax.lax.map(lambda part: _one_way(part, pair[1]), pair[0]),
                       (parts, targets)).reshape(len(queries), -1)[:, :p]

  return _both_ways(search, a, b)


@jax.jit
def _all_at_once(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """For an accelerator, which wants many lanes."""
  return _both_ways(jax.vmap(_one_way), a, b)


def _both_ways(search: Callable, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """search: queries (k, 3, p), targets (k, q, 3) -> (k, p)."""
  if a.shape == b.shape:  # one loop for both ways compiles in half the time
    both = search(jnp.swapaxes(jnp.concatenate([a, b]), 1, 2), jnp.concatenate([b, a]))
    return both[:len(a)], both[len(a):]
  return search(jnp.swapaxes(a, 1, 2), b), search(jnp.swapaxes(b, 1, 2), a)


def _one_way(queries: jax.Array, targets: jax.Array) -> jax.Array:
  """Queries (3, p), targets (q, 3) -> squared distances (p,). Queries are lanes; no reduction crosses them."""
  short = -len(targets) % UNROLL
  targets = jnp.pad(targets, ((0, short), (0, 0)), mode="edge")  # a repeated point changes no minimum

  def turn(i, least):
    for target in jax.lax.dynamic_slice(targets, (i * UNROLL, 0), (UNROLL, 3)):
      x, y, z = (queries[k] - target[k] for k in range(3))
      squares = x * x + y * y + z * z
      least = jnp.where(squares < least, squares, least)  # one instruction; jnp.minimum would look for NaN
    return least

  return jax.lax.fori_loop(0, len(targets) // UNROLL, turn, jnp.full(queries.shape[1], jnp.inf))


def checked_cloud(where: str, points: np.ndarray) -> np.ndarray:
  """The points (p, 3) as float64.

  Raises:
    UsageFault: another shape, or no point. BadData: a coordinate is not finite.
  """
  return checked_clouds(where, np.asarray(points)[None])[0].astype(np.float64)


def checked_clouds(where: str, clouds: np.ndarray) -> np.ndarray:
  """Clouds of equal size (n, p, 3) as floating-point numbers, float32 or float64.

  Raises:
    UsageFault: clouds of differing sizes, another shape, or no point. BadData: a coordinate is not finite.
  """
  sizes = sorted({len(cloud) for cloud in clouds}) if isinstance(clouds, list | tuple) else []
  if len(sizes) > 1:
    raise UsageFault(where, f"clouds of differing sizes, {sizes[0]} to {sizes[-1]} points",
                     "draw the same number of points from each")
  clouds = np.asarray(clouds)
  if clouds.ndim != 3 or clouds.shape[2] != 3 or clouds.dtype.kind not in "fiu" or not clouds.size:
    raise UsageFault(where, f"clouds are (n, p, 3) numbers, not {clouds.shape} {clouds.dtype}",
                     "give at least one cloud of at least one point")
  if clouds.dtype != np.float32:
    clouds = clouds.astype(np.float64, copy=False)
  bad = ~np.isfinite(clouds).all(axis=(1, 2))
  if bad.any():
    cloud = int(np.argmax(bad))
    point = int(np.argmax(~np.isfinite(clouds[cloud]).all(axis=1)))
    raise BadData(where, f"point {point} of cloud {cloud} is not finite ({bad.sum()} of {len(clouds)} clouds)",
                  "remove it or sample the cloud again")
  return clouds


def middle(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
  """Where float32 should have its origin for two sets of clouds (n, p, 3), (m, q, 3), and their extent.

  Sets farther from the origin than twice their extent are to be moved by their box's middle (3,), in float64; others by 0, so that
  float32 clouds stay exactly what they are.

  >>> middle(np.full((1, 1, 3), 8.0), np.full((1, 1, 3), 9.0))
  (array([8.5, 8.5, 8.5]), 1.0)
  """
  low, high = (np.asarray(fn([fn(a, axis=(0, 1)), fn(b, axis=(0, 1))], axis=0), np.float64) for fn in (np.min, np.max))
  extent = float(np.max(high - low))
  return np.where(np.maximum(np.abs(low), np.abs(high)).max() > 2 * extent, (low + high) / 2, 0.0), extent
