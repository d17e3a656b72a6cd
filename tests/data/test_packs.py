"""Packs: models as the layout says, from a pack that the test writes and from the real ones; damaged packs."""

import csv

import numpy as np
import pytest

from fields3d.core.errors import BadData, MissingInput
from fields3d.data.packs import pack_files, read_pack
from fields3d.geometry.meshes import inspect_mesh

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
CORNERS = np.array([[0, 0, 0], [65535, 0, 0], [0, 65535, 0], [0, 0, 65535]], np.uint16)


def arrays():
  return {"q": np.concatenate([CORNERS, CORNERS]), "lo": np.array([[0, 0, 0], [1, 2, 3]], np.float32),
          "scale": np.array([1, 10], np.float32),
          "faces_lo": np.concatenate([TETRAHEDRON, TETRAHEDRON]).astype(np.uint16),
          "faces_hi": np.zeros((8, 3), np.uint8), "face_color": np.array([0, 0, 0, 0, 0, 1, 1, 1], np.uint8),
          "palette": np.array([[9, 9, 9], [255, 0, 0], [0, 0, 255]], np.uint8),
          "v_off": np.array([0, 4, 8]), "f_off": np.array([0, 4, 8]), "p_off": np.array([0, 1, 3])}


def table():
  return [{"index": "0", "name": "Stool", "cls": "chair", "licence": "CC0", "creator": "A", "closed_face_share": "1.0"},
          {"index": "1", "name": "Stool", "cls": "table", "licence": "CC0", "creator": "", "closed_face_share": "0.5"}]


def write_pack(folder, content=None, rows=None):
  folder.mkdir(exist_ok=True)
  np.savez(folder / "p.npz", **(arrays() if content is None else content))
  rows = table() if rows is None else rows
  with open(folder / "p.csv", "w", newline="") as f:
    writer = csv.DictWriter(f, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  return folder


def test_models_are_decoded_as_the_layout_says(tmp_path):
  first, second = read_pack(write_pack(tmp_path / "pack"))
  assert (first.name, first.label, first.closed_share) == ("0000_stool", "chair", 1.0)
  assert second.name == "0001_stool"
  mesh = second.mesh()
  corners = mesh.vertices[mesh.faces]
  expected = (np.array([1.0, 2, 3]) + 10 * (CORNERS / 65535))[TETRAHEDRON]
  np.testing.assert_allclose(corners, expected, rtol=1e-12)
  assert (mesh.colors[mesh.faces[0]] == [255, 0, 0]).all() and (mesh.colors[mesh.faces[1:]] == [0, 0, 255]).all()
  assert inspect_mesh(first.mesh()).watertight


def test_the_digest_tells_models_and_their_colours_apart(tmp_path):
  first, second = read_pack(write_pack(tmp_path / "a"))
  changed = arrays()
  changed["palette"][0] = 1
  assert first.digest() != second.digest() != read_pack(write_pack(tmp_path / "b", changed))[0].digest()
  assert read_pack(write_pack(tmp_path / "c", changed))[1].digest() == second.digest()


def changed(name, value):
  content = arrays()
  content[name] = value
  return content


@pytest.mark.parametrize("content, rows, words", [
    (changed("v_off", np.array([0, 9, 8])), None, "v_off"),
    (changed("f_off", np.array([0, 4])), None, "f_off"),
    (changed("q", arrays()["q"].astype(np.int32)), None, "dtype"),
    (changed("faces_lo", np.full((8, 3), 4, np.uint16)), None, "beyond"),
    (changed("face_color", np.full(8, 7, np.uint8)), None, "beyond"),
    (changed("f_off", np.array([0, 8, 8])), None, "beyond"),
    (changed("lo", np.zeros((1, 3), np.float32)), None, "'lo'"),
    ({"q": arrays()["q"]}, None, "has no array"),
    (None, table()[:1], "the table 1 rows"),
    (None, [{**row, "index": "7"} for row in table()], "row 0"),
    (None, [{**row, "closed_face_share": "x"} for row in table()], "closed_face_share"),
    (None, [{"index": "0", "name": "a"}], "no column 'cls'"),
])
def test_a_pack_that_does_not_fit_together_is_refused(tmp_path, content, rows, words):
  with pytest.raises(BadData, match=words):
    read_pack(write_pack(tmp_path / "pack", content, rows))


def test_a_folder_without_a_pack_is_a_missing_input(tmp_path):
  assert pack_files(tmp_path) is None and pack_files(tmp_path / "no") is None
  with pytest.raises(MissingInput, match="holds no pack"):
    read_pack(tmp_path)


@pytest.mark.parametrize("name, count, classes", [("furniture", 700, {"chair": 47, "table": 41, "sofa": 18}),
                                                  ("lowpoly", 1154, {})])
def test_the_real_packs_read_and_their_flag_says_what_is_watertight(real_data, name, count, classes):
  models = read_pack(real_data / "shapes" / name)
  assert len(models) == len({m.name for m in models}) == count
  for label, number in classes.items():
    assert sum(m.label == label for m in models) == number
  for model in models[::count // 6]:
    mesh, _ = model.read()
    assert mesh.colors.shape == mesh.vertices.shape
    if model.closed_share == 1:
      assert inspect_mesh(mesh).boundary_edges == 0


def test_indices_beyond_16_bits_are_put_together(tmp_path):
  content = arrays()
  q = np.zeros((65_536 + 4, 3), np.uint16)
  q[65_536:] = CORNERS
  content["q"] = np.concatenate([q, CORNERS])
  content["v_off"] = np.array([0, len(q), len(q) + 4])
  content["faces_hi"][:4] = 1
  mesh = read_pack(write_pack(tmp_path / "pack", content))[0].mesh()
  np.testing.assert_allclose(mesh.vertices[mesh.faces], (CORNERS / 65535)[TETRAHEDRON], rtol=1e-12)
