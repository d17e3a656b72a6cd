"""Features of points gathered on the three coordinate planes that they are seen against."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields3d.encodings.interpolation import unit_box
from fields3d.encodings.planes import PLANES


def scatter_to_planes(features: Float[Array, "r p f"], x: Float[Array, "r p 3"],
                      cells: int) -> Float[Array, "r 3 cells cells f"]:
  """The mean feature of the points of [-1, 1]^3 that project into each cell of each plane; 0 where none does.

  Planes are over (x, y), (x, z) and (y, z); the second coordinate of a pair counts the rows of a plane. The order of the
  points does not matter, but for the rounding of sums.

  Source: Peng et al. 2020, "Convolutional Occupancy Networks", section 3.1.

  >>> scatter_to_planes(jnp.ones((1, 2, 1)), jnp.asarray([[[0.5, 0.5, 0.5], [0.6, -0.5, 0.5]]]), 2)[0, 0, :, :, 0].tolist()
  [[0.0, 1.0], [0.0, 1.0]]
  """
  r, p, f = features.shape
  index = _index(x, cells).reshape(r, 3 * p)
  repeated = jnp.broadcast_to(features[:, None], (r, 3, p, f)).reshape(r, 3 * p, f)
  add = jax.vmap(lambda values, index: jax.ops.segment_sum(values, index, 3 * cells * cells))
  total, count = add(repeated, index), add(jnp.ones(index.shape, features.dtype), index)
  return (total / jnp.maximum(count, 1)[..., None]).reshape(r, 3, cells, cells, f)


def other_planes(planes: Float[Array, "r 3 n n f"]) -> Float[Array, "r 3 n n 2f"]:
  """At each cell of each plane, the means of the two other planes along the line that it shares with them.

  A plane alone knows nothing of the third coordinate; so convolutions on planes become aware of space.

  Source: Wang et al. 2023, "Rodin", section 3.2 (roll-out with 3D-aware convolution).

  >>> other_planes(jnp.ones((1, 3, 4, 4, 5))).shape
  (1, 3, 4, 4, 10)
  """
  out = []
  for i, (a, b) in enumerate(PLANES):
    along_rows, along_columns = (_profile(planes, i, axis) for axis in (b, a))
    shape = (*planes.shape[:1], *planes.shape[2:])
    out.append(jnp.concatenate([jnp.broadcast_to(along_rows[:, :, None], shape),
                                jnp.broadcast_to(along_columns[:, None], shape)], axis=-1))
  return jnp.stack(out, axis=1)


def _profile(planes: Float[Array, "r 3 n n f"], own: int, axis: int) -> Float[Array, "r n f"]:
  """The plane besides `own` that has this axis, averaged over its other one."""
  other = next(j for j, axes in enumerate(PLANES) if j != own and axis in axes)
  return jnp.mean(planes[:, other], axis=1 if PLANES[other][0] == axis else 2)


def cell_offsets(x: Float[Array, "r p 3"], cells: int) -> Float[Array, "r p 3"]:
  """Where in its cell a point lies, each coordinate in [-1, 1]: what its cell's index leaves open.

  >>> cell_offsets(jnp.asarray([[[-1.0, 0.25, 0.5]]]), 4).tolist()
  [[[-1.0, 0.0, -1.0]]]
  """
  u = unit_box(x) * cells
  return (2 * (u - jnp.clip(jnp.floor(u), 0, cells - 1)) - 1).T.reshape(x.shape)


def at_planes(planes: Float[Array, "r 3 n n f"], x: Float[Array, "r p 3"]) -> Float[Array, "r 3 p f"]:
  """What each plane holds in the cell that each point of [-1, 1]^3 projects into: `scatter_to_planes` read backwards.

  >>> at_planes(jnp.arange(12.0).reshape(1, 3, 2, 2, 1), jnp.asarray([[[0.5, -0.5, 0.5]]]))[0, :, 0, 0].tolist()
  [1.0, 7.0, 10.0]
  """
  r, _, n, _, f = planes.shape
  read = lambda cells, index: cells.at[index].get(mode="promise_in_bounds")
  return jax.vmap(read)(planes.reshape(r, -1, f), _index(x, n))


def cell_centres(x: Float[Array, "r p 3"], cells: int) -> Float[Array, "r p 3"]:
  """The centre of the cell of [-1, 1]^3, `cells` along each axis, that each point lies in.

  >>> cell_centres(jnp.asarray([[[-1.0, 0.25, 1.0]]]), 2).tolist()
  [[[-0.5, 0.5, 0.5]]]
  """
  return x - cell_offsets(x, cells) / cells


def _index(x: Float[Array, "r p 3"], cells: int) -> Int[Array, "r 3 p"]:
  """Where each point's cell stands among its row's (3, cells, cells), for each plane.

  Rows are never mixed, so that a device that holds some of them needs no other's.
  """
  r, p, _ = x.shape
  cell = jnp.clip(jnp.floor(unit_box(x) * cells).astype(jnp.int32), 0, cells - 1).reshape(3, r, p)
  return jnp.stack([(i * cells + cell[b]) * cells + cell[a] for i, (a, b) in enumerate(PLANES)], axis=1)
