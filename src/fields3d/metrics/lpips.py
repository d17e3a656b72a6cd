"""LPIPS v0.1 with AlexNet: the learned perceptual distance of two images, from weights that the user has (`networks.alexnet`).

Source: Zhang, Isola, Efros, Shechtman & Wang 2018, "The unreasonable effectiveness of deep features as a perceptual
metric", equation 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.networks.alexnet import SMALLEST, Weights, activations


def lpips(weights: Weights, image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float | None:
  """The distance of two images, 0 for equal ones; None for sides under `SMALLEST` pixels.

  Args:
    weights: of `find_weights`.
    image, truth: (h, w, 3) sRGB in [0, 1].
    mask: (h, w) bool; pixels that do not count are the truth's in both images.
  """
  if min(truth.shape[:2]) < SMALLEST:
    return None
  if mask is not None:
    image = np.where(mask[..., None], image, truth)
  return float(_distance(weights, jnp.asarray(image, jnp.float32), jnp.asarray(truth, jnp.float32)))


@jax.jit
def _distance(weights: Weights, image: jax.Array, truth: jax.Array) -> jax.Array:
  total = jnp.zeros(())
  for i, x in enumerate(activations(weights, jnp.stack([image, truth]))):
    unit = x / (jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True)) + 1e-10)
    total += jnp.mean(jnp.matmul((unit[0] - unit[1]) ** 2, weights[f"lin{i}"], precision="highest"))
  return total
