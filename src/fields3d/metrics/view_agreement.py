"""Do two pictures with depth show one solid thing? Points seen in one must not lie before what the other sees.

A field without a view direction is one thing from all sides, but it can be a fog whose depth means nothing; and a picture on
a card that turns with the camera, a billboard, is not one thing at all. Both are seen through.
"""

import math

import numpy as np


def seen_through(depth: np.ndarray, opacity: np.ndarray, pose: np.ndarray, other_depth: np.ndarray, other_opacity: np.ndarray,
                 other_pose: np.ndarray, half_view: float, tolerance: float = 0.1) -> tuple[int, int]:
  """How many points of a picture another camera sees through, and how many fall into its picture at all.

  A point is the end of a pixel's ray (opacity above a half). It is seen through where no opaque pixel of the 3 x 3 about its
  place in the other picture lies at or before its distance, but for the tolerance. A point hidden behind something counts as
  agreeing, and so does a smooth surface's outline, thanks to the 3 x 3.

  Args:
    depth, opacity: (k, k), the distance along unit rays. pose: (3, 4), camera to model. other_...: the same of the other.
    half_view: half the angle of view, radians. tolerance: units of the model frame.
  """
  side = len(depth)
  origin, d = rays_of(pose, side, half_view)
  kept = opacity > 0.5
  x = origin + depth[kept][:, None] * d[kept]
  local = (x - other_pose[:, 3]) @ other_pose[:, :3]
  ahead = np.maximum(-local[:, 2], 1e-9)
  place = np.stack([-local[:, 1], local[:, 0]], axis=1) / (ahead * math.tan(half_view))[:, None]
  pixel = np.floor((place + 1) / 2 * side).astype(np.int64)
  inside = (local[:, 2] < 0) & (pixel >= 0).all(1) & (pixel < side).all(1)
  nearest = _nearest(np.where(other_opacity > 0.5, other_depth, np.inf))
  pixel, far = pixel[inside], np.linalg.norm(local[inside], axis=1)
  return int(np.sum(nearest[pixel[:, 0], pixel[:, 1]] > far + tolerance)), int(inside.sum())


def _nearest(depth: np.ndarray) -> np.ndarray:
  """The least of the 3 x 3 about each pixel."""
  padded = np.pad(depth, 1, constant_values=np.inf)
  return np.min([padded[i:i + len(depth), j:j + len(depth)] for i in range(3) for j in range(3)], axis=0)


def rays_of(pose: np.ndarray, side: int, half_view: float) -> tuple[np.ndarray, np.ndarray]:
  """The origin (3,) and the unit directions (side, side, 3) through the pixels' middles of a square pinhole picture."""
  middle = ((2 * np.arange(side) + 1) / side - 1) * math.tan(half_view)
  local = np.stack([*np.meshgrid(middle, -middle), np.full((side, side), -1.0)], axis=-1)
  return pose[:, 3], local / np.linalg.norm(local, axis=-1, keepdims=True) @ pose[:, :3].T


def billboard_depth(pose: np.ndarray, side: int, half_view: float) -> np.ndarray:
  """The distances (side, side) along the rays to the plane through 0 that faces the camera, which looks at 0.

  >>> pose = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3]])
  >>> bool(np.abs(billboard_depth(pose, 1, 0.3) - 3).max() < 1e-12)
  True
  """
  origin, d = rays_of(pose, side, half_view)
  return np.linalg.norm(origin) / (d @ -pose[:, 2])


def relief(depth: np.ndarray, opacity: np.ndarray, pose: np.ndarray, half_view: float) -> float:
  """How deep what a picture shows is against how wide: the points' deviation along the camera's axis, over that across it
  (root mean square of both directions). 0 of a billboard, near 0.5 of a sphere's front; NaN where fewer than 2 pixels are seen.
  """
  kept = opacity > 0.5
  if kept.sum() < 2:
    return float("nan")
  origin, d = rays_of(pose, len(depth), half_view)
  deviation = ((origin + depth[kept][:, None] * d[kept]) @ pose[:, :3]).std(axis=0)
  return float(deviation[2] / np.sqrt(np.mean(deviation[:2] ** 2)))
