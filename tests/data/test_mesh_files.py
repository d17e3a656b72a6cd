"""Mesh files: the bad ones rejected in one line, the odd ones read with counted warnings, the real ones as trimesh."""

import os
import struct
import tracemalloc
import warnings

import numpy as np
import pytest

from fields3d.core.errors import BadData, Fault, MissingInput
from fields3d.data import mesh_file
from fields3d.data.meshes import READERS, parse_mesh, read_mesh, read_point_cloud
from fields3d.geometry.meshes import inspect_mesh

BOX = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
TETRAHEDRON = BOX + "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4").tobytes()
PLY = ("ply\nformat binary_little_endian 1.0\nelement vertex {v}\nproperty float x\nproperty float y\n"
       "property float z\nelement face {f}\nproperty list {l} int vertex_indices\nend_header\n")
TEXT_PLY = PLY.replace("binary_little_endian", "ascii")
FACES = b"".join(struct.pack("<B3i", 3, *f) for f in ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)))


def ply(v=4, f=4, l="uchar", corners=CORNERS, faces=FACES):
  return PLY.format(v=v, f=f, l=l).encode() + corners + faces


def stl(count=1, facets=1, value=1.0):
  facet = struct.pack("<12f", *([0] * 6), value, *([0] * 3), 1, 0) + b"\0\0"
  return b" " * 80 + struct.pack("<I", count) + facet * facets


def write(folder, name, content):
  path = folder / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


REJECTED = {
    "text renamed to obj": ("a.obj", "dear reader,\nthis is a letter\n", "no faces found"),
    "vertices only": ("a.obj", BOX, "no faces found"),
    "NaN vertex": ("a.obj", TETRAHEDRON.replace("v 1 0 0", "v nan 0 0"), r"vertex 1 .* not finite.*1 in all"),
    "two infinite vertices": ("a.obj", "v 0 0 0\nv 1e400 0 0\nv 0 -inf 0\nf 1 2 3\n", r"vertex 1 .*2 in all"),
    "far vertex": ("a.obj", TETRAHEDRON.replace("v 1 0 0", "v 1e300 0 0"), "vertex 1 .* beyond 1e"),
    "vertex whose area overflows": ("a.obj", TETRAHEDRON.replace("v 1 0 0", "v 1e80 0 0"), "vertex 1 .* beyond 1e"),
    "index beyond": ("a.obj", BOX + "f 1 2 9\n", r"line 5.*index 8 \(from 0\).*4 vertices"),
    "index 0": ("a.obj", BOX + "f 1 2 3\nf 0 1 2\n", "line 6.*start at 1"),
    "relative index beyond": ("a.obj", BOX + "f -1 -2 -5\n", "line 5.*relative index -5"),
    "relative index to a later vertex": ("a.obj", "v 0 0 0\nf -1 -2 -3\n" + BOX, "line 2.*relative index -2"),
    "index of 400 digits": ("a.obj", BOX + f"f 1 2 {'9' * 400}\n", "line 5.*out of range"),
    "decimal comma": ("a.obj", BOX.replace("v 1 0 0", "v 1,5 0 0") + "f 1 2 3\n", r"line 2.*'1,5'.*point"),
    "index with decimals": ("a.obj", BOX + "f 1 2 3.5\n", "line 5.*not an integer"),
    "underscore": ("a.obj", BOX.replace("v 1 0 0", "v 1_0 0 0") + "f 1 2 3\n", "line 2.*'1_0'"),
    "glued numbers": ("a.obj", BOX.replace("v 1 0 0", "v 1-0 0 0") + "f 1 2 3\n", "line 2.*'1-0'"),
    "hexadecimal": ("a.obj", BOX.replace("v 1 0 0", "v 0x10 0 0") + "f 1 2 3\n", "line 2.*'0x10'"),
    "two coordinates": ("a.obj", "v 0 0\nv 1 0 0 0 0\nv 0 1 0\nf 1 2 3\n", "line 1.*2 numbers"),
    "face of two corners": ("a.obj", BOX + "f 1 2\n", "line 5.*2 corners"),
    "all faces degenerate": ("a.obj", BOX + "f 1 2 2\n", "degenerate"),
    "UTF-16": ("a.obj", TETRAHEDRON.encode("utf-16"), "UTF-16"),
    "binary renamed to obj": ("a.obj", b"v 0 0 0\n\0\0\0", "NUL byte at offset 8"),
    "truncated binary PLY": ("a.ply", ply()[:-3], r"needs \d+ bytes at offset \d+"),
    "PLY cut within the vertices": ("a.ply", ply(corners=CORNERS[:20], faces=b""), "element vertex.*48 bytes"),
    "negative PLY count": ("a.ply", ply(v=-4), "count is -4"),
    "huge PLY count": ("a.ply", ply(v=10**17), "above the cap"),
    "PLY face count beyond the file": ("a.ply", ply(f=10**7), "needs 10000000 bytes"),
    "PLY list beyond the file": ("a.ply", ply(f=1, faces=b"\xff" + bytes(12)), r"face 0.*1020 bytes at offset \d+, 12"),
    "PLY second list beyond the file": ("a.ply", ply(f=2, faces=FACES[:13] + b"\xff" + bytes(20)), "face 1.*1020"),
    "negative PLY list": ("a.ply", ply(f=1, l="char", faces=b"\xfd" + bytes(12)), "length -3 at offset"),
    "PLY index beyond": ("a.ply", ply(f=1, faces=struct.pack("<B3i", 3, 0, 1, 4)), "face 0.*index 4"),
    "PLY negative index": ("a.ply", ply(f=1, faces=struct.pack("<B3i", 3, 0, 1, -1)), "face 0.*index -1"),
    "PLY NaN": ("a.ply", ply(corners=np.float32([np.nan] + [0] * 11).tobytes()), "vertex 0.*not finite"),
    "PLY without end": ("a.ply", b"ply\nformat ascii 1.0\n", "no end_header"),
    "PLY with end_header in a comment alone": ("a.ply", b"ply\nformat ascii 1.0\ncomment end_header\n", "no end_header"),
    "PLY without format": ("a.ply", b"ply\nelement vertex 0\nproperty float x\nend_header\n", "no format line"),
    "PLY of unknown type": ("a.ply", ply().replace(b"float x", b"half x"), "header line 4.*not understood"),
    "PLY with a float list length": ("a.ply", ply(l="float"), "ill-typed"),
    "PLY without x": ("a.ply", ply().replace(b"float x", b"float q"), "no element vertex with scalars"),
    "PLY without faces": ("a.ply", ply(f=0, faces=b""), "no faces found"),
    "text PLY cut off": ("a.ply", TEXT_PLY.format(v=4, f=1, l="uchar") + "0 0 0\n1 0 0\n", "promises 4 lines, 2"),
    "text PLY decimal comma": ("a.ply", TEXT_PLY.format(v=3, f=1, l="uchar") + "1,5 0 0\n0 1 0\n0 0 1\n3 0 1 2\n",
                               r"line 10.*'1,5'"),
    "text PLY short row": ("a.ply", TEXT_PLY.format(v=3, f=1, l="uchar") + "1 0 0\n0 1\n0 0 1\n3 0 1 2\n",
                           "line 11.*2 numbers"),
    "text PLY list beyond its line": ("a.ply", TEXT_PLY.format(v=3, f=1, l="uchar") + "1 0 0\n0 1 0\n0 0 1\n4 0 1 2\n",
                                      "line 13.*longer"),
    "STL count 0xFFFFFFF0": ("a.stl", stl(0xFFFFFFF0), "facet count 4294967280 at offset 80"),
    "STL count 0": ("a.stl", stl(0, 0), "no faces found"),
    "STL of 50 bytes": ("a.stl", b"\1" * 50, "50 bytes"),
    "STL NaN": ("a.stl", stl(value=np.nan), "not finite"),
    "text STL cut off": ("a.stl", "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\n",
                         "0 endsolid"),
    "text STL polygon": ("a.stl", "solid a\nfacet\nouter loop\n" + "vertex 0 0 1\n" * 4 + "endloop\nendfacet\nendsolid",
                         "every facet has three"),
    "text STL decimal comma": ("a.stl", "solid\nouter loop\nvertex 1,5 0 0\nvertex 0 0 1\nvertex 0 0 1\nendsolid\n",
                               "line 3.*'1,5'"),
    "text STL of something else": ("a.stl", "solid ground\nis what we need\n", "line 2.*no STL keyword"),
    "OFF counts without data": ("a.off", "OFF\n4 4 6\n", "promises 4 vertices and 4 faces, the file holds 0 lines"),
    "OFF without counts": ("a.off", "OFF\n", "counts are missing"),
    "OFF negative count": ("a.off", "OFF\n-4 4 6\n", "count is -4"),
    "OFF huge count": ("a.off", f"OFF\n{10**15} 4 6\n", "above the cap"),
    "OFF index beyond": ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "line 6.*index 7"),
    "OFF decimal comma": ("a.off", "OFF\n3 1 0\n1,5 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", r"line 3.*'1,5'"),
    "OFF list beyond its line": ("a.off", "OFF\n3 1 0\n1 5 0\n1 0 0\n0 1 0\n4 0 1 2\n", "line 6.*4 corners"),
    "OFF corners beyond an int64": ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n9223372036854775807 0 1 2\n", "line 6"),
    "OFF binary": ("a.off", "OFF BINARY\n1 2 3\n", "BINARY"),
    "4OFF": ("a.off", "4OFF\n1 2 3\n", "4OFF"),
    "OFF in name only": ("a.off", "hello\n", "expected OFF"),
    "pickle": ("a.pkl", b"\x80\x04.", "pickles are never read"),
    "unknown format": ("a.xyz", "1 2 3\n", "known: .obj"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_bad_file_is_rejected_in_one_line_that_names_it(case, tmp_path):
  name, content, message = REJECTED[case]
  path = write(tmp_path, name, content)
  with pytest.raises(BadData, match=message) as caught:
    read_mesh(path)
  text = str(caught.value)
  assert text.startswith(str(path)) and "\n" not in text and ";" in text and caught.value.exit_code == 65


@pytest.mark.parametrize("suffix", READERS)
def test_an_empty_file_is_called_empty(suffix, tmp_path):
  with pytest.raises(BadData, match="empty file"):
    read_mesh(write(tmp_path, f"a{suffix}", b""))


def test_what_is_not_there_or_no_file_is_missing_input(tmp_path):
  os.mkfifo(tmp_path / "pipe.obj")
  (tmp_path / "folder.obj").mkdir()
  for name in ("none.obj", "pipe.obj", "folder.obj", "none/none.ply"):
    with pytest.raises(MissingInput) as caught:
      read_mesh(tmp_path / name)
    assert caught.value.exit_code == 66


def test_a_file_above_the_cap_is_rejected_unread(tmp_path):
  path = write(tmp_path, "a.ply", ply())
  os.truncate(path, mesh_file.MAX_FILE_BYTES + 1)  # sparse: takes no disk
  with pytest.raises(BadData, match="the cap is"):
    read_mesh(path)


@pytest.mark.parametrize("content", [
    TETRAHEDRON.replace("\n", "\r\n"), TETRAHEDRON.replace("\n", "\r"), b"\xef\xbb\xbf" + TETRAHEDRON.encode(),
    b"# caf\xe9 \xff\xfe\no na\xefve\n" + TETRAHEDRON.encode(), TETRAHEDRON.replace("f 1 3 2", "f 1 \\\n3 \\\n2"),
    TETRAHEDRON.replace("v ", "v\t").replace("f ", "  f   "), TETRAHEDRON.replace("f 1 2 4", "f 1 2 4 # side"),
    BOX + "f -4 -2 -3\nf 1/1 2/2/2 4//4\nf 1// 4// 3//\nf 2 3 4", TETRAHEDRON.replace("v 0 0 1", "v 0 0 1 1.0"),
    "g a\n" + TETRAHEDRON + "usemtl x\ns off\nvt 0 0\n",
])
def test_every_spelling_of_an_obj_is_the_same_mesh(content, tmp_path):
  mesh, notes = read_mesh(write(tmp_path, "a.OBJ", content), strict=True)
  assert notes == [] and len(mesh.vertices) == 4 and mesh.faces.dtype == np.int64
  assert inspect_mesh(mesh).volume == pytest.approx(1 / 6)


def test_relative_indices_count_from_the_vertices_read_so_far(tmp_path):
  later = "".join(f"v {x} 9 9\n" for x in range(3)) + "f -3 -2 -1\n"
  mesh, _ = parse_mesh(write(tmp_path, "a.obj", BOX + "f -4 -3 -2\n" + later))
  assert mesh.faces.tolist() == [[0, 1, 2], [4, 5, 6]]


@pytest.mark.parametrize("content", [
    "OFF\n4 4 6\n", "OFF4 4 6\n", "# c\n \t OFF 4 4 6 # d\n\n", "OFF\n4 4\n", "\ufeffOFF\n4 4 0\n",
])
def test_every_spelling_of_an_off_header_is_the_same_mesh(content, tmp_path):
  rows = [line[2:] for line in BOX.strip().split("\n")] + ["3 0 2 1", "3 0 1 3", "3 0 3 2", "3 1 2 3"]
  mesh, notes = read_mesh(write(tmp_path, "a.off", content + "\n".join(rows)), strict=True)
  assert notes == [] and inspect_mesh(mesh).volume == pytest.approx(1 / 6)


WARNED = {
    "degenerate": (TETRAHEDRON + "f 1 1 2\nf 3 4 4\n", "2 degenerate faces"),
    "zero area": (TETRAHEDRON + "v 0.5 0 0\nv 2 0 0\nf 1 5 6\n", "1 degenerate faces"),
    "duplicate": (TETRAHEDRON + "f 3 2 1\nf 2 1 3\n", "2 duplicate faces"),
    "mixed orientation": (TETRAHEDRON.replace("f 1 3 2", "f 1 2 3"), "1 faces of mixed orientation flipped"),
    "inside out": (BOX + "f 1 2 3\nf 1 4 2\nf 1 3 4\nf 2 4 3\n", "1 closed components were inside out: 4 faces"),
    "missing material file": ("mtllib gone.mtl\n" + TETRAHEDRON, "1 material or texture files missing"),
    "material outside the folder": ("mtllib ../../etc/passwd\n" + TETRAHEDRON, "1 material or texture files missing"),
    "lines": (TETRAHEDRON + "l 1 2\np 1\n", "2 lines, points"),
    "unknown words": (TETRAHEDRON + "teapot 1 2\n", "1 lines not understood"),
    "NaN colours": (TETRAHEDRON.replace("v 1 0 0", "v 1 0 0 nan 0 0").replace("v 0", "v 0").replace(
        "v 0 0 0", "v 0 0 0 1 1 1").replace("v 0 1 0", "v 0 1 0 1 1 1").replace("v 0 0 1\n", "v 0 0 1 1 1 1\n"),
        "1 vertex colours are not finite"),
    "some colours": (TETRAHEDRON.replace("v 1 0 0", "v 1 0 0 1 0 0"), "3 of 4 vertices have no colour"),
}


@pytest.mark.parametrize("case", WARNED)
def test_a_defect_is_mended_with_a_count_or_rejected_when_strict(case, tmp_path):
  content, message = WARNED[case]
  path = write(tmp_path, "a.obj", content)
  mesh, notes = read_mesh(path)
  assert len(notes) == 1 and message in notes[0]
  report = inspect_mesh(mesh)
  assert report.watertight and report.consistently_oriented and report.volume == pytest.approx(1 / 6)
  with pytest.raises(BadData, match="strict.*" + message):
    read_mesh(path, strict=True)


def test_ten_thousand_crumbs_are_kept_and_counted(tmp_path):
  rng = np.random.default_rng(0)
  corners = rng.uniform(size=(10_000, 1, 3)) + np.eye(4, 3) * 1e-3
  facets = np.zeros(40_000, [("n", "<f4", 3), ("x", "<f4", (3, 3)), ("a", "<u2")])
  facets["x"] = corners[:, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]].reshape(-1, 3, 3)
  path = write(tmp_path, "a.stl", bytes(80) + struct.pack("<I", 40_000) + facets.tobytes())
  mesh, _ = read_mesh(path)
  assert len(mesh.faces) == 40_000
  assert any(w.startswith("10000 components") for w in inspect_mesh(mesh).warnings())
  with pytest.raises(BadData, match="10000 components"):
    read_mesh(path, strict=True)


def test_a_missing_texture_keeps_the_geometry(tmp_path):
  write(tmp_path, "a.mtl", "newmtl m\nmap_Kd -s 1 1 1 wood.png\nmap_Bump there.png\n")
  write(tmp_path, "there.png", "x")
  mesh, notes = read_mesh(write(tmp_path, "a.obj", "mtllib a.mtl\n" + TETRAHEDRON))
  assert notes == ["1 material or texture files missing: geometry kept"] and len(mesh.faces) == 4


def test_colours_are_kept_whatever_their_type(tmp_path):
  rows = "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n"
  want = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
  channels = ("red", "green", "blue")
  files = [write(tmp_path, "a.obj", rows), write(tmp_path, "b.obj", rows.replace(" 1 0 0\nv", " 255 0 0\nv").replace(
      " 0 1 0\nv", " 0 255 0\nv").replace(" 0 0 1\nf", " 0 0 255\nf"))]
  for kind, full in (("uchar", 255), ("ushort", 65535), ("float", 1)):
    head = TEXT_PLY.format(v=3, f=1, l="uchar").replace(
        "property float z\n", "property float z\n" + "".join(f"property {kind} {c}\n" for c in channels))
    body = f"0 0 0 {full} 0 0\n1 0 0 0 {full} 0\n0 1 0 0 0 {full}\n3 0 1 2\n"
    files.append(write(tmp_path, f"{kind}.ply", head + body))
  files.append(write(tmp_path, "c.off", "COFF\n3 1 0\n0 0 0 255 0 0 255\n1 0 0 0 255 0 255\n"
                     "0 1 0 0 0 255 255\n3 0 1 2\n"))
  for path in files:
    mesh, notes = parse_mesh(path)
    assert notes == [], path
    np.testing.assert_array_equal(mesh.colors, want, str(path))


@pytest.mark.parametrize("value, first, others", [("1.0001", 255, 255), ("1.01", 255, 255), ("1.02", 1, 1), ("2", 2, 1)])
def test_a_colour_slightly_above_1_leaves_the_scale_of_the_others(value, first, others, tmp_path):
  rows = f"v 0 0 0 {value} 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n"
  mesh, notes = parse_mesh(write(tmp_path, "a.obj", rows))
  assert mesh.colors.tolist() == [[first, 0, 0], [0, others, 0], [0, 0, others]]
  assert notes == (["1 vertex colours are slightly above 1: taken as 1"] if others == 255 else [])


def test_areas_and_volumes_of_the_farthest_vertices_are_finite(tmp_path):
  far = f"{mesh_file.FARTHEST:g}"
  rows = "".join(f"v {x} {y} {z}\n" for x, y, z in ((f"-{far}",) * 3, (far, far, f"-{far}"), (far, f"-{far}", far), (f"-{far}", far, far)))
  report = inspect_mesh(read_mesh(write(tmp_path, "a.obj", rows + "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"))[0])
  assert np.isfinite([report.area, report.volume]).all() and report.area > 0


def test_end_header_within_a_comment_does_not_end_the_header(tmp_path):
  for line in (b"comment end_header\n", b'obj_info name "my end_header"\n'):
    mesh, notes = parse_mesh(write(tmp_path, "a.ply", ply().replace(b"element vertex", line + b"element vertex")))
    assert notes == [] and len(mesh.faces) == 4


def test_lists_of_all_lengths_take_memory_as_the_file_does(tmp_path):
  num = 20_000
  head = ply().replace(b"end_header", f"element strip {num}\nproperty list uchar uchar items\nproperty uchar kind\nend_header".encode())
  path = write(tmp_path, "a.ply", head + b"\0\7\1\5\7" * (num // 2))
  tracemalloc.start()
  try:
    mesh, notes = parse_mesh(path)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert notes == [] and len(mesh.faces) == 4 and peak < 32 * path.stat().st_size


def test_polygons_of_unequal_sizes_are_read_as_their_text_is(tmp_path):
  polygons = [[0, 2, 1], [0, 1, 3, 2], [1, 2, 3], [3, 1, 0, 2]]
  text = TEXT_PLY.format(v=4, f=4, l="uchar") + "0 0 0\n1 0 0\n0 1 0\n0 0 1\n" + "".join(
      f"{len(p)} {' '.join(map(str, p))}\n" for p in polygons)
  want, _ = parse_mesh(write(tmp_path, "text.ply", text))
  for order in "<>":
    faces = b"".join(struct.pack(f"{order}B{len(p)}i", len(p), *p) for p in polygons)
    content = ply(corners=np.frombuffer(CORNERS, "<f4").astype(f"{order}f4").tobytes(), faces=faces)
    content = content if order == "<" else content.replace(b"little_endian", b"big_endian")
    mesh, notes = parse_mesh(write(tmp_path, "a.ply", content))
    assert notes == []
    np.testing.assert_array_equal(mesh.faces, want.faces)
    np.testing.assert_array_equal(mesh.vertices, want.vertices)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_the_line_of_a_fault_in_a_text_ply_is_the_files_own(newline, tmp_path):
  text = TEXT_PLY.format(v=3, f=1, l="uchar") + "0 0 0\n1 0 0\n0 x 0\n3 0 1 2\n"
  with pytest.raises(BadData, match="line 12: 'x' is not a number"):
    parse_mesh(write(tmp_path, "a.ply", text.replace("\n", newline)))


@pytest.mark.parametrize("kind", ["short", "int", "uint", "uchar"])
def test_colours_of_bytes_in_wider_integers_are_kept_or_said_to_be_left_out(kind, tmp_path):
  head = TEXT_PLY.format(v=4, f=1, l="uchar").replace("property float z\n", "property float z\n" + "".join(
      f"property {kind} {channel}\n" for channel in ("red", "green", "blue")))
  body = "0 0 0 255 0 7\n1 0 0 255 0 7\n0 1 0 255 0 7\n0 0 1 {} 0 7\n3 0 1 2\n"
  mesh, notes = parse_mesh(write(tmp_path, "a.ply", head + body.format(255)))
  assert mesh.colors.tolist() == [[255, 0, 7]] * 4 and not notes
  if kind != "uchar":
    mesh, notes = parse_mesh(write(tmp_path, "a.ply", head + body.format(256)))
    assert mesh.colors is None and notes == ["1 vertex colours are outside 0..255: colours left out"]


def test_face_colours_become_vertex_colours_without_blending(tmp_path):
  head = TEXT_PLY.format(v=4, f=2, l="uchar").replace("end_header", "property uchar red\nproperty uchar green\n"
                                                      "property uchar blue\nend_header")
  path = write(tmp_path, "a.ply", head + "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 10 20 30\n3 0 2 3 40 50 60\n")
  mesh, _ = read_mesh(path)
  assert len(mesh.vertices) == 6
  colors = {tuple(mesh.colors[face].reshape(-1).tolist()) for face in mesh.faces}
  assert colors == {(10, 20, 30) * 3, (40, 50, 60) * 3}


@pytest.mark.parametrize("polygon, area", [
    ([[0, 0], [2, -1], [1, 0], [2, 1]], 1.0),  # a dart: its fan from corner 0 is right, from corner 1 it is not
    ([[2, -1], [1, 0], [2, 1], [0, 0]], 1.0),
    ([[0, 0], [4, 0], [4, 3], [3, 3], [3, 1], [1, 1], [1, 3], [0, 3]], 8.0),  # a U
])
def test_polygons_that_are_not_convex_keep_their_area_and_orientation(polygon, area, tmp_path):
  for turn in range(len(polygon)):
    corners = np.roll(polygon, turn, axis=0)
    rows = "".join(f"v {x} 0 {y}\n" for x, y in corners)
    mesh, notes = parse_mesh(write(tmp_path, "a.obj", rows + "f " + " ".join(map(str, range(1, len(polygon) + 1)))))
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    pieces = np.cross(b - a, c - a)[:, 1] / 2
    assert notes == [] and (pieces < 0).all() and -pieces.sum() == pytest.approx(area)


# what becomes of each fixture: a rejection, or (faces, watertight, has colours)
FIXTURES = {
    "20mm-xyz-cube.stl": (260, True, False), "BoxInterleaved.glb": (12, True, True), "ballA.off": (3796, True, False),
    "comments.off": (12, True, True), "cube_blender_uv.ply": (12, True, False),
    "cube_compressed.obj": (12, True, False),
    "cubevc.glb": (48, True, True), "empty.obj": "no faces found", "empty.ply": "no faces found",
    "featuretype.STL": (3476, False, False), "fuze.obj": (1000, True, False), "groups.obj": (2308, True, False),
    "joined_tetrahedra.obj": (8, False, False), "metadata.ply": (2, False, False), "nancolor.obj": (12, True, False),
    "negative_indices.obj": (12, True, False), "not_convex.obj": (96, False, False),
    "octagonal_pocket.ply": (3262, False, False), "origin_inside.STL": (28, True, False),
    "plane.ply": (2, False, False),
    "points_ascii.ply": "no faces found", "points_ascii_with_lists.ply": "no faces found",
    "points_bin.ply": "no faces found", "polygonfaces.obj": (3, False, False), "quadknot.obj": (2880, True, True),
    "singlevn.obj": (2, False, False), "soup.stl": (100, False, False), "sphere.ply": (1280, True, False),
    "tet.ply": (4, True, False), "textured_tetrahedron.obj": (4, True, False), "two_objects.obj": (16, False, False),
    "two_objects_mixed_case_names.stl": (24, True, False), "unit_cube.STL": (12, True, False),
    "unit_sphere.STL": (1280, True, False), "whitespace.off": (12, True, True),
}


def as_trimesh(path):
  """The oracle's vertices and faces, its own reading untouched."""
  trimesh = pytest.importorskip("trimesh")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return trimesh.load(path, process=False, force="mesh")


@pytest.mark.parametrize("name", FIXTURES)
def test_reader_fixtures_are_read_as_trimesh_reads_them_or_rejected(name, real_data):
  path, want = real_data / "meshes" / "io_fixtures" / name, FIXTURES[name]
  if isinstance(want, str):
    with pytest.raises(BadData, match=want):
      parse_mesh(path)
    return
  mesh, _ = parse_mesh(path)
  report = inspect_mesh(mesh)
  assert (report.faces, report.watertight, mesh.colors is not None) == want
  oracle = as_trimesh(path)
  of_polygons = ("comments.off", "whitespace.off", "cube_blender_uv.ply", "negative_indices.obj", "plane.ply",
                 "polygonfaces.obj", "quadknot.obj")  # which may be cut along other diagonals
  width = 3 if name in of_polygons else 9
  ours, theirs = (np.unique(np.round(m.vertices[m.faces].reshape(-1, width), 5), axis=0) for m in (mesh, oracle))
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)
  if name != "polygonfaces.obj":  # not planar: its area is the cut's
    assert report.area == pytest.approx(oracle.area, rel=1e-4 if name == "quadknot.obj" else 1e-6)


def test_the_table_names_every_fixture(real_data):
  names = {p.name for p in (real_data / "meshes" / "io_fixtures").iterdir() if p.suffix.lower() in READERS}
  assert names == set(FIXTURES)


def test_every_classic_mesh_is_one_watertight_piece(real_data):
  paths = sorted((real_data / "meshes" / "classic").glob("*/*.obj"))
  assert len(paths) == 18
  for path in paths:
    mesh, _ = read_mesh(path)
    report = inspect_mesh(mesh)
    assert report.watertight and report.manifold and report.components == 1 and report.volume > 0, path
    if path.stat().st_size < 400_000:  # twisted quads may be cut otherwise
      assert report.volume == pytest.approx(as_trimesh(path).volume, rel=1e-2), path


def test_every_open_mesh_has_boundary_edges(real_data):
  folder = real_data / "meshes" / "open_boundary"
  paths = sorted((*folder.glob("*/*.obj"), *folder.glob("*.obj")))
  assert len(paths) == 7
  for path in paths:
    report = inspect_mesh(read_mesh(path)[0])
    assert report.boundary_edges > 0 and not report.watertight and report.volume is None, path


def test_point_clouds_are_read_with_their_colours(real_data, tmp_path):
  cloud, notes = read_point_cloud(real_data / "pointclouds" / "pc_corgi.npz")
  assert notes == [] and cloud.points.shape == (4096, 3) and cloud.colors.dtype == np.uint8
  cloud, _ = read_point_cloud(real_data / "meshes" / "io_fixtures" / "points_bin.ply")
  assert cloud.points.shape == (5, 3) and cloud.colors is None and cloud.normals is None
  with pytest.raises(BadData, match="known: .ply, .npz"):
    read_point_cloud(write(tmp_path, "a.las", b"LASF"))
  listed = PLY.format(v=1, f=0, l="uchar").replace(
      "property float z\n", "property float z\nproperty list uchar float nx\nproperty float ny\nproperty float nz\n")
  cloud, _ = read_point_cloud(write(tmp_path, "a.ply", listed.encode() + CORNERS[:12] + struct.pack("<B3f", 1, 0, 0, 1)))
  assert cloud.points.shape == (1, 3) and cloud.normals is None
  np.savez(tmp_path / "a.npz", points=np.full((3, 3), np.nan))
  with pytest.raises(BadData, match="3 in all"):
    read_point_cloud(tmp_path / "a.npz")


def test_cutting_or_flipping_any_byte_ends_in_a_mesh_or_a_fault(tmp_path):
  """A cheap fuzzer: no exception class of ours is missing for 600 damaged files."""
  rng = np.random.default_rng(1)
  text_ply = TEXT_PLY.format(v=4, f=1, l="uchar") + "0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n"
  sources = {"a.ply": ply(), "b.ply": text_ply.encode(),
             "a.stl": stl(2, 2), "a.obj": TETRAHEDRON.encode(),
             "a.off": b"OFF\n4 1 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2 1.0 0.5 0.2\n",
             "b.stl": b"solid\nfacet\nouter loop\nvertex 1 0 0\nvertex 0 0 1\nvertex 0 1 0\nendloop\nendsolid\n"}
  for name, content in sources.items():
    for _ in range(100):
      damaged = np.frombuffer(content, np.uint8).copy()
      damaged[rng.integers(len(damaged), size=rng.integers(1, 4))] = rng.integers(256)
      path = write(tmp_path, name, damaged[:rng.integers(1, 2 * len(damaged))].tobytes())
      try:
        read_mesh(path)
      except Fault as fault:
        assert fault.exit_code == 65
