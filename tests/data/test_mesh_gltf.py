"""glTF: every way to store the same triangles gives the same triangles; every way to break the file is rejected."""

import base64
import dataclasses
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fields3d.core.errors import BadData, Fault
from fields3d.data import mesh_accessors, mesh_gltf
from fields3d.data.gltf_parts import read_parts
from fields3d.data.mesh_file import MeshFile
from fields3d.data.meshes import parse_mesh, read_mesh
from fields3d.geometry.meshes import inspect_mesh

X = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
TYPES = {np.dtype(t).str: code for t, code in (("i1", 5120), ("u1", 5121), ("<i2", 5122), ("<u2", 5123), ("<u4", 5125),
                                               ("<f4", 5126))}


@dataclasses.dataclass
class Gltf:
  """A glTF file under construction: a JSON tree and its one buffer."""
  tree: dict = dataclasses.field(default_factory=lambda: {
      "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
      "meshes": [{"primitives": []}], "accessors": [], "bufferViews": [], "buffers": [{}]})
  data: bytes = b""

  def view(self, raw: bytes, **more) -> int:
    self.data += b"\0" * (-len(self.data) % 4)
    self.tree["bufferViews"].append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw), **more})
    self.data += raw
    return len(self.tree["bufferViews"]) - 1

  def accessor(self, values: np.ndarray, **more) -> int:
    """A tight accessor of (n,) or (n, k) values."""
    kind = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
    entry = {"componentType": TYPES[values.dtype.str], "count": len(values), "type": kind, **more}
    self.tree["accessors"].append({"bufferView": self.view(values.tobytes()), **entry})
    return len(self.tree["accessors"]) - 1

  def primitive(self, position: int, indices: int | None = None, **more) -> None:
    entry = {"attributes": {"POSITION": position}, **more}
    self.tree["meshes"][0]["primitives"].append(entry if indices is None else {**entry, "indices": indices})

  def glb(self, length: int | None = None, version: int = 2) -> bytes:
    self.tree["buffers"][0].setdefault("byteLength", len(self.data))
    text, data = json.dumps(self.tree).encode(), self.data + b"\0" * (-len(self.data) % 4)
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    return struct.pack("<4sII", b"glTF", version, 12 + len(body) if length is None else length) + body

  def gltf(self, uri: str) -> bytes:
    self.tree["buffers"] = [{"byteLength": len(self.data), "uri": uri}]
    return json.dumps(self.tree).encode()


def plain(indices="<u2", **node) -> Gltf:
  out = Gltf()
  out.primitive(out.accessor(X), out.accessor(FACES.reshape(-1).astype(indices)))
  out.tree["nodes"][0].update(node)
  return out


def read(tmp_path, content, name="a.glb"):
  (tmp_path / name).write_bytes(content)
  return parse_mesh(tmp_path / name)


def corners(mesh):
  return mesh.vertices[mesh.faces]


# The same triangles, stored otherwise.


def without_indices(x, faces, rng):
  out = Gltf()
  out.primitive(out.accessor(x[faces.reshape(-1)]))
  return out


def with_indices(kind):
  def store(x, faces, rng):
    out = Gltf()
    out.primitive(out.accessor(x), out.accessor(faces.reshape(-1).astype(kind)))
    return out
  return store


def interleaved(x, faces, rng):
  """Positions within rows of 20 bytes, after 4 others, the first row at an offset."""
  out = Gltf()
  rows = np.zeros(len(x), [("skip", "<f4"), ("x", "<f4", 3), ("more", "<f4")])
  rows["x"], rows["skip"] = x, np.nan
  view = out.view(b"\xff" * 8 + rows.tobytes(), byteStride=20)
  out.tree["accessors"].append({"bufferView": view, "byteOffset": 12, "componentType": 5126, "count": len(x),
                                "type": "VEC3"})
  out.primitive(0, out.accessor(faces.reshape(-1).astype("<u4")))
  return out


def sparse(over_zeros):
  def store(x, faces, rng):
    out = Gltf()
    rows = np.flatnonzero(x.any(1) if over_zeros else rng.random(len(x)) < 0.5)
    base = x.copy()
    base[rows] = rng.random((len(rows), 3))
    position = out.accessor(base)
    if over_zeros:
      del out.tree["accessors"][position]["bufferView"]
    if len(rows):
      out.tree["accessors"][position]["sparse"] = {
          "count": len(rows), "values": {"bufferView": out.view(x[rows].tobytes())},
          "indices": {"bufferView": out.view(rows.astype("<u2").tobytes()), "componentType": 5123}}
    out.primitive(position, out.accessor(faces.reshape(-1).astype("<u4")))
    return out
  return store


def as_modes(mode):
  def store(x, faces, rng):
    """Each triangle as a strip or fan of its own."""
    out = Gltf()
    position = out.accessor(x)
    for face in faces:
      turned = face if mode == 5 else np.roll(face, 1)
      out.primitive(position, out.accessor(turned.astype("<u1")), mode=mode)
    return out
  return store


def transformed(x, faces, rng):
  """Scaled, turned and moved by a chain of nodes that undoes itself."""
  out = with_indices("<u2")(x, faces, rng)
  half = np.sqrt(0.5)
  out.tree["nodes"] = [{"mesh": 0}, {"translation": [1, 2, 3], "children": [2]},
                       {"rotation": [0, half, 0, half], "scale": [2, 2, 2], "children": [3]},
                       {"rotation": [0, -half, 0, half], "scale": [0.5, 0.5, 0.5], "children": [4]},
                       {"matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, -1, -2, -3, 1], "children": [0]}]
  out.tree["scenes"] = [{"nodes": [1]}]
  return out


STORES = {"without indices": without_indices, "u8": with_indices("<u1"), "u16": with_indices("<u2"),
          "u32": with_indices("<u4"), "interleaved": interleaved, "sparse": sparse(False),
          "sparse over zeros": sparse(True), "strips": as_modes(5), "fans": as_modes(6), "node chain": transformed}


@pytest.mark.parametrize("store", STORES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), num_vertices=st.integers(3, 40), num_faces=st.integers(1, 12))
def test_every_way_to_store_triangles_gives_the_plain_ones(store, tmp_path_factory, seed, num_vertices, num_faces):
  rng = np.random.default_rng(seed)
  x = rng.integers(-64, 64, (num_vertices, 3)).astype(np.float32)
  faces = rng.integers(0, num_vertices, (num_faces, 3))
  mesh, notes = read(tmp_path_factory.mktemp("gltf"), STORES[store](x, faces, rng).glb())
  assert notes == []
  atol = 1e-12 if store == "node chain" else 0  # a turn and back, of lengths up to 100, in float64
  np.testing.assert_allclose(corners(mesh), x[faces], rtol=0, atol=atol)


def test_strips_and_fans_turn_as_the_specification_orders_them(tmp_path):
  for mode, want in ((5, [[0, 1, 2], [1, 3, 2], [2, 3, 4]]), (6, [[1, 2, 0], [2, 3, 0], [3, 4, 0]])):
    out = Gltf()
    x = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    out.primitive(out.accessor(x), mode=mode)
    assert read(tmp_path, out.glb())[0].faces.tolist() == want


def test_a_nodes_transform_applies_within_its_parents(tmp_path):
  out = plain()
  out.tree["nodes"] = [{"translation": [1, 2, 3], "children": [1]},
                       {"scale": [2, 3, 4], "translation": [0, 0, 1], "mesh": 0}]
  mesh, _ = read(tmp_path, out.glb())
  np.testing.assert_array_equal(corners(mesh), X[FACES] * [2, 3, 4] + [1, 2, 4])


@pytest.mark.parametrize("node", [{"scale": [-1, 1, 1]}, {"scale": [-2, -1, -1]},
                                  {"matrix": [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]}])
def test_a_mirrored_node_keeps_its_surface_outward(node, tmp_path):
  mesh, _ = read(tmp_path, plain(**node).glb())
  assert inspect_mesh(mesh).volume > 0


def test_quantised_positions_and_buffers_elsewhere_are_the_same_mesh(tmp_path):
  quantised = Gltf()
  quantised.tree["extensionsRequired"] = ["KHR_mesh_quantization"]
  quantised.primitive(quantised.accessor((X * 127).astype("i1"), normalized=True), quantised.accessor(
      FACES.reshape(-1).astype("<u1")))
  beside = plain()
  (tmp_path / "a b.bin").write_bytes(beside.data)
  inline = plain()
  uri = "data:application/octet-stream;base64," + base64.b64encode(inline.data).decode()
  for name, content in (("a.glb", quantised.glb()), ("b.gltf", beside.gltf("a%20b.bin")), ("c.gltf", inline.gltf(uri)),
                        ("d.gltf", b"\xef\xbb\xbf" + inline.gltf(uri))):
    mesh, notes = read(tmp_path, content, name)
    assert notes == []
    np.testing.assert_array_equal(corners(mesh), X[FACES])


def test_ten_thousand_nodes_deep_is_walked(tmp_path):
  out = plain()
  out.tree["nodes"] = [{"children": [i + 1], "translation": [1, 0, 0]} for i in range(10_000)] + [{"mesh": 0}]
  mesh, _ = read(tmp_path, out.glb())
  assert mesh.vertices[0].tolist() == [10_000, 0, 0]


def test_linear_colours_times_the_material_come_out_as_srgb(tmp_path):
  out = plain()
  out.tree["meshes"][0]["primitives"][0]["material"] = 0
  out.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 0, 1]}}]
  mesh, _ = read(tmp_path, out.glb())
  assert mesh.colors.tolist() == [[188, 255, 0]] * 4
  color = out.accessor(np.array([[255, 128, 255, 255]] * 4, "u1"), normalized=True)
  out.tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = color
  out.tree["buffers"] = [{}]
  mesh, _ = read(tmp_path, out.glb())
  assert mesh.colors.tolist() == [[188, 188, 0]] * 4


def test_the_factor_of_a_texture_is_no_colour(tmp_path):
  out = plain()
  out.tree["meshes"][0]["primitives"][0]["material"] = 0
  out.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1], "baseColorTexture": {"index": 0}}}]
  out.tree["textures"] = [{}]
  assert read(tmp_path, out.glb())[0].colors is None


def test_instances_count_against_the_cap_before_they_are_made(tmp_path, monkeypatch):
  out = plain()
  out.tree["nodes"] = [{"mesh": 0}] * 1000
  out.tree["scenes"] = [{"nodes": list(range(1000))}]
  monkeypatch.setattr("fields3d.data.mesh_file.MAX_ELEMENTS", 3999)
  with pytest.raises(BadData, match="vertex count 4000 is above the cap"):
    read(tmp_path, out.glb())


def change(path, value):
  """A plain file with one entry of its tree replaced (or removed, by None)."""
  out = plain()
  *parents, leaf = path
  here = out.tree
  for part in parents:
    here = here[part]
  if value is None:
    del here[leaf]
  else:
    here[leaf] = value
  return out


BAD_INDEX = Gltf()
BAD_INDEX.primitive(BAD_INDEX.accessor(X), BAD_INDEX.accessor(np.array([0, 1, 2, 0, 1, 4], "<u2")))
SPARSE = {"count": 1, "indices": {"bufferView": 1, "componentType": 5123}, "values": {"bufferView": 0}}

REJECTED = {
    "length field": (plain().glb(length=9999), "length field 9999 at offset 8"),
    "cut off": (plain().glb()[:-8], "length field .* the file has"),
    "version 1": (plain().glb(version=1), "version 1 at offset 4"),
    "no GLB": (b"<html>" + bytes(100), "GLB header"),
    "chunk beyond the end": (plain().glb()[:12] + struct.pack("<I", 2**31) + plain().glb()[16:], "chunk of 2147483648"),
    "no JSON": (plain().glb().replace(b'{"asset"', b'["asset"'), "JSON.*line 1"),
    "NaN in JSON": (plain().glb().replace(b'"2.0"', b"  NaN"), "NaN"),
    "deep JSON": (struct.pack("<4sIIII", b"glTF", 2, 400020, 400000, 0x4E4F534A) + b"[" * 400000, "nested too deeply"),
    "asset version": (change(["asset", "version"], "1.0").glb(), "asset.version"),
    "index out of range": (BAD_INDEX.glb(), r"indices \(accessors\[1\]\) item 5: vertex index 4"),
    "node cycle": (change(["nodes"], [{"mesh": 0, "children": [1]}, {"children": [0]}]).glb(),
                   "nodes.0. is reached twice"),
    "node cycle without a scene": (change(["nodes"], [{"children": [1]}, {"children": [0]}]).glb().replace(
        b'"scenes"', b'"scenez"'), "node cycle"),
    "two parents": (change(["nodes"], [{"children": [1, 1]}, {"mesh": 0}]).glb(), "nodes.1. is reached twice"),
    "unknown extension": (change(["extensionsRequired"], ["KHR_materials_unlit", "KHR_draco_mesh_compression"]).glb(),
                          "requires the extension KHR_draco_mesh_compression"),
    "meshopt": (change(["extensionsRequired"], ["EXT_meshopt_compression"]).glb(), "EXT_meshopt_compression"),
    "accessor without data": (change(["accessors", 0, "bufferView"], None).glb(), r"accessors\[0\] .* no bufferView"),
    "huge count": (change(["accessors", 0, "count"], 4 * 10**9).glb(), "above the cap"),
    "count beyond the view": (change(["accessors", 0, "count"], 5).glb(), "needs bytes up to 60, .* has 48"),
    "negative offset": (change(["bufferViews", 0, "byteOffset"], -4).glb(), "byteOffset is -4"),
    "view beyond the buffer": (change(["bufferViews", 1, "byteLength"], 25).glb(), "ends at byte 73"),
    "stride below the item": (change(["bufferViews", 0, "byteStride"], 4).glb(), "byteStride is 4"),
    "buffer length": (change(["buffers", 0, "byteLength"], 10**6).glb(), "byteLength is 1000000"),
    "no such accessor": (change(["meshes", 0, "primitives", 0, "indices"], 7).glb(), r"accessors\[7\] does not exist"),
    "no such mesh": (change(["nodes", 0, "mesh"], 7).glb(), r"meshes\[7\] does not exist"),
    "no such node": (change(["scenes", 0, "nodes"], [7]).glb(), "scenes.0..nodes must list indices below 1"),
    "indices of floats": (change(["accessors", 1, "componentType"], 5126).glb(), "componentType 5126"),
    "component type is a list": (change(["accessors", 1, "componentType"], [5126]).glb(), "componentType"),
    "positions of two": (change(["accessors", 0, "type"], "VEC2").glb(), "type 'VEC2'"),
    "indices not in threes": (change(["accessors", 1, "count"], 11).glb(), "11 indices"),
    "sparse beyond": (change(["accessors", 0, "sparse"], {**SPARSE, "count": 5}).glb(), "5 of 4 items"),
    "sparse not rising": (change(["accessors", 0, "sparse"], {**SPARSE, "count": 3}).glb(), "rise strictly"),
    "matrix of NaN": (change(["nodes", 0, "matrix"], [1e300] * 16).glb(), "16 finite numbers"),
    "matrix of 15": (change(["nodes", 0, "matrix"], [1] * 15).glb(), "16 finite numbers"),
    "zero rotation": (change(["nodes", 0, "rotation"], [0, 0, 0, 0]).glb(), "rotation is zero"),
    "only points": (change(["meshes", 0, "primitives", 0, "mode"], 0).glb(), "no faces found"),
    "buffer outside the folder": (change(["buffers", 0], {"byteLength": 72, "uri": "../../../etc/passwd"}).glb(),
                                  "no file of the mesh's folder"),
    "buffer from the network": (change(["buffers", 0], {"byteLength": 72, "uri": "http://127.0.0.1/a.bin"}).glb(),
                                "no file of the mesh's folder"),
    "data URI that is no base64": (change(["buffers", 0], {"byteLength": 72, "uri": "data:;base64,@@@"}).glb(), "uri"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_broken_gltf_is_rejected_in_one_line(case, tmp_path):
  content, message = REJECTED[case]
  with pytest.raises(BadData, match=message) as caught:
    read(tmp_path, content)
  assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_huge_data_uri_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
  monkeypatch.setattr(mesh_accessors, "_MOST_DECODED_BYTES", 1000)
  monkeypatch.setattr(base64, "b64decode", lambda *_, **__: pytest.fail("decoded"))
  with pytest.raises(BadData, match="the cap is 1000"):
    read(tmp_path, plain().gltf("data:;base64," + "A" * 4000), "a.gltf")
  monkeypatch.setattr(mesh_gltf, "_MOST_JSON_BYTES", 1000)
  with pytest.raises(BadData, match="bytes of JSON, the cap is 1000"):
    read(tmp_path, plain().gltf("data:;base64," + "A" * 4000), "a.gltf")


def test_a_lookup_does_not_check_the_whole_table_again(tmp_path):
  tables = mesh_accessors.Accessors(MeshFile(tmp_path / "a.gltf", b""), {"accessors": [{}] * 10**6}, None)
  assert all(tables.item("accessors", index) == {} for index in range(20_000))  # with 10^6 checks each: ten minutes


def test_chunks_that_are_not_used_take_no_memory(tmp_path):
  content = plain().glb()
  content = content[:8] + struct.pack("<I", len(content) + 8 * 10**5) + content[12:] + bytes(8 * 10**5)
  tracemalloc.start()
  try:
    mesh_gltf.open_glb(MeshFile(tmp_path / "a.glb", content))
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 10**6


def test_texture_coordinates_that_are_not_finite_are_refused_with_their_count(tmp_path):
  out = plain()
  uv = np.zeros((4, 2), np.float32)
  uv[1], uv[3, 1] = np.nan, np.inf
  out.tree["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = out.accessor(uv)
  (tmp_path / "a.glb").write_bytes(out.glb())
  with pytest.raises(BadData, match=r"a\.glb: attributes\.TEXCOORD_0 \(accessors\[2\]\) item 1 is not finite.*2 in all"):
    read_parts(tmp_path / "a.glb")


def test_links_out_of_the_folder_are_not_followed(tmp_path):
  (tmp_path / "secret.bin").write_bytes(plain().data)
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "a.bin").symlink_to("../secret.bin")
  with pytest.raises(BadData, match="no file of the mesh's folder"):
    read(tmp_path / "in", plain().gltf("a.bin"), "a.gltf")


def test_skins_lines_and_missing_textures_are_counted(tmp_path):
  out = plain(skin=0)
  out.tree["images"] = [{"uri": "gone.png"}]
  out.primitive(0, mode=1)
  _, notes = read(tmp_path, out.glb())
  assert len(notes) == 3 and all(note.startswith("1 ") for note in notes)
  with pytest.raises(BadData, match="strict"):
    read_mesh(tmp_path / "a.glb", strict=True)


@pytest.mark.parametrize(("mesh", "node", "told"), [([1.0], None, 1), ([1.0], [0.0], 0), ([0.0], None, 0), (None, [0.5], 1)])
def test_what_morph_targets_would_move_is_counted(mesh, node, told, tmp_path):
  out = plain(**({} if node is None else {"weights": node}))
  out.tree["meshes"][0] |= {} if mesh is None else {"weights": mesh}
  assert read(tmp_path, out.glb())[1] == ["1 skinned or morphed nodes: their bind pose is read"] * told


def test_any_damage_ends_in_a_mesh_or_a_fault(tmp_path):
  rng = np.random.default_rng(0)
  content = sparse(False)(X, FACES, rng).glb()
  for _ in range(400):
    damaged = np.frombuffer(content, np.uint8).copy()
    spots = rng.integers(12, len(damaged), size=rng.integers(1, 4))
    damaged[spots] = rng.choice(np.frombuffer(b'0179-.,"[]{}e\0\xff', np.uint8))
    try:
      read(tmp_path, damaged.tobytes())
    except Fault as fault:
      assert fault.exit_code == 65
