"""The metrics command by kinds: voxels, groups of mesh metrics, protocols of published tables; faults are one line."""

import json
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.commands import main


@pytest.fixture
def balls(tmp_path):
  """Files of radius 9 and 10."""
  paths = []
  for radius in (9, 10):
    paths.append(str(tmp_path / f"ball{radius}.ply"))
    trimesh.creation.icosphere(subdivisions=3, radius=radius).export(paths[-1])
  return paths


def record(capsys, *words):
  assert main.main(["metrics", *map(str, words), "--json"]) == 0
  out = json.loads(capsys.readouterr().out)
  return out, {m["name"]: m for m in out["metrics"]}


def told(capsys, code, text, *words):
  assert main.main(["metrics", *map(str, words)]) == code
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 1 and text in errors[0], errors


def test_voxels_of_shifted_boxes_are_exact(tmp_path, capsys):
  solid = np.zeros((16, 16, 16), bool)
  solid[2:10, 2:10, 2:10] = True
  np.save(tmp_path / "a.npy", np.roll(solid, 4, axis=0))
  np.savez(tmp_path / "b.npz", voxels=solid.astype(np.float32))
  shown, found = record(capsys, "voxels", tmp_path / "a.npy", tmp_path / "b.npz")
  assert found["voxel_iou"]["value"] == 4 / 12 and found["voxel_recall"]["value"] == 0.5
  assert found["surface_voxel_hausdorff"]["value"] == 4 and shown["shape"] == [16, 16, 16]
  _, sides = record(capsys, "voxels", tmp_path / "a.npy", tmp_path / "b.npz", "--unit", "side")
  name = "surface_voxel_chamfer_sum_squared"
  assert sides[name]["value"] == pytest.approx(found[name]["value"] / 16**2)
  np.save(tmp_path / "c.npy", np.zeros((16, 16, 15), bool))
  np.save(tmp_path / "d.npy", np.zeros((16, 16, 16), bool))
  told(capsys, 65, "has 16 x 16 x 15 voxels", "voxels", tmp_path / "c.npy", tmp_path / "a.npy")
  told(capsys, 66, "no such file", "voxels", tmp_path / "e.npy", tmp_path / "a.npy")
  shown, found = record(capsys, "voxels", tmp_path / "d.npy", tmp_path / "a.npy")
  assert "no voxel is occupied" in shown["warnings"][0] and found[name]["value"] is None


def test_groups_of_metrics_are_chosen_by_name(balls, capsys):
  _, found = record(capsys, "mesh", *balls, "--metrics", "distances,normals", "--points", "2000", "--frame", "world",
                    "--max-distance", "1.2")
  assert found["accuracy@max1.2"]["value"] == pytest.approx(1, rel=0.1) and "hausdorff" not in found
  assert found["normal_angle_mean"]["value"] < 5
  told(capsys, 2, "did you mean 'edges'", "mesh", *balls, "--metrics", "edge")
  told(capsys, 2, "--max-distance", "mesh", *balls, "--max-distance", "0")


def test_a_protocol_names_its_figures(balls, capsys):
  shown, found = record(capsys, "mesh", *balls, "--protocol", "deepsdf")
  assert found["chamfer [deepsdf]"]["value"] == pytest.approx(1000 * 2 * 0.05**2 / 3, rel=0.05)
  assert found["chamfer [deepsdf]"]["n"] == 30_000 and shown["protocol"] == "deepsdf"
  told(capsys, 2, "did you mean 'deepsdf'", "mesh", *balls, "--protocol", "deepsd")
  told(capsys, 2, "--iou-points: is settled by --protocol deepsdf", "mesh", *balls, "--protocol", "deepsdf", "--iou-points", "50")


def test_protocols_are_listed_with_their_sources(capsys):
  assert main.main(["metrics", "--protocols"]) == 0
  shown = capsys.readouterr().out
  assert "deepsdf (meshes)" in shown and "llff (images)" in shown and "pvd (point clouds)" in shown


def test_images_carry_the_protocols_name_if_they_are_its(tmp_path, capsys, monkeypatch):
  for name in ("FIELDS3D_LPIPS", "FIELDS3D_DATA"):
    monkeypatch.delenv(name, raising=False)
  for name, size, level in (("a", 800, 100), ("b", 800, 110), ("c", 400, 100), ("d", 400, 110)):
    Image.new("RGB", (size, size), (level,) * 3).save(tmp_path / f"{name}.png")
  shown, found = record(capsys, "images", tmp_path / "a.png", tmp_path / "b.png", "--protocol", "nerf_synthetic")
  assert any(name.startswith("psnr [nerf_synthetic, 1 of 200 views, 800x800, white, sRGB]") for name in found)
  assert shown["protocol"].startswith("nerf_synthetic")
  told(capsys, 65, "images are 800x800", "images", tmp_path / "c.png", tmp_path / "d.png", "--protocol", "nerf_synthetic")
  told(capsys, 2, "--background white", "images", tmp_path / "a.png", tmp_path / "b.png", "--protocol", "nerf_synthetic",
       "--background", "black")


def test_help_imports_nothing_heavy(capsys):
  import subprocess
  code = ("import sys; from fields3d.commands.main import main; main(['metrics', 'mesh', '--help']); "
          "sys.exit(bool({'jax', 'scipy', 'igl'} & set(sys.modules)))")
  assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
