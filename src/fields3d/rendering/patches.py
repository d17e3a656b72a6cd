"""Whole square pictures and patches of them, inside jit: places on the image, their rays, even sections of these.

Cameras are those of `shape_views`: pinholes without distortion whose picture is square and centred. A place on the image is
(x, y) in [-1, 1]^2, x to the right and y down, pixels being areas: a picture of k pixels a side has its middles at
(2 i + 1) / k - 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fields3d.core.numerics import norm


class Patches(NamedTuple):
  """centre (b, 2) and scale (b,) of square parts of the image, scale 1 being all of it."""
  centre: jax.Array
  scale: jax.Array


def whole(num: int) -> Patches:
  """The whole image, `num` times."""
  return Patches(jnp.zeros((num, 2)), jnp.ones(num))


def random_patches(key: jax.Array, num: int, least: jax.Array | float) -> Patches:
  """Patches whose scale is uniform in [least, 1], anywhere within the image.

  Source: GRAF (Schwarz et al. 2020), section 3.2.1.

  >>> bool(jnp.all(random_patches(jax.random.key(0), 2, 1.0).centre == 0))
  True
  """
  scale_key, centre_key = jax.random.split(key)
  scale = least + (1 - least) * jax.random.uniform(scale_key, (num,))
  centre = (1 - scale)[:, None] * jax.random.uniform(centre_key, (num, 2), minval=-1.0, maxval=1.0)
  return Patches(centre, scale)


def places(patches: Patches, side: int) -> Float[Array, "b side 2"]:
  """Of the pixels' middles along x and along y (the last axis); the pixel (row i, column j) is at (x_j, y_i)."""
  middle = jnp.asarray((2 * np.arange(side) + 1) / side - 1, jnp.float32)
  return patches.centre[:, None] + patches.scale[:, None, None] * middle[None, :, None]


def cut_out(pictures: Float[Array, "b h w c"], patches: Patches, side: int) -> Float[Array, "b side side c"]:
  """The pictures' bilinear values at the patches' pixels: a whole picture at half its size is the mean of 2 x 2 pixels.

  >>> cut_out(jnp.arange(4.0).reshape(1, 2, 2, 1), whole(1), 1).ravel().tolist()
  [1.5]
  """
  at = places(patches, side)

  def weights(place, num):
    pixel = jnp.clip((place + 1) / 2 * num - 0.5, 0, num - 1)
    return jax.nn.relu(1 - jnp.abs(pixel[..., None] - jnp.arange(num, dtype=jnp.float32)[None, None]))

  rows, columns = weights(at[..., 1], pictures.shape[1]), weights(at[..., 0], pictures.shape[2])
  return jnp.einsum("bih,bjw,bhwc->bijc", rows, columns, pictures, precision=jax.lax.Precision.HIGHEST)


def mirrored(chosen: Bool[Array, " b"], rgb: Float[Array, "b h w 3"], alpha: Float[Array, "b h w"],
             pose: Float[Array, "b 3 4"]) -> dict[str, jax.Array]:
  """{"rgb", "alpha", "pose"} of pictures of which the chosen ones show their shape's mirror image, x being -x.

  Exact: the mirrored camera sees the mirrored shape as the picture turned left to right.

  >>> still = mirrored(jnp.array([False]), jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2)), jnp.ones((1, 3, 4)))
  >>> bool(jnp.all(still["pose"] == 1))
  True
  """
  sides = np.outer(np.float32([-1, 1, 1]), np.float32([-1, 1, 1, 1]))
  flags = lambda x: chosen.reshape(-1, *(1,) * (x.ndim - 1))
  return {"rgb": jnp.where(flags(rgb), rgb[:, :, ::-1], rgb), "alpha": jnp.where(flags(alpha), alpha[:, :, ::-1], alpha),
          "pose": jnp.where(flags(pose), pose * sides[None], pose)}


def patch_rays(pose: Float[Array, "b 3 4"], half_view: float, patches: Patches,
               side: int) -> tuple[Float[Array, "b n 3"], Float[Array, "b n 3"]]:
  """Origins and unit directions of the side^2 rays of each patch, row by row.

  Args:
    pose: camera to model. half_view: half the angle of view, radians.
  """
  at = places(patches, side) * np.float32(np.tan(half_view))
  x = jnp.broadcast_to(at[:, None, :, 0], (len(at), side, side))
  y = jnp.broadcast_to(at[:, :, None, 1], x.shape)
  local = jnp.stack([x, -y, -jnp.ones_like(x)], axis=-1).reshape(len(at), -1, 3)
  d = jnp.einsum("bij,bnj->bni", pose[:, :, :3], local / norm(local)[..., None], precision=jax.lax.Precision.HIGHEST)
  return jnp.broadcast_to(pose[:, None, :, 3], d.shape), d


def even_sections(near: Float[Array, "*b"], far: Float[Array, "*b"], num: int) -> Float[Array, "*b s"]:
  """The ends, num + 1 of them, of equal sections from near to far.

  >>> even_sections(jnp.array(2.0), jnp.array(4.0), 2).tolist()
  [2.0, 3.0, 4.0]
  """
  share = jnp.linspace(0, 1, num + 1, dtype=near.dtype)
  return near[..., None] + (far - near)[..., None] * share.reshape((1,) * near.ndim + (-1,))
