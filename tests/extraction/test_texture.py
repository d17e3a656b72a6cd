"""Baked textures: the picture on the surface is the field's colour there, in every file format that has one."""

import json
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy import ndimage

from fields3d.core.errors import Unavailable, UsageFault
from fields3d.core.types import Field, Mesh
from fields3d.data.meshes import parse_mesh
from fields3d.extraction import texture as texture_module
from fields3d.extraction.export import export
from fields3d.extraction.sparse import extract
from fields3d.extraction.texture import bake
from fields3d.geometry.meshes import inspect_mesh

BOX = np.array([[-1.0, -1, -1], [1, 1, 1]])


def color(x, n):
  """Smooth in space, and darker where the surface looks down."""
  return (0.5 + 0.4 * np.sin(3 * x + np.float32([0, 1, 2]))) * (0.75 + 0.25 * n[:, 1:2])


@pytest.fixture(scope="module")
def baked():
  pytest.importorskip("xatlas")
  field = Field(lambda x: np.hypot(np.hypot(x[:, 0], x[:, 1]) - 0.6, x[:, 2]) - 0.25, BOX)
  mesh, _ = extract(field, 24)
  return mesh, *bake(mesh, color, 256)


def bilinear(image, uv):
  """The image at uv (n, 2), from its upper left corner, texel centres at +0.5."""
  rows, columns = uv[:, 1] * image.shape[0] - 0.5, uv[:, 0] * image.shape[1] - 0.5
  return np.stack([ndimage.map_coordinates(image[..., c].astype(float), [rows, columns], order=1, mode="nearest")
                   for c in range(3)], axis=1)


def surface_points(mesh, values, n):
  """n random points of a mesh, by face, with per-vertex values interpolated."""
  rng = np.random.default_rng(0)
  area = np.linalg.norm(np.cross(*(mesh.vertices[mesh.faces[:, k]] - mesh.vertices[mesh.faces[:, 0]] for k in (1, 2))), axis=1)
  face = rng.choice(len(mesh.faces), n, p=area / area.sum())
  weights = rng.dirichlet(np.ones(3), n)
  return [np.einsum("nk,nkc->nc", weights, v[mesh.faces[face]]) for v in (mesh.vertices, *values)]


def test_the_texture_shows_the_fields_colours_at_random_points_of_the_surface(baked):
  _, split, texture = baked
  x, uv, n = surface_points(split, (texture.uv, texture_module.vertex_normals(split)), 20_000)
  away = np.array([np.hypot(x[:, 0], x[:, 1])]).T
  n = np.concatenate([x[:, :2] * (1 - 0.6 / away), x[:, 2:]], axis=1) / 0.25  # the torus' own normal
  want = 255 * color(x, n)
  error = np.abs(bilinear(texture.image, uv) - want).max(1)
  # A texel is some 0.01 wide, where colours change by 1.5 / unit: 2 of 255; normals of a coarse mesh a little more.
  assert np.median(error) < 2 and np.percentile(error, 99) < 10 and error.max() < 40
  # Texture coordinates with the wrong side up miss by far more.
  assert np.median(np.abs(bilinear(texture.image[::-1], uv) - want).max(1)) > 20


def test_the_split_mesh_is_the_same_surface(baked):
  mesh, split, texture = baked
  assert len(split.vertices) >= len(mesh.vertices) and len(texture.uv) == len(split.vertices)
  np.testing.assert_array_equal(split.vertices[split.faces], mesh.vertices[mesh.faces])
  assert texture.uv.min() >= 0 and texture.uv.max() <= 1
  assert inspect_mesh(split).watertight and inspect_mesh(split).genus == 1


@pytest.mark.parametrize("scale", [1e-4, 0.01, 100.0])
def test_a_small_mesh_is_baked_as_a_large_one_is(baked, scale):
  mesh, _, texture = baked
  split, small = bake(Mesh(scale * mesh.vertices, mesh.faces), lambda x, n: color(x / np.float32(scale), n), 256)
  assert small.texels > 0.95 * texture.texels
  corners = small.uv[split.faces]
  assert np.all(np.linalg.det(np.diff(corners, axis=1)) != 0)  # no face without a chart


def test_texels_are_those_whose_centre_lies_in_the_face():
  uv = np.array([[[0.2, 0.3], [6.9, 1.1], [2.2, 7.4]]])
  index, face, weights = texture_module._covered(uv, 8)
  rows, columns = np.mgrid[:8, :8] + 0.5
  p = np.stack([columns.ravel(), rows.ravel()], axis=1)
  side = lambda a, b: (b - a)[0] * (p - a)[:, 1] - (b - a)[1] * (p - a)[:, 0]
  inside = np.all([side(uv[0, k], uv[0, (k + 1) % 3]) >= 0 for k in range(3)], axis=0)
  assert sorted(index) == np.flatnonzero(inside).tolist() and not face.any()
  np.testing.assert_allclose(np.einsum("nk,kc->nc", weights, uv[0]), p[index], atol=1e-12)


def test_candidates_in_pieces_change_nothing(monkeypatch):
  uv = np.random.default_rng(0).uniform(-1, 33, (50, 3, 2))
  want = texture_module._covered(uv, 32)
  monkeypatch.setattr(texture_module, "_CANDIDATES", 100)
  for a, b in zip(want, texture_module._covered(uv, 32), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_files_hold_the_texture_the_right_way_up(baked, tmp_path, ending):
  _, split, texture = baked
  path = export(split, tmp_path / "ring", ending, texture=texture, extras={"step": 1})
  names = {"glb": ["ring.glb"], "obj": ["ring.mtl", "ring.obj", "ring.png"]}[ending]
  assert sorted(p.name for p in tmp_path.iterdir()) == names
  loaded = trimesh.load(path, force="mesh", process=False)
  image = getattr(loaded.visual.material, {"glb": "baseColorTexture", "obj": "image"}[ending])
  np.testing.assert_array_equal(np.asarray(image.convert("RGB")), texture.image)
  # trimesh counts v from below, in both formats.
  own = np.concatenate([split.vertices, texture.uv * [1, -1] + [0, 1]], axis=1)[split.faces]
  read = np.concatenate([loaded.vertices, loaded.visual.uv], axis=1)[loaded.faces]
  np.testing.assert_allclose(read, own, atol=1e-6)  # of values of at most 1


def test_an_obj_cuts_its_texture_only_and_its_surface_is_closed_by_index(baked, tmp_path):
  whole, split, texture = baked
  path = export(split, tmp_path / "ring", "obj", texture=texture)
  read, warnings = parse_mesh(path)
  rows = {kind: np.array([line.split()[1:] for line in path.read_text().splitlines() if line.split()[0] == kind])
          for kind in ("vt", "vn", "f")}
  assert not warnings and len(split.vertices) > len(read.vertices) == len(whole.vertices) and len(rows["vt"]) == len(split.vertices)
  np.testing.assert_allclose(read.vertices[read.faces], split.vertices[split.faces], atol=1e-12)  # 12 digits of values below 1
  assert trimesh.Trimesh(read.vertices, read.faces, process=False).is_watertight
  np.testing.assert_allclose(np.float64(rows["vn"]), texture_module.vertex_normals(read), atol=1e-6)  # 6 digits
  assert all(corner.split("/")[0] == corner.split("/")[2] for corner in rows["f"].reshape(-1))
  other = trimesh.load(path, force="mesh", process=False, maintain_order=True)
  np.testing.assert_array_equal(other.faces, read.faces)
  assert other.is_watertight


def test_a_texture_is_refused_for_ply(baked, tmp_path):
  with pytest.raises(UsageFault, match="holds no texture"):
    export(baked[1], tmp_path / "ring", "ply", texture=baked[2])
  assert not list(tmp_path.iterdir())


def test_textured_glbs_are_clean_under_the_validator(baked, tmp_path, validate):
  export(baked[1], tmp_path / "ring", "glb", texture=baked[2], extras={"step": 1})
  report = validate(tmp_path)
  assert report["files"] == 1 and not any(report["issues"].values()), json.dumps(report)


def test_the_picture_survives_as_png(baked, tmp_path):
  (tmp_path / "a.png").write_bytes(baked[2].png())
  with Image.open(tmp_path / "a.png") as image:
    np.testing.assert_array_equal(np.asarray(image), baked[2].image)


def test_missing_xatlas_is_named(monkeypatch):
  mesh, _ = extract(Field(lambda x: np.linalg.norm(x, axis=-1) - 0.5, BOX), 8)
  monkeypatch.setitem(sys.modules, "xatlas", None)
  with pytest.raises(Unavailable, match=r"fields3d\[mesh\]"):
    bake(mesh, color, 64)
