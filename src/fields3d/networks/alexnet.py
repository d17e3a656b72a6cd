"""AlexNet's convolutions with ImageNet's weights, and LPIPS v0.1's heads, from a file that the user has.

The weights are an .npz of ImageNet's AlexNet (torchvision's, IMAGENET1K_V1) and the v0.1 heads of PyPI's `lpips`, for
layers i = 0..4: `conv{i}_kernel_hwio`, `conv{i}_bias` (features.{0,3,6,8,10}, kernels transposed from OIHW), `lin{i}`.
It is looked for at a given path, at $FIELDS3D_LPIPS, then under $FIELDS3D_DATA. Its values, not the file's bytes, are
checked by sha256, so that whoever packs the same weights anew passes too.
"""

import hashlib
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields3d.core.errors import BadData, MissingInput, from_os_error

SHA256 = "bc6d59df40a7133871b10370a323f2f5bb57884e88f3f1c8a8dfb825fea84082"
WIDTHS = (64, 192, 384, 256, 256)  # channels of the layers
SMALLEST = 31  # pixels of a side that leave the last layer one
_STRIDE, _PADDING, _POOLED = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (False, True, True, False, False)
_SHIFT, _SCALE = np.float32([-0.030, -0.088, -0.188]), np.float32([0.458, 0.448, 0.450])
_DATA_PATH = "features/lpips/alexnet_lpips_v01.npz"

Weights = Mapping[str, np.ndarray]


def find_weights(path: str | os.PathLike | None = None) -> Weights:
  """The weights of a file, checked.

  Args:
    path: the .npz; by default $FIELDS3D_LPIPS, then $FIELDS3D_DATA/features/lpips/alexnet_lpips_v01.npz.

  Raises:
    MissingInput: there is no such file, with how to get one. BadData: it holds anything else.
  """
  folder = os.environ.get("FIELDS3D_DATA")
  path = path or os.environ.get("FIELDS3D_LPIPS") or (folder and pathlib.Path(folder, _DATA_PATH))
  if not path or not pathlib.Path(path).is_file():
    raise MissingInput(path or "AlexNet's weights", "no such file" if path else "are not here",
                       "set FIELDS3D_LPIPS to an .npz as the page of fields3d.networks.alexnet describes")
  try:
    with np.load(path, allow_pickle=False) as file:
      weights = {name: file[name] for name in file.files}
  except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
    raise BadData(path, f"is not a whole .npz of arrays ({error})", "pack the weights again") from error
  except OSError as error:
    raise from_os_error(error, path) from error
  if (found := digest(weights)) != SHA256:
    raise BadData(path, f"its values have sha256 {found[:12]}..., LPIPS v0.1 with AlexNet has {SHA256[:12]}...",
                  "pack the weights as the page of fields3d.networks.alexnet describes")
  return weights


def digest(weights: Weights) -> str:
  """The sha256 of named arrays: of each name, type, shape and values, by name."""
  seen = hashlib.sha256()
  for name, value in sorted(weights.items()):
    seen.update(f"{name} {value.dtype.str} {value.shape}\n".encode() + np.ascontiguousarray(value).tobytes())
  return seen.hexdigest()


def activations(weights: Mapping[str, jax.Array], images: Float[Array, "b h w 3"], precision: str = "highest"
                ) -> Sequence[Float[Array, "b h2 w2 c"]]:
  """What the five convolutional layers say of images, sRGB in [0, 1], after their rectifiers.

  Args:
    images: with sides of at least `SMALLEST` pixels. precision: of the products, as `jax.lax` names it.

  Source: Krizhevsky 2014, "One weird trick", as torchvision has it; scaled as Zhang et al. 2018 (LPIPS) do.
  """
  x, said = (2 * images - 1 - _SHIFT[None, None, None]) / _SCALE[None, None, None], []
  for i, (stride, padding, pooled) in enumerate(zip(_STRIDE, _PADDING, _POOLED)):
    if pooled:
      x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    x = jax.lax.conv_general_dilated(x, weights[f"conv{i}_kernel_hwio"], (stride, stride), [(padding, padding)] * 2,
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision)
    x = jax.nn.relu(x + weights[f"conv{i}_bias"][None, None, None])
    said.append(x)
  return said
