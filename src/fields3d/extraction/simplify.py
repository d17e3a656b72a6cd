"""Fewer triangles for the same surface: edges collapsed in the order of the error that it makes."""

import numpy as np

from fields3d.core.errors import Unavailable
from fields3d.core.types import Mesh

AGGRESSIVENESS = 7  # the library's default; it reaches budgets of a hundredth of the faces where a lower one stops


def decimate(mesh: Mesh, faces: int) -> Mesh:
  """The mesh with about `faces` triangles, never fewer than half; itself if it has no more. Colours are dropped.

  A closed mesh of one sheet stays closed as a rule, but thin parts may come to share an edge: inspect the result.

  Args:
    faces: the budget; reached to a few triangles.

  Raises:
    Unavailable: fast-simplification is not installed.

  Source: Garland and Heckbert 1997, Surface simplification using quadric error metrics.
  """
  if len(mesh.faces) <= faces:
    return mesh
  try:
    import fast_simplification
  except ImportError as error:
    raise Unavailable("fast-simplification", "is not installed, and a budget of faces needs it",
                      "pip install 'fields3d[mesh]'") from error
  vertices, triangles = fast_simplification.simplify(mesh.vertices, mesh.faces.astype(np.int32), target_count=faces,
                                                     agg=AGGRESSIVENESS)
  return Mesh(np.asarray(vertices, np.float64), np.asarray(triangles, np.int64))
