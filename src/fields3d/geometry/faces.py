"""What a mesh's faces are one by one: area vectors, areas, normals."""

import numpy as np

from fields3d.core.types import Mesh


def face_cross(mesh: Mesh) -> np.ndarray:
  """(f, 3): twice the area vector of each face."""
  a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
  with np.errstate(over="ignore", invalid="ignore"):
    return np.cross(b - a, c - a)


def face_areas(mesh: Mesh) -> np.ndarray:
  """(f,) areas.

  >>> face_areas(Mesh(np.array([[0., 0, 0], [2, 0, 0], [0, 3, 0]]), np.array([[0, 1, 2]]))).tolist()
  [3.0]
  """
  with np.errstate(over="ignore"):
    return np.linalg.norm(face_cross(mesh), axis=1) / 2


def face_normals(mesh: Mesh) -> np.ndarray:
  """(f, 3) outward unit normals; zero for faces without area."""
  cross = face_cross(mesh)
  length = np.linalg.norm(cross, axis=1, keepdims=True)
  return np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
