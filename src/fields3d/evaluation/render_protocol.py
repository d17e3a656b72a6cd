"""The fixed way in which shapes are pictured for distances between sets of pictures, by our own renderer.

A figure of rendered pictures means something only with the rendering: cameras, lens, size, shading and background are
fixed here under one name with a version, which stands in every figure's protocol. Change anything, and the version.
"""

import dataclasses
import hashlib
import os
import pathlib
import zipfile

import numpy as np

from fields3d.core.errors import from_os_error
from fields3d.core.types import Mesh
from fields3d.geometry.meshes import normalise
from fields3d.rendering.rasterize import cast, vertex_normals

VERSION = "sphere-v1"
DISTANCE = 3.5  # Radii of the unit ball; it touches the picture's four sides.
_SIDE = 2  # Samples of a pixel and axis.
_AMBIENT, _REFLECTANCE = 0.25, 0.8  # Linear.
_RAYS = 1_000_000  # Of one call: each builds the mesh's tree.
_LIGHT = np.array([-0.5, 0.7, 1.0]) / np.linalg.norm([-0.5, 0.7, 1.0])  # Right, up and back of the camera.


@dataclasses.dataclass(frozen=True)
class RenderProtocol:
  """Pictures of one shape: how many cameras, and pixels of a side."""
  views: int = 24
  size: int = 224

  @property
  def name(self) -> str:
    """Short, for files and names.

    >>> RenderProtocol().name
    'sphere-v1-24x224'
    """
    return f"{VERSION}-{self.views}x{self.size}"

  @property
  def words(self) -> str:
    """For a metric's protocol."""
    return (f"renders {self.name}: box centre to 0 and farthest vertex to 1; {self.views} cameras on a Fibonacci "
            f"sphere at distance {DISTANCE:g}, +Y up, field of view {field_of_view():.2f} degrees, "
            f"{self.size}x{self.size} pixels of 2x2 samples; grey, one lamp fixed to the camera and 25% ambient light, "
            "smooth normals, both sides lit, no shadows; white background; colours ignored")


def field_of_view() -> float:
  """Degrees across the picture: the unit ball's.

  >>> round(field_of_view(), 2)
  33.2
  """
  return float(2 * np.degrees(np.arcsin(1 / DISTANCE)))


def camera_directions(num: int) -> np.ndarray:
  """Unit directions (num, 3) from the shape to its cameras, evenly over the sphere; no pole among them.

  Source: Gonzalez 2010, "Measurement of areas on a sphere using Fibonacci and latitude-longitude lattices".

  >>> bool(np.abs(camera_directions(24).mean(0)).max() < 0.03)
  True
  """
  i = np.arange(num)
  height, turn = (2 * i + 1) / num - 1, i * np.pi * (3 - np.sqrt(5))
  ring = np.sqrt(1 - height**2)
  return np.stack([ring * np.sin(turn), height, ring * np.cos(turn)], axis=1)


def render_views(mesh: Mesh, protocol: RenderProtocol = RenderProtocol()) -> np.ndarray:
  """The pictures (views, size, size, 3) uint8 sRGB of one shape, any unit, by the protocol.

  Raises:
    BadData: the mesh has no faces or no extent.
  """
  moved = normalise(mesh, "unit_sphere", margin=1.0)[0]
  vertices = np.ascontiguousarray(moved.vertices, np.float64)
  faces = np.ascontiguousarray(moved.faces, np.int64)
  normals, cameras = vertex_normals(vertices, faces), camera_directions(protocol.views)
  side = protocol.size * _SIDE
  step = max(_RAYS // side**2, 1)
  out = [_pictures(vertices, faces, normals, cameras[k:k + step], protocol.size)
         for k in range(0, protocol.views, step)]
  return np.repeat(np.concatenate(out)[..., None], 3, axis=-1)


def _pictures(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, cameras: np.ndarray,
              size: int) -> np.ndarray:
  """(views, size, size) uint8 from some cameras."""
  side = size * _SIDE
  place = np.tan(np.radians(field_of_view()) / 2) * ((np.arange(side) + 0.5) / side * 2 - 1)
  right = np.cross([0.0, 1.0, 0.0], cameras)
  right /= np.linalg.norm(right, axis=1, keepdims=True)
  up = np.cross(cameras, right)
  rays = (place[None, None, :, None] * right[:, None, None] - place[None, :, None, None] * up[:, None, None]
          - cameras[:, None, None]).reshape(-1, 3)
  rays /= np.linalg.norm(rays, axis=1, keepdims=True)
  origins = np.repeat(DISTANCE * cameras, side**2, axis=0)
  hit, face, weights = cast(vertices, faces, origins, rays)
  lamps = np.repeat(np.stack([right, up, cameras], 1).transpose(0, 2, 1) @ _LIGHT, side**2, axis=0)[hit]
  corners = faces[face]
  smooth = np.einsum("nkc,nk->nc", normals[corners], weights)
  a, b, c = (vertices[corners[:, k]] for k in range(3))
  flat = _towards(np.cross(b - a, c - a), rays[hit])
  smooth = smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
  smooth *= np.where(np.sum(smooth * flat, 1, keepdims=True) < 0, -1.0, 1.0)
  lit = np.sum(np.where(np.sum(smooth * flat, 1, keepdims=True) > 0.4, smooth, flat) * lamps, 1)
  grey = np.ones(len(rays))
  grey[hit] = _srgb(_REFLECTANCE * (_AMBIENT + (1 - _AMBIENT) * np.maximum(lit, 0)))
  pixels = grey.reshape(-1, size, _SIDE, size, _SIDE).mean((2, 4))
  return np.rint(255 * pixels).astype(np.uint8)


def _towards(normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
  """Unit normals that look against the rays."""
  normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
  return normals * np.where(np.sum(normals * rays, 1, keepdims=True) > 0, -1.0, 1.0)


def _srgb(linear: np.ndarray) -> np.ndarray:
  return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def mesh_key(mesh: Mesh) -> str:
  """The sha256 of vertices and faces, as 24 digits: the same content, the same pictures."""
  seen = hashlib.sha256(f"{mesh.vertices.shape} {mesh.faces.shape}".encode())
  seen.update(np.ascontiguousarray(mesh.vertices, np.float64).tobytes())
  seen.update(np.ascontiguousarray(mesh.faces, np.int64).tobytes())
  return seen.hexdigest()[:24]


class Kept:
  """Arrays on disk by name, written whole or not at all; a damaged one counts as missing. Without a root, none."""

  def __init__(self, root: str | os.PathLike | None):
    self._root = None if root is None else pathlib.Path(root)

  def get(self, name: str) -> np.ndarray | None:
    if self._root is None:
      return None
    try:
      with open(self._root / f"{name}.npz", "rb") as f, np.load(f, allow_pickle=False) as file:
        return file["value"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
      return None

  def put(self, name: str, value: np.ndarray) -> None:
    if self._root is None:
      return
    path = self._root / f"{name}.npz"
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      part = path.with_name(f".{path.name}.{os.getpid()}.part.npz")
      np.savez_compressed(part, value=value)
      part.replace(path)
    except OSError as error:
      raise from_os_error(error, path) from error


def kept_views(mesh: Mesh, protocol: RenderProtocol, kept: Kept) -> np.ndarray:
  """`render_views`, from the disk where the same mesh was pictured before."""
  name = f"{protocol.name}/{mesh_key(mesh)}"
  grey = kept.get(name)
  shape = (protocol.views, protocol.size, protocol.size)
  if grey is not None and grey.shape == shape and grey.dtype == np.uint8:
    return np.repeat(grey[..., None], 3, axis=-1)
  pictures = render_views(mesh, protocol)
  kept.put(name, pictures[..., 0])
  return pictures
