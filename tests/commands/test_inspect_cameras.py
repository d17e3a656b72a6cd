"""`inspect cameras`: the table, the picture, the doubts, the exit codes."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from fields3d.commands.main import main


def write_scene(root, columns=(1, 1, 1)):
  """Twelve cameras around 0 in a world with +z up; `columns` multiplies their axes."""
  root.mkdir()
  frames = []
  for i in range(12):
    position = np.array([3 * math.cos(i), 3 * math.sin(i), 1.0 + i % 3])
    back = position / np.linalg.norm(position)
    right = np.cross((0.0, 0.0, 1.0), back) / math.hypot(*back[:2])
    pose = np.eye(4)
    pose[:3] = np.stack([right * columns[0], np.cross(back, right) * columns[1], back * columns[2], position], axis=1)
    Image.new("RGB", (8, 6)).save(root / f"{i:02d}.png")
    frames.append({"file_path": f"{i:02d}.png", "transform_matrix": pose.tolist()})
  (root / "transforms.json").write_text(json.dumps({"fl_x": 10.0, "aabb_scale": 1, "frames": frames}))
  return root


def cells(text):
  return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def test_cameras_are_shown_by_group_or_each_with_a_picture(tmp_path, capsys):
  scene, out = write_scene(tmp_path / "scene"), tmp_path / "a.png"
  assert main(["inspect", "cameras", str(scene), "--out", str(out)]) == 0
  text = capsys.readouterr().out
  assert [row[:4] for row in cells(text)] == [["train", "10", "PINHOLE", "8 6"], ["test", "2", "PINHOLE", "8 6"]]
  assert "doubtful" not in text and f"picture: {out}" in text
  with Image.open(out) as image:
    assert image.size > (500, 500)
  assert main(["inspect", "cameras", str(scene), "--out", str(out), "--all"]) == 0
  assert [row[1] for row in cells(capsys.readouterr().out)][:3] == ["01.png", "02.png", "03.png"]


def test_opencv_poses_are_doubted_with_the_remedy_and_refused_as_strict(tmp_path, capsys):
  scene = write_scene(tmp_path / "scene", columns=(1, -1, -1))
  arguments = ["inspect", "cameras", str(scene), "--out", str(tmp_path / "a.png")]
  assert main(arguments) == 0
  text = " ".join(capsys.readouterr().out.split())
  assert "doubtful: the cameras look at their common point with a mean cosine" in text
  assert "negate the 2nd and 3rd columns of the matrices (y and z): they are OpenCV's" in text
  assert "doubtful: the cameras are upside down" in text
  (tmp_path / "a.png").unlink()
  assert main([*arguments, "--strict"]) == 65
  assert "mean cosine" in capsys.readouterr().err and not (tmp_path / "a.png").exists()


def test_json_holds_every_camera(tmp_path, capsys):
  assert main(["inspect", "cameras", str(write_scene(tmp_path / "s")), "--json", "--out", str(tmp_path / "a.png")]) == 0
  found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
  assert found["kind"] == "transforms" and len(found["cameras"]) == 12 and found["doubts"] == []


@pytest.mark.parametrize("name, out, code", [
    ("none", "a.png", 66), ("scene", "scene/notes/a.png", 73), ("scene", "folder.png", 73), ("scene", "a.xyz", 2)])
def test_what_cannot_be_read_or_written_ends_with_its_code(tmp_path, name, out, code, capsys):
  write_scene(tmp_path / "scene")
  (tmp_path / "scene" / "notes").write_text("")
  (tmp_path / "folder.png").mkdir()
  assert main(["inspect", "cameras", str(tmp_path / name), "--out", str(tmp_path / out)]) == code
  assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["synthetic_mic", "llff_fern"])
def test_the_real_scenes_raise_no_doubt(real_data, tmp_path, folder, capsys):
  assert main(["inspect", "cameras", str(real_data / "nerf" / folder), "--json", "--out", str(tmp_path / "a.png")]) == 0
  assert json.loads(capsys.readouterr().out)["doubts"] == []
