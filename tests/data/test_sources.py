"""Sources: what is found where, under which names, and that a digest follows everything that the content depends on."""

import os
import struct

import numpy as np
import pytest
import trimesh

from fields3d.core.errors import BadData, MissingInput
from fields3d.core.types import Frame
from fields3d.data import deepsdf_files
from fields3d.data.sdf_samples import split_by_sign
from fields3d.data.sources import MeshSource, SampleSource, companions, find_sources


def put(path, size=(1.0, 0.6, 0.4)):
  path.parent.mkdir(parents=True, exist_ok=True)
  trimesh.creation.box(size).export(path)
  return path


def ball(n=500):
  x = np.random.default_rng(0).uniform(-1, 1, (n, 3)).astype(np.float32)
  return split_by_sign(x, (np.linalg.norm(x, axis=1) - 0.6).astype(np.float32))


def test_a_file_is_one_shape_and_a_folder_is_all_below_it(tmp_path):
  put(tmp_path / "chair" / "b.obj")
  put(tmp_path / "chair" / "a.PLY".lower())
  put(tmp_path / "top.stl")
  (tmp_path / "notes.txt").write_text("x")
  (tmp_path / ".hidden.obj").write_text("x")
  found = find_sources(tmp_path)
  assert [(s.name, s.label) for s in found] == [("chair/a", "chair"), ("chair/b", "chair"), ("top", "")]
  only = find_sources(tmp_path / "top.stl")
  assert [(s.name, s.label) for s in only] == [("top", "")]
  assert only[0].digest() == found[2].digest()


def test_two_formats_of_one_name_keep_their_suffixes(tmp_path):
  put(tmp_path / "a.obj")
  put(tmp_path / "a.ply")
  put(tmp_path / "b.ply")
  assert [s.name for s in find_sources(tmp_path)] == ["a.obj", "a.ply", "b"]


def test_deepsdf_samples_are_found_with_their_normalisation(tmp_path):
  path = tmp_path / "SdfSamples" / "set" / "chair" / "x.npz"
  deepsdf_files.write_samples(path, ball())
  deepsdf_files.write_normalization(tmp_path / "NormalizationParameters" / "set" / "chair" / "x.npz",
                                    Frame((1.0, 2.0, 3.0), 2.0))
  source, = find_sources(tmp_path)
  assert isinstance(source, SampleSource) and source.label == "chair"
  assert source.frame() == Frame((1.0, 2.0, 3.0), 2.0)
  samples, warnings = source.read()
  assert len(samples.sdf) == 500 and warnings == []
  assert source.digest() != find_sources(tmp_path, "positive-inside")[0].digest()
  before = source.digest()
  deepsdf_files.write_normalization(source.normalization, Frame((1.0, 2.0, 3.0), 4.0))
  assert source.digest() != before
  source.normalization.unlink()
  assert find_sources(tmp_path)[0].digest() != before


def test_a_path_that_is_not_there_or_holds_nothing_is_a_missing_input(tmp_path):
  with pytest.raises(MissingInput, match="no such file"):
    find_sources(tmp_path / "no")
  with pytest.raises(MissingInput, match="holds no mesh"):
    find_sources(tmp_path)
  (tmp_path / "a.txt").write_text("x")
  with pytest.raises(BadData, match="known: .obj"):
    find_sources(tmp_path / "a.txt")


def test_a_folder_that_cannot_be_read_is_not_left_out_in_silence(tmp_path, monkeypatch):
  put(tmp_path / "a" / "a.obj")
  put(tmp_path / "b" / "b.obj")
  scan = os.scandir

  def deny(path):
    if str(path).endswith("/b"):
      raise PermissionError(13, "Permission denied", str(path))
    return scan(path)

  monkeypatch.setattr(os, "scandir", deny)
  with pytest.raises(MissingInput, match="/b: permission denied; make the folder readable"):
    find_sources(tmp_path)


def test_what_prepare_wrote_into_its_own_source_is_no_shape_of_it(tmp_path):
  put(tmp_path / "a.obj")
  (tmp_path / "out" / "key").mkdir(parents=True)
  (tmp_path / "out" / ".host.1.other").mkdir()
  for name in ("key/mesh.npz", "key/entry.json", ".host.1.other/mesh.npz"):  # of a run that was killed
    (tmp_path / "out" / name).write_bytes(b"")
  assert [s.name for s in find_sources(tmp_path)] == ["a"]
  for name in ("quality.csv", "index.json"):
    (tmp_path / "out" / name).write_bytes(b"")
  deepsdf_files.write_samples(tmp_path / "out" / "SdfSamples" / "a.npz", ball())
  assert [s.name for s in find_sources(tmp_path)] == ["a"]
  assert [s.name for s in find_sources(tmp_path / "out")] == ["SdfSamples/a"]


def test_the_digest_follows_the_materials_and_textures_of_an_obj(tmp_path):
  path = put(tmp_path / "a.obj")
  path.write_text("mtllib a.mtl\nmtllib ../a.mtl\n" + path.read_text())
  source, digests = MeshSource("a", "", path), set()
  digests.add(source.digest())
  (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 0 0\n")
  digests.add(source.digest())
  (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd -s 1 1 1 t.png\n")
  digests.add(source.digest())
  (tmp_path / "t.png").write_bytes(b"png")
  assert [p.name for p in companions(path)] == ["a.mtl", "t.png"]
  digests.add(source.digest())
  assert len(digests) == 4


def test_the_buffers_of_a_gltf_belong_to_it_but_data_uris_do_not(tmp_path):
  (tmp_path / "a.gltf").write_text('{"buffers": [{"uri": "a.bin"}, {"uri": "data:x;base64,AAAA"}, {"uri": "no.bin"}]}')
  (tmp_path / "a.bin").write_bytes(b"12")
  assert companions(tmp_path / "a.gltf") == [tmp_path / "a.bin"]
  (tmp_path / "b.gltf").write_text('{"buffers": [{"uri": "b%20b.bin"}]}')
  (tmp_path / "b b.bin").write_bytes(b"12")
  assert companions(tmp_path / "b.gltf") == [tmp_path / "b b.bin"]
  tree, rest = b'{"buffers": [{"uri": "a.bin"}]}', b'"uri": "b b.bin"'
  (tmp_path / "c.glb").write_bytes(b"glTF" + struct.pack("<IIII", 2, 20 + len(tree) + len(rest), len(tree), 0x4E4F534A) + tree + rest)
  assert companions(tmp_path / "c.glb") == [tmp_path / "a.bin"]
  (tmp_path / "d.gltf").write_text(r'{"buffers": [{"uri": "\u00fc\"1.bin"}, {"uri": "\u00"}, {"uri": ".\/a.bin"}]}')
  (tmp_path / "ü\"1.bin").write_bytes(b"12")
  assert companions(tmp_path / "d.gltf") == [tmp_path / "ü\"1.bin", tmp_path / "a.bin"]


def test_a_name_that_is_no_utf_8_is_one_that_can_be_written(tmp_path):
  put(tmp_path / "a.obj")
  os.rename(tmp_path / "a.obj", os.fsencode(tmp_path) + b"/caf\xe9.obj")
  for found in (find_sources(tmp_path), find_sources(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.obj"))):
    assert [s.name for s in found] == ["caf\\xe9"] and len(found[0].digest()) == 64


def test_a_loop_of_links_ends(tmp_path):
  put(tmp_path / "in" / "a.obj")
  (tmp_path / "in" / "loop").symlink_to(tmp_path)
  assert [s.name for s in find_sources(tmp_path)] == ["in/a"]
