"""What makes a cloud of points of a code: dense layers all at once, or a diffusion of points that are told the code."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax

from fields3d.core.config import Count, From, Positive, Table
from fields3d.core.errors import UsageFault
from fields3d.generative import DIFFUSIONS, SAMPLERS
from fields3d.generative.diffusion import Diffusion
from fields3d.losses.clouds import chamfer, emd
from fields3d.networks import DENOISERS
from fields3d.networks.denoiser import DenoiserNetwork
from fields3d.networks.point_adversaries import point_generator


@dataclasses.dataclass(frozen=True)
class PointDecoder:
  """init: (key, code_dim) -> params. loss: (params, code (b, d), surface (b, n, 3), key) -> (b,), how far the decoder is
  from making these points. points: (params, code (d,), key) -> (m, 3)."""
  init: Callable
  loss: Callable
  points: Callable


def dense_decoder(points: Count = 2048, widths: tuple[Count, ...] = (256, 256),
                  loss: Literal["chamfer", "emd"] = "chamfer") -> PointDecoder:
  """Dense layers to all coordinates. The same code makes the same points.

  Args:
    loss: "chamfer": of squared distances; "emd": the exact matching's mean distance, which is slow (see `losses.clouds`).

  Raises:
    UsageFault: in training by emd, when a surface has not `points` points.

  Source: Achlioptas et al. 2018, "Learning representations and generative models for 3D point clouds", section 4.1.
  """
  net = point_generator(points, widths)

  def fit(params, code, surface, key):
    del key
    if loss == "emd" and surface.shape[1] != points:
      raise UsageFault("--config.task.decoder.points", f"{points} points cannot be matched to a surface's {surface.shape[1]}",
                       "set --config.data.surface to the same number, or loss=chamfer")
    made = net.apply(params, code)
    return chamfer(made, surface) if loss == "chamfer" else emd(made, surface)

  return PointDecoder(net.init, fit, lambda params, code, key: net.apply(params, code[None])[0])


def diffusion_decoder(diffusion: Annotated[Diffusion, From(DIFFUSIONS)], network: Annotated[DenoiserNetwork, From(DENOISERS)],
                      sampler: Annotated[Callable, From(SAMPLERS)], points: Count = 2048, deviation: Positive = 1.0) -> PointDecoder:
  """A diffusion of points whose network reads the code as one token; its loss bounds the likelihood of points.

  Where the network handles each point on its own (`pointwise`) the points are independent draws of one distribution on
  the surface, and `points` can be any number.

  Args:
    points: drawn of a code.
    deviation: of clouds' coordinates, in the model frame: noise of 1 is as large. (DPM's code makes it 1 in each cloud.)

  Source: DPM, Luo & Hu 2021, "Diffusion probabilistic models for 3D point cloud generation", sections 4.1 and 4.2.
  """
  def init(key, code_dim):
    return network.init(key, (points, 3), 0, code_dim, diffusion.self_condition)

  def ask(params, code, key=None):
    return lambda x, c, previous=None: network.apply(params, x, c, None, code[:, None], key, previous)

  def fit(params, code, surface, key):
    net_key, noise_key = jax.random.split(key)
    return diffusion.loss(ask(params, code, net_key), surface / deviation, noise_key)

  def draw(params, code, key):
    denoise = lambda x, t: diffusion.denoise(ask(params, code[None]), x, t)
    return deviation * sampler(denoise, diffusion.noise, key, (1, points, 3))[0]

  return PointDecoder(init, fit, draw)


POINT_DECODERS: Table = {
    "dense": dense_decoder,
    "diffusion": diffusion_decoder,
}
