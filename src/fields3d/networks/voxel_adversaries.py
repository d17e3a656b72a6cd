"""The generator and the critic of voxel grids: 4^3 kernels of stride 2, from 4^3 voxels up and down to them."""

from typing import Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Index
from fields3d.core.errors import UsageFault
from fields3d.core.numerics import Policy
from fields3d.networks.adversary import Critic, Generator, check_rank
from fields3d.networks.discriminator import group_deviation, largest_group, spectral_scale
from fields3d.networks.mlp import init_linear, linear
from fields3d.networks.volumes import Norm, doubled, halved, init_kernel, init_scales, normalised


def _sizes(size: int, where: str) -> list[int]:
  """4, 8, ... below `size`."""
  if size < 8 or size & (size - 1):
    raise UsageFault(where, f"a grid of {size}^3 is not 4^3 doubled", "give 8, 16, 32, 64 ...")
  return [4 << i for i in range((size // 4).bit_length() - 1)]


def voxel_generator(size: Count = 64, width: Count = 64, norm: Norm = "batch") -> Generator:
  """A code as 4^3 voxels, doubled up to size^3 x 1; a norm and a rectifier before each doubling.

  With norm "batch" a grid depends on the codes it is made with, in training and afterwards alike.

  Args:
    width: of features at half the size, twice as many at each half before; 64 at size 64 is the paper's 512-256-128-64.

  Raises:
    UsageFault: a size that is no power of two from 8 on.

  Source: Wu et al. 2016, "Learning a probabilistic latent space of object shapes via 3D generative-adversarial modeling",
    section 3.1 and appendix A.

  >>> net = voxel_generator(size=8, width=4)
  >>> net.apply(net.init(jax.random.key(0), 5), jnp.ones((2, 5))).shape
  (2, 8, 8, 8, 1)
  """
  sizes = _sizes(size, "voxel_generator.size")
  wide = lambda n: width * (size // (2 * n)) if n < size else 1

  def init(key, code_dim):
    start, *keys = jax.random.split(key, len(sizes) + 1)
    params = {"start": init_linear(start, code_dim, 64 * wide(4))}
    for n, k in zip(sizes, keys, strict=True):
      params[f"norm_{n}"] = init_scales(wide(n))
      params[f"to_{2 * n}"] = init_kernel(k, 8, wide(n), wide(2 * n))
    return params

  def apply(params, z):
    h = linear(params["start"], z, Policy()).reshape(len(z), 4, 4, 4, -1)
    for n in sizes:
      h = jax.nn.relu(normalised(params[f"norm_{n}"], h, norm))
      h = doubled(h, params[f"to_{2 * n}"]["w"]) + params[f"to_{2 * n}"]["b"].reshape(1, 1, 1, 1, -1)
    return jax.nn.sigmoid(h)

  return Generator(init, apply, (size, size, size, 1))


def voxel_critic(width: Count = 64, norm: Literal["batch", "layer", "spectral", "none"] = "batch", group: Index = 0) -> Critic:
  """Halves a grid (n, n, n, c) down to 4^3 with a norm and a leaky rectifier each time, then one score.

  Args:
    width: of features at half the size, doubling with every halving; 64 at 64^3 is the paper's 64-128-256-512.
    norm: "batch" makes a score depend on the batch, which a penalty on each row's own gradient does not allow for (use "layer"
      or "none" with WGAN-GP); "spectral" divides every kernel by its largest singular value, as a matrix of what it reads
      by what it gives.
    group: grids among which the last features' deviations are measured, which the score is told beside them, so that a
      collapse can be seen; the largest divisor of the batch up to it. 0, as in the paper, measures none.

  Raises:
    UsageFault: data that are no grids, or a grid that is no power of two from 8 on.

  Source: Wu et al. 2016, appendix A; Gulrajani et al. 2017, section 4, on norms; Miyato et al. 2018, equation 8;
    Karras et al. 2018, section 3, on deviations.

  >>> net = voxel_critic(width=4)
  >>> net.apply(net.init(jax.random.key(0), (8, 8, 8, 1)), jnp.ones((2, 8, 8, 8, 1))).shape
  (2,)
  """
  def kernel(params):
    return params["w"] / spectral_scale(params["w"]) if norm == "spectral" else params["w"]

  def init(key, shape):
    check_rank("voxel_critic", shape, 4, "grids of voxels")
    sizes = _sizes(shape[0], "voxel_critic")
    wide = lambda n: width * (shape[0] // (2 * n)) if n < shape[0] else shape[-1]
    score, *keys = jax.random.split(key, len(sizes) + 1)
    params = {"score": init_linear(score, 64 * wide(4) * (2 if group else 1), 1)}
    for n, k in zip(sizes, keys, strict=True):
      params[f"to_{n}"] = init_kernel(k, 64, wide(2 * n), wide(n))
      if norm in ("batch", "layer"):
        params[f"norm_{n}"] = init_scales(wide(n))
    return params

  def apply(params, x):
    h = x
    while (n := h.shape[1] // 2) >= 4:
      h = halved(h, kernel(params[f"to_{n}"])) + params[f"to_{n}"]["b"].reshape(1, 1, 1, 1, -1)
      if norm in ("batch", "layer"):
        h = normalised(params[f"norm_{n}"], h, norm)
      h = jax.nn.leaky_relu(h, 0.2)
    if group:
      h = jnp.concatenate([h, group_deviation(h, largest_group(len(h), group))], axis=-1)
    score = {"w": kernel(params["score"]), "b": params["score"]["b"]}
    return linear(score, h.reshape(len(h), -1), Policy())[:, 0]

  return Critic(init, apply)
