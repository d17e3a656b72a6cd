"""Multiresolution hash grid: tables of features at several resolutions, interpolated at each point.

The table is features-first, (levels, features, rows), points are the minor dimension of everything, and levels are a
`lax.scan`. On a TPU a minor dimension of two features would be padded to 128 lanes; on a CPU one 1-D gather per
feature over all eight corners (in the gradient, one 1-D scatter) is several times faster than rows of features.
Derivatives of any order are plain autodiff: gather and scatter are each other's transpose.
"""

import itertools
import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fields3d.core.config import Count, Positive, Range
from fields3d.core.errors import UsageFault
from fields3d.encodings.encoding import Encoding, fade

PRIMES = (1, 2654435761, 805459861)
CORNERS = tuple(itertools.product((0, 1), repeat=3))
EASE = {
    "linear": lambda t: t,
    "smoothstep": lambda t: t * t * (3 - 2 * t),
    "quintic": lambda t: t * t * t * (10 - 15 * t + 6 * t * t),
}


def resolutions(levels: int, coarsest: int, finest: int) -> np.ndarray:
  """Cells per axis of each level: a geometric progression that ends exactly at `finest`, rounded.

  Source: Instant-NGP (Müller et al. 2022), equations 2 and 3 (which round down).

  >>> resolutions(4, 16, 128).tolist()
  [16, 32, 64, 128]
  """
  growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
  return np.round(coarsest * growth ** np.arange(levels)).astype(np.int64)


def hashgrid(levels: Annotated[int, Range(ge=1, le=64)] = 12, features: Annotated[int, Range(ge=1, le=32)] = 2,
             log2_rows: Annotated[int, Range(ge=3, le=28)] = 16, coarsest: Annotated[int, Range(ge=1, le=2**20)] = 16,
             finest: Annotated[int, Range(ge=1, le=2**20)] = 256,
             interpolation: Literal["linear", "smoothstep", "quintic"] = "linear", init_scale: Positive = 1e-4,
             unroll: Count = 1) -> Encoding:
  """The hash grid of Instant-NGP over the box [-1, 1]^3; points outside it are moved onto its faces.

  A level whose nodes fit the rows is stored densely and is exact; above, nodes share rows by a spatial hash and
  nothing resolves the collisions but training. `linear` is continuous; `smoothstep` has continuous first
  derivatives, `quintic` second ones, both zero at the nodes, so that levels are offset by half a cell.

  Args:
    levels, features: their product is the encoding's width.
    log2_rows: the binary logarithm of the rows of a level.
    coarsest, finest: cells per axis of the first and the last level.
    init_scale: the table starts uniform in [-init_scale, init_scale].
    unroll: levels in one turn of the loop. 1 compiles fast and takes least memory, on accelerators the right choice;
      on a CPU, which runs the independent levels side by side, `levels` is 2 to 3 times faster.

  Raises:
    UsageFault: `finest` below `coarsest`.

  Source: Instant-NGP (Müller et al. 2022), section 3; smooth interpolation: its appendix A.

  >>> grid = hashgrid(levels=2, features=4, log2_rows=10)
  >>> grid.apply(grid.init(jax.random.key(0)), jnp.zeros((5, 3))).shape
  (5, 8)
  """
  if finest < coarsest:
    raise UsageFault("hashgrid.finest", f"{finest} is below coarsest = {coarsest}", "give it at least as many cells")
  rows = 2 ** log2_rows
  cells, strides, dense = _layout(resolutions(levels, coarsest, finest), rows, smooth=interpolation != "linear")

  def init(key):
    return {"table": jax.random.uniform(key, (levels, features, rows), jnp.float32, -init_scale, init_scale)}

  def apply(params, x, level=None):
    u = _unit_box(x)

    def one(_, layer):
      table, n, stride, is_dense = layer
      index, weight = _corners(u, n.astype(u.dtype), stride, is_dense, rows, interpolation)
      return None, jnp.stack([_interpolate(table[f], index, weight) for f in range(features)])

    _, out = jax.lax.scan(one, None, (params["table"], cells, strides, dense), unroll=min(unroll, levels))
    if level is not None:
      out = out * fade(level, levels).astype(out.dtype)[:, None, None]
    return out.reshape(levels * features, -1).T.reshape(*x.shape[:-1], levels * features)

  return Encoding(init, apply, levels * features, levels)


def _layout(cells: np.ndarray, rows: int, smooth: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Per level: cells per axis, the three coordinates' multipliers (strides or primes), whether it is dense."""
  nodes = cells + (2 if smooth else 1)
  dense = nodes ** 3 <= rows
  strides = np.stack([np.ones_like(nodes), nodes, nodes ** 2], axis=1)
  strides = np.where(dense[:, None], strides, np.asarray(PRIMES))
  return cells.astype(np.float32), strides.astype(np.uint32), dense


def _unit_box(x: Float[Array, "*b 3"]) -> Float[Array, "3 n"]:
  """Points of [-1, 1]^3 as coordinates in [0, 1], at least float32: at 1,024 cells bfloat16 is off by two."""
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return jnp.clip((x.reshape(-1, 3).T + 1) / 2, 0, 1)


def _corners(u: Float[Array, "3 n"], cells: jax.Array, stride: jax.Array, dense: jax.Array, rows: int,
             interpolation: str) -> tuple[Int[Array, "8 n"], Float[Array, "8 n"]]:
  """Row and interpolation weight of the eight nodes around each point, at one level.

  The mask keeps the rows of even non-finite points in bounds.
  """
  smooth = interpolation != "linear"
  position = u * cells + (0.5 if smooth else 0.0)
  low = jnp.clip(jnp.floor(position), 0, cells - (0 if smooth else 1))
  high_weight = EASE[interpolation](position - low)
  weights = (1 - high_weight, high_weight)
  node = low.astype(jnp.uint32) * stride[:, None]
  nodes = (node, node + stride[:, None])
  index, weight = [], []
  for corner in CORNERS:
    a, b, c = (nodes[side][axis] for axis, side in enumerate(corner))
    index.append(jnp.where(dense, a + b + c, a ^ b ^ c) & jnp.uint32(rows - 1))
    weight.append(math.prod(weights[side][axis] for axis, side in enumerate(corner)))
  return jnp.stack(index).astype(jnp.int32), jnp.stack(weight)


def _interpolate(column: Float[Array, " rows"], index: Int[Array, "8 n"],
                 weight: Float[Array, "8 n"]) -> Float[Array, " n"]:
  return jnp.sum(column.at[index].get(mode="promise_in_bounds") * weight, axis=0)
