"""Photographs of procedural shapes, made here and exact: a scene whose geometry is known, without any download.

Every pixel is the mean of k x k rays, each traced to the analytic surface; a cone per pixel first finds the pixels that no
ray of theirs can hit, so that only the object and its outline are paid for. Colours are those of the shape's parts under a
fixed light: ambient from above, a lamp without shadows, and a mild highlight that moves with the camera.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count, Index, Range
from fields3d.core.numerics import norm
from fields3d.core.types import Camera, Dataset, Shape, View
from fields3d.data.families import FAMILIES
from fields3d.data.image_scenes import Draws
from fields3d.data.procedural import shape, solid
from fields3d.data.rays import PixelDraws, scene_dataset
from fields3d.data.scene import Scene
from fields3d.data.solids import Solid, sphere_lattice
from fields3d.geometry.primitives import at, union
from fields3d.geometry.rays import camera_rays
from fields3d.geometry.sphere_tracing import sphere_trace
from fields3d.geometry.transforms import look_at

DISTANCE = 3.0  # of the cameras from the origin
HALF_VIEW = math.radians(20.0)  # half the angle of view: the unit sphere just fits
NEAR, FAR = DISTANCE - 1.0, DISTANCE + 1.0
ORIGIN, UP = np.zeros(3), np.array([0.0, 1.0, 0.0])
LAMP = np.array([0.48, 0.64, 0.60])
_SAMPLED = {"num": 50_000, "near_variances": (0.005, 0.0005), "near_fraction": 0.94}  # of the shape's distances, on demand
_BLOCK = 1 << 13  # rays traced at once: they take the time of the slowest among them, so
_QUICK, _PATIENT = 16, 512  # steps that most rays need; then the rest, among themselves


def rendered(family: Literal[tuple(FAMILIES)] = "chair", index: Index = 0, seed: Index = 0, views: Count = 50,
             test_views: Count = 8, width: Annotated[int, Range(ge=8)] = 100, supersample: Count = 4,
             draws: Draws = types.MappingProxyType({})) -> Dataset:
  """The dataset of a shape's pictures, `shapes("train")` being the shape itself. Arguments as in `rendered_scene`.

  Args:
    draws: how pixels are drawn.
  """
  def shapes(split: str) -> Sequence[Shape]:
    return (shape(family, seed, index, _SAMPLED),) if split == "train" else ()

  draws = draws if isinstance(draws, PixelDraws) else PixelDraws(**draws)
  return scene_dataset(rendered_scene(family, index, seed, views, test_views, width, supersample), draws,
                       functools.cache(shapes))


def rendered_scene(family: str = "chair", index: int = 0, seed: int = 0, views: int = 50, test_views: int = 8,
                   width: int = 100, supersample: int = 4) -> Scene:
  """A procedural shape seen from all sides, square pictures, transparent where there is nothing.

  Cameras lie evenly on a sphere and look at its centre; those of "test" are another such set. Pictures are made when
  first asked for. Their values are means over supersample^2 rays of sRGB colours and of coverage, which is right to
  about 1 / (2 supersample^1.5) of a pixel at an outline; depth is the mean over the rays that hit.

  Args:
    family: a name of FAMILIES. index, seed: which shape of it, as in `procedural`.
    views, test_views: photographs of each split. width: pixels a side. supersample: rays along a pixel's side.
  """
  made = solid(family, seed, index)
  trace = _tracer(made)
  focal = width / 2 / math.tan(HALF_VIEW)

  def photographs(split: str, directions: np.ndarray) -> list[View]:
    out = []
    for i, direction in enumerate(directions):
      camera = Camera("PINHOLE", (width, width), (focal, focal, width / 2, width / 2), (),
                      look_at(DISTANCE * direction, ORIGIN, UP))
      picture = functools.cache(functools.partial(_photograph, made, trace, camera, supersample))
      out.append(View(f"{split}_{i:03d}", camera, lambda p=picture: p()[0], depth=lambda p=picture: p()[1]))
    return out

  turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
  protocol = {"scene": f"{family}-{index:04d}", "resolution": f"{width}x{width}", "colors": "sRGB",
              "antialiasing": f"{supersample}x{supersample} rays a pixel"}
  return Scene(f"{family}-{index:04d}", {"train": photographs("train", sphere_lattice(views)),
                                         "test": photographs("test", sphere_lattice(test_views) @ turn)},
               NEAR, FAR, protocol=protocol)


@dataclasses.dataclass(frozen=True)
class _Tracer:
  """cone: (origin (3,), directions (n, 3), radius) -> (t (n,), may hit (n,)): where a cone first comes near the solid.
  ray: (origin, directions (b, 3), start (b,), max_steps) -> (t (b,), hit (b,), needs more steps (b,))."""
  cone: Callable
  ray: Callable


def _tracer(made: Solid) -> _Tracer:
  placed = union(*[part.sdf for part in made.parts])
  center = np.asarray(made.center, np.float32)

  def sdf(x):
    return at(placed, x * np.float32(made.scale) + center[None]) / np.float32(made.scale)

  def cone(origin, directions, radius):
    spread = lambda x: sdf(x) - radius * norm(x - origin[None])
    ends = jnp.full(len(directions), NEAR), jnp.full(len(directions), FAR)
    origins = jnp.broadcast_to(origin, directions.shape)
    found = sphere_trace(spread, origins, directions, *ends, lipschitz=1 + radius, tolerance=1e-3,
                         max_steps=_PATIENT, refinements=0)
    return found.t, found.hit

  def ray(origin, directions, start, max_steps):
    origins, far = jnp.broadcast_to(origin, directions.shape), jnp.full(len(start), FAR)
    found = sphere_trace(sdf, origins, directions, start, far, max_steps=max_steps, refinements=0)
    return found.t, found.hit, ~found.hit & (found.steps == max_steps)

  return _Tracer(jax.jit(cone), jax.jit(ray))


def _photograph(made: Solid, trace: _Tracer, camera: Camera, k: int) -> tuple[np.ndarray, np.ndarray]:
  """(pixels (h, w, 4) uint16, depth (h, w) float32), as a `View` has them."""
  width, height = camera.size
  facts, corner = {"near": NEAR, "far": FAR}, np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)

  def directions(pixels):
    return camera_rays([camera], np.zeros(len(pixels), np.int32), pixels, facts).directions

  origin = camera.pose[:, 3].astype(np.float32)
  # a pixel's corner is at most 1 / sqrt(2) focal lengths from its centre
  start, near_solid = trace.cone(origin, directions(corner + 0.5), np.float32(1 / math.sqrt(2) / camera.intrinsics[0]))
  touched = np.flatnonzero(near_solid)
  sub = (np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2) + 0.5) / k
  d = directions((corner[touched][:, None] + sub[None]).reshape(-1, 2))
  begin = np.repeat(np.asarray(start)[touched], k * k)
  t, hit, late = _in_blocks(trace.ray, origin, d, begin, _QUICK)
  t[late], hit[late], _ = _in_blocks(trace.ray, origin, d[late], begin[late], _PATIENT)
  seen = np.flatnonzero(hit)
  t, v = t[seen, None].astype(np.float64), d[seen].astype(np.float64)
  away = made.sdf(origin + t * v)
  normal = made.normal(origin + t * v, away)
  t -= away[:, None] / np.minimum(np.sum(normal * v, axis=1, keepdims=True), -0.1)  # the last step, in float64
  rgba, depth = np.zeros((len(d), 4)), np.zeros(len(d))
  rgba[seen, :3] = shade(made.color(origin + t * v), normal, v)
  rgba[seen, 3] = 1.0
  depth[seen] = t[:, 0] * (v @ -camera.pose[:, 2])
  pixels, far = np.zeros((width * height, 4), np.uint16), np.zeros(width * height, np.float32)
  mean = rgba.reshape(-1, k * k, 4).mean(axis=1)
  pixels[touched] = np.round(65535 * mean)
  far[touched] = depth.reshape(-1, k * k).mean(axis=1) / np.maximum(mean[:, 3], 1e-9)
  return pixels.reshape(height, width, 4), far.reshape(height, width)


def _in_blocks(trace: Callable, origin: np.ndarray, directions: np.ndarray, start: np.ndarray,
               max_steps: int) -> list[np.ndarray]:
  """`trace` over any number of rays, in blocks of one size, the last filled up with rays that are over at once."""
  count = (len(start) // _BLOCK + 1) * _BLOCK
  d = np.concatenate([directions, np.tile(np.float32([0, 0, 1]), (count - len(start), 1))]).reshape(-1, _BLOCK, 3)
  begin = np.concatenate([start, np.full(count - len(start), FAR, np.float32)]).reshape(-1, _BLOCK)
  blocks = [trace(origin, *block, max_steps) for block in zip(d, begin, strict=True)]
  return [np.concatenate(part)[:len(start)] for part in zip(*blocks, strict=True)]


def shade(albedo: np.ndarray, normal: np.ndarray, view: np.ndarray) -> np.ndarray:
  """sRGB in [0, 1] of surfaces (n, 3) of that sRGB colour (uint8) and unit normal seen along unit directions `view`.

  Half ambient light, more of it from above, half a lamp; and a highlight of at most 0.15 (Blinn and Phong).
  """
  half = LAMP[None] - view
  half /= np.linalg.norm(half, axis=1, keepdims=True)
  light = 0.4 + 0.1 * normal[:, 1] + 0.5 * np.maximum(normal @ LAMP, 0.0)
  gloss = 0.15 * np.maximum(np.sum(normal * half, axis=1), 0.0) ** 16
  return np.clip(albedo / 255 * light[:, None] + gloss[:, None], 0.0, 1.0)
