"""Images from files: exact values, orientation, profiles, and one line for everything that is no photograph."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from fields3d.core.errors import BadData, Fault, MissingInput
from fields3d.data.images import (
    MAX_PIXELS,
    area_average,
    image_facts,
    nearest_sample,
    read_depth,
    read_image,
    read_mask,
)


def png(pixels, extra=b""):
  """A PNG of (h, w, c) uint8 or uint16, written here: the oracle of what is stored."""
  h, w, c = pixels.shape
  raw = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)

  def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

  header = struct.pack(">IIBBBBB", w, h, 8 * pixels.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
  body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
  return b"\x89PNG\r\n\x1a\n" + body


def random(h, w, c, dtype, seed=0):
  return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (h, w, c)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_values_are_exact_in_8_and_16_bits_and_colours_premultiplied(tmp_path, dtype, channels):
  stored = random(5, 7, channels, dtype)
  (tmp_path / "a.png").write_bytes(png(stored))
  unit = stored.astype(np.float64) / np.iinfo(dtype).max
  color = np.broadcast_to(unit[..., :1], (5, 7, 3)) if channels == 1 else unit[..., :3]
  alpha = unit[..., 3:] if channels == 4 else np.ones((5, 7, 1))
  expected = np.concatenate([color * alpha, alpha], axis=-1) * 65535
  pixels = read_image(tmp_path / "a.png")
  assert pixels.dtype == np.uint16
  np.testing.assert_allclose(pixels, expected, rtol=0, atol=0.5 + 1e-9)  # rounded once
  facts = image_facts(tmp_path / "a.png")
  assert facts == ((7, 5), (7, 5), channels == 4, 8 * np.dtype(dtype).itemsize, False)


def test_grey_with_alpha_and_palettes_are_widened(tmp_path):
  stored = random(4, 4, 2, np.uint8)
  (tmp_path / "la.png").write_bytes(png(stored))
  pixels = read_image(tmp_path / "la.png")
  np.testing.assert_array_equal(pixels[..., 3], stored[..., 1] * np.uint16(257))
  palette = Image.fromarray(random(4, 4, 3, np.uint8) // 128 * 255).quantize(8)
  palette.save(tmp_path / "p.png")
  np.testing.assert_array_equal(read_image(tmp_path / "p.png")[..., :3], np.asarray(palette.convert("RGB")) * np.uint16(257))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_sizes_and_pixels(tmp_path, orientation):
  upright = np.zeros((16, 32, 3), np.uint8)
  upright[:8, :16] = 255  # the top left quarter is white
  turn = [lambda a: a, np.fliplr, lambda a: a[::-1, ::-1], np.flipud, lambda a: a.swapaxes(0, 1),
          lambda a: np.rot90(a, 1), lambda a: a[::-1, ::-1].swapaxes(0, 1), lambda a: np.rot90(a, -1)]
  exif = Image.Exif()
  exif[0x0112] = orientation
  Image.fromarray(np.ascontiguousarray(turn[orientation - 1](upright))).save(tmp_path / "a.jpg", exif=exif, quality=95)
  assert image_facts(tmp_path / "a.jpg").size == (32, 16)
  np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[..., :3] / 65535, upright / 255.0, atol=0.1)  # of JPEG


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_exif_orientation_is_applied_in_16_bits_too(tmp_path, channels):
  stored, exif = random(3, 5, channels, np.uint16), Image.Exif()
  exif[0x0112] = 6
  content = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
  extra = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
  (tmp_path / "turned.png").write_bytes(png(stored, extra))
  (tmp_path / "upright.png").write_bytes(png(np.rot90(stored, -1)))
  assert image_facts(tmp_path / "turned.png").size == (3, 5)
  np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), read_image(tmp_path / "upright.png"))


def test_transparency_and_profiles_of_16_bit_grey_are_not_passed_over(tmp_path):
  content = b"tRNS" + struct.pack(">H", 9000)
  extra = struct.pack(">I", 2) + content + struct.pack(">I", zlib.crc32(content))
  (tmp_path / "a.png").write_bytes(png(np.full((2, 2, 1), 9000, np.uint16), extra))
  with pytest.raises(BadData, match="a.png: 16-bit pixels of kind I;16B with a transparent colour"):
    read_image(tmp_path / "a.png")
  Image.fromarray(np.full((2, 2), 9000, np.uint16)).save(tmp_path / "b.png", icc_profile=profile("Linear sRGB", 1.0))
  with pytest.raises(BadData, match="b.png: 16-bit colours with a profile that is not sRGB"):
    read_image(tmp_path / "b.png")


def test_a_profile_that_is_not_srgb_is_converted(tmp_path):
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
  image = Image.new("RGB", (2, 2), (200, 100, 50))
  image.save(tmp_path / "srgb.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
  assert read_image(tmp_path / "srgb.png")[0, 0].tolist() == [200 * 257, 100 * 257, 50 * 257, 65535]
  image.save(tmp_path / "lab.png", icc_profile=profile.tobytes())
  with pytest.raises(BadData, match="lab.png: its colour profile cannot be used"):
    read_image(tmp_path / "lab.png")


def profile(name, gamma):
  """An ICC profile of sRGB's primaries and a power: ICC.1:2001, sections 6.1 and 6.5."""
  number = lambda *values: struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))
  text = name.encode() + b"\0"
  tags = {b"desc": b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78), b"cprt": b"text" + bytes(5),
          b"wtpt": b"XYZ " + bytes(4) + number(0.9642, 1.0, 0.8249)}
  for color, xyz in (("r", (0.43607, 0.22249, 0.01392)), ("g", (0.38515, 0.71687, 0.09708)), ("b", (0.14307, 0.06061, 0.71410))):
    tags |= {f"{color}XYZ".encode(): b"XYZ " + bytes(4) + number(*xyz),
             f"{color}TRC".encode(): b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))}
  table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
  for tag, content in tags.items():
    content += bytes(-len(content) % 4)
    table, body = table + tag + struct.pack(">II", at + len(body), len(content)), body + content
  head = struct.pack(">I4xI12s", at + len(body), 0x02400000, b"mntrRGB XYZ ") + bytes(12) + b"acsp" + bytes(28)
  return (head + number(0.9642, 1.0, 0.8249)).ljust(128, b"\0") + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_a_profile_counts_by_its_curve_and_not_by_its_name(tmp_path, mode):
  image = Image.new(mode, (2, 2), {"L": 55, "LA": (55, 128), "RGB": (55, 55, 55), "RGBA": (55, 55, 55, 128), "P": 0}[mode])
  if mode == "P":
    image.putpalette([55, 55, 55])
  for name in ("Linear sRGB", "plain"):
    image.save(tmp_path / "a.png", icc_profile=profile(name, 1.0))
    coverage = 128 / 255 if mode.endswith("A") else 1
    assert abs(read_image(tmp_path / "a.png")[0, 0, 0] / 257 - 128 * coverage) <= 1  # 55 of 255 is linear for 128
  image.save(tmp_path / "b.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
  image.save(tmp_path / "c.png")
  np.testing.assert_array_equal(read_image(tmp_path / "b.png"), read_image(tmp_path / "c.png"))


def test_a_png_without_pixels_is_bad_data(tmp_path):
  whole = png(random(4, 4, 3, np.uint8))
  at = whole.index(b"IDAT") - 4
  (tmp_path / "a.png").write_bytes(whole[:at] + whole[whole.index(b"IEND") - 4:])
  with pytest.raises(BadData, match="a.png: holds no pixels"):
    read_image(tmp_path / "a.png")


def linear():
  gamma = struct.pack(">I", 100000)
  return png(random(4, 4, 3, np.uint8), struct.pack(">I", 4) + b"gAMA" + gamma + struct.pack(">I", zlib.crc32(b"gAMA" + gamma)))


def cmyk(path):
  Image.new("CMYK", (4, 4)).save(path, format="JPEG")


whole = png(random(64, 64, 3, np.uint8))


@pytest.mark.parametrize("content, words", [
    (b"", "empty file"), (b"<!DOCTYPE html><html>", "no PNG, JPEG, WebP or BMP image: it begins with b'<!DOCTYP'"),
    (whole[:len(whole) // 2], "broken image"), (whole[:20], "broken|no PNG"), (linear(), "gAMA chunk says 1"),
    (b"\x76\x2f\x31\x01" + b"\0" * 40, "high-dynamic-range"), (b"#?RADIANCE\n" + b"\0" * 40, "high-dynamic-range"),
    (whole.replace(struct.pack(">II", 64, 64), struct.pack(">II", 0, 64), 1), "broken|no PNG"),
    (png(random(4, 4, 2, np.uint16)), "16-bit pixels of kind LA"), (b"II*\0" + b"\0" * 40, "no PNG")])
def test_what_is_no_photograph_is_refused_by_its_name(tmp_path, content, words):
  path = tmp_path / "view_3.png"
  path.write_bytes(content)
  with pytest.raises(BadData, match=words) as caught:
    read_image(path)
  assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_cmyk_is_refused(tmp_path):
  cmyk(tmp_path / "a.jpg")
  with pytest.raises(BadData, match="mode CMYK"):
    read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("side", [9480, 60000])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, side):
  assert side**2 > MAX_PIXELS
  small = png(np.zeros((8, 8, 3), np.uint8))
  header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
  (tmp_path / "a.png").write_bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])
  with pytest.raises(BadData, match="more than 89 million pixels"):
    image_facts(tmp_path / "a.png")


def test_a_missing_image_is_a_missing_input(tmp_path):
  with pytest.raises(MissingInput, match="none.png"):
    read_image(tmp_path / "none.png")


def test_any_cut_of_a_file_is_a_fault_or_an_image(tmp_path):
  for cut in range(0, len(whole), 997):
    (tmp_path / "a.png").write_bytes(whole[:cut])
    with pytest.raises(Fault):
      read_image(tmp_path / "a.png")


def loop_average(pixels, width, height):
  """Area weights, pixel by pixel."""
  h, w, c = pixels.shape
  out = np.zeros((height, width, c))
  for y in range(height):
    for x in range(width):
      y0, y1, x0, x1 = y * h / height, (y + 1) * h / height, x * w / width, (x + 1) * w / width
      for j in range(int(y0), min(h, int(np.ceil(y1)))):
        for i in range(int(x0), min(w, int(np.ceil(x1)))):
          area = max(0, min(j + 1, y1) - max(j, y0)) * max(0, min(i + 1, x1) - max(i, x0))
          out[y, x] += area * pixels[j, i] / ((y1 - y0) * (x1 - x0))
  return out


@pytest.mark.parametrize("size", [(3, 4), (6, 4), (5, 7), (12, 8), (1, 1), (12, 3), (17, 9)])
def test_area_averages_equal_the_loop_over_pixels(size):
  pixels = random(8, 12, 4, np.uint16)
  np.testing.assert_allclose(area_average(pixels, *size), loop_average(pixels, *size), rtol=0, atol=0.5 + 1e-6)
  np.testing.assert_allclose(area_average(pixels / 65535.0, *size), loop_average(pixels / 65535.0, *size), atol=1e-12)


def test_averaging_keeps_the_mean_of_the_image():
  pixels = np.random.default_rng(0).uniform(size=(30, 50, 3))
  np.testing.assert_allclose(area_average(pixels, 7, 11).mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), rtol=1e-12)


def test_premultiplied_averages_composite_as_averages_of_composites(tmp_path):
  (tmp_path / "a.png").write_bytes(png(random(8, 8, 4, np.uint8)))
  pixels = read_image(tmp_path / "a.png") / 65535.0

  def over_white(p):
    return p[..., :3] + 1 - p[..., 3:]
  np.testing.assert_allclose(over_white(area_average(pixels, 2, 2)), area_average(over_white(pixels), 2, 2), atol=1e-12)


def test_nearest_samples_are_taken_at_the_centres():
  np.testing.assert_array_equal(nearest_sample(np.arange(16).reshape(4, 4), 2, 1), [[9, 11]])


def test_masks_leave_out_what_is_black(tmp_path):
  for i, stored in enumerate((np.array([[0, 1], [255, 0]], np.uint8), np.array([[0, 1], [65535, 0]], np.uint16))):
    Image.fromarray(stored).save(tmp_path / f"{i}.png")
    np.testing.assert_array_equal(read_mask(tmp_path / f"{i}.png"), [[False, True], [True, False]])


def test_depths_are_scaled_and_unknown_where_zero_or_not_finite(tmp_path):
  Image.fromarray(np.array([[0, 1500], [65535, 1]], np.uint16)).save(tmp_path / "a.png")
  np.testing.assert_allclose(read_depth(tmp_path / "a.png", 1e-3), [[0, 1.5], [65.535, 0.001]], rtol=1e-6)
  np.save(tmp_path / "a.npy", np.array([[np.nan, np.inf], [-1.0, 2.0]]))
  np.testing.assert_array_equal(read_depth(tmp_path / "a.npy", 2.0), [[0, 0], [0, 4.0]])


def test_depths_of_eight_bits_and_arrays_of_another_shape_are_refused(tmp_path):
  Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
  with pytest.raises(BadData, match="16 bits and one channel"):
    read_depth(tmp_path / "a.png", 1e-3)
  np.save(tmp_path / "a.npy", np.zeros((2, 2, 3)))
  with pytest.raises(BadData, match=r"shape \(2, 2, 3\)"):
    read_depth(tmp_path / "a.npy", 1e-3)
  np.save(tmp_path / "b.npy", np.array([[None]]), allow_pickle=True)
  with pytest.raises(BadData):
    read_depth(tmp_path / "b.npy", 1e-3)


@pytest.mark.parametrize("dtype, channels", [(np.uint8, 3), (np.uint16, 4)])
def test_any_flipped_bytes_are_a_fault_or_an_image(tmp_path, dtype, channels):
  rng, stored = np.random.default_rng(0), bytearray(png(random(8, 8, channels, dtype)))
  for _ in range(150):
    damaged = bytearray(stored)
    for place in rng.integers(len(damaged), size=2):
      damaged[place] = rng.integers(256)
    (tmp_path / "a.png").write_bytes(damaged)
    try:
      assert read_image(tmp_path / "a.png").dtype == np.uint16
    except Fault as fault:
      assert "\n" not in str(fault)
