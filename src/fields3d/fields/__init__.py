"""Neural fields: from points, and a latent code, to signed distance and colour; radiance fields, to absorption and colour.

Autoencoders of shapes: from points on a surface to a latent set, and from it to a signed distance at any point.
"""

from fields3d.core.config import Table
from fields3d.fields.anchored_set import anchored_set
from fields3d.fields.deepsdf import deepsdf
from fields3d.fields.encoded import encoded
from fields3d.fields.generated_planes import generated_planes
from fields3d.fields.latent_set import latent_set
from fields3d.fields.modulated import modulated
from fields3d.fields.nerf import nerf
from fields3d.fields.neus import neus
from fields3d.fields.ngp import ngp
from fields3d.fields.proposal import proposal_density
from fields3d.fields.siren import siren
from fields3d.fields.styled import style_layers, style_planes
from fields3d.fields.tri_plane import tri_plane
from fields3d.fields.volsdf import volsdf

FIELDS: Table = {
    "deepsdf": deepsdf,
    "encoded": encoded,
    "siren": siren,
    "generated_planes": generated_planes,
    "modulated": modulated,
}

RADIANCE_FIELDS: Table = {
    "ngp": ngp,
    "nerf": nerf,
    "proposal": proposal_density,
    "neus": neus,
    "volsdf": volsdf,
}

AUTOENCODERS: Table = {
    "anchored_set": anchored_set,
    "latent_set": latent_set,
    "tri_plane": tri_plane,
}

STYLED_FIELDS: Table = {
    "style_planes": style_planes,
    "style_layers": style_layers,
}
