"""What an autoencoder of shapes is to a task: from points on a surface to a latent set, and from it to values at points."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fields3d.core.errors import UsageFault
from fields3d.networks.mlp import init_linear
from fields3d.networks.point_sets import farthest_points

WHERE = "--config.task.autoencoder"
LOG_VARIANCE = (-20.0, 10.0)  # bounds of an encoder's log variance, so that no exponential overflows
START = -8.0  # what it starts from: codes that are hardly disturbed, so that the decoder learns from the first step on


@dataclasses.dataclass(frozen=True)
class ShapeAutoencoder:
  """A variational autoencoder of shapes, as pure functions of its parameters.

  init: (key) -> params, a plain nested dict.
  encode: (params, points (r, n, 3)) -> (mean (r, *shape), log_variance (r, *shape)); any number of points on a surface
    in the box [-1, 1]^3, whose order does not matter.
  expand: (params, z (r, *shape)) -> pytree: what of the decoder does not depend on where it is asked.
  query: (params, expanded, x (r, m, 3)) -> (r, m), the value at each point on its own, near the signed distance (negative
    inside).
  shape: of a latent, (tokens, entries a token).
  """
  init: Callable
  encode: Callable
  expand: Callable
  query: Callable
  shape: tuple[int, ...]

  def decode(self, params, z, x):
    """Values at x (r, m, 3) of the shapes of z (r, *shape)."""
    return self.query(params, self.expand(params, z), x)


def init_code(key: jax.Array, width: int, dim: int) -> dict[str, jax.Array]:
  """The layer to mean and log variance of `dim` entries, the log variance near START (a deviation of 0.02).

  >>> init_code(jax.random.key(0), 8, 2)["b"].shape
  (4,)
  """
  layer = init_linear(key, width, 2 * dim)
  return {**layer, "b": layer["b"].at[dim:].add(START)}


def standing(points: jax.Array, latents: int) -> jax.Array:
  """The points (r, latents, 3) of each cloud (r, n, 3) that a set starts from: they cover it evenly.

  Raises:
    UsageFault: fewer points than latents.

  >>> standing(jnp.asarray([[[0.0, 0, 0], [5, 0, 0], [1, 0, 0]]]), 2)[0, :, 0].tolist()
  [5.0, 0.0]
  """
  if points.shape[1] < latents:
    raise UsageFault(f"{WHERE}.latents", f"{latents} latents want as many points, a surface has {points.shape[1]}",
                     "raise --config.data.surface, or lower it")
  return jnp.take_along_axis(points, farthest_points(points, latents)[..., None], axis=1)
