"""What a camera sees of a field: an image rendered tile by tile, every call with one shape, so that jit compiles once."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fields3d.core.types import Camera
from fields3d.geometry.rays import CameraRig, length_in_ndc

TILE = 8192  # rays a call


def render_camera(render: Callable, camera: Camera, facts: Mapping[str, Any], *, supersample: int = 1,
                  tile: int = TILE, progress: Callable[[int, int], None] | None = None) -> dict[str, np.ndarray]:
  """An image of a field, exact up to the renderer: no ray is left out.

  The rays belong to no training view. With supersampling, the k x k sub-pixels of a pixel are averaged (a box filter),
  each with a k-th of the pixel's footprint; depth and normal are averaged by opacity.

  Args:
    render: Rays of exactly `tile` rays -> {"rgb" (tile, 3), "opacity" (tile,), "depth" (tile,), "normal" (tile, 3) or
      not}; the bound predict function "render".
    camera: its size is the image's.
    facts: the dataset's, for `CameraRig`.
    supersample: k, sub-pixels along each side of a pixel.
    tile: rays a call, at least k^2; the last call is filled up with repeated rays.
    progress: called with (pixels done, pixels in all).

  Returns:
    {"rgb" (h, w, 3), "opacity" (h, w), "depth" (h, w), "normal" (h, w, 3) if known}, float32; depth is the distance from the
    camera of the expected t of the seen part, 0 where nothing is seen.
  """
  width, height = camera.size
  total, parts, waiting = width * height, [], None
  for rays, num in _tiles(camera, facts, supersample, tile):
    ahead = _seen(render, rays, camera, facts.get("ndc")), num  # one call stays in flight while the host makes the next rays
    if waiting is not None:
      parts.append(_pixels(*waiting, supersample))
      if progress is not None:
        progress(sum(len(part["opacity"]) for part in parts), total)
    waiting = ahead
  parts.append(_pixels(*waiting, supersample))
  if progress is not None:
    progress(total, total)
  return {name: np.concatenate([part[name] for part in parts]).reshape(height, width, *parts[0][name].shape[1:])
          for name in parts[0]}


def _tiles(camera: Camera, facts: Mapping[str, Any], k: int, tile: int) -> Iterator[tuple[Any, int]]:
  """Yields (rays (tile,), pixels among them), the sub-pixels of a pixel next to each other, pixels row by row."""
  rig, (width, height) = CameraRig([camera], facts), camera.size
  sub = (np.stack(np.meshgrid(np.arange(k), np.arange(k)), axis=-1).reshape(-1, 2) + 0.5) / k
  size = tile // k**2
  for start in range(0, width * height, size):
    index = np.arange(start, min(start + size, width * height))
    corner = np.stack([index % width, index // width], axis=-1).astype(np.float64)
    pixel = (corner[:, None] + sub).reshape(-1, 2)
    pixel = np.concatenate([pixel, np.repeat(pixel[-1:], tile - len(pixel), axis=0)])
    rays = rig.rays(np.zeros(tile, np.int32), pixel, label=False)
    yield dataclasses.replace(rays, radii=rays.radii / np.float32(k)), len(index)


def _seen(render: Callable, rays: Any, camera: Camera, ndc: Mapping[str, float] | None) -> Mapping[str, Any]:
  """What rays see; depth as a distance in the model frame, whatever space they are rendered in."""
  out = render(rays)
  if ndc is None:
    return out
  return {**out, "depth": length_in_ndc(np.asarray(out["depth"], np.float64), camera.pose[:, 3], np.asarray(rays.viewdirs), ndc)}


def _pixels(out: Mapping[str, Any], num: int, k: int) -> dict[str, np.ndarray]:
  """The means over the sub-pixels of the first `num` pixels of a call's output."""
  part = {name: np.asarray(value, np.float32)[:num * k**2] for name, value in out.items()}
  part = {name: value.reshape(num, k**2, *value.shape[1:]) for name, value in part.items()}
  opacity = part["opacity"]
  weight = opacity / np.maximum(opacity.sum(1, keepdims=True), np.finfo(np.float32).tiny)
  mean = {"rgb": part["rgb"].mean(1), "opacity": opacity.mean(1), "depth": (weight * part["depth"]).sum(1)}
  if "normal" in part:
    mean["normal"] = (weight[..., None] * part["normal"]).sum(1)
  return mean
