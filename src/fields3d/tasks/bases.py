"""Tasks that have latents: what a prior may be learned over."""

from fields3d.core.config import Table
from fields3d.tasks.fit_sdf import fit_sdf
from fields3d.tasks.radiance_codes import radiance_codes
from fields3d.tasks.shape_vae import shape_vae

BASES: Table = {
    "fit_sdf": fit_sdf,
    "shape_vae": shape_vae,
    "radiance_codes": radiance_codes,
}
