"""Cameras from photographs: copies, refusals, and poses against LLFF's own."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from fields3d.core.errors import BadData, CannotWrite, MissingInput, Unavailable
from fields3d.data.images import read_image
from fields3d.data.scene_colmap import load_colmap
from fields3d.data.scene_llff import load_llff
from fields3d.data.structure_from_motion import _copy_upright, reconstruct


@pytest.fixture
def plain(tmp_path):
  """Three photographs without a feature; one lies on its side, one is transparent."""
  source = tmp_path / "source"
  (source / "sub").mkdir(parents=True)
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint32).reshape(64, 48, 3).astype(np.uint8)).save(
      source / "a.jpg", exif=exif)
  Image.new("RGBA", (64, 48), (200, 100, 50, 128)).save(source / "b.png")
  Image.new("RGB", (64, 48), (9, 9, 9)).save(source / "sub" / "c.png")
  return source


def test_photographs_are_copied_upright_and_reduced_and_what_fits_nowhere_is_refused(plain, tmp_path):
  pytest.importorskip("pycolmap")
  out, stages = tmp_path / "out", []
  with pytest.raises(BadData, match="no two photographs fit together"):
    reconstruct(plain, out, reductions=(2,), threads=1, progress=stages.append)
  assert stages == ["copying photographs", "extracting features", "matching photographs", "finding cameras"]
  with Image.open(out / "images" / "a.jpg") as image:
    assert image.size == (64, 48) and image.getexif().get(0x0112, 1) == 1
  difference = read_image(out / "images" / "a.jpg").astype(float) - read_image(plain / "a.jpg")
  assert np.abs(difference).mean() < 3 * 257  # compressed twice
  assert (out / "images" / "b.png").read_bytes() == (plain / "b.png").read_bytes()
  assert (out / "images" / "sub" / "c.png").is_file()
  reduced = read_image(out / "images_2" / "b.png")
  assert reduced.shape == (24, 32, 4) and (reduced == read_image(plain / "b.png")[:24, :32]).all()
  assert (out / "images_2" / "a.png").is_file() and not (out / "sparse").exists()
  (plain / "b.png").unlink()
  with pytest.raises(CannotWrite, match="b.png: is none of the source's photographs"):
    reconstruct(plain, out, threads=1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_photograph_that_is_turned_keeps_its_colour_profile(suffix, tmp_path):
  exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
  exif[0x0112] = 6
  Image.new("RGB", (8, 4)).save(tmp_path / f"a.{suffix}", exif=exif, icc_profile=profile)
  _copy_upright(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
  with Image.open(tmp_path / f"b.{suffix}") as image:
    assert image.size == (4, 8) and image.info["icc_profile"] == profile


def test_without_pycolmap_nothing_is_written_and_the_extra_is_named(plain, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "pycolmap", None)
  with pytest.raises(Unavailable, match=r"fields3d\[colmap\]"):
    reconstruct(plain, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_what_cannot_become_a_scene_is_refused_before_any_work(plain, tmp_path):
  pytest.importorskip("pycolmap")
  with pytest.raises(MissingInput, match="holds 1 photographs"):
    reconstruct(plain / "sub", tmp_path / "out")
  with pytest.raises(CannotWrite, match="are the source itself"):
    reconstruct(plain.rename(tmp_path / "images"), tmp_path)
  source = tmp_path / "images"
  Image.new("RGB", (64, 48)).save(source / "a.png")
  with pytest.raises(BadData, match="two photographs are named 'a'"):
    reconstruct(source, tmp_path / "out")
  (source / "a.png").unlink()
  (source / "sub" / "c.png").write_bytes(b"<html>")
  with pytest.raises(BadData, match="c.png: no PNG"):
    reconstruct(source, tmp_path / "out")
  (tmp_path / "full" / "sparse").mkdir(parents=True)
  with pytest.raises(CannotWrite, match="holds a reconstruction already"):
    reconstruct(source, tmp_path / "full")


def world_poses(scene):
  """Rotations (n, 3, 3) and positions (n, 3) in the file's own world, in the order of the names."""
  views = sorted((view for views in scene.views.values() for view in views), key=lambda view: view.name)
  poses, rotation = np.stack([view.camera.pose for view in views]), np.array(scene.rotation)
  return rotation @ poses[:, :, :3], poses[:, :, 3] @ rotation.T * scene.frame.scale + scene.frame.offset


@pytest.mark.slow
def test_cameras_of_fern_are_llffs_up_to_a_similarity(real_data, tmp_path):
  pytest.importorskip("pycolmap")
  fern = real_data / "nerf" / "llff_fern"
  found = reconstruct(fern / "images_8", tmp_path)
  assert (len(found.model.images), found.num_photographs) == (20, 20) and found.model.errors.mean() < 1
  turns, places = world_poses(load_colmap(str(tmp_path)))
  true_turns, true_places = world_poses(load_llff(str(fern)))
  spread, true_spread = places - places.mean(axis=0), true_places - true_places.mean(axis=0)
  u, singular, vt = np.linalg.svd(true_spread.T @ spread)  # Umeyama 1991
  mirror = np.array([1.0, 1.0, np.linalg.det(u @ vt)])
  rotation, scale = (u * mirror) @ vt, (singular * mirror).sum() / (spread**2).sum()
  residual = np.linalg.norm(true_spread - scale * spread @ rotation.T) / np.linalg.norm(true_spread)
  cosines = (np.trace(true_turns.transpose(0, 2, 1) @ rotation @ turns, axis1=1, axis2=2) - 1) / 2
  angle = np.degrees(np.arccos(np.clip(cosines, -1, 1))).max()
  print(f"positions {residual:.2%} of their spread, rotations {angle:.2f} degrees at most")
  assert residual < 0.03 and angle < 1
