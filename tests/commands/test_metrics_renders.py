"""metrics renders: folders of images or meshes in, named distances out; faults are one line."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.commands import main
from fields3d.evaluation import rendered
from fields3d.metrics import efficientnet
from fields3d.metrics.image_features import Network

NETWORK = Network("FD-Mean", "KID-Mean", 3, "mean colours", "mean", {},
                  lambda weights, images: np.float32(images).mean((1, 2)) / 255)


@pytest.fixture
def folders(tmp_path, monkeypatch):
  """Images "a" and "b" of one kind, "far" of another; meshes "boxes" and "rods"."""
  for name in ("FIELDS3D_INCEPTION", "FIELDS3D_EFFNET", "FIELDS3D_DATA"):
    monkeypatch.delenv(name, raising=False)
  rng = np.random.default_rng(0)
  for folder, low in (("a", 50), ("b", 50), ("far", 180)):
    (tmp_path / folder).mkdir()
    for i in range(24):
      level = rng.integers(low, low + 60, 3)
      Image.fromarray(np.uint8(level + rng.integers(0, 9, (9, 7, 3)))).save(tmp_path / folder / f"{i}.png")
  for folder, shape in (("boxes", (1, 1, 1)), ("rods", (1, 9, 1))):
    (tmp_path / folder).mkdir()
    for i in range(5):
      trimesh.creation.box(extents=shape + rng.uniform(0, 0.5, 3)).export(tmp_path / folder / f"{i}.obj")
  return tmp_path


def figures(capsys, *words):
  assert main.main(["metrics", "renders", *map(str, words), "--subsets", "2", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  return {m["name"]: m for m in found["metrics"]}, found


def test_folders_of_images_and_of_meshes_are_compared(folders, capsys, monkeypatch):
  monkeypatch.setattr(rendered, "choose_network", lambda *_: NETWORK)
  near, found = figures(capsys, folders / "a", folders / "b")
  far, _ = figures(capsys, folders / "far", folders / "b")
  assert found["features"] == "FD-Mean" and found["kind"] == "images" and found["sizes"] == [24, 24]
  assert far["FD-Mean@matched"]["value"] > 10 * near["FD-Mean@matched"]["value"]
  assert far["KID-Mean"]["low"] > near["KID-Mean"]["value"]
  words = (folders / "rods", folders / "boxes", "--views", "3", "--size", "16", "--keep", folders / "kept")
  first, found = figures(capsys, *words)
  assert found["kind"] == "meshes" and first["FD-Mean"]["n"] == 5
  assert len(list((folders / "kept" / "sphere-v1-3x16").glob("*.npz"))) == 10
  assert figures(capsys, *words)[0] == first


def test_faults_are_one_line_with_the_remedy(folders, capsys, monkeypatch):
  def fault(code, *words):
    assert main.main(["metrics", "renders", *map(str, words)]) == code
    return capsys.readouterr().err

  monkeypatch.setattr(efficientnet, "_PACKAGE", "not_installed_here")
  assert "fields3d[features]" in fault(66, folders / "a", folders / "b")
  assert "FIELDS3D_INCEPTION" in fault(66, folders / "a", folders / "b", "--features", "inception")
  assert "name it" in fault(2, folders / "a", folders / "b", "--weights", folders / "a" / "0.png")
  monkeypatch.setattr(rendered, "choose_network", lambda *_: NETWORK)
  assert "one kind" in fault(2, folders / "a", folders / "boxes")
