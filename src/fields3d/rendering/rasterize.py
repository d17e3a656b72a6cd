"""Pictures of meshes without a display: rays against triangles (Embree), an area light, a sky, a soft ground shadow.

The light is a fixed set of directions, each a dim distant lamp with a hard shadow. Every sub-pixel sample sees a
quarter of the set and a pixel averages its samples, so that pictures are smooth, without grain, and repeatable.
"""

import dataclasses
import functools

import igl.embree
import numpy as np

from fields3d.core.types import Mesh

_SIDE = 2  # Sub-samples per pixel and axis.
_SHADOW_SIDE = 48  # Cells per axis of the ground's shadow map.
_CLAY = (0.80, 0.785, 0.76)  # Linear reflectance of a mesh without colours.


@dataclasses.dataclass(frozen=True)
class Lights:
  """Distant lamps: unit directions (k, 3) towards them, radiance (k, 3) linear; k is a multiple of 4."""
  directions: np.ndarray
  radiance: np.ndarray


def render_mesh(mesh: Mesh, size: int = 256, azimuth: float = 35.0, elevation: float = 22.0, *,
                bounds: np.ndarray | None = None, background: tuple[int, int, int] | None = (255, 255, 255),
                ground: bool = True) -> np.ndarray:
  """A picture of the mesh with smooth shading, shadows and ambient occlusion.

  Exact visibility at 2 x 2 samples a pixel; the light is a sum over 24 directions. Faces are lit from both sides.

  Args:
    mesh: vertices of any unit; none or no faces gives the background alone. Colours are sRGB.
    size: pixels of the square picture.
    azimuth: degrees about +Y from +Z towards +X. elevation: degrees above the horizon, within (-90, 90).
    bounds: (2, 3) box that fills the picture; the mesh's own when None. Give a pair of meshes the same box.
    background: sRGB, or None for a transparent picture.
    ground: casts a shadow on the horizontal plane under the box (only seen from above).

  Returns:
    (size, size, 3) uint8 sRGB, or (size, size, 4) with straight alpha when the background is None.

  Example:
    >>> corner = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    >>> render_mesh(corner, size=8).shape
    (8, 8, 3)
  """
  vertices, faces = np.ascontiguousarray(mesh.vertices, np.float64), np.ascontiguousarray(mesh.faces, np.int64)
  if not len(faces):
    return _compose(np.zeros((size, size, 4)), background)
  box = np.stack([vertices.min(0), vertices.max(0)]) if bounds is None else np.asarray(bounds, np.float64)
  centre, radius = box.mean(0), max(float(np.linalg.norm(box[1] - box[0])) / 2, 1e-12)
  vertices, box = (vertices - centre) / radius, (box - centre) / radius
  reach = 1 + float(np.linalg.norm(vertices, axis=1).max())  # Leaves every point of the mesh behind.
  colors = None if mesh.colors is None else _linear(mesh.colors / 255.0)
  rays, lights = camera_rays(size * _SIDE, azimuth, elevation, box), _lights(azimuth)
  rgba = _shade(vertices, faces, colors, *rays, lights, reach)
  if ground and elevation > 0:
    empty = rgba[:, 3] == 0
    darkness = _shadow_map(vertices, faces, box[0, 1], lights, reach)
    rgba[empty, 3] = _ground_shadow(darkness, rays[0][empty], rays[1][empty], box[0, 1])
  return _compose(_average(rgba, size), background)


def camera_rays(pixels: int, azimuth: float, elevation: float, box: np.ndarray,
                field_of_view: float = 28.0) -> tuple[np.ndarray, np.ndarray]:
  """Rays of a camera that sees a box within the unit ball as large as fits, from outside the ball.

  Returns:
    origins and unit directions, (pixels^2, 3) each, by rows from the top.
  """
  a, e = np.radians(azimuth), np.radians(elevation)
  back = np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
  right = np.array([np.cos(a), 0.0, -np.sin(a)])
  up = np.cross(back, right)
  origin = back / np.sin(np.radians(field_of_view) / 2)
  corners = np.stack(np.meshgrid(*box.T), -1).reshape(-1, 3) - origin
  depth = -corners @ back
  seen = np.stack([corners @ right / depth, corners @ up / depth])
  middle, half = (seen.max(1) + seen.min(1)) / 2, 1.06 * (seen.max(1) - seen.min(1)).max() / 2
  place = (np.arange(pixels) + 0.5) / pixels * 2 - 1
  x, y = np.meshgrid(middle[0] + place * half, middle[1] - place * half)
  directions = x[..., None] * right + y[..., None] * up - back
  directions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).reshape(-1, 3)
  return np.broadcast_to(origin, directions.shape), directions


def cast(vertices: np.ndarray, faces: np.ndarray, origins: np.ndarray,
         directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The first triangle on each ray. Origins must lie outside the mesh's bounding ball: the library looks both ways.

  Args:
    vertices (v, 3), faces (f, 3), origins (n, 3), directions (n, 3).

  Returns:
    hit (n,) bool; and for the m hits: face (m,) and barycentric weights (m, 3), float32-accurate.
  """
  found = igl.embree.line_mesh_intersection(
      np.ascontiguousarray(origins), np.ascontiguousarray(directions), vertices, faces)
  hit = found[:, 0] >= 0
  second = found[hit, 1:]
  return hit, found[hit, 0].astype(np.int64), np.column_stack([1 - second.sum(1), second])


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
  """Unit normals (v, 3): the area-weighted mean of the faces around a vertex; 0 for a vertex without area.

  >>> vertex_normals(np.eye(3), np.array([[0, 1, 2]]))[0].round(3).tolist()
  [0.577, 0.577, 0.577]
  """
  a, b, c = (vertices[faces[:, k]] for k in range(3))
  areas = np.cross(b - a, c - a)
  normals = np.stack([np.bincount(faces.ravel(), np.repeat(areas[:, k], 3), len(vertices)) for k in range(3)], 1)
  length = np.linalg.norm(normals, axis=1, keepdims=True)
  return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def _shade(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None, origins: np.ndarray,
           directions: np.ndarray, lights: Lights, reach: float) -> np.ndarray:
  """Linear colour and coverage (n, 4) of each ray."""
  rgba = np.zeros((len(directions), 4))
  hit, face, weights = cast(vertices, faces, origins, directions)
  corners = faces[face]
  points = _blend(vertices[corners], weights)
  normals = _facing(_blend(vertex_normals(vertices, faces)[corners], weights), vertices[corners], directions[hit])
  reflectance = np.asarray(_CLAY) if colors is None else _blend(colors[corners], weights)
  phase = _phases(len(directions))[hit]
  rgba[hit, :3] = reflectance * _irradiance(vertices, faces, points, normals, phase, lights, reach)
  rgba[hit, 3] = 1
  return rgba


def _blend(corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
  return np.einsum("nkc,nk->nc", corners, weights)


def _facing(normals: np.ndarray, corners: np.ndarray, directions: np.ndarray) -> np.ndarray:
  """Unit normals on the viewer's side; the face's own where the smooth one would look away (hard creases)."""
  flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
  flat *= -np.sign(np.sum(flat * directions, 1, keepdims=True))
  normals = normals * np.sign(np.sum(normals * flat, 1, keepdims=True))
  normals = np.where(np.sum(normals * flat, 1, keepdims=True) > 0.4, normals, flat)
  return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)


@functools.lru_cache(maxsize=16)
def _lights(azimuth: float) -> Lights:
  """Half of the lamps on a key light's disc at the viewer's upper left, half on the sky; they turn with the viewer."""
  num = 12
  i = np.arange(num)
  golden = i * np.pi * (3 - np.sqrt(5))
  height = (i + 0.5) / num  # The sky: uniform in solid angle above the horizon, brighter at its top.
  ring = np.sqrt(1 - height**2)
  sky = np.column_stack([ring * np.cos(golden), height, ring * np.sin(golden)])
  a = np.radians(azimuth - 40)
  towards = np.array([0.62 * np.sin(a), 0.80, 0.62 * np.cos(a)])
  towards /= np.linalg.norm(towards)
  side = np.cross(towards, [0, 1, 0])
  side /= np.linalg.norm(side)
  disc = 0.16 * np.sqrt((i + 0.5) / num)[:, None]
  key = towards + disc * (np.cos(golden)[:, None] * side + np.sin(golden)[:, None] * np.cross(side, towards))
  key /= np.linalg.norm(key, axis=1, keepdims=True)
  sky_radiance = (0.55 + 0.8 * height)[:, None] * np.array([0.90, 0.97, 1.08]) / num
  key_radiance = np.broadcast_to(np.array([1.06, 1.0, 0.92]) * 0.74 / num, (num, 3))
  return Lights(np.concatenate([key, sky]), np.concatenate([key_radiance, sky_radiance]))


def _phases(samples: int) -> np.ndarray:
  """Which quarter of the lamps each sample of a square picture sees: the four samples of a pixel see all."""
  rows, columns = np.divmod(np.arange(samples), int(np.sqrt(samples)))
  return (rows % _SIDE) * _SIDE + columns % _SIDE


def _irradiance(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray, normals: np.ndarray,
                phase: np.ndarray, lights: Lights, reach: float) -> np.ndarray:
  """Light (n, 3) that reaches points (n, 3) from the lamps of their phase, and a little from below."""
  quarters = _SIDE**2
  lamps = np.arange(len(lights.directions)).reshape(-1, quarters).T[phase]
  cosine = np.einsum("nc,nkc->nk", normals, lights.directions[lamps])
  who, which = np.nonzero(cosine > 0)
  lamp = lamps[who, which]
  hidden = _occluded(vertices, faces, points[who], lights.directions[lamp], reach)  # One call: each builds a tree.
  lit = np.where(hidden, 0.0, cosine[who, which])[:, None] * lights.radiance[lamp] * quarters
  bounced = 0.08 * (1 - 0.5 * normals[:, 1:2]) * np.array([[1.05, 1.0, 0.95]])  # Off the ground, unshadowed.
  return bounced + np.stack([np.bincount(who, lit[:, k], len(points)) for k in range(3)], axis=1)


def _occluded(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray, directions: np.ndarray,
              reach: float) -> np.ndarray:
  """Whether the mesh stands between points (n, 3) and distant lamps in directions (n, 3).

  Shot from the lamp, so that the ray starts outside the mesh; a hit counts that is nearer than the point by 0.4%
  of the box's half diagonal, which hides float32 self-shadowing.
  """
  origins = points + reach * 2 * directions
  hit, face, weights = cast(vertices, faces, origins, -directions)
  out = np.zeros(len(points), bool)
  struck = _blend(vertices[faces[face]], weights)
  out[hit] = np.sum((struck - points[hit]) * directions[hit], 1) > 4e-3
  return out


def _shadow_map(vertices: np.ndarray, faces: np.ndarray, height: float, lights: Lights, reach: float) -> np.ndarray:
  """The share of light (s, s) that the mesh takes from the ground plane y = height, over [-2, 2]^2 in x, z."""
  place = (np.arange(_SHADOW_SIDE) + 0.5) / _SHADOW_SIDE * 4 - 2
  x, z = np.meshgrid(place, place, indexing="ij")
  points = np.stack([x, np.full_like(x, height - 2e-3), z], -1).reshape(-1, 3)
  lamps = np.flatnonzero(lights.directions[:, 1] > 0.5)  # Lower ones throw shadows far out of the picture.
  weight = (lights.directions[:, 1] * lights.radiance.sum(1))[lamps]
  towards = np.tile(lights.directions[lamps], (len(points), 1))
  blocked = _occluded(vertices, faces, np.repeat(points, len(lamps), 0), towards, reach).reshape(len(points), -1)
  return (blocked @ (weight / weight.sum())).reshape(_SHADOW_SIDE, _SHADOW_SIDE)


def _ground_shadow(darkness: np.ndarray, origins: np.ndarray, directions: np.ndarray, height: float) -> np.ndarray:
  """Opacity (n,) of the black shadow where rays meet the ground, bilinear in the map, fading out at its rim."""
  t = (height - origins[:, 1]) / np.minimum(directions[:, 1], -1e-6)
  spot = (origins + t[:, None] * directions)[:, [0, 2]]
  inside = (directions[:, 1] < 0) & (np.abs(spot).max(1) < 1.95)
  place = np.clip((spot + 2) / 4 * _SHADOW_SIDE - 0.5, 0, _SHADOW_SIDE - 1.001)
  low = place.astype(np.int64)
  fx, fz = (place - low).T
  (i, j) = low.T
  value = ((darkness[i, j] * (1 - fz) + darkness[i, j + 1] * fz) * (1 - fx)
           + (darkness[i + 1, j] * (1 - fz) + darkness[i + 1, j + 1] * fz) * fx)
  return 0.62 * np.where(inside, value * np.clip((1.95 - np.linalg.norm(spot, axis=1)) / 0.6, 0, 1), 0.0)


def _average(rgba: np.ndarray, size: int) -> np.ndarray:
  """Samples to pixels: alpha is averaged, colour is averaged premultiplied and left straight, still linear."""
  rgba[:, :3] = _tone(rgba[:, :3]) * rgba[:, 3:]
  pixels = rgba.reshape(size, _SIDE, size, _SIDE, 4).mean((1, 3))
  alpha = pixels[..., 3:]
  pixels[..., :3] = np.divide(pixels[..., :3], alpha, out=np.zeros_like(pixels[..., :3]), where=alpha > 0)
  return pixels


def _compose(pixels: np.ndarray, background: tuple[int, int, int] | None) -> np.ndarray:
  alpha = pixels[..., 3:]
  if background is None:
    return np.round(np.concatenate([_srgb(pixels[..., :3]), alpha], -1) * 255).astype(np.uint8)
  behind = np.asarray(background, np.float64) / 255
  return np.round((_srgb(pixels[..., :3]) * alpha + behind * (1 - alpha)) * 255).astype(np.uint8)


def _tone(linear: np.ndarray) -> np.ndarray:
  """A soft shoulder: the identity below 0.7, then towards 1."""
  over = np.maximum(linear - 0.7, 0)
  return np.minimum(linear, 0.7) + 0.3 * (1 - np.exp(-over / 0.3))


def _srgb(linear: np.ndarray) -> np.ndarray:
  linear = np.clip(linear, 0, 1)
  return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _linear(srgb: np.ndarray) -> np.ndarray:
  return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
