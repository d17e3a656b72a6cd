"""The earth mover's distance of two clouds of equal size: exact, as an assignment, or between two bounds, by Sinkhorn.

`emd` is the exact minimum over all one-to-one matchings. `sinkhorn` never leaves its error open: it returns the cost of
a plan that moves all the mass (no less than the minimum) and the value of a feasible dual (no more than it).
Both ends are taken in float64 of the points as given, so that float32 inside the iteration loosens them but cannot make
them wrong.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.spatial

from fields3d.core.errors import UsageFault, nearest
from fields3d.metrics.clouds import checked_cloud

MOST_POINTS = 2048  # of an exact distance: 32 MiB of costs, about a second; four times the points take eighty times it
UNROLL = 8
LANES = 128  # points at a time, on a CPU: XLA leaves so small a loop to one thread, and others have theirs
_WORTH_A_START = 1024  # points from which Sinkhorn's start saves more than it takes


@dataclasses.dataclass(frozen=True)
class Transport:
  """One convention: cost |x - y|^power of a matched pair; the mean of the costs, or their sum."""
  power: int
  summed: bool
  definition: str


EMDS: Mapping[str, Transport] = {
    "emd": Transport(
        1, False, "mean distance under the optimal one-to-one matching, not squared; what PointFlow's kernel approximates"),
    "emd_mean_squared": Transport(2, False, "mean squared distance under the matching that is optimal for it"),
    "emd_sum_squared": Transport(
        2, True, "sum of squared distances under the matching that is optimal for it; what PVD's kernel approximates"),
}


@dataclasses.dataclass(frozen=True)
class Bounds:
  """An interval that holds the exact distance.

  upper: the cost of a feasible plan. lower: of a feasible dual. iterations: made. marginal: the mean relative error of
  the rows' mass when the iteration ended (before the plan was made feasible). converged: whether that was in tolerance;
  where not, the interval holds all the same, and is wide.
  """
  upper: float
  lower: float
  iterations: int
  marginal: float
  converged: bool

  @property
  def gap(self) -> float:
    """The relative width: (upper - lower) / upper; 0 where both are 0."""
    return (self.upper - self.lower) / self.upper if self.upper > 0 else 0.0


def emd(a: np.ndarray, b: np.ndarray, convention: str = "emd") -> float:
  """The exact earth mover's distance of two clouds of one size, by the assignment problem, in float64.

  Published figures that name PointFlow or PVD are of an approximate matching (10 or 9 rounds of a greedy flow), not of the
  optimal one: on one and the same samples their two kernels give different figures, and neither is this.

  Args:
    a, b: (p, 3), p up to `MOST_POINTS`, finite.
    convention: a name of `EMDS`.

  Raises:
    UsageFault: no such convention, clouds of different sizes, or too many points. BadData: a coordinate is not finite.

  >>> emd(np.eye(3), np.eye(3)[::-1]), emd(np.zeros((2, 3)), np.ones((2, 3)), "emd_sum_squared")
  (0.0, 6.0)
  """
  a, b = _equal_clouds(a, b, convention)
  if len(a) > MOST_POINTS:
    raise UsageFault("emd", f"an exact distance of {len(a):,} points needs {8 * len(a)**2 / 2**30:.1f} GiB and minutes",
                     f"draw {MOST_POINTS:,} points, or take sinkhorn's bounds")
  costs = _costs(a, b, EMDS[convention])
  start = _reduced(costs, a, b, EMDS[convention]) if len(a) >= _WORTH_A_START else costs
  return _value(costs[scipy.optimize.linear_sum_assignment(start)], EMDS[convention])


def sinkhorn(a: np.ndarray, b: np.ndarray, regularisation: float, convention: str = "emd", *,
             tolerance: float = 1e-3, most_iterations: int = 2000) -> Bounds:
  """Bounds of the earth mover's distance from Sinkhorn's iteration, in the log domain, on any device.

  The regularisation falls by halves from the largest cost to the one asked for. The plan is then made feasible by
  scaling rows and columns down and adding what they lack as a product; the dual by c-transforms.

  Args:
    a, b: (p, 3), (q, 3), finite; each point of a carries 1/p and of b 1/q (a sum's are p = q times it).
    regularisation: of the entropy, as a share of the largest cost, in (0, 1). The gap falls with it, and the
      iterations grow: at 1e-3 it is some per cent.
    convention: a name of `EMDS`.
    tolerance: of the rows' mass, mean relative error, at which the iteration ends.

  Raises:
    UsageFault, BadData: as `emd`; or a setting out of its range.

  Source: Cuturi 2013, "Sinkhorn distances", algorithm 1; Altschuler, Weed & Rigollet 2017, "Near-linear time
  approximation algorithms for optimal transport via Sinkhorn iteration", algorithm 2 (the feasible plan).

  >>> bounds = sinkhorn(np.eye(3), np.eye(3)[::-1] + [0, 0, 1], 1e-3)
  >>> bounds.converged, bounds.lower <= emd(np.eye(3), np.eye(3) + [0, 0, 1]) <= bounds.upper
  (True, True)
  """
  a, b = _equal_clouds(a, b, convention)
  if not 0 < regularisation < 1:
    raise UsageFault("regularisation", f"is {regularisation}, not a share of the largest cost in (0, 1)", "try 0.001")
  if not tolerance > 0 or most_iterations < 1:
    raise UsageFault("sinkhorn", f"tolerance {tolerance}, most_iterations {most_iterations}", "give positive ones")
  kind = EMDS[convention]
  costs = _costs(a, b, kind)
  lanes, points, largest = _unit(a, b, costs, kind)
  if largest == 0:
    return Bounds(0.0, 0.0, 0, 0.0, True)
  f, g, iterations, marginal = _iterate(lanes, points, regularisation, tolerance, most_iterations, kind.power)
  f, g = np.asarray(f, np.float64) * largest, np.asarray(g, np.float64) * largest
  upper = _feasible_cost(costs, f, g, regularisation * largest)
  lower = _dual_value(costs, g)
  times = len(a) if kind.summed else 1
  return Bounds(max(upper, lower) * times, lower * times, int(iterations), float(marginal), bool(marginal <= tolerance))


def _equal_clouds(a: np.ndarray, b: np.ndarray, convention: str) -> tuple[np.ndarray, np.ndarray]:
  if convention not in EMDS:
    raise UsageFault(convention, "no such earth mover's distance", nearest(convention, EMDS))
  a, b = checked_cloud("a", a), checked_cloud("b", b)
  if len(a) != len(b):
    raise UsageFault("emd", f"clouds of {len(a):,} and {len(b):,} points have no one-to-one matching",
                     "draw the same number of points from each")
  return a, b


def _costs(a: np.ndarray, b: np.ndarray, kind: Transport) -> np.ndarray:
  return scipy.spatial.distance.cdist(a, b, "euclidean" if kind.power == 1 else "sqeuclidean")


def _reduced(costs: np.ndarray, a: np.ndarray, b: np.ndarray, kind: Transport) -> np.ndarray:
  """Costs less the potentials of a few rounds of Sinkhorn's iteration on a fourth of the rows.

  Taking a number off each row and each column changes no matching's rank, so that the optimum stays what it was; but
  most of it is now found among costs near zero, and the search for it is several times shorter.
  """
  every = len(a) // 512
  lanes, points, largest = _unit(a, b, costs, kind)
  _, g, _, _ = _iterate(lanes[::every], points, 0.01, 0.0, 30, kind.power)
  costs = costs - np.asarray(g, np.float64)[None] * largest
  costs -= costs.min(1)[:, None]
  return costs - costs.min(0)[None]


def _unit(a: np.ndarray, b: np.ndarray, costs: np.ndarray, kind: Transport) -> tuple[np.ndarray, np.ndarray, float]:
  """Both clouds about the origin at the scale that makes the largest cost 1, in float32, and this cost."""
  largest = float(costs.max())
  centre, scale = (a.mean(0) + b.mean(0))[None] / 2, largest ** (1 / kind.power) if largest > 0 else 1.0
  return ((a - centre) / scale).astype(np.float32), ((b - centre) / scale).astype(np.float32), largest


def _value(costs: np.ndarray, kind: Transport) -> float:
  return float(costs.sum() if kind.summed else costs.mean())


@functools.partial(jax.jit, static_argnames="power")
def _iterate(a: jax.Array, b: jax.Array, regularisation: jax.Array, tolerance: jax.Array, most: jax.Array,
             power: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Potentials f (p,), g (q,), the iterations made and the rows' error; the columns' mass is right."""
  halvings = jnp.ceil(-jnp.log2(regularisation))

  def epsilon(i):
    return jnp.maximum(regularisation, 2.0 ** -jnp.minimum(i / 2, halvings))  # two iterations of each

  def turn(state):
    i, f, _, g, _ = state
    new = _soft_transform(a, b, g, epsilon(i), power)
    return i + 1, new, f, _soft_transform(b, a, new, epsilon(i), power), _rows_error(f, new, epsilon(i))

  def unfinished(state):
    i, _, _, _, error = state
    return (i < most) & ((error > tolerance) | (i < 2 * halvings + 2))

  start = (0, jnp.zeros(len(a)), jnp.zeros(len(a)), jnp.zeros(len(b)), jnp.float32(jnp.inf))
  i, f, _, g, error = jax.lax.while_loop(unfinished, turn, start)
  return f, g, i, error


def _rows_error(old: jax.Array, new: jax.Array, epsilon: jax.Array) -> jax.Array:
  """The mean relative error of the rows' mass that the update from old to new put right."""
  return jnp.mean(jnp.abs(jnp.expm1(jnp.clip((old - new) / epsilon, -50.0, 50.0))))


def _soft_transform(a: jax.Array, b: jax.Array, g: jax.Array, epsilon: jax.Array, power: int) -> jax.Array:
  """-epsilon log mean_j exp((g_j - cost_ij) / epsilon) for each i, with costs made as they are needed."""
  short = -len(b) % UNROLL
  rows = jnp.pad(jnp.concatenate([b, g[:, None]], axis=1), ((0, short), (0, 0)), constant_values=((0, 0), (0, 0)))
  rows = rows.at[len(b):, 3].set(-1e9)  # filled up with points that nothing reaches
  if len(a) > LANES and jax.default_backend() == "cpu":
    parts = jnp.pad(a, ((0, -len(a) % LANES), (0, 0)), mode="edge").reshape(-1, LANES, 3)
    return jax.lax.map(lambda part: _softest(part, rows, epsilon, power, len(b)), parts).reshape(-1)[:len(a)]
  return _softest(a, rows, epsilon, power, len(b))


def _softest(a: jax.Array, rows: jax.Array, epsilon: jax.Array, power: int, count: int) -> jax.Array:
  """The transform of points (p, 3) by rows (q, 4) of points and their potentials, `count` of them real."""
  lanes = a.T

  def slack(row):  # cost - g
    x, y, z = (lanes[k] - row[k] for k in range(3))
    squares = x * x + y * y + z * z
    return (squares if power == 2 else jnp.sqrt(squares)) - row[3]

  def some(i):
    return jax.lax.dynamic_slice(rows, (i * UNROLL, 0), (UNROLL, 4))

  def least(i, value):
    for row in some(i):
      new = slack(row)
      value = jnp.where(new < value, new, value)
    return value

  turns = len(rows) // UNROLL
  lowest = jax.lax.fori_loop(0, turns, least, jnp.full(len(a), jnp.inf))

  def add(i, total):
    return total + sum(jnp.exp((lowest - slack(row)) / epsilon) for row in some(i))

  return lowest - epsilon * jnp.log(jax.lax.fori_loop(0, turns, add, jnp.zeros(len(a))) / count)


def _feasible_cost(costs: np.ndarray, f: np.ndarray, g: np.ndarray, epsilon: float) -> float:
  """The cost of the plan of potentials f, g, made feasible. At float64's rounding no less than the minimum."""
  p, q = costs.shape
  plan = np.exp(np.minimum((f[:, None] + g[None] - costs) / epsilon, 100.0)) / (p * q)
  rows = plan.sum(1)
  plan *= np.minimum(1, np.divide(1 / p, rows, out=np.ones(p), where=rows > 0))[:, None]
  columns = plan.sum(0)
  plan *= np.minimum(1, np.divide(1 / q, columns, out=np.ones(q), where=columns > 0))[None]
  row_lack, column_lack = np.maximum(1 / p - plan.sum(1), 0), np.maximum(1 / q - plan.sum(0), 0)
  lack = row_lack.sum()
  rest = row_lack @ costs @ column_lack / lack if lack > 0 else 0.0
  return float(np.sum(plan * costs) + rest)


def _dual_value(costs: np.ndarray, g: np.ndarray) -> float:
  """The value of the feasible dual that g leads to: f = min_j (c - g), then g = min_i (c - f)."""
  f = np.min(costs - g[None], axis=1)
  g = np.min(costs - f[:, None], axis=0)
  return float(f.mean() + g.mean())
