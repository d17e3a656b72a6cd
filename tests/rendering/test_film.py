"""Pictures of renderings, and films: what is read back is what was written; a failure leaves nothing."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fields3d.core.errors import Fault, Unavailable, UsageFault
from fields3d.rendering.film import PICTURES, depth_values, write_film

IMAGE = {"rgb": np.array([[[0.2, 0.5, 2.0], [1, 1, 1]]], np.float32), "opacity": np.array([[1, 0]], np.float32),
         "depth": np.array([[3, 0]], np.float32), "normal": np.array([[[0, 0, 0.5], [0, 0, 0]]], np.float32)}


def frames(num=5, size=(21, 34)):
  for i in range(num):
    ramp = np.linspace(0, 255, size[1])[None, :, None] * np.ones((size[0], 1, 3))
    yield np.rint(np.clip(ramp * [1, i / num, 0.5], 0, 255)).astype(np.uint8)


def test_pictures_show_what_they_say_and_white_where_nothing_is():
  out = {name: draw(IMAGE, (2.0, 4.0)) for name, draw in PICTURES.items()}
  assert out["rgb"][0, 0].tolist() == [51, 128, 255]
  assert out["normal"][0, 0].tolist() == [128, 128, 255] and out["opacity"][0].tolist() == [[255] * 3, [0] * 3]
  np.testing.assert_array_equal(out["depth"][0, 0], np.rint(255 * np.array(matplotlib.colormaps["viridis"](0.5)[:3])))
  assert out["depth"][0, 1].tolist() == out["normal"][0, 1].tolist() == [255] * 3


def test_sixteen_bits_of_depth_come_back():
  depth = np.random.default_rng(0).uniform(1, 9, (8, 8))
  values, scale = depth_values({"depth": depth, "opacity": np.ones_like(depth)})
  assert values.dtype == np.uint16
  np.testing.assert_allclose(values * scale, depth, rtol=0, atol=9 / 65535 / 2)  # half a step


@pytest.mark.parametrize("ending, worst", [(".webp", 0), (".png", 0), (".gif", 12)])
def test_an_animation_holds_the_frames(tmp_path, ending, worst):
  write_film(tmp_path / f"a{ending}", frames(), 8)
  assert [p.name for p in tmp_path.iterdir()] == [f"a{ending}"]
  with Image.open(tmp_path / f"a{ending}") as film:
    assert film.n_frames == 5
    for i, frame in enumerate(frames()):
      film.seek(i)
      got = np.asarray(film.convert("RGB"), np.int32)
      assert np.abs(got - frame).mean() <= worst
    assert film.info["duration"] in (125, 120)  # a gif counts hundredths of a second


def test_an_mp4_holds_the_frames_its_odd_sides_filled_up(tmp_path):
  ffmpeg = pytest.importorskip("imageio_ffmpeg")
  write_film(tmp_path / "a.mp4", frames(), 8)
  assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
  command = [ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "a.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
  done = subprocess.run(command, capture_output=True, check=True)
  assert b"h264" in done.stderr and b"34x22" in done.stderr and b"8 fps" in done.stderr
  got = np.frombuffer(done.stdout, np.uint8).reshape(5, 22, 34, 3)
  for shown, frame in zip(got, frames(), strict=True):
    assert np.abs(shown[:21].astype(int) - frame).mean() < 6  # of 255: lossy, and colours at half resolution


@pytest.mark.parametrize("ending", [".mp4", ".webp"])
def test_a_film_that_fails_leaves_nothing(tmp_path, ending):
  if ending == ".mp4":
    pytest.importorskip("imageio_ffmpeg")

  def broken():
    yield from frames(2)
    raise ValueError("the field")

  with pytest.raises(ValueError, match="the field"):
    write_film(tmp_path / f"a{ending}", broken(), 8)
  assert not list(tmp_path.iterdir())
  (tmp_path / "file").write_text("")
  with pytest.raises(Fault, match="file"):
    write_film(tmp_path / "file" / f"a{ending}", frames(), 8)


def test_unknown_endings_and_missing_libraries_are_named(tmp_path, monkeypatch):
  with pytest.raises(UsageFault, match="no film ends in '.mp5'; did you mean '.mp4'"):
    write_film(tmp_path / "a.mp5", frames(), 8)
  monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
  with pytest.raises(Unavailable, match=r"fields3d\[video\]"):
    write_film(tmp_path / "a.mp4", frames(), 8)
