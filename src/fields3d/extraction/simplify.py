"""Fewer triangles for the same surface: edges collapsed in the order of the error that it makes."""

import numpy as np

from fields3d.core.errors import Unavailable
from fields3d.core.types import Mesh

_SIDE = 100.0  # the longest, while edges are collapsed: the library compares errors with numbers of its own
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
  low, high = mesh.vertices.min(0), mesh.vertices.max(0)
  middle, scale = (low + high) / 2, (high - low).max() / _SIDE or 1.0
  vertices, triangles = fast_simplification.simplify((mesh.vertices - middle) / scale, mesh.faces.astype(np.int32),
                                                     target_count=faces, agg=AGGRESSIVENESS)
  return Mesh(np.asarray(vertices, np.float64) * scale + middle, np.asarray(triangles, np.int64))
