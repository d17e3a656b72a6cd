"""Photographs, masks and depth maps from files, every kind of file either read exactly or refused with one line.

PNG (8 and 16 bits), JPEG, WebP and BMP, through Pillow. Colours end as sRGB, 16 bits, premultiplied by coverage, upright.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fields3d.core.errors import BadData, from_os_error
from fields3d.data.npz import read_npy

MAX_PIXELS = 89_000_000  # Pillow warns at 89.5 million, of a decompression bomb
SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".JPEG", ".PNG", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_ORIENTATION = 0x0112  # EXIF's tag
_SWAPPED = (5, 6, 7, 8)  # orientations that swap width and height


class ImageFacts(NamedTuple):
  """What a file's header says: (width, height) once upright and as stored; whether pixels may be transparent; bits of a channel;
  whether EXIF turns or mirrors it."""
  size: tuple[int, int]
  stored: tuple[int, int]
  alpha: bool
  bits: int
  turned: bool


def image_facts(path: str | os.PathLike) -> ImageFacts:
  """Reads the header alone. Raises as `read_image`."""
  with _opened(path) as image:
    return _facts(image)


def read_image(path: str | os.PathLike) -> np.ndarray:
  """A photograph as (h, w, 4) uint16: sRGB colours premultiplied by the coverage in the fourth channel.

  8-bit values are exact (times 257), and so are 16-bit ones of PNG. EXIF orientation is applied; an embedded colour
  profile other than sRGB is converted. Grey and palette images are widened.

  Raises:
    MissingInput: the file is not there or cannot be read.
    BadData: it is empty, cut off, no image, too large (90 million pixels), linear, CMYK or floating point.
  """
  with _opened(path) as image:
    facts = _facts(image)
    if facts.bits == 16:
      straight = _load_16_bits(image, path)
    else:
      straight = np.asarray(_to_srgb(ImageOps.exif_transpose(image), path).convert("RGBA" if facts.alpha else "RGB"))
  return _premultiplied(straight)


def read_mask(path: str | os.PathLike) -> np.ndarray:
  """A mask as (h, w) bool: False where the image is black. Raises as `read_image`."""
  with _opened(path) as image:
    image = ImageOps.exif_transpose(image)
    return np.asarray(image if image.mode.startswith("I") else image.convert("L")) > 0


def read_depth(path: str | os.PathLike, unit: float) -> np.ndarray:
  """A depth map as (h, w) float32: the stored numbers times `unit`; 0 where unknown (0, negative or not finite).

  Args:
    path: a 16-bit grey PNG, or a .npy array (h, w) of numbers.
    unit: length of one stored step, such as 0.001 where the file holds millimetres.

  Raises:
    MissingInput: the file is not there or cannot be read.
    BadData: it is no such file; eight bits are too few for a depth.
  """
  if pathlib.Path(path).suffix == ".npy":
    stored = read_npy(path)
    if stored.ndim != 2:
      raise BadData(path, f"an array of shape {stored.shape}, not (h, w)", "save one number per pixel")
  else:
    with _opened(path) as image:
      if not image.mode.startswith("I"):
        raise BadData(path, f"a depth map of mode {image.mode}: 16 bits and one channel are needed",
                      "save it as 16-bit grey PNG or as .npy")
      stored = np.asarray(ImageOps.exif_transpose(image))
  depth = stored.astype(np.float32) * np.float32(unit)
  return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def area_average(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
  """An image at another size, each new pixel the mean over the area that it covers: exact, at any ratio.

  Args:
    pixels: (h, w, c); integers are rounded at the end, once.

  >>> area_average(np.array([[[0], [2], [4], [7]]], np.uint16), 2, 1).ravel().tolist()
  [1, 6]
  """
  if pixels.shape[:2] == (height, width):
    return pixels
  down, across = pixels.shape[0] // height, pixels.shape[1] // width
  if pixels.shape[:2] == (height * down, width * across):  # whole pixels: the same sums, seven times as fast
    parts = [pixels[i::down, j::across] for i in range(down) for j in range(across)]
    mean = sum(parts, start=np.zeros((height, width, pixels.shape[2]))) / len(parts)
  else:
    mean = _means(_means(pixels, height, 0), width, 1)
  return (np.rint(mean) if np.issubdtype(pixels.dtype, np.integer) else mean).astype(pixels.dtype)


def nearest_sample(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
  """(h, w) values at another size, each the one at the new pixel's centre: for what must not be averaged."""
  h, w = pixels.shape
  rows = ((np.arange(height) + 0.5) * h / height).astype(int)
  columns = ((np.arange(width) + 0.5) * w / width).astype(int)
  return pixels[rows[:, None], columns[None, :]]


def _means(values: np.ndarray, new: int, axis: int) -> np.ndarray:
  """Means over `new` equal intervals of an axis, float64: differences of the integral, which is linear in each pixel."""
  values = np.moveaxis(values, axis, 0)
  old = len(values)
  edges = np.arange(new + 1) * (old / new)
  whole = np.minimum(edges.astype(int), old - 1)
  integral = np.zeros((old, *values.shape[1:]))
  np.cumsum(values[:-1], axis=0, out=integral[1:], dtype=np.float64)
  part = (edges - whole).reshape(-1, *(1,) * (values.ndim - 1))
  return np.moveaxis(np.diff(integral[whole] + part * values[whole], axis=0), 0, axis) * (new / old)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
  """The image, its pixels not read yet; what Pillow raises in the `with` block becomes a fault."""
  try:
    with open(path, "rb") as f:
      head = f.read(16)
  except OSError as e:
    raise from_os_error(e, path) from e
  if not head:
    raise BadData(path, "empty file", "replace the image")
  if head.startswith((b"\x76\x2f\x31\x01", b"#?RADIANCE", b"#?RGBE")):
    raise BadData(path, "a high-dynamic-range image, whose colours are linear", "save it as sRGB PNG or JPEG")
  too_large = BadData(path, f"more than {MAX_PIXELS // 10**6} million pixels", "give a smaller copy")
  try:
    with Image.open(path, formats=_FORMATS) as image:
      if image.width * image.height > MAX_PIXELS:
        raise too_large
      if image.format == "PNG" and not image.tile:
        raise BadData(path, "holds no pixels", "replace the image")
      yield image
  except UnidentifiedImageError as e:
    raise BadData(path, f"no PNG, JPEG, WebP or BMP image: it begins with {head[:8]!r}", "save it as one of them") from e
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
    raise too_large from e
  except ImageCms.PyCMSError as e:
    raise BadData(path, f"its colour profile cannot be used: {e}", "save it as sRGB without a profile") from e
  except (OSError, SyntaxError, ValueError, EOFError) as e:
    raise BadData(path, f"broken image: {e}", "replace it") from e


def _facts(image: Image.Image) -> ImageFacts:
  """Decodes nothing: a PNG's EXIF is asked for only where it stands before the pixels, since Pillow would read them."""
  deep = image.mode.startswith("I") or (image.format == "PNG" and ";16B" in str(image.tile[0].args))
  orientation = image.getexif().get(_ORIENTATION, 1) if image.format != "PNG" or "exif" in image.info else 1
  size = image.size[::-1] if orientation in _SWAPPED else image.size
  return ImageFacts(size, image.size, _has_alpha(image), 16 if deep else 8, orientation in range(2, 9))


def _has_alpha(image: Image.Image) -> bool:
  return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _to_srgb(image: Image.Image, path: str | os.PathLike) -> Image.Image:
  """The image with sRGB colours; a profile is honoured where there is one."""
  if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
    raise BadData(path, f"colours of mode {image.mode}", "save it as sRGB PNG or JPEG")
  _require_srgb_curve(image, path)
  profile = _profile(image)
  if profile is None:
    return image
  wide = image.convert("RGBA")
  kind = "L" if profile.profile.xcolor_space.strip() == "GRAY" and image.mode in ("1", "L", "LA") else "RGB"
  out = ImageCms.profileToProfile(wide.convert(kind), profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
  if _has_alpha(image):
    out.putalpha(wide.getchannel("A"))
  return out


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
  """The image's colour profile; None without one, or where it is sRGB's own, whatever it is named."""
  content = image.info.get("icc_profile")
  if not content:
    return None
  profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
  if profile.profile.xcolor_space.strip() != "RGB":
    return profile
  steps = np.linspace(0, 255, 9).astype(np.uint8)
  colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
  seen = ImageCms.profileToProfile(Image.fromarray(colors), profile, ImageCms.createProfile("sRGB"))
  return None if np.abs(np.asarray(seen).astype(int) - colors).max() <= 2 else profile


def _require_srgb_curve(image: Image.Image, path: str | os.PathLike) -> None:
  gamma = image.info.get("gamma", 0.45455)
  if not 0.4 < gamma < 0.52:
    raise BadData(path, f"its gAMA chunk says {gamma:g}: colours not encoded as sRGB", "save it as sRGB")


def _load_16_bits(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
  """(h, w, 3 or 4) uint16 of a 16-bit PNG, upright. Pillow keeps the high bytes of colours only, so the low ones are read too."""
  _require_srgb_curve(image, path)
  tile = image.tile[0]
  if tile.args not in ("I;16B", "RGB;16B", "RGBA;16B") or "transparency" in image.info:
    raise BadData(path, f"16-bit pixels of kind {tile.args}" + " with a transparent colour" * ("transparency" in image.info),
                  "save it as 16-bit RGB or RGBA, or with 8 bits")
  if _profile(image) is not None:
    raise BadData(path, "16-bit colours with a profile that is not sRGB", "convert it to sRGB")
  high = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
  if high.ndim == 2:
    return np.repeat(high[..., None], 3, axis=2)
  with Image.open(path, formats=("PNG",)) as again:
    again.tile = [tile._replace(args=tile.args.replace("16B", "16L"))]
    return high * 256 + np.asarray(ImageOps.exif_transpose(again))


def _premultiplied(straight: np.ndarray) -> np.ndarray:
  """(h, w, 3 or 4) uint8 or uint16, straight alpha -> (h, w, 4) uint16, rounded once."""
  h, w, channels = straight.shape
  out = np.full((h, w, 4), 65535, np.uint16)
  top = np.iinfo(straight.dtype).max
  if channels == 3:
    out[..., :3] = straight.astype(np.uint16) * (65535 // top)
    return out
  alpha = straight[..., 3:].astype(np.uint64 if top > 255 else np.uint32)
  out[..., :3] = (straight[..., :3] * alpha * (65535 // top) + top // 2) // top
  out[..., 3:] = straight[..., 3:].astype(np.uint16) * (65535 // top)
  return out
