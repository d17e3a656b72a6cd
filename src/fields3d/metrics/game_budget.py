"""What a mesh costs a game: faces, vertices, draw calls, texels per unit of length."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fields3d.core.types import Mesh
from fields3d.geometry.meshes import face_areas
from fields3d.metrics.uv import signed_areas


@dataclasses.dataclass(frozen=True)
class Part:
  """What one draw call draws: a primitive of a GLB.

  material: which one; -1 for none. uv: (f, 3, 2) of its faces' corners, or None. texture: (width, height) of its base
  colour's image, pixels; None where there is none.
  """
  mesh: Mesh
  material: int = -1
  uv: np.ndarray | None = None
  texture: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class GameBudget:
  """draw_calls: parts, each drawn at once, before any batching. materials: different ones. textures: parts with one.

  vertices: as the file repeats them (what is sent to the GPU). texel_density: texels per unit of length, the median by
  area; density_spread: the ratio of its 95th to its 5th percentile, 1 where it is even. None without coordinates and
  a texture. textured: the share of the area that has both.
  """
  faces: int
  vertices: int
  draw_calls: int
  materials: int
  textured: float
  texel_density: float | None
  density_spread: float | None


def game_budget(parts: Sequence[Part]) -> GameBudget:
  """The budget of a file's parts, each in the file's own frame.

  >>> quad = Mesh(np.array([[0., 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
  >>> uv = quad.vertices[quad.faces][:, :, :2] / 2
  >>> game_budget([Part(quad, 0, uv, (256, 256)), Part(quad)])
  GameBudget(faces=4, vertices=8, draw_calls=2, materials=2, textured=0.5, texel_density=128.0, density_spread=1.0)
  """
  density, weight = [np.zeros(0)], [np.zeros(0)]
  total = 0.0
  for part in parts:
    area = face_areas(part.mesh)
    total += float(area.sum())
    if part.uv is not None and part.texture is not None:
      density.append(texel_densities(area, part.uv, part.texture))
      weight.append(np.where(area > 0, area, 0.0))
  density, weight = np.concatenate(density), np.concatenate(weight)
  median = spread = None
  if weight.sum() > 0:
    low, median, high = weighted_quantiles(density, weight, (0.05, 0.5, 0.95))
    spread = high / low if low > 0 else None
  return GameBudget(sum(len(p.mesh.faces) for p in parts), sum(len(p.mesh.vertices) for p in parts), len(parts),
                    len({p.material for p in parts}), float(weight.sum() / total) if total > 0 else 0.0, median, spread)


def texel_densities(area: np.ndarray, uv: np.ndarray, texture: tuple[int, int]) -> np.ndarray:
  """(f,) texels per unit of length of faces of that area (f,): the root of texels per area; 0 without area."""
  texels = np.abs(signed_areas(uv)) * texture[0] * texture[1]
  return np.sqrt(np.divide(texels, area, out=np.zeros_like(texels), where=area > 0))


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, shares: Sequence[float]) -> list[float]:
  """For each share, the least value that, with all below it, weighs at least that share of the whole.

  >>> weighted_quantiles(np.array([3.0, 1.0]), np.array([1.0, 9.0]), (0.5, 0.95))
  [1.0, 3.0]
  """
  order = np.argsort(values, kind="stable")
  total = np.cumsum(weights[order])
  places = np.searchsorted(total, np.asarray(shares) * total[-1] * (1 - 1e-12))
  return values[order][np.minimum(places, len(values) - 1)].tolist()
