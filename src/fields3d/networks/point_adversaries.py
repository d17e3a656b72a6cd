"""Generators and critics of clouds of points and of codes: dense layers, and one layer for all points with a maximum."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.config import Count
from fields3d.core.numerics import Policy
from fields3d.networks.adversary import Critic, Generator, check_rank
from fields3d.networks.mlp import linear


def init_layers(key: jax.Array, widths: tuple[int, ...]) -> dict:
  """Layers from each width to the next: weights normal of variance 2 / fan-in, biases 0. Source: He et al. 2015.

  >>> sorted(init_layers(jax.random.key(0), (3, 8, 2)))
  ['layer_0', 'layer_1']
  """
  keys = jax.random.split(key, len(widths) - 1)
  return {f"layer_{i}": {"w": jax.random.normal(k, (a, b)) * np.float32(np.sqrt(2 / a)), "b": jnp.zeros(b)}
          for i, (k, (a, b)) in enumerate(zip(keys, itertools.pairwise(widths), strict=True))}


def layers(params: dict, x: jax.Array, slope: float = 0.0, last: bool = False) -> jax.Array:
  """Dense layers on the last axis with rectifiers between them (of `slope` below 0), and after the last one if `last`.

  >>> layers({"layer_0": {"w": -jnp.ones((1, 1)), "b": jnp.zeros(1)}}, jnp.ones((2, 1)), 0.5, last=True).ravel().tolist()
  [-0.5, -0.5]
  """
  h = x.reshape(-1, x.shape[-1])
  for i in range(len(params)):
    h = linear(params[f"layer_{i}"], h, Policy())
    if last or i < len(params) - 1:
      h = jax.nn.leaky_relu(h, slope)
  return h.reshape(*x.shape[:-1], -1)


def _dense_generator(widths: tuple[int, ...], shape: tuple[int, ...]) -> Generator:
  return Generator(init=lambda key, code_dim: init_layers(key, (code_dim, *widths, math.prod(shape))),
                   apply=lambda params, z: layers(params, z).reshape(len(z), *shape), shape=shape)


def point_generator(points: Count = 2048, widths: tuple[Count, ...] = (64, 128, 512, 1024)) -> Generator:
  """A cloud (points, 3) by dense layers; its points have an order, which means nothing.

  Source: r-GAN, Achlioptas et al. 2018, "Learning representations and generative models for 3D point clouds", section 4.2.

  >>> net = point_generator(points=7, widths=(4,))
  >>> net.apply(net.init(jax.random.key(0), 5), jnp.ones((2, 5))).shape
  (2, 7, 3)
  """
  return _dense_generator(widths, (points, 3))


def code_generator(dim: Count = 128, widths: tuple[Count, ...] = (128,)) -> Generator:
  """A code (dim,) of an autoencoder by dense layers.

  Source: l-GAN, Achlioptas et al. 2018, section 4.2. Its last rectifier is left out: here codes have either sign.

  >>> net = code_generator(dim=3, widths=(4,))
  >>> net.apply(net.init(jax.random.key(0), 5), jnp.ones((2, 5))).shape
  (2, 3)
  """
  return _dense_generator(widths, (dim,))


def point_critic(widths: tuple[Count, ...] = (64, 128, 256, 256, 512), dense: tuple[Count, ...] = (128, 64)) -> Critic:
  """The same layers for each point, the maximum over points, dense layers; leaky rectifiers, no norm.

  Raises:
    UsageFault: data that are no clouds.

  Source: r-GAN, Achlioptas et al. 2018, section 4.2.

  >>> net = point_critic(widths=(4, 8), dense=(4,))
  >>> net.apply(net.init(jax.random.key(0), (7, 3)), jnp.ones((2, 7, 3))).shape
  (2,)
  """
  def init(key, shape):
    check_rank("point_critic", shape, 2, "clouds of points")
    point_key, dense_key = jax.random.split(key)
    wide = (shape[-1], *widths)
    return {"points": init_layers(point_key, wide), "dense": init_layers(dense_key, (wide[-1], *dense, 1))}

  def apply(params, x):
    h = jnp.max(layers(params["points"], x, 0.2, last=True), axis=1)
    return layers(params["dense"], h, 0.2)[:, 0]

  return Critic(init, apply)


def code_critic(widths: tuple[Count, ...] = (256, 512)) -> Critic:
  """Dense layers on a code (d,), with leaky rectifiers, to a score.

  Raises:
    UsageFault: data that are no codes.

  Source: l-GAN, Achlioptas et al. 2018, section 4.2; the slope of 0.2 is r-GAN's.

  >>> net = code_critic(widths=(4,))
  >>> net.apply(net.init(jax.random.key(0), (3,)), jnp.ones((2, 3))).shape
  (2,)
  """
  def init(key, shape):
    check_rank("code_critic", shape, 1, "codes")
    return init_layers(key, (*shape, *widths, 1))

  return Critic(init, apply=lambda params, x: layers(params, x, 0.2)[:, 0])
