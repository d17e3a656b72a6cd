"""A field's colours as a texture: the surface is cut into charts, and each texel is the colour where it lies on it."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from fields3d.core.errors import Unavailable, require_memory
from fields3d.core.types import Mesh
from fields3d.extraction.gltf import vertex_normals
from fields3d.extraction.sampling import CHUNK, surface_colors
from fields3d.geometry.meshes import face_cross

GUTTER = 4  # texels kept free between charts, so that filtering mixes no two of them
_TEXEL_BYTES = 250  # while baking: point, normal, face, nearest covered texel
_CANDIDATES = 2**20  # texels judged at once


@dataclasses.dataclass(frozen=True)
class Texture:
  """uv (v, 2) of the vertices in [0, 1], u to the right and v down from the image's top, as glTF has them; image
  (size, size, 3) uint8 sRGB; texels: how many of the image lie on the surface."""
  uv: np.ndarray
  image: np.ndarray
  texels: int

  def png(self) -> bytes:
    """The image as a PNG file."""
    packed = io.BytesIO()
    Image.fromarray(self.image).save(packed, "PNG")
    return packed.getvalue()


def bake(mesh: Mesh, color: Callable, size: int, chunk: int = CHUNK) -> tuple[Mesh, Texture]:
  """The mesh, its vertices doubled along the charts' borders, and the texture of the colours on it.

  Exact at the texels' centres, on the mesh's flat triangles; normals are the vertices', interpolated. Texels beyond the
  charts get the nearest covered texel's colour.

  Args:
    color: (points (n, 3), unit outward normals (n, 3)) float32 -> (n, 3) sRGB in [0, 1].
    size: texels a side.

  Raises:
    Unavailable: xatlas is not installed. UsageFault: the texture does not fit into memory. Diverged: a colour is not
    finite.
  """
  require_memory(_TEXEL_BYTES * size**2, "--texture", "lower it")
  origin, faces, uv = _charts(mesh, size)
  texel, face, weights = _covered(uv[faces] * size, size)
  corners = mesh.faces[face]  # xatlas keeps the order of faces and of their corners
  points = np.einsum("nk,nki->ni", weights, mesh.vertices[corners])
  normals = np.einsum("nk,nki->ni", weights, vertex_normals(mesh)[corners])
  image = np.zeros((size * size, 3), np.uint8)
  image[texel] = surface_colors(color, points, normals, chunk)
  missing = np.ones(size * size, bool)
  missing[texel] = False
  nearest = ndimage.distance_transform_edt(missing.reshape(size, size), return_distances=False, return_indices=True)
  split = Mesh(mesh.vertices[origin], faces)
  return split, Texture(uv, image.reshape(size, size, 3)[tuple(nearest)], int(size * size - missing.sum()))


def _charts(mesh: Mesh, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Charts packed into the unit square: each new vertex's old one (w,), faces (f, 3) of new ones, uv (w, 2) float64."""
  try:
    import xatlas
  except ImportError as error:
    raise Unavailable("xatlas", "is not installed, and textures need it", "pip install 'fields3d[mesh]'") from error
  atlas = xatlas.Atlas()
  unit = np.sqrt(np.linalg.norm(face_cross(mesh), axis=-1).mean()) or 1.0  # the library drops faces below a size of its own
  atlas.add_mesh(((mesh.vertices - mesh.vertices.mean(0)) / unit).astype(np.float32), mesh.faces.astype(np.uint32))
  packing = xatlas.PackOptions()
  packing.resolution, packing.padding, packing.bilinear = size, GUTTER, True
  atlas.generate(xatlas.ChartOptions(), packing)
  origin, faces, uv = atlas[0]
  return origin.astype(np.int64), faces.astype(np.int64), uv.astype(np.float64)


def _covered(uv: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Texels whose centre a face covers: flat index (n,), face (n,), the centre's barycentric coordinates (n, 3).

  Args:
    uv: (f, 3, 2) corners, in texels.
  """
  low = np.maximum(np.ceil(uv.min(1) - 0.5), 0).astype(np.int64)
  span = np.maximum(np.minimum(np.floor(uv.max(1) - 0.5), size - 1).astype(np.int64) - low + 1, 0)
  edge, other = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
  area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
  count = np.where(area != 0, span.prod(1), 0)
  end = np.cumsum(count)
  parts = []
  for faces in np.split(np.arange(len(uv)), np.searchsorted(end, np.arange(_CANDIDATES, end[-1], _CANDIDATES))):
    face = np.repeat(faces, count[faces])
    place = np.arange(len(face)) - np.repeat(np.cumsum(count[faces]) - count[faces], count[faces])
    cell = low[face] + np.stack([place % span[face, 0], place // span[face, 0]], axis=1)
    to = cell + 0.5 - uv[face, 0]
    second = (to[:, 0] * other[face, 1] - to[:, 1] * other[face, 0]) / area[face]
    third = (edge[face, 0] * to[:, 1] - edge[face, 1] * to[:, 0]) / area[face]
    weights = np.stack([1 - second - third, second, third], axis=1)
    inside = weights.min(1) >= -1e-9  # centres on an edge belong to both sides
    parts.append((cell[inside] @ np.array([1, size]), face[inside], weights[inside]))
  return tuple(np.concatenate(column) for column in zip(*parts))
