"""Rendered images as pictures, and pictures as a film: mp4 through ffmpeg, animated webp, gif or png through Pillow.

A film appears whole or not at all.
"""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator, Mapping

import matplotlib
import numpy as np
from PIL import Image

from fields3d.core.errors import IOFault, Unavailable, UsageFault, from_os_error, nearest
from fields3d.core.strict_json import make_place

MAP = "viridis"  # of depth: even steps look even; near is bright


def rgb_picture(image: Mapping[str, np.ndarray], depth_range: tuple[float, float]) -> np.ndarray:
  """The colours, (h, w, 3) uint8 sRGB."""
  del depth_range
  return _bytes(image["rgb"])


def depth_picture(image: Mapping[str, np.ndarray], depth_range: tuple[float, float]) -> np.ndarray:
  """The depth in colours of `MAP` over `depth_range`, nearest brightest, over white by opacity; (h, w, 3) uint8."""
  low, high = depth_range
  part = np.clip((image["depth"] - low) / max(high - low, 1e-9), 0, 1)
  return _over_white(matplotlib.colormaps[MAP](1 - part)[..., :3], image["opacity"])


def normal_picture(image: Mapping[str, np.ndarray], depth_range: tuple[float, float]) -> np.ndarray:
  """The unit normal of the model frame, (n + 1) / 2, over white by opacity; (h, w, 3) uint8."""
  del depth_range
  length = np.linalg.norm(image["normal"], axis=-1, keepdims=True)
  return _over_white(0.5 + 0.5 * image["normal"] / np.maximum(length, 1e-9), image["opacity"])


def opacity_picture(image: Mapping[str, np.ndarray], depth_range: tuple[float, float]) -> np.ndarray:
  """The opacity, white where opaque; (h, w, 3) uint8."""
  del depth_range
  return _bytes(np.repeat(image["opacity"][..., None], 3, axis=-1))


PICTURES: Mapping[str, Callable] = {"rgb": rgb_picture, "depth": depth_picture, "normal": normal_picture,
                                    "opacity": opacity_picture}


def depth_values(image: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
  """The depth in 16 bits (h, w) uint16, 0 where nothing is seen, and its scale: depth = value * scale.

  >>> values, scale = depth_values({"depth": np.array([[0, 2.0]]), "opacity": np.array([[0, 1.0]])})
  >>> values.tolist(), float(values[0, 1] * scale)
  ([[0, 65535]], 2.0)
  """
  seen = image["depth"] * (image["opacity"] > 0)
  scale = max(float(seen.max()), 1e-9) / 65535
  return np.rint(seen / scale).astype(np.uint16), scale


def _bytes(colors: np.ndarray) -> np.ndarray:
  return np.rint(255 * np.clip(colors, 0, 1)).astype(np.uint8)


def _over_white(colors: np.ndarray, opacity: np.ndarray) -> np.ndarray:
  return _bytes(1 + opacity[..., None] * (colors - 1))


def write_film(path: pathlib.Path, frames: Iterator[np.ndarray], fps: float) -> None:
  """Writes frames, each (h, w, 3) uint8 and made only now, as the film that the path's ending names.

  mp4 is H.264, 4:2:0, near lossless (CRF 17), with odd sides filled up by repeating the last pixels; frames stream
  into it. The others keep every pixel (gif: 256 colours) and all frames in memory until the end.

  Raises:
    UsageFault: an unknown ending. Unavailable: mp4 without imageio-ffmpeg. CannotWrite, IOFault: the disk.
  """
  check_film(path)
  temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
  make_place(path)
  try:
    FILMS[path.suffix](temporary, frames, fps)
    os.replace(temporary, path)
  except OSError as error:
    raise from_os_error(error, path) from error
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()


def check_film(path: pathlib.Path) -> None:
  """Faults for what `write_film` could not write, before anything is rendered."""
  if path.suffix not in FILMS:
    raise UsageFault("--out", f"no film ends in {path.suffix!r}", nearest(path.suffix, FILMS) + ", or a directory/")
  if path.suffix == ".mp4":
    _ffmpeg()


def _ffmpeg():
  try:
    import imageio_ffmpeg
  except ImportError as error:
    raise Unavailable("imageio-ffmpeg", "is not installed, and mp4 needs it",
                      "pip install 'fields3d[video]', or write .webp, .gif, .png or a directory") from error
  return imageio_ffmpeg


def _write_mp4(path: pathlib.Path, frames: Iterator[np.ndarray], fps: float) -> None:
  """Streams the frames into ffmpeg; started here, since imageio-ffmpeg's own way forks, which jax's threads forbid."""
  process = None
  try:
    for frame in frames:
      even = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
      if process is None:
        process = subprocess.Popen(
            [_ffmpeg().get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
             f"{even.shape[1]}x{even.shape[0]}", "-r", str(fps), "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p",
             "-crf", "17", "-movflags", "+faststart", str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
      process.stdin.write(even.tobytes())
    _, said = process.communicate()
    if process.returncode:
      raise IOFault(path, f"ffmpeg failed: {said.decode(errors='replace').strip()[-200:]}", "check the disk")
  finally:
    if process is not None and process.poll() is None:
      process.kill()
      process.communicate()


def _write_animation(path: pathlib.Path, frames: Iterator[np.ndarray], fps: float) -> None:
  first, *rest = [Image.fromarray(frame) for frame in frames]
  lossless = {"lossless": True} if path.suffix == ".webp" else {}
  first.save(path, save_all=True, append_images=rest, duration=1000 / fps, loop=0, **lossless)


FILMS: Mapping[str, Callable] = {".mp4": _write_mp4, ".webp": _write_animation, ".gif": _write_animation,
                                 ".png": _write_animation}
