"""Datasets by name."""

from fields3d.core.config import Table
from fields3d.data.image_scenes import SCENES
from fields3d.data.procedural import procedural
from fields3d.data.rendered import rendered
from fields3d.data.shape_sets import deepsdf, meshes, pack, prepared
from fields3d.data.shape_views import shape_views
from fields3d.data.voxels import voxels

DATASETS: Table = {
    "procedural": procedural,
    "rendered": rendered,
    "shape_views": shape_views,
    "voxels": voxels,
    "meshes": meshes,
    "pack": pack,
    "deepsdf": deepsdf,
    "prepared": prepared,
    **SCENES,
}
