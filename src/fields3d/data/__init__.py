"""Datasets by name."""

from fields3d.core.config import Table
from fields3d.data.encoded import encoded
from fields3d.data.image_scenes import SCENES
from fields3d.data.named_sets import SHAPE_SETS
from fields3d.data.rendered import rendered
from fields3d.data.shape_views import shape_views
from fields3d.data.voxels import voxels

DATASETS: Table = {
    **SHAPE_SETS,
    "voxels": voxels,
    "encoded": encoded,
    "rendered": rendered,
    "shape_views": shape_views,
    **SCENES,
}
