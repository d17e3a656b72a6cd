"""Files: valid by the Khronos validator, read back by trimesh, byte-equal, whole or absent."""

import json
import struct

import numpy as np
import pytest
import trimesh

from fields3d.core.errors import BadData, CannotWrite, Fault, UsageFault
from fields3d.core.types import Field, Frame, Mesh
from fields3d.data.meshes import parse_mesh
from fields3d.extraction.export import FORMATS, export
from fields3d.extraction.gltf import linear_color, vertex_normals
from fields3d.extraction.marching_cubes import marching_cubes
from fields3d.extraction.sparse import extract

BOX = np.array([[-1.0, -1, -1], [1, 1, 1]])
WORLD = Frame((10.0, -2.0, 3.0), 4.0)


@pytest.fixture(scope="module")
def ball():
  field = Field(lambda x: np.linalg.norm(x, axis=-1) - np.float32(0.5), BOX, color=lambda x: 0.5 + x / 2)
  return extract(field, 20)[0]


def read_glb(data: bytes) -> tuple[dict, bytes]:
  """A second reader of the container, straight from the specification's section 4."""
  magic, version, length = struct.unpack_from("<III", data)
  assert (magic, version, length) == (0x46546C67, 2, len(data))
  chunks, at = {}, 12
  while at < length:
    size, kind = struct.unpack_from("<II", data, at)
    assert size % 4 == 0
    chunks[kind] = data[at + 8:at + 8 + size]
    at += 8 + size
  return json.loads(chunks[0x4E4F534A]), chunks[0x004E4942]


def accessor(document: dict, binary: bytes, index: int) -> np.ndarray:
  entry = document["accessors"][index]
  kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[entry["componentType"]]
  width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[entry["type"]]
  start = document["bufferViews"][entry["bufferView"]]["byteOffset"]
  return np.frombuffer(binary, kind, entry["count"] * width, start).reshape(-1, width)


def random_mesh(rng, random_values) -> Mesh:
  mesh = marching_cubes(random_values(rng), BOX)
  colors = rng.integers(256, size=mesh.vertices.shape, dtype=np.uint8) if rng.integers(2) else None
  return Mesh(mesh.vertices, mesh.faces, colors)


def assert_valid(folder, num, validate, random_values, seed):
  rng = np.random.default_rng(seed)
  for i in range(num):
    extras = {"trial": i, "codes": [0.5, i], "note": "a \u2713"} if i % 3 else None
    frame = Frame(tuple(rng.normal(size=3) * 100), float(rng.uniform(0.01, 50))) if i % 2 else Frame()
    export(random_mesh(rng, random_values), folder / f"{i}.glb", name=f"shape {i}", frame=frame, extras=extras)
  report = validate(folder)
  assert report["files"] == num
  assert report["issues"] == {"errors": 0, "warnings": 0, "infos": 0, "hints": 0}, report["messages"]


def test_glbs_of_random_fields_pass_the_khronos_validator(tmp_path, validate, random_values):
  assert_valid(tmp_path, 100, validate, random_values, 0)


@pytest.mark.slow
def test_1000_glbs_pass_the_khronos_validator(tmp_path, validate, random_values):
  assert_valid(tmp_path, 1000, validate, random_values, 1)


def test_a_glb_of_more_than_65534_vertices_has_wide_indices_and_is_valid(tmp_path, validate):
  field = Field(lambda x: np.linalg.norm(x, axis=-1) - np.float32(0.9), BOX)
  mesh, _ = extract(field, 150)
  assert len(mesh.vertices) > 65535
  path = export(mesh, tmp_path / "large.glb")
  document, binary = read_glb(path.read_bytes())
  assert document["accessors"][-1]["componentType"] == 5125
  np.testing.assert_array_equal(accessor(document, binary, 2).reshape(-1, 3), mesh.faces)
  assert not any(validate(tmp_path)["issues"].values())


def test_a_glb_holds_positions_unit_normals_linear_colours_and_a_material(ball, tmp_path):
  path = export(ball, tmp_path / "ball.glb", name="a ball", extras={"step": 7})
  document, binary = read_glb(path.read_bytes())
  primitive = document["meshes"][0]["primitives"][0]
  attributes = {k: accessor(document, binary, v) for k, v in primitive["attributes"].items()}
  np.testing.assert_array_equal(attributes["POSITION"], ball.vertices.astype(np.float32))
  position = document["accessors"][primitive["attributes"]["POSITION"]]
  assert position["min"] == attributes["POSITION"].min(axis=0).tolist()
  assert position["max"] == attributes["POSITION"].max(axis=0).tolist()
  np.testing.assert_allclose(np.linalg.norm(attributes["NORMAL"], axis=1), 1, rtol=1e-6)
  # A ball's normals are its directions; atol: a chord's normal at this resolution.
  np.testing.assert_allclose(attributes["NORMAL"], ball.vertices / 0.5, rtol=0, atol=0.1)
  linear = linear_color(ball.colors)
  np.testing.assert_allclose(attributes["COLOR_0"][:, :3] / 65535, linear, rtol=0, atol=0.5 / 65535 + 1e-9)
  assert np.all(attributes["COLOR_0"][:, 3] == 65535)
  np.testing.assert_array_equal(accessor(document, binary, primitive["indices"]).reshape(-1, 3), ball.faces)
  material = document["materials"][primitive["material"]]
  assert material["name"] == "a ball" and material["pbrMetallicRoughness"]["metallicFactor"] == 0
  assert document["asset"]["generator"].startswith("fields3d ") and document["asset"]["extras"] == {"step": 7}


def test_every_srgb_byte_keeps_its_own_linear_value():
  linear = np.rint(65535 * linear_color(np.arange(256, dtype=np.uint8)))
  assert len(np.unique(linear)) == 256 and linear[0] == 0 and linear[255] == 65535


@pytest.mark.parametrize("format", FORMATS)
def test_trimesh_reads_the_same_mesh_in_the_world_frame(ball, tmp_path, format, volume):
  path = export(ball, tmp_path / "ball", format, frame=WORLD, extras={"step": 7})
  assert path == tmp_path / f"ball.{format}"
  loaded = trimesh.load(path, force="mesh", process=False)
  expected = ball.vertices * 4 + np.array([10.0, -2, 3])
  tolerance = {"glb": 1e-6, "obj": 2e-11, "ply": 0}[format]  # float32 of the own frame; 12 digits; float64
  np.testing.assert_allclose(loaded.vertices, expected, rtol=0, atol=4 * tolerance)
  np.testing.assert_array_equal(loaded.faces, ball.faces)
  assert loaded.is_watertight and loaded.volume == pytest.approx(64 * volume(ball), rel=1e-5)
  if format != "glb":  # trimesh keeps a GLB's colours beside its material
    np.testing.assert_array_equal(loaded.visual.vertex_colors[:, :3], ball.colors)


def test_far_from_the_origin_a_glb_keeps_its_precision(ball, tmp_path):
  path = export(ball, tmp_path / "far.glb", frame=Frame((1e6, 0.0, 0.0), 1e-3))
  document, binary = read_glb(path.read_bytes())
  assert document["nodes"][0]["translation"] == [1e6, 0, 0] and document["nodes"][0]["scale"] == [1e-3] * 3
  assert len(np.unique(accessor(document, binary, 0), axis=0)) == len(ball.vertices)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_mesh_gives_the_same_bytes_and_the_last_write_wins_whole(ball, tmp_path, format):
  first = export(ball, tmp_path / "a", format, name="x", extras={"b": 1, "a": 2}).read_bytes()
  second = export(ball, tmp_path / "a", format, name="x", extras={"b": 1, "a": 2}).read_bytes()
  assert first == second
  assert [p.name for p in tmp_path.iterdir()] == [f"a.{format}"]


def test_an_obj_joins_vertices_of_one_place_and_keeps_those_of_two_colours(ball, tmp_path):
  soup = Mesh(ball.vertices[ball.faces].reshape(-1, 3), np.arange(3 * len(ball.faces)).reshape(-1, 3))
  read, _ = parse_mesh(export(soup, tmp_path / "soup", "obj"))
  assert len(read.vertices) == len(ball.vertices) and trimesh.Trimesh(read.vertices, read.faces, process=False).is_watertight
  colors = np.repeat(np.arange(len(soup.faces), dtype=np.uint8) % 2, 3)[:, None] * np.uint8([200, 100, 50])
  read, _ = parse_mesh(export(Mesh(soup.vertices, soup.faces, colors), tmp_path / "two", "obj"))
  np.testing.assert_array_equal(read.colors[read.faces], colors[soup.faces])
  assert len(ball.vertices) < len(read.vertices) <= 2 * len(ball.vertices)


@pytest.mark.parametrize("format", FORMATS)
def test_names_and_extras_of_any_text_stay_readable(ball, tmp_path, format):
  name = 'chair "7"\nv 0 0 0 \u2713'
  path = export(ball, tmp_path / "odd", format, name=name, extras={"text": name})
  assert len(trimesh.load(path, force="mesh", process=False).faces) == len(ball.faces)


def test_far_from_the_origin_an_obj_keeps_its_faces(ball, tmp_path):
  path = export(ball, tmp_path / "far", "obj", frame=Frame((5e5, 4.6e6, 100.0), 1e-4))
  x = parse_mesh(path)[0]
  np.testing.assert_allclose(x.vertices.max(0) - x.vertices.min(0), 1e-4 * np.ptp(ball.vertices, axis=0), rtol=1e-4)
  near = export(ball, tmp_path / "near", "obj").read_text().splitlines()
  assert max(len(word) for line in near if line.startswith("v ") for word in line.split()[1:4]) <= 19


def test_vertices_without_a_face_of_some_area_have_a_normal_up():
  x = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [2, 0, 0]])
  normals = vertex_normals(Mesh(x, np.array([[0, 1, 2], [0, 1, 4]])))
  np.testing.assert_array_equal(normals, [[0, 0, 1]] * 3 + [[0, 1, 0]] * 2)


def test_normals_are_weighted_by_area_and_unit_even_where_faces_cancel():
  corner = Mesh(np.array([[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1]]), np.array([[0, 1, 2], [0, 2, 3]]))
  np.testing.assert_allclose(vertex_normals(corner)[0], np.array([1, 0, 3]) / np.sqrt(10), rtol=1e-12)
  flat = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 1]]))
  np.testing.assert_allclose(np.abs(vertex_normals(flat)), [[0, 0, 1]] * 3, rtol=1e-12)
  point = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
  np.testing.assert_array_equal(vertex_normals(point), [[0, 1, 0]] * 3)


def test_what_cannot_be_written_is_a_fault_and_leaves_no_file(ball, tmp_path):
  empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
  broken = Mesh(np.where(ball.vertices > 0.4, np.nan, ball.vertices), ball.faces)
  beyond = Mesh(ball.vertices, ball.faces + 1)
  for mesh, what in ((empty, "no faces"), (broken, "not finite"), (beyond, "reach beyond")):
    with pytest.raises(BadData, match=what):
      export(mesh, tmp_path / "a.glb")
  for format in FORMATS:
    for extras in ({"loss": np.nan}, {"file": tmp_path}):
      with pytest.raises(BadData, match="no JSON"):
        export(ball, tmp_path / "a", format, extras=extras)
  with pytest.raises(UsageFault, match="did you mean 'glb'"):
    export(ball, tmp_path / "a", "gltb")
  assert not list(tmp_path.iterdir())
  (tmp_path / "file").write_text("")
  with pytest.raises(Fault) as caught:
    export(ball, tmp_path / "file" / "a.glb")
  assert caught.value.exit_code == 73
  (tmp_path / "folder.glb").mkdir()
  with pytest.raises(CannotWrite, match="folder.glb: is a directory"):
    export(ball, tmp_path / "folder.glb")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.glb"]


def test_a_textured_mesh_has_no_colours_of_vertices_that_would_dim_it(ball):
  document, _ = read_glb(FORMATS["glb"](ball, "a", uv=np.zeros((len(ball.vertices), 2)), png=b"png!"))
  assert set(document["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
