"""Tasks: what is learned, by which losses, and what can be asked of it afterwards."""

from fields3d.core.config import Table
from fields3d.tasks.adversarial_radiance import adversarial_radiance
from fields3d.tasks.fit_radiance import fit_radiance
from fields3d.tasks.fit_sdf import fit_sdf
from fields3d.tasks.latent_gan import latent_gan
from fields3d.tasks.latent_prior import latent_prior
from fields3d.tasks.point_autoencoder import point_autoencoder
from fields3d.tasks.radiance_codes import radiance_codes
from fields3d.tasks.shape_vae import shape_vae

TASKS: Table = {
    "fit_sdf": fit_sdf,
    "shape_vae": shape_vae,
    "point_autoencoder": point_autoencoder,
    "fit_radiance": fit_radiance,
    "latent_prior": latent_prior,
    "latent_gan": latent_gan,
    "radiance_codes": radiance_codes,
    "adversarial_radiance": adversarial_radiance,
}
