"""Networks that turn images into features, behind one face: what a Frechet distance needs to know of either.

Frechet distances of different networks, weights or ways of resizing are different metrics, so each network carries
the metric's name and, in words, what was done to the images.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.errors import BadData

Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Network:
  """A network with its weights.

  metric: what a Frechet distance of its features is called; kernel: what the kernel distance is called.
  dimensions: of a feature. protocol: network, weights, resizing and scaling in words. key: names all of these in a
    cache's file.
  apply: (weights, images (b, h, w, 3) uint8) -> features (b, dimensions) float32; compiled once per image size.
  """
  metric: str
  kernel: str
  dimensions: int
  protocol: str
  key: str
  weights: Weights
  apply: Callable[[Weights, jax.Array], jax.Array]


def features_of(network: Network, images: Iterable[np.ndarray], batch: int = 16,
                advance: Callable[[int], None] = lambda done: None) -> np.ndarray:
  """The features (n, dimensions) float64 of images, taken one by one.

  Every image is worked on for itself; the batch changes no more than float32 rounding. Images of equal size that
  follow each other share a batch; the last is filled up, so that each size is compiled once.

  Args:
    images: (h, w, 3) uint8 sRGB each, of any sizes. batch: images a call. advance: told how many are done.

  Raises:
    BadData: something else than such an image, by its number.
  """
  out: list[np.ndarray] = []
  waiting: list[np.ndarray] = []

  def flush():
    if waiting:
      stack = np.stack(waiting + [waiting[-1]] * (batch - len(waiting)))
      out.append(np.asarray(network.apply(network.weights, stack), np.float64)[:len(waiting)])
      waiting.clear()
      advance(sum(map(len, out)))

  for i, image in enumerate(images):
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
      raise BadData(f"image {i}", f"is {image.dtype} of shape {image.shape}", "give (h, w, 3) uint8")
    if waiting and image.shape != waiting[0].shape:
      flush()
    waiting.append(image)
    if len(waiting) == batch:
      flush()
  flush()
  return np.concatenate(out) if out else np.zeros((0, network.dimensions))


def checked_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]], where: object) -> Weights:
  """The named weights as float32, in the order of `shapes`; others (classifiers, counters) are left out.

  Raises:
    BadData: one is missing, has another shape, or is not finite.
  """
  out = {}
  for name, shape in shapes.items():
    if name not in weights:
      raise BadData(where, f"has no {name!r}", "give this network's published weights")
    if weights[name].shape != shape:
      raise BadData(where, f"{name} has shape {weights[name].shape}, not {shape}",
                    "give this network's published weights")
    out[name] = jnp.asarray(np.asarray(weights[name], np.float32))
    if not np.isfinite(out[name]).all():
      raise BadData(where, f"{name} has a value that is not finite", "copy or download the weights again")
  return out


def resize_bilinear(images: jax.Array, size: int, corner: float) -> jax.Array:
  """Bilinear samples (b, size, size, c) of (b, h, w, c), two nearest pixels an axis (no antialiasing).

  Args:
    corner: of output i, the input place is (i + corner) * scale - corner: 0.5 for pixel centres (torch's
      align_corners=False), 0 for TensorFlow 1's. Places outside take the edge's value.
  """
  for axis in (1, 2):
    length = images.shape[axis]
    place = np.clip((np.arange(size) + corner) * (length / size) - corner, 0, length - 1)
    low = np.minimum(place.astype(np.int64), length - 1)
    share = np.float32(place - low).reshape([-1 if k == axis else 1 for k in range(4)])
    first, second = (jnp.take(images, index, axis=axis) for index in (low, np.minimum(low + 1, length - 1)))
    images = first + (second - first) * share
  return images
