"""Points looked up on three coordinate planes of their own row's: what a generator made, one triple for each code."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.encodings.interpolation import corners, interpolate, unit_box
from fields3d.encodings.planes import PLANES


def lookup_planes(planes: Float[Array, "r 3 f n n"], x: Float[Array, "r p 3"]) -> Float[Array, "r p f"]:
  """The sum of the three planes' bilinear features at points of [-1, 1]^3; points outside are moved onto its faces.

  Args:
    planes: of each row, over (x, y), (x, z) and (y, z); the second coordinate of a pair counts the rows of a plane. Nodes
      lie on the ends, so that n nodes make n - 1 cells.

  Source: EG3D (Chan et al. 2022), section 4.1.

  >>> ramp = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, 5), (1, 3, 1, 5, 5))  # each plane: its first coordinate
  >>> lookup_planes(ramp, jnp.array([[[0.25, -0.5, 0.75]]])).tolist()
  [[[0.0]]]
  """
  r, _, f, n, _ = planes.shape
  columns = planes.transpose(2, 0, 1, 3, 4).reshape(f, -1)
  u, own = unit_box(x), jnp.repeat(jnp.arange(r, dtype=jnp.int32), x.shape[1])
  stride, total = jnp.asarray([1, n], jnp.uint32), 0.0
  for i, axes in enumerate(PLANES):
    index, weight = corners(u[np.asarray(axes)], n - 1, stride, True, n * n)
    total += interpolate(columns, index + ((3 * own + i) * (n * n))[None, :], weight)
  return total.T.reshape(*x.shape[:-1], f)
