"""Neural fields: from points, and a latent code, to signed distance and colour."""

from fields3d.core.config import Table
from fields3d.fields.deepsdf import deepsdf
from fields3d.fields.encoded import encoded
from fields3d.fields.siren import siren

FIELDS: Table = {
    "deepsdf": deepsdf,
    "encoded": encoded,
    "siren": siren,
}
