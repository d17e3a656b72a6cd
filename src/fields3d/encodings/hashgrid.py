"""Multiresolution hash grid: tables of features at several resolutions, interpolated at each point.

The table is features-first, (levels, features, rows), points are the minor dimension of everything, and levels are a
`lax.scan`. On a TPU a minor dimension of two features would be padded to 128 lanes; on a CPU one 1-D gather over all
eight corners (in the gradient, one 1-D scatter) is several times faster than rows of features. The backward pass
computes rows and weights again rather than remember 64 bytes a point and level. Derivatives of any order and mode are
plain autodiff: gather and scatter are each other's transpose.

On a mesh (`core.placement`) the lookup is cut by hand, since the compiler gathers all devices' points to each device. The
step hands in the table as copies, (devices along `data`, levels, features, rows), of which a device looks up its own points
in its own: nothing is sent, and the step sums the copies' gradients once, however often the table was asked. A table that is
cut over `model` by levels has each device look up its levels, and gathers the features; by rows, each device adds up
the corners whose rows it has, and the features are summed. Points that `data` does not divide all look into the first copy.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from fields3d.core.config import Count, Positive, Range
from fields3d.core.errors import UsageFault
from fields3d.core.placement import Placement, placement
from fields3d.encodings.encoding import Encoding, fade
from fields3d.encodings.interpolation import corners, interpolate, unit_box

PRIMES = (1, 2654435761, 805459861)


def resolutions(levels: int, coarsest: int, finest: int) -> np.ndarray:
  """Cells per axis of each level: a geometric progression that ends exactly at `finest`, rounded.

  Source: Instant-NGP (Müller et al. 2022), equations 2 and 3 (which round down).

  >>> resolutions(4, 16, 128).tolist()
  [16, 32, 64, 128]
  """
  growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
  return np.round(coarsest * growth ** np.arange(levels)).astype(np.int64)


def check_cells(name: str, levels: int, coarsest: int, finest: int) -> None:
  """Cells must not fall from level to level, and one level has one number of them.

  Raises:
    UsageFault: `finest` below `coarsest`, or another with one level.
  """
  if finest < coarsest:
    raise UsageFault(f"{name}.finest", f"{finest} is below coarsest = {coarsest}", "give it at least as many cells")
  if levels == 1 and finest != coarsest:
    raise UsageFault(f"{name}.finest", f"{finest} is not coarsest = {coarsest}, and there is one level", "give both alike, or more levels")


def hashgrid(levels: Annotated[int, Range(ge=1, le=64)] = 12, features: Annotated[int, Range(ge=1, le=32)] = 2,
             log2_rows: Annotated[int, Range(ge=3, le=28)] = 16, coarsest: Annotated[int, Range(ge=1, le=2**20)] = 16,
             finest: Annotated[int, Range(ge=1, le=2**20)] = 256,
             interpolation: Literal["linear", "smoothstep", "quintic"] = "linear", init_scale: Positive = 1e-4,
             frozen: tuple[Annotated[int, Range(ge=0, le=63)], ...] = (), antialias: bool = False,
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
    frozen: the levels, counted from 0, whose tables get no gradient.
    antialias: where `apply` is given a radius, levels whose cells are finer than the cone are scaled down.
    unroll: levels in one turn of the loop. 1 compiles fast and takes least memory, on accelerators the right choice;
      on a CPU, which runs the independent levels side by side, `levels` is fastest.

  Raises:
    UsageFault: see `check_cells`; or a frozen level that is none.

  Source: Instant-NGP (Müller et al. 2022), section 3; smooth interpolation: its appendix A; antialiasing: Zip-NeRF
    (Barron et al. 2023), section 3.1, with one isotropic Gaussian of the cone's second moments at each point.

  >>> grid = hashgrid(levels=2, features=4, log2_rows=10)
  >>> grid.apply(grid.init(jax.random.key(0)), jnp.zeros((5, 3))).shape
  (5, 8)
  """
  check_cells("hashgrid", levels, coarsest, finest)
  if max(frozen, default=0) >= levels:
    raise UsageFault("hashgrid.frozen", f"level {max(frozen)} does not exist", f"the last one is {levels - 1}")
  rows = 2 ** log2_rows
  held = np.isin(np.arange(levels), frozen)[:, None, None]
  cells, strides, dense = layout(resolutions(levels, coarsest, finest), rows, smooth=interpolation != "linear")

  def init(key):
    return {"table": jax.random.uniform(key, (levels, features, rows), jnp.float32, -init_scale, init_scale)}

  def lookup(table, layers, u, first_row):
    def one(columns, u, n, stride, is_dense):
      index, weight = corners(u, n.astype(u.dtype), stride, is_dense, rows, interpolation)
      if columns.shape[1] < rows:  # it has some of the rows
        index = index - first_row
        here = (index >= 0) & (index < columns.shape[1])
        index, weight = jnp.where(here, index, 0), jnp.where(here, weight, 0)
      return interpolate(columns, index, weight)

    one = jax.checkpoint(one, prevent_cse=False)
    return jax.lax.scan(lambda _, layer: (None, one(layer[0], u, *layer[1:])), None, (table, *layers),
                        unroll=min(unroll, len(table)))[1]

  @functools.partial(jax.jit, static_argnums=4)  # outside of any other, so that a call from the prompt does not compile each time
  def place_and_apply(params, x, level, radius, place):
    u, table = unit_box(x), params["table"]
    if frozen:
      table = jnp.where(held.reshape((1,) * (table.ndim - 3) + held.shape), jax.lax.stop_gradient(table), table)
    layers = (cells, strides, dense)
    if table.ndim == 3:
      out = lookup(table, layers, u, 0)
    elif u.shape[1] % place.mesh.shape["data"]:
      out = lookup(table[0], layers, u, 0)
    else:
      out = _cut(lookup, table, layers, u, place)
    if level is not None:
      out = out * fade(level, levels).astype(out.dtype)[:, None, None]
    if antialias and radius is not None:
      out = out * _blur(radius.reshape(-1).astype(out.dtype), cells)[:, None]
    return out.reshape(levels * features, -1).T.reshape(*x.shape[:-1], levels * features)

  def apply(params, x, level=None, radius=None):
    return place_and_apply(params, x, level, radius, placement())

  return Encoding(init, apply, levels * features, levels)


def _cut(lookup: Callable, table: Float[Array, "d l f rows"], layers: tuple, u: Float[Array, "3 n"],
         place: Placement) -> Float[Array, "l f n"]:
  """The lookup with points cut over the data axis, and the table over the model axis where it lives there."""
  axis = place.cut_axis(table.shape[1:])
  over = lambda which: "model" if axis == which else None

  def own(table, layers, u):
    if axis is not None:  # made each device's own here, so that the sum of its gradient stands outside of the loop
      u = jax.lax.pcast(u, "model", to="varying")
    if axis != 2:
      return lookup(table[0], layers, u, 0)
    return jax.lax.psum(lookup(table[0], layers, u, jax.lax.axis_index("model") * table.shape[3]), "model")

  out = jax.shard_map(own, mesh=place.mesh, in_specs=(P("data", over(0), over(1), over(2)), P(over(0)), P(None, "data")),
                      out_specs=P(over(0), over(1), "data"))(table, layers, u)
  return jax.lax.with_sharding_constraint(out, NamedSharding(place.mesh, P(None, None, "data"))) if axis in (0, 1) else out


def layout(cells: np.ndarray, rows: int, smooth: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Per level: cells per axis, the three coordinates' multipliers (strides or primes), whether it is dense."""
  nodes = cells + (2 if smooth else 1)
  dense = nodes ** 3 <= rows
  strides = np.stack([np.ones_like(nodes), nodes, nodes ** 2], axis=1)
  strides = np.where(dense[:, None], strides, np.asarray(PRIMES))
  return cells.astype(np.float32), strides.astype(np.uint32), dense


def _blur(radius: Float[Array, " n"], cells: np.ndarray) -> Float[Array, "levels n"]:
  """What is left of a level's features under a Gaussian of a cone's width: the share of it inside one cell.

  A disc has the standard deviation radius / 2 along each axis, and sigma = radius / 4 where the box is [0, 1]^3.

  Source: Zip-NeRF (Barron et al. 2023), section 3.1: erf(1 / sqrt(8 sigma^2 n^2)).
  """
  in_cells = radius[None] * cells.astype(radius.dtype)[:, None]
  return jax.scipy.special.erf(np.sqrt(2) / jnp.maximum(in_cells, 1e-6))
