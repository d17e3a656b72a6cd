"""Tasks that have latents: what a prior may be learned over."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fields3d.core.config import Table
from fields3d.core.errors import UsageFault
from fields3d.core.task import Task
from fields3d.tasks.fit_sdf import fit_sdf
from fields3d.tasks.point_autoencoder import point_autoencoder
from fields3d.tasks.radiance_codes import radiance_codes
from fields3d.tasks.representations import point_cloud, voxel_grid
from fields3d.tasks.shape_vae import shape_vae

BASES: Table = {
    "fit_sdf": fit_sdf,
    "shape_vae": shape_vae,
    "point_autoencoder": point_autoencoder,
    "radiance_codes": radiance_codes,
    "point_cloud": point_cloud,
    "voxel_grid": voxel_grid,
}


def init_base(base: Task, key: jax.Array) -> tuple[Mapping, Any]:
  """Parameters of a base, and what it keeps beside them at the end of all of its schedules: what learns over it does not train it."""
  params, extra = base.init(key)
  return params, base.refresh(params, extra, None, None, jnp.int32(2**31 - 1))


def latents_of(base: Task, params: Mapping, extra, batch: Mapping, key: jax.Array) -> jax.Array:
  """The latents of a batch's shapes: those that it brings ("latents", see `data.encoded`), else as `base` gives them.

  Raises:
    UsageFault: the batch brings latents of another shape than the base's.
  """
  if "latents" not in batch:
    return jax.lax.stop_gradient(base.predict["latents"](params, extra, batch, key))
  want = jax.eval_shape(lambda: base.predict["sample"](params, extra, key, 1)).shape[1:]
  if batch["latents"].shape[1:] != want:
    raise UsageFault("--config.data.path", f"holds latents {batch['latents'].shape[1:]}, the base's are {want}",
                     "encode with the run that the base is of")
  return batch["latents"]
