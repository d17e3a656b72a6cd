"""Any shape that a task may hand out, as a mesh, so that every evaluator and exporter serves every family."""

from fields3d.core.config import Count
from fields3d.core.errors import BadData
from fields3d.core.types import Field, Mesh, PointCloud, VoxelGrid
from fields3d.extraction.marching_cubes import marching_cubes
from fields3d.extraction.sparse import extract


def as_mesh(shape: Mesh | VoxelGrid | Field | PointCloud, resolution: Count) -> Mesh:
  """The surface of a shape: a mesh as it is, the zero level of a grid, or that of a field (sparse, with colours).

  Args:
    resolution: nodes along the longest side of a field's bounds; a grid keeps its own.

  Raises:
    BadData: points, which have no surface; or no zero crossing.

  >>> import numpy as np
  >>> ball = Field(lambda x: np.linalg.norm(x, axis=-1) - 0.5, np.array([[-1, -1, -1], [1, 1, 1]]))
  >>> len(as_mesh(ball, 9).faces)
  104
  """
  match shape:
    case Mesh():
      return shape
    case VoxelGrid():
      return marching_cubes(shape.values, shape.bounds)
    case Field():
      return extract(shape, resolution)[0]
    case PointCloud():
      raise BadData("point cloud", f"{len(shape.points)} points have no surface", "fit a field to them first")
  raise TypeError(f"not a shape: {type(shape).__name__}")
