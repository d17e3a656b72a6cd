"""The files that a mesh file names: found whatever their names, never outside its folder, and never a traceback."""

import builtins
import errno
import io
import json
import os

import numpy as np
import pytest

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Mesh
from fields3d.data import mesh_file
from fields3d.data.gltf_parts import read_parts
from fields3d.data.meshes import parse_mesh
from fields3d.data.sources import MeshSource, companions
from fields3d.extraction.export import export
from fields3d.extraction.texture import Texture

CORNERS = np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0]])
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
LOST = "material or texture files missing: geometry kept"


@pytest.fixture
def unreadable(monkeypatch):
  """Paths, given as text, that nobody may open: also root, whom no mode of a file keeps out."""
  refused, opened = set(), open

  def guarded(path, *args, **kwargs):
    if str(path) in refused:
      raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return opened(path, *args, **kwargs)

  for module in (builtins, io):
    monkeypatch.setattr(module, "open", guarded)
  monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in refused)
  return refused


def obj(folder, head=b"mtllib a.mtl\n", material=b"", texture=""):
  (folder / "a.obj").write_bytes(head + TRIANGLE.encode())
  (folder / "a.mtl").write_bytes(material)
  if texture:
    (folder / texture).write_bytes(b"x")
  return folder / "a.obj"


def gltf(folder, buffer="a.bin", image=None):
  """A triangle whose buffer is a file, and a texture of it."""
  (folder / "a.bin").write_bytes(CORNERS.astype("<f4").tobytes())
  tree = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": 36, "uri": buffer}],
          "bufferViews": [{"buffer": 0, "byteLength": 36}],
          "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
          "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
          "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}], "textures": [{"source": 0}],
          "images": [{"uri": image} if image else {"bufferView": 0}]}
  (folder / "a.gltf").write_text(json.dumps(tree))
  return folder / "a.gltf"


@pytest.mark.parametrize("name", ["chair", "my chair", "stuhl_ü", "voilà …", "1 2 3", "椅子"])
def test_our_own_textured_obj_misses_none_of_its_files(name, tmp_path):
  uv, image = CORNERS[:, :2], np.zeros((4, 4, 3), np.uint8)
  path = export(Mesh(CORNERS, np.array([[0, 1, 2]])), tmp_path / name, "obj", texture=Texture(uv, image, image.size // 3))
  assert parse_mesh(path)[1] == []
  assert companions(path) == [tmp_path / f"{name}.mtl", tmp_path / f"{name}.png"]


@pytest.mark.parametrize("options", [
    "", "-bm 0.5 ", "-s 1 1 1 ", "-o 0.5 -mm 0 1 ", "-t .1 1e-3\t-clamp on  ", "-imfchan r -bm 2 -type sphere "])
def test_a_texture_is_named_by_what_follows_its_options(options, tmp_path):
  path = obj(tmp_path, material=f"newmtl m\n\tmap_Kd {options}my wood 2.png \r\n".encode(), texture="my wood 2.png")
  assert parse_mesh(path)[1] == []
  assert companions(path) == [tmp_path / "a.mtl", tmp_path / "my wood 2.png"]


@pytest.mark.parametrize("name", ["stuhl_\xfc.png".encode("latin-1"), "stuhl_\xfc.png".encode()])
def test_names_are_utf_8_or_else_latin_1(name, tmp_path):
  path = obj(tmp_path, material=b"map_Kd " + name, texture="stuhl_\xfc.png")
  assert parse_mesh(path)[1] == [] and len(companions(path)) == 2


@pytest.mark.parametrize("end", [b"\r", b"\r\n"])
def test_lines_may_end_as_on_any_system(end, tmp_path):
  path = obj(tmp_path, material=b"newmtl m\nmap_Kd t.png\nmap_Bump t.png\n".replace(b"\n", end), texture="t.png")
  path.write_bytes(path.read_bytes().replace(b"\n", end))
  assert companions(path) == [tmp_path / "a.mtl", tmp_path / "t.png"] and parse_mesh(path)[1] == []


def test_blank_lines_are_passed_in_one_go(tmp_path):
  blank = b"\n" + b" \t\n" * 300_000  # looked over from each of them: hours
  path = obj(tmp_path, head=b"mtllib a.mtl\ng a" + blank, material=b"map_Kd t.png\nKd 1 0 0" + blank + b"Kd 0 1 0\n", texture="t.png")
  assert companions(path) == [tmp_path / "a.mtl", tmp_path / "t.png"] and parse_mesh(path)[1] == []


def test_materials_that_name_materials_or_files_elsewhere_are_not_followed(tmp_path):
  (tmp_path / "in").mkdir()
  (tmp_path / "out.png").write_bytes(b"x")
  (tmp_path / "in" / "loop.png").symlink_to("loop.png")
  (tmp_path / "in" / "link.png").symlink_to("../out.png")
  elsewhere = [b"map_Kd " + name for name in (b"/etc/hostname", b"../out.png", b"link.png", b"loop.png", b"a" * 300, b"a\0")]
  path = obj(tmp_path / "in", b"mtllib a.mtl\nmtllib /etc/hostname\nmtllib loop.png\n", b"\n".join([b"map_Kd a.mtl", *elsewhere]))
  assert companions(path) == [tmp_path / "in" / "a.mtl"]
  assert parse_mesh(path)[1] == [f"8 {LOST}"] and len(MeshSource("a", "", path).digest()) == 64


def test_an_unreadable_material_or_texture_keeps_the_geometry(tmp_path, unreadable):
  path = obj(tmp_path, material=b"map_Kd t.png", texture="t.png")
  digests = {MeshSource("a", "", path).digest()}
  for name, notes in (("t.png", []), ("a.mtl", [f"1 {LOST}"])):
    unreadable.add(str(tmp_path / name))
    mesh, told = parse_mesh(path)
    assert len(mesh.faces) == 1 and told == notes
    digests.add(MeshSource("a", "", path).digest())
  assert len(digests) == 3


def test_an_unreadable_buffer_is_one_fault_and_an_unreadable_picture_has_no_size(tmp_path, unreadable):
  path = gltf(tmp_path, image="t.png")
  (tmp_path / "t.png").write_bytes(b"x")
  unreadable.add(str(tmp_path / "t.png"))
  parts, notes = read_parts(path)
  assert len(parts) == 1 and parts[0].texture is None and notes == ["the size of a texture cannot be read"]
  unreadable.add(str(tmp_path / "a.bin"))
  assert len(MeshSource("a", "", path).digest()) == 64
  with pytest.raises(MissingInput, match="a.bin: permission denied"):
    parse_mesh(path)


def test_a_path_of_a_million_folders_is_no_file(tmp_path):
  path = obj(tmp_path, head=b"mtllib " + b"a/" * 10**6 + b"\n")  # walked folder by folder: minutes
  assert companions(path) == [] and parse_mesh(path)[1] == [f"1 {LOST}"]


def test_a_loop_of_links_is_no_buffer(tmp_path):
  (tmp_path / "b.bin").symlink_to("b.bin")
  path = gltf(tmp_path, buffer="b.bin")
  assert companions(path) == []
  with pytest.raises(BadData, match="no file of the mesh's folder"):
    parse_mesh(path)


def test_a_percent_encoded_picture_is_not_missing(tmp_path):
  (tmp_path / "my wood.png").write_bytes(b"x")
  path = gltf(tmp_path, image="my%20wood.png")
  assert parse_mesh(path)[1] == [] and companions(path) == [tmp_path / "a.bin", tmp_path / "my wood.png"]


@pytest.mark.parametrize("kind", ["obj", "gltf", "glb"])
def test_a_file_above_the_cap_is_refused_and_not_looked_into(kind, tmp_path, monkeypatch):
  path = (gltf if kind != "obj" else obj)(tmp_path).rename(tmp_path / f"b.{kind}")
  os.truncate(path, mesh_file.MAX_FILE_BYTES + 1)  # sparse: takes no disk
  assert companions(path) == []
  with pytest.raises(BadData, match="bytes, the cap is"):
    MeshSource("b", "", path).read()
