"""Tasks that have latents: what a prior may be learned over."""

from fields3d.core.config import Table
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
