"""Linear and smooth interpolation between the nodes of a grid whose values stand features-first, (features, rows)."""

import functools
import itertools
import math
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields3d.encodings.encoding import at_least_float32

EASE = {
    "linear": lambda t: t,
    "smoothstep": lambda t: t * t * (3 - 2 * t),
    "quintic": lambda t: t * t * t * (10 - 15 * t + 6 * t * t),
}


def unit_box(x: Float[Array, "*b 3"]) -> Float[Array, "3 n"]:
  """Points of [-1, 1]^3 as coordinates in [0, 1], at least float32: at 1,024 cells bfloat16 is off by two."""
  return jnp.clip((at_least_float32(x).reshape(-1, 3).T + 1) / 2, 0, 1)


def corners(u: Float[Array, "d n"], cells: jax.Array | float, stride: jax.Array, dense: jax.Array | bool, rows: int,
            interpolation: str = "linear") -> tuple[Int[Array, "c n"], Float[Array, "c n"]]:
  """Row and weight of the c = 2^d nodes around each point.

  Args:
    u: coordinates in [0, 1].
    cells: along each axis.
    stride: (d,) uint32, what each coordinate of a node is multiplied by.
    dense: whether the products are added; else they are hashed: combined by exclusive or, modulo `rows`.
    rows: a power of two where not dense. Rows stay below it even where points are not finite.
    interpolation: a name of EASE; all but "linear" offset the nodes by half a cell.
  """
  smooth = interpolation != "linear"
  position = u * cells + (0.5 if smooth else 0.0)
  low = jnp.clip(jnp.floor(position), 0, cells - (0 if smooth else 1))
  high_weight = EASE[interpolation](position - low)
  weights = (1 - high_weight, high_weight)
  node = low.astype(jnp.uint32) * stride[:, None]
  nodes = (node, node + stride[:, None])
  index, weight = [], []
  for corner in itertools.product((0, 1), repeat=len(u)):
    terms = [nodes[side][axis] for axis, side in enumerate(corner)]
    added, hashed = functools.reduce(operator.add, terms), functools.reduce(operator.xor, terms)
    index.append(jnp.where(dense, jnp.minimum(added, jnp.uint32(rows - 1)), hashed & jnp.uint32(rows - 1)))
    weight.append(math.prod(weights[side][axis] for axis, side in enumerate(corner)))
  return jnp.stack(index).astype(jnp.int32), jnp.stack(weight)


def interpolate(columns: Float[Array, "f rows"], index: Int[Array, "c n"],
                weight: Float[Array, "c n"]) -> Float[Array, "f n"]:
  """The weighted sums of the columns at the corners.

  Features i and i + f / 2 travel as one complex number: on a CPU, a random access to eight bytes costs about what one
  to four bytes costs.

  >>> interpolate(jnp.eye(3), jnp.asarray([[0, 2], [1, 1]]), jnp.full((2, 2), 0.5)).tolist()
  [[0.5, 0.0], [0.5, 0.5], [0.0, 0.5]]
  """
  half = len(columns) // 2
  pairs = [jax.lax.complex(columns[i], columns[half + i]) for i in range(half)] + list(columns[2 * half:])
  sums = [jnp.sum(pair.at[index.ravel()].get(mode="promise_in_bounds").reshape(index.shape) * weight, axis=0)
          for pair in pairs]
  return jnp.stack([*map(jnp.real, sums[:half]), *map(jnp.imag, sums[:half]), *sums[half:]])
