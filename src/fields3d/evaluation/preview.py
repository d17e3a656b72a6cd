"""What a report shows of a mesh: pictures of it and of its truth in one frame, and small GLBs for the viewer."""

import pathlib

import numpy as np
from PIL import Image

from fields3d.core.types import Mesh
from fields3d.evaluation.geometry import joint_box
from fields3d.extraction.export import export
from fields3d.rendering.rasterize import render_mesh


def write_previews(mesh: Mesh | None, truth: Mesh, out_dir: pathlib.Path, stem: str, size: int,
                   faces: int) -> dict[str, str]:
  """Writes pictures and preview GLBs of a prediction (None: it failed) and its truth.

  Args:
    size: pixels of a picture's side. faces: at most about so many triangles in a preview.

  Returns:
    kind -> file name in `out_dir`, as in `Row.files`.
  """
  box = joint_box(truth) if mesh is None else joint_box(mesh, truth)
  files = {}
  for kind, shown in (("", mesh), ("truth_", truth)):
    if shown is not None:
      picture, preview = f"{stem}.{kind or 'mesh_'}picture.png", f"{stem}.{kind or 'mesh_'}preview.glb"
      Image.fromarray(render_mesh(shown, size, bounds=box, background=None)).save(out_dir / picture)
      export(simplify(shown, faces), out_dir / preview)
      files |= {f"{kind}picture": picture, f"{kind}preview": preview}
  return files


def simplify(mesh: Mesh, faces: int) -> Mesh:
  """The mesh with at most `faces` triangles (and rarely under half of that), for looking at; itself if it has no more.

  Vertices in one cell of a grid become one, their mean, with the colour of one of them; parts thinner than a cell may
  be pinched. Needs no manifold, and keeps the edges of colours where collapsing edges by shape would smear them.

  Source: Rossignac & Borrel 1993, "Multi-resolution 3D approximations for rendering complex scenes".

  >>> simplify(Mesh(np.eye(3), np.array([[0, 1, 2]])), 10).faces.shape
  (1, 3)
  """
  cells = int(np.sqrt(faces)) + 1
  while len(mesh.faces) > faces and len((merged := _merge_cells(mesh, cells)).faces) > faces and cells > 1:
    cells = int(cells * 0.85)
  return mesh if len(mesh.faces) <= faces else merged


def _merge_cells(mesh: Mesh, cells: int) -> Mesh:
  """One vertex, the mean, for all those in a cell of a cubic grid with `cells` along the longest side."""
  low = mesh.vertices.min(0)
  width = np.ptp(mesh.vertices, axis=0).max() / cells
  place = np.floor((mesh.vertices - low) / width).astype(np.int64)
  key = place @ np.array([1, cells + 2, (cells + 2) ** 2])
  _, first, cluster = np.unique(key, return_index=True, return_inverse=True)
  total = np.stack([np.bincount(cluster, mesh.vertices[:, k]) for k in range(3)], axis=1)
  faces = cluster[mesh.faces]
  faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
  faces = faces[np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]]
  return Mesh(total / np.bincount(cluster)[:, None], faces, None if mesh.colors is None else mesh.colors[first])
