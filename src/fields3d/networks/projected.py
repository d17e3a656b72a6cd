"""A discriminator that also looks at what a network trained on photographs sees: heads on AlexNet's layers, beside pixels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.networks import alexnet
from fields3d.networks.discriminator import (
  Discriminator,
  discriminator,
  group_deviation,
  largest_group,
  scored,
  spectral_scale,
)
from fields3d.networks.equalised import convolve, dense, init_conv, init_dense, leaky

_LAYERS = (0, 1, 2, 4)


def projected(width: Count = 32, widest: Count = 128, head: Count = 64, group: Index = 8, enlarge: Count = 1,
              weights: str | None = None) -> Discriminator:
  """`discriminator` on pixels, its score the first; and a score of each of four heads on frozen layers of AlexNet.

  A head sees unit vectors of a layer's features mixed at random, once and for all, and has two convolutions with spectral
  norm, a mean over places, and the projection of the condition. To its score it adds a layer of each mean feature's deviation
  among pictures, so that draws of one colour are seen whatever their poses. Penalties of gradients are of the pixels' score
  alone. The frozen weights ("alexnet", "mixing") are part of the parameters, so that a checkpoint is whole; they get no gradient,
  but an optimiser with weight_decay wears them too, unless its `decay` names others.

  Args:
    width, widest: of `discriminator`. head: channels of a head.
    group: pictures among which the heads measure deviations, the largest divisor of the batch up to it; 0 measures none. (The
      discriminator of pixels measures its own.)
    enlarge: pictures are enlarged by so much, bilinearly, before AlexNet sees their first three channels.
    weights: the file of AlexNet's weights, see `networks.alexnet`.

  Raises:
    MissingInput, BadData: no such file, or another one. UsageFault: pictures of which AlexNet's last layer leaves nothing.

  Source: Sauer et al. 2021, "Projected GANs converge faster", section 3.2, for frozen features, mixed at random; Kumari et
    al. 2022, "Ensembling off-the-shelf models for GAN training", for heads beside a discriminator of pixels; Karras
    et al. 2018, "Progressive growing of GANs", section 3, for deviations.
  """
  pixels = discriminator(width, widest)

  def init(key, size, channels, condition_dim=0):
    if size * enlarge < alexnet.SMALLEST:
      raise UsageFault("--config.task.discriminator.enlarge", f"AlexNet sees {size * enlarge} pixels a side, less than its "
                       f"{alexnet.SMALLEST}", f"set it to {-(-alexnet.SMALLEST // size)}")
    pixel_key, *head_keys = jax.random.split(key, 1 + len(_LAYERS))
    found = alexnet.find_weights(weights)
    frozen = {name: jnp.asarray(value, jnp.float32) for name, value in found.items() if name.startswith("conv")}
    heads = {str(i): _init_head(k, alexnet.WIDTHS[i], head, condition_dim, group) for i, k in zip(_LAYERS, head_keys)}
    return {"pixels": pixels.init(pixel_key, size, channels, condition_dim), "heads": heads, "alexnet": frozen}

  def apply(params, pictures, condition=None):
    seen = pictures[..., :3]
    if enlarge > 1:
      b, h, w, c = seen.shape
      seen = jax.image.resize(seen, (b, enlarge * h, enlarge * w, c), "bilinear")
    said = alexnet.activations(jax.lax.stop_gradient(params["alexnet"]), seen, "default")
    scores = [pixels.apply(params["pixels"], pictures, condition)]
    scores += [_score(params["heads"][str(i)], said[i], condition, group) for i in _LAYERS]
    return jnp.stack(scores, axis=1)

  return Discriminator(init, apply, lambda params, *seen: pixels.apply(params["pixels"], *seen))


def _init_head(key, channels: int, width: int, condition_dim: int, group: int):
  keys = jax.random.split(key, 7)
  params = {"mixing": jax.random.normal(keys[0], (channels, width)), "score": init_dense(keys[3], width, 1),
            "conv_0": init_conv(keys[1], 3, width, width), "conv_1": init_conv(keys[2], 1, width, width)}
  if condition_dim:
    params |= {"condition_0": init_dense(keys[4], condition_dim, width), "condition_1": init_dense(keys[5], width, width)}
  if group:
    params["deviation"] = init_dense(keys[6], width, 1)
  return params


def _score(params, said: Float[Array, "b h w c"], condition, group: int) -> Float[Array, " b"]:
  unit = said / jnp.sqrt(jnp.sum(said**2, axis=-1, keepdims=True) + 1e-6)
  h = unit @ jax.lax.stop_gradient(params["mixing"])
  for name in ("conv_0", "conv_1"):
    h = leaky(convolve(h, params[name]["w"] / spectral_scale(params[name]["w"])) + params[name]["b"][None, None, None])
  h = jnp.mean(h, axis=(1, 2))
  score = scored(params, h, condition)
  if group:
    score += dense(params["deviation"], group_deviation(h, largest_group(len(h), group)))[:, 0]
  return score
