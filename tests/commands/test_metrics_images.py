"""The metrics command on images: files or folders matched by name, every figure out; faults are one line."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fields3d.commands import main


@pytest.fixture
def folders(tmp_path, monkeypatch):
  """Truths of 16 colours, and the same 5, 10 and 20 levels brighter."""
  for name in ("FIELDS3D_LPIPS", "FIELDS3D_DATA"):
    monkeypatch.delenv(name, raising=False)
  rng = np.random.default_rng(0)
  for folder in "ab":
    (tmp_path / folder).mkdir()
  for name, offset in (("x", 5), ("y", 10), ("z", 20)):
    truth = rng.integers(0, 200, (20, 24, 3), np.uint8)
    Image.fromarray(truth).save(tmp_path / "b" / f"{name}.png")
    Image.fromarray(truth + np.uint8(offset)).save(tmp_path / "a" / f"{name}.png")
  return tmp_path


def figures(capsys, *words):
  assert main.main(["metrics", "images", *map(str, words), "--json"]) == 0
  return json.loads(capsys.readouterr().out)


def test_folders_are_matched_by_name_and_each_image_and_the_mean_are_exact(folders, capsys):
  (folders / "b" / "notes.txt").write_text("not an image")
  record = figures(capsys, folders / "a", folders / "b")
  expected = {name: -20 * np.log10(offset / 255) for name, offset in (("x", 5), ("y", 10), ("z", 20))}
  assert {image["name"]: image["psnr"] for image in record["images"]} == pytest.approx(expected, abs=1e-4)
  mean = record["metrics"][0]
  assert mean["name"] == "psnr [24x20, white, sRGB]/mean" and mean["n"] == 3
  assert mean["value"] == pytest.approx(np.mean(list(expected.values())), abs=1e-4)
  assert mean["low"] < mean["value"] < mean["high"]
  assert len(record["warnings"]) == 1 and "LPIPS is left out" in record["warnings"][0]


def test_the_table_shows_images_means_and_the_protocol(folders, capsys):
  assert main.main(["metrics", "images", str(folders / "a"), str(folders / "b")]) == 0
  shown = capsys.readouterr().out
  assert "[24x20, white, sRGB]" in shown and "34.15" in shown and "warning: LPIPS is left out" in shown
  assert "Gaussian window 11 x 11" in shown


def test_names_in_square_brackets_stand_in_the_table_as_they_are(folders, capsys):
  for folder in "ab":
    for name in ("left", "right"):
      shutil.copy(folders / folder / "x.png", folders / folder / f"eye[{name}].png")
  assert main.main(["metrics", "images", str(folders / "a"), str(folders / "b")]) == 0
  shown = capsys.readouterr().out
  assert "eye[left]" in shown and "eye[right]" in shown


def test_a_mask_that_leaves_no_pixel_is_bad_data(folders, capsys):
  Image.new("L", (24, 20)).save(folders / "m.png")
  pair = [str(folders / side / "x.png") for side in "ab"]
  assert main.main(["metrics", "images", *pair, "--mask", str(folders / "m.png")]) == 65
  assert f"{folders / 'm.png'}: leaves no pixel" in capsys.readouterr().err


def test_a_mask_and_a_background_count(folders, capsys):
  truth = np.zeros((20, 24, 4), np.uint8)
  truth[:, :12, 3] = 255
  image = truth.copy()
  image[:, :12, :3] = 51
  for name, pixels in (("t.png", truth), ("i.png", image)):
    Image.fromarray(pixels).save(folders / name)
  Image.fromarray((255 * (np.arange(24) >= 12)[None].repeat(20, 0)).astype(np.uint8)).save(folders / "m.png")
  pair = folders / "i.png", folders / "t.png"
  half, white = figures(capsys, *pair), figures(capsys, *pair, "--mask", folders / "m.png")
  assert half["images"][0]["psnr"] == pytest.approx(-10 * np.log10(0.2**2 / 2), abs=1e-4)
  assert white["images"][0]["psnr"] == 100 and "masked by m.png" in white["protocol"]
  assert figures(capsys, *pair, "--background", "black")["metrics"][0]["name"] == "psnr [24x20, black, sRGB]"


def test_mismatched_names_sizes_and_kinds_are_one_line(folders, capsys):
  def told(code, words, *arguments):
    assert main.main(["metrics", "images", *map(str, arguments)]) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and words in errors[0], errors

  a, b = folders / "a", folders / "b"
  told(2, "give two files or two folders", a, b / "x.png")
  told(66, "no such file or directory", a, folders / "c")
  told(2, "--points", a, b, "--points", "5")
  (a / "y.png").rename(a / "w.png")
  told(65, "has no image named y (1 missing)", a, b)
  (a / "w.png").unlink()
  Image.new("RGB", (9, 9)).save(a / "y.png")
  told(65, "is 9x9, y.png is 24x20", a, b)
  (a / "y.png").write_text("text")
  told(65, "y.png", a, b)
  (a / "x.jpg").write_text("text")
  told(65, "has the name of", a, b)
  (folders / "none").mkdir()
  told(66, "holds no images", folders / "none", b)


def test_blur_and_shift_of_a_real_rendering_cost_what_they_should(real_data, tmp_path, capsys):
  """LPIPS minds a blur more than a shift by one pixel; PSNR and SSIM mind both."""
  source = real_data / "nerf" / "synthetic_mic" / "test"
  for folder in ("truth", "same", "blurred", "shifted"):
    (tmp_path / folder).mkdir()
  for name in ("r_0", "r_100"):
    image = Image.open(source / f"{name}.png").resize((200, 200), Image.Resampling.BOX)
    image.save(tmp_path / "truth" / f"{name}.png")
    image.save(tmp_path / "same" / f"{name}.png")
    image.filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "blurred" / f"{name}.png")
    Image.fromarray(np.roll(np.asarray(image), 1, axis=1)).save(tmp_path / "shifted" / f"{name}.png")
  weights = real_data / "features" / "lpips" / "alexnet_lpips_v01.npz"
  found = {}
  for folder in ("same", "blurred", "shifted"):
    record = figures(capsys, tmp_path / folder, tmp_path / "truth", "--lpips", weights)
    means = [metric for metric in record["metrics"] if metric["name"].endswith("/mean")]
    found[folder] = {re.match("[a-z]+", metric["name"])[0]: metric["value"] for metric in means}
  assert found["same"]["psnr"] == 100 and found["same"]["ssim"] == pytest.approx(1, abs=1e-6)
  assert found["same"]["lpips"] < 1e-6
  for folder in ("blurred", "shifted"):
    assert 20 < found[folder]["psnr"] < 40 and 0.8 < found[folder]["ssim"] < 0.999
  assert found["blurred"]["lpips"] > found["shifted"]["lpips"] > 1e-3
