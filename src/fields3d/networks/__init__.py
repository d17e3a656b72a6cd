"""Networks: what stands between encoded points and a field's values, and what denoises."""

from fields3d.core.config import Table
from fields3d.networks.discriminator import discriminator
from fields3d.networks.mlp import mlp
from fields3d.networks.plane_transformer import plane_transformer
from fields3d.networks.point_adversaries import code_critic, code_generator, point_critic, point_generator
from fields3d.networks.pointwise import pointwise
from fields3d.networks.projected import projected
from fields3d.networks.pvcnn import pvcnn
from fields3d.networks.residual_mlp import residual_mlp
from fields3d.networks.set_transformer import set_transformer
from fields3d.networks.upsampler import upsampler
from fields3d.networks.voxel_adversaries import voxel_critic, voxel_generator
from fields3d.networks.voxel_transformer import voxel_transformer
from fields3d.networks.voxel_unet import voxel_unet

NETWORKS: Table = {
    "mlp": mlp,
}

DENOISERS: Table = {
    "plane_transformer": plane_transformer,
    "pointwise": pointwise,
    "pvcnn": pvcnn,
    "residual_mlp": residual_mlp,
    "set_transformer": set_transformer,
    "voxel_transformer": voxel_transformer,
    "voxel_unet": voxel_unet,
}

DISCRIMINATORS: Table = {
    "convolutional": discriminator,
    "projected": projected,
}

UPSAMPLERS: Table = {
    "styled": upsampler,
}

GENERATORS: Table = {
    "voxel_generator": voxel_generator,
    "point_generator": point_generator,
    "code_generator": code_generator,
}

CRITICS: Table = {
    "voxel_critic": voxel_critic,
    "point_critic": point_critic,
    "code_critic": code_critic,
}
