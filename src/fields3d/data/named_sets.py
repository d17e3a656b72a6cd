"""Sets of shapes by name: what a dataset that adds something to their batches is made over."""

from fields3d.core.config import Table
from fields3d.data.procedural import procedural
from fields3d.data.shape_sets import deepsdf, meshes, pack, prepared

SHAPE_SETS: Table = {
    "procedural": procedural,
    "meshes": meshes,
    "pack": pack,
    "deepsdf": deepsdf,
    "prepared": prepared,
}
