"""Features on the three coordinate planes, at several resolutions: tri-planes add them up, K-planes multiply them."""

import functools
import operator
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Positive, Range
from fields3d.encodings.encoding import Encoding, fade
from fields3d.encodings.hashgrid import check_cells, resolutions
from fields3d.encodings.interpolation import corners, interpolate, unit_box

PLANES = ((0, 1), (0, 2), (1, 2))
Cells = Annotated[int, Range(ge=1, le=2**14)]  # an axis


def triplane(levels: Count = 1, features: Count = 32, coarsest: Cells = 128, finest: Cells = 128,
             init_scale: Positive = 0.1) -> Encoding:
  """The sum of three planes' bilinear features, concatenated over the levels; of the box [-1, 1]^3.

  Args:
    levels, features: their product is the encoding's width.
    coarsest, finest: cells per axis of the first and the last level.
    init_scale: the planes start uniform in [-init_scale, init_scale].

  Raises:
    UsageFault: see `check_cells`.

  Source: EG3D (Chan et al. 2022), section 4.1.

  >>> grid = triplane(features=4, coarsest=8, finest=8)
  >>> grid.apply(grid.init(jax.random.key(0)), jnp.zeros((5, 3))).shape
  (5, 4)
  """
  return _planes("triplane", levels, features, coarsest, finest, (-init_scale, init_scale), operator.add)


def kplanes(levels: Count = 4, features: Count = 16, coarsest: Cells = 64, finest: Cells = 512) -> Encoding:
  """The product of three planes' bilinear features, concatenated over the levels; of the box [-1, 1]^3.

  A product of planes is local where a sum is not. The planes start uniform in [0.1, 0.5], so that no factor is 0.

  Args:
    levels, features: their product is the encoding's width.
    coarsest, finest: cells per axis of the first and the last level.

  Raises:
    UsageFault: see `check_cells`.

  Source: K-Planes (Fridovich-Keil et al. 2023), equation 1, and section 3.2 for the scales.

  >>> kplanes(levels=2, features=4).dim
  8
  """
  return _planes("kplanes", levels, features, coarsest, finest, (0.1, 0.5), operator.mul)


def _planes(name: str, levels: int, features: int, coarsest: int, finest: int, start: tuple[float, float],
            join: Callable) -> Encoding:
  check_cells(name, levels, coarsest, finest)
  cells = [int(n) for n in resolutions(levels, coarsest, finest)]

  def init(key):
    keys = jax.random.split(key, levels)
    return {f"planes_{i}": jax.random.uniform(keys[i], (3, features, (n + 1) ** 2), jnp.float32, *start)
            for i, n in enumerate(cells)}

  @functools.partial(jax.checkpoint, static_argnums=2)
  def one(planes, u, n):
    stride = jnp.asarray([1, n + 1], jnp.uint32)
    return functools.reduce(join, [
        interpolate(planes[i], *corners(u[np.asarray(axes)], n, stride, True, (n + 1) ** 2))
        for i, axes in enumerate(PLANES)])

  @jax.jit  # outside of any other, so that a call from the prompt does not compile each time
  def apply(params, x, level=None, radius=None):
    del radius
    u = unit_box(x)
    out = jnp.stack([one(params[f"planes_{i}"], u, n) for i, n in enumerate(cells)])
    if level is not None:
      out = out * fade(level, levels).astype(out.dtype)[:, None, None]
    return out.reshape(levels * features, -1).T.reshape(*x.shape[:-1], levels * features)

  return Encoding(init, apply, levels * features, levels)
