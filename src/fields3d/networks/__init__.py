"""Networks: what stands between encoded points and a field's values, and what denoises."""

from fields3d.core.config import Table
from fields3d.networks.discriminator import discriminator
from fields3d.networks.mlp import mlp
from fields3d.networks.residual_mlp import residual_mlp
from fields3d.networks.set_transformer import set_transformer
from fields3d.networks.upsampler import upsampler

NETWORKS: Table = {
    "mlp": mlp,
}

DENOISERS: Table = {
    "residual_mlp": residual_mlp,
    "set_transformer": set_transformer,
}

DISCRIMINATORS: Table = {
    "convolutional": discriminator,
}

UPSAMPLERS: Table = {
    "styled": upsampler,
}
