"""The Inception-v3 of the Frechet Inception distance: its pooled 2048-d features, from the standard weight file.

The file is pt_inception-2015-12-05-6726825d.pth (pytorch-fid's release "fid_weights", 95,628,359 bytes;
torch-fidelity's weights-inception-2015-12-05-6726825d.pth is the same), given by path or $FIELDS3D_INCEPTION, read without unpickling
and checked by sha256: the distance of any other features is not FID. The network is TensorFlow's of 2015-12-05:
averages that leave out padding, and a maximum in the last block's pooled branch.

Two conventions of preparing images are in use and give different figures, so that the metric's name says which:
`pytorch-fid` samples at pixel centres and scales to 2x/255 - 1; `torch-fidelity` samples as TensorFlow 1 did, from
the corner, and scales to (x - 128)/128. Neither antialiases.

Source: Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision", section 6; Heusel et al.
2017, section 3; github mseitzer/pytorch-fid src/pytorch_fid/inception.py and toshas/torch-fidelity
torch_fidelity/feature_extractor_inceptionv3.py for the conventions.
"""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.errors import MissingInput
from fields3d.metrics.image_features import Network, Weights, checked_weights, resize_bilinear
from fields3d.metrics.torch_archive import read_torch

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE, DIMENSIONS = 299, 2048
Convention = Literal["pytorch-fid", "torch-fidelity"]
_RESIZED = {"pytorch-fid": "bilinear at pixel centres (align_corners=False, no antialiasing), 2x/255 - 1",
            "torch-fidelity": "bilinear from the corner as TensorFlow 1 (no antialiasing), (x - 128)/128"}


class Conv(NamedTuple):
  """A convolution, normalised and rectified. Padded to keep the size where the stride is 1 and `valid` is not set."""
  name: str
  height: int
  width: int
  channels: int
  stride: int = 1
  valid: bool = False


class Pool(NamedTuple):
  """3 x 3: "mean" (padding left out) and "max" keep the size, "halve" is a maximum of stride 2."""
  kind: str


class Both(NamedTuple):
  """Two convolutions of the same input, side by side."""
  first: Conv
  second: Conv


def _square(name: str, size: int, channels: int, stride: int = 1) -> Conv:
  return Conv(name, size, size, channels, stride)


def _block_a(pool: int) -> tuple:
  return ((_square("branch1x1", 1, 64),),
          (_square("branch5x5_1", 1, 48), _square("branch5x5_2", 5, 64)),
          (_square("branch3x3dbl_1", 1, 64), _square("branch3x3dbl_2", 3, 96), _square("branch3x3dbl_3", 3, 96)),
          (Pool("mean"), _square("branch_pool", 1, pool)))


def _block_c(c: int) -> tuple:
  return ((_square("branch1x1", 1, 192),),
          (_square("branch7x7_1", 1, c), Conv("branch7x7_2", 1, 7, c), Conv("branch7x7_3", 7, 1, 192)),
          (_square("branch7x7dbl_1", 1, c), Conv("branch7x7dbl_2", 7, 1, c), Conv("branch7x7dbl_3", 1, 7, c),
           Conv("branch7x7dbl_4", 7, 1, c), Conv("branch7x7dbl_5", 1, 7, 192)),
          (Pool("mean"), _square("branch_pool", 1, 192)))


def _block_e(pool: str) -> tuple:
  return ((_square("branch1x1", 1, 320),),
          (_square("branch3x3_1", 1, 384), Both(Conv("branch3x3_2a", 1, 3, 384), Conv("branch3x3_2b", 3, 1, 384))),
          (_square("branch3x3dbl_1", 1, 448), _square("branch3x3dbl_2", 3, 384),
           Both(Conv("branch3x3dbl_3a", 1, 3, 384), Conv("branch3x3dbl_3b", 3, 1, 384))),
          (Pool(pool), _square("branch_pool", 1, 192)))


_STEM = (Conv("Conv2d_1a_3x3", 3, 3, 32, 2), Conv("Conv2d_2a_3x3", 3, 3, 32, 1, True), _square("Conv2d_2b_3x3", 3, 64),
         Pool("halve"), _square("Conv2d_3b_1x1", 1, 80), Conv("Conv2d_4a_3x3", 3, 3, 192, 1, True), Pool("halve"))
_BLOCKS = {
    "Mixed_5b": _block_a(32), "Mixed_5c": _block_a(64), "Mixed_5d": _block_a(64),
    "Mixed_6a": ((_square("branch3x3", 3, 384, 2),),
                 (_square("branch3x3dbl_1", 1, 64), _square("branch3x3dbl_2", 3, 96),
                  _square("branch3x3dbl_3", 3, 96, 2)),
                 (Pool("halve"),)),
    "Mixed_6b": _block_c(128), "Mixed_6c": _block_c(160), "Mixed_6d": _block_c(160), "Mixed_6e": _block_c(192),
    "Mixed_7a": ((_square("branch3x3_1", 1, 192), _square("branch3x3_2", 3, 320, 2)),
                 (_square("branch7x7x3_1", 1, 192), Conv("branch7x7x3_2", 1, 7, 192), Conv("branch7x7x3_3", 7, 1, 192),
                  _square("branch7x7x3_4", 3, 192, 2)),
                 (Pool("halve"),)),
    "Mixed_7b": _block_e("mean"), "Mixed_7c": _block_e("max"),
}


def inception(path: str | os.PathLike | None = None, convention: Convention = "pytorch-fid") -> Network:
  """The network with the published weights.

  Args:
    path: the weight file; $FIELDS3D_INCEPTION when None.

  Raises:
    MissingInput: no file. BadData: another file than the published one.
  """
  path = path or os.environ.get("FIELDS3D_INCEPTION")
  if not path or not pathlib.Path(path).is_file():
    raise MissingInput(path or "FID's Inception weights", "no such file" if path else "are not here",
                       "set FIELDS3D_INCEPTION to pt_inception-2015-12-05-6726825d.pth of pytorch-fid's release")
  return network(read_torch(path, SHA256), convention, path)


def network(weights: Weights, convention: Convention, where: object = "weights") -> Network:
  """The network with any weights of these names and shapes (a state dict of pytorch-fid's or torch-fidelity's)."""
  protocol = (f"Inception-v3 of TensorFlow 2015-12-05, pooled {DIMENSIONS}-d features; images resized to {SIZE}x{SIZE} "
              f"as {convention} does: {_RESIZED[convention]}")
  return Network(f"FID ({convention})", f"KID ({convention})", DIMENSIONS, protocol, f"inception-{convention}",
                 checked_weights(weights, weight_shapes(), where), functools.partial(features, convention=convention))


def weight_shapes() -> dict[str, tuple[int, ...]]:
  """Names, as in the published state dict, and shapes of every weight that features need, kernels as OIHW.

  >>> len([name for name in weight_shapes() if name.endswith("conv.weight")])
  94
  """
  out: dict[str, tuple[int, ...]] = {}

  def add(conv: Conv, prefix: str, channels: int) -> int:
    name = prefix + conv.name
    out[f"{name}.conv.weight"] = (conv.channels, channels, conv.height, conv.width)
    out.update({f"{name}.bn.{part}": (conv.channels,) for part in ("weight", "bias", "running_mean", "running_var")})
    return conv.channels

  def walk(steps: tuple, prefix: str, channels: int) -> int:
    for step in steps:
      if isinstance(step, Conv):
        channels = add(step, prefix, channels)
      elif isinstance(step, Both):
        channels = sum([add(conv, prefix, channels) for conv in step])
    return channels

  channels = walk(_STEM, "", 3)
  for block, branches in _BLOCKS.items():
    channels = sum([walk(branch, f"{block}.", channels) for branch in branches])
  return out


@functools.partial(jax.jit, static_argnames="convention")
def features(weights: Weights, images: jax.Array, convention: Convention) -> jax.Array:
  """Images (b, h, w, 3) uint8 sRGB -> features (b, 2048) float32."""
  x = jnp.float32(images)
  if convention == "pytorch-fid":
    x = 2 * resize_bilinear(x / 255, SIZE, 0.5) - 1
  else:
    x = (resize_bilinear(x, SIZE, 0.0) - 128) / 128
  x = _run(weights, _STEM, "", x)
  for block, branches in _BLOCKS.items():
    x = jnp.concatenate([_run(weights, branch, f"{block}.", x) for branch in branches], axis=-1)
  return jnp.mean(x, axis=(1, 2))


def _run(weights: Weights, steps: tuple, prefix: str, x: jax.Array) -> jax.Array:
  for step in steps:
    if isinstance(step, Pool):
      x = _pool(x, step.kind)
    else:
      x = jnp.concatenate(list(_convolved(weights, step, prefix, x)), axis=-1)
  return x


def _convolved(weights: Weights, step: Conv | Both, prefix: str, x: jax.Array) -> Iterator[jax.Array]:
  for conv in [step] if isinstance(step, Conv) else step:
    name = prefix + conv.name
    gain = weights[f"{name}.bn.weight"] / jnp.sqrt(weights[f"{name}.bn.running_var"] + 1e-3)
    kernel = (weights[f"{name}.conv.weight"] * gain[:, None, None, None]).transpose(2, 3, 1, 0)
    padding = "VALID" if conv.valid or conv.stride > 1 else "SAME"
    y = jax.lax.conv_general_dilated(x, kernel, (conv.stride, conv.stride), padding,
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest")
    yield jax.nn.relu(y + (weights[f"{name}.bn.bias"] - weights[f"{name}.bn.running_mean"] * gain)[None, None, None])


def _pool(x: jax.Array, kind: str) -> jax.Array:
  if kind != "mean":
    stride, padding = (2, "VALID") if kind == "halve" else (1, "SAME")
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)
  total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
  near = [np.minimum(np.arange(n) + 2, n) - np.maximum(np.arange(n) - 1, 0) for n in x.shape[1:3]]
  return total / np.float32(np.outer(*near))[None, :, :, None]
