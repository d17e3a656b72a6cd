"""The prepare command on folders of photographs."""

import sys

import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.commands.main import main
from fields3d.data import structure_from_motion
from fields3d.data.colmap_files import ColmapCamera, ColmapImage, ColmapModel


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "in").mkdir()
  for i in range(4):
    Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / "in" / f"{i}.png")
  return tmp_path / "in"


def found(registered: int) -> structure_from_motion.Reconstruction:
  camera = ColmapCamera("SIMPLE_PINHOLE", (64, 48), (60.0, 32.0, 24.0))
  images = tuple(ColmapImage(f"{i}.png", 1, np.eye(3), np.zeros(3)) for i in range(registered))
  model = ColmapModel(None, {1: camera}, images, np.zeros((5, 3)), np.zeros((5, 3), np.uint8), np.full(5, 0.75))
  return structure_from_motion.Reconstruction(model, 4, 2)


@pytest.mark.parametrize("registered, code", [(4, 0), (2, 0), (1, 65)])
def test_the_summary_says_what_was_registered_and_too_little_is_bad_data(folder, tmp_path, capsys, monkeypatch,
                                                                         registered, code):
  asked = {}
  monkeypatch.setattr(structure_from_motion, "reconstruct", lambda *a, **k: asked.update(k) or found(registered))
  words = ["prepare", str(folder), "--out", str(tmp_path / "out"), "--matching=sequential", "--downscale=2,4"]
  assert main(words) == code
  out, error = capsys.readouterr()
  assert f"{registered} of 4 photographs registered, 5 points, mean reprojection error 0.750 pixels; 1 smaller" in out
  assert f"camera 1: SIMPLE_PINHOLE 64x48, {registered} photographs: 60 32 24" in out
  assert ("only 1 of 4" in error) == (code == 65)
  assert asked["matching"] == "sequential" and asked["reductions"] == (2, 4)


def test_without_pycolmap_the_exit_code_is_69_and_the_extra_is_named(folder, tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "pycolmap", None)
  assert main(["prepare", str(folder), "--out", str(tmp_path / "out")]) == 69
  error = capsys.readouterr().err
  assert "pip install 'fields3d[colmap]'" in error and len(error.splitlines()) == 1


def test_the_images_of_a_scene_folder_are_its_photographs(folder, tmp_path, capsys, monkeypatch):
  (tmp_path / "scene").mkdir()
  folder.rename(tmp_path / "scene" / "images")
  Image.new("RGB", (64, 48)).save(tmp_path / "scene" / "preview.png")
  sources = []
  monkeypatch.setattr(structure_from_motion, "reconstruct", lambda source, *a, **k: sources.append(source) or found(4))
  assert main(["prepare", str(tmp_path / "scene"), "--out", str(tmp_path / "out")]) == 0
  assert sources == [tmp_path / "scene" / "images"]
  capsys.readouterr()


def test_a_folder_with_meshes_and_their_textures_is_one_of_meshes(folder, tmp_path, capsys):
  trimesh.creation.box([1, 0.6, 0.4]).export(folder / "box.ply")
  assert main(["prepare", str(folder), "--out", str(tmp_path / "out"), "--samples", "100", "--workers=1"]) == 0
  assert "1 of 1 shapes" in capsys.readouterr().out


@pytest.mark.parametrize("words, text", [
    (["--camera-model=OPENVC"], "did you mean 'OPENCV'?"),
    (["--downscale=1,2"], "factor below 2"),
])
def test_wrong_options_are_usage_faults(folder, tmp_path, capsys, words, text):
  assert main(["prepare", str(folder), "--out", str(tmp_path / "out"), *words]) == 2
  assert text in capsys.readouterr().err


def test_a_folder_with_neither_shapes_nor_photographs_is_missing_input(tmp_path, capsys):
  assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out")]) == 66
  assert "holds no mesh" in capsys.readouterr().err
