"""How a hash grid's rows are used by given points: which levels are dense, and how many nodes share a row."""

import dataclasses

import numpy as np
from jaxtyping import Float

from fields3d.core.numerics import distinct
from fields3d.encodings.hashgrid import layout, resolutions


@dataclasses.dataclass(frozen=True)
class LevelUse:
  """What points do to one level.

  cells: along each axis. rows: of the table. dense: every node has a row of its own.
  nodes: corners of the cells that hold a point. rows_used: rows that these nodes read.
  collisions: the share of the nodes whose row another of them reads; expected: the same under a perfectly random hash.
  """
  cells: int
  rows: int
  dense: bool
  nodes: int
  rows_used: int
  collisions: float
  expected: float


def grid_report(points: Float[np.ndarray, "n 3"], *, levels: int, log2_rows: int, coarsest: int, finest: int,
                interpolation: str = "linear") -> list[LevelUse]:
  """The use of each level of `hashgrid` with these settings by points of [-1, 1]^3, coarse levels first. Exact.

  >>> use = grid_report(np.zeros((1, 3)), levels=1, log2_rows=10, coarsest=9, finest=9)[0]
  >>> use.dense, use.nodes, use.collisions
  (True, 8, 0.0)
  """
  cells, rows, smooth = resolutions(levels, coarsest, finest), 2**log2_rows, interpolation != "linear"
  _, strides, dense = layout(cells, rows, smooth=smooth)
  u = np.clip((np.asarray(points, np.float64) + 1) / 2, 0, 1)
  return [_use(u, int(n), stride, bool(d), rows, smooth) for n, stride, d in zip(cells, strides, dense, strict=True)]


def _use(u: np.ndarray, cells: int, stride: np.ndarray, dense: bool, rows: int, smooth: bool) -> LevelUse:
  low = np.clip(np.floor(u * cells + 0.5 * smooth).astype(np.int64), 0, cells - (not smooth))
  base = cells + 2
  near = distinct(low @ np.array([1, base, base**2]))  # one number a cell
  near = np.stack([near % base, near // base % base, near // base**2], axis=1)
  sides = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
  nodes = distinct((near[:, None] + sides).reshape(-1, 3) @ np.array([1, base, base**2]))
  terms = [(nodes // base**axis % base).astype(np.uint32) * stride[axis] for axis in range(3)]
  row = terms[0] + terms[1] + terms[2] if dense else (terms[0] ^ terms[1] ^ terms[2]) % np.uint32(rows)
  _, inverse, count = np.unique(row, return_inverse=True, return_counts=True)
  shared = float(np.mean(count[inverse] > 1)) if len(nodes) else 0.0
  expected = 0.0 if dense or not len(nodes) else -np.expm1((len(nodes) - 1) * np.log1p(-1 / rows))
  return LevelUse(cells, rows, dense, len(nodes), len(count), shared, float(expected))


def describe(report: list[LevelUse]) -> str:
  """The report as a table, one line a level."""
  head = f"{'level':>5} {'cells':>6} {'rows':>9} {'':6} {'nodes':>9} {'rows used':>10} {'collide':>8} {'expected':>8}"
  return "\n".join([head] + [
      f"{i:>5} {use.cells:>6} {use.rows:>9,} {'dense' if use.dense else 'hashed':6} {use.nodes:>9,} {use.rows_used:>10,} "
      f"{use.collisions:>8.1%} {use.expected:>8.1%}" for i, use in enumerate(report)])
