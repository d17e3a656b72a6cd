"""Rendering: samples along rays, the volume integral, surfaces, pictures. Fields come as callables."""

from fields3d.core.config import Table
from fields3d.rendering.hierarchical import hierarchical
from fields3d.rendering.packed import packed
from fields3d.rendering.proposal import proposal

RENDERERS: Table = {
    "packed": packed,
    "hierarchical": hierarchical,
    "proposal": proposal,
}
