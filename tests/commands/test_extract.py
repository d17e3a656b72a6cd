"""The extract command: files, table and record of a run; faults with their exit codes."""

import argparse
import json

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from fields3d.commands import main, rundir, surfaces
from fields3d.core.types import Frame, Mesh
from fields3d.geometry.rays import from_ndc
from fields3d.training.logging import read_json


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run of three shapes whose code is a radius; the last has no surface. The second comes from another frame."""
  workdir = tmp_path / "run"
  workdir.mkdir()
  radii = jnp.array([[0.5], [0.3], [-1.0]])
  predict = {"code": lambda index: radii[index],
             "sdf": lambda x, z: jnp.linalg.norm(x, axis=-1) - z[0],
             "color": lambda x, z: jnp.broadcast_to(jnp.asarray([1.0, 0.5, 0.0]), x.shape)}
  shapes = [argparse.Namespace(name=name, frame=frame) for name, frame in
            (("ball", Frame()), ("a/b c", Frame((5.0, 0.0, 0.0), 2.0)), ("none", Frame()))]
  dataset = argparse.Namespace(info={}, shapes=lambda split: {"train": shapes}[split])
  opened = argparse.Namespace(workdir=workdir, config={"extract_resolution": 16}, step=7, predict=predict,
                              dataset=dataset)
  monkeypatch.setattr(rundir, "open_run", lambda workdir, step=None: opened)
  return opened


def test_chosen_shapes_become_files_in_the_frame_of_the_data(run, tmp_path, capsys):
  out = tmp_path / "out"
  assert main.main(["extract", str(run.workdir), "--index", "1,0", "--format", "ply", "--out", str(out)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == "file vertices faces components watertight genus evaluations seconds".split()
  assert lines[1].split()[0] == "0001_a_b_c.ply" and lines[1].split()[3:6] == ["1", "yes", "0"]
  assert lines[-1] == f"step 7: 2 of 2 shapes are in {out}"
  mesh = trimesh.load(out / "0001_a_b_c.ply", process=False)
  # atol: chords of a sphere of radius 0.6 at this resolution.
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices - [5, 0, 0], axis=1), 0.6, rtol=0, atol=0.02)
  record = read_json(out / "extract.json")
  assert record["resolution"] == 16 and record["step"] == 7 and record["method"] == "sparse"
  assert [row["index"] for row in record["shapes"]] == [1, 0]


def test_all_shapes_by_default_and_one_without_surface_is_named_and_exit_65(run, capsys):
  assert main.main(["extract", str(run.workdir)]) == 65
  captured = capsys.readouterr()
  assert "0002 none: no zero crossing" in captured.out
  assert "1 of 3 shapes have no surface" in captured.err
  names = sorted(p.name for p in (run.workdir / "meshes").iterdir())
  assert names == ["0000_ball.glb", "0001_a_b_c.glb", "extract.json"]


def test_an_earlier_extraction_does_not_stay_among_a_new_one(run):
  meshes = run.workdir / "meshes"
  assert main.main(["extract", str(run.workdir)]) == 65
  (meshes / "notes.txt").write_text("")
  run.predict["code"] = lambda index: jnp.array([[-1.0], [0.3], [-1.0]])[index]
  assert main.main(["extract", str(run.workdir)]) == 65
  assert sorted(path.name for path in meshes.iterdir()) == ["0001_a_b_c.glb", "extract.json", "notes.txt"]
  run.predict["code"] = lambda index: jnp.array([-1.0])
  assert main.main(["extract", str(run.workdir)]) == 65
  assert sorted(path.name for path in meshes.iterdir()) == ["extract.json", "notes.txt"]
  assert [row["file"] for row in read_json(meshes / "extract.json")["shapes"]] == [None] * 3


def test_a_textured_obj_goes_with_all_its_files(run):
  pytest.importorskip("xatlas")
  flags = ["--index", "0", "--format", "obj"]
  for more, names in ((["--texture", "32"], ["0000_ball.mtl", "0000_ball.obj", "0000_ball.png"]), ([], ["0000_ball.obj"])):
    assert main.main(["extract", str(run.workdir), *flags, *more]) == 0
    assert sorted(path.name for path in (run.workdir / "meshes").iterdir()) == [*names, "extract.json"]


def test_a_texture_too_small_for_its_faces_is_said(run, capsys):
  pytest.importorskip("xatlas")
  for size, said in ((16, True), (256, False)):
    assert main.main(["extract", str(run.workdir), "--index", "0", "--resolution", "24", "--texture", str(size)]) == 0
    assert ("faces show less than colours of vertices; raise --texture" in capsys.readouterr().out) is said
    row = read_json(run.workdir / "meshes" / "extract.json")["shapes"][0]
    assert 0 < row["texels"] <= size**2 and (2 * row["texels"] < row["faces"]) is said


def test_names_of_any_script_fit_into_a_files_name(run):
  run.dataset.shapes("train")[0].name = "a" + 90 * "椅"
  assert main.main(["extract", str(run.workdir), "--index", "0"]) == 0
  row = read_json(run.workdir / "meshes" / "extract.json")["shapes"][0]
  assert row["file"] == "0000_a" + 33 * "椅" + ".glb" and row["name"] == "a" + 90 * "椅"
  assert (run.workdir / "meshes" / row["file"]).is_file()


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj"])
def test_both_methods_write_the_same_mesh(run, tmp_path, suffix):
  for method in ("sparse", "dense"):
    assert main.main(["extract", str(run.workdir), "--index", "0", "--method", method, "--format", suffix,
                      "--out", str(tmp_path / method)]) == 0
  files = [tmp_path / method / f"0000_ball.{suffix}" for method in ("sparse", "dense")]
  meshes = [trimesh.load(file, force="mesh", process=False) for file in files]
  np.testing.assert_array_equal(meshes[0].vertices, meshes[1].vertices)
  np.testing.assert_array_equal(meshes[0].faces, meshes[1].faces)


def test_the_largest_component_alone_is_kept_when_asked(run, tmp_path):
  run.predict["sdf"] = lambda x, z: jnp.minimum(jnp.linalg.norm(x, axis=-1) - z[0],
                                                jnp.linalg.norm(x - 0.7, axis=-1) - 0.2)
  for flags, components in ([], 2), (["--largest-component"], 1):
    assert main.main(["extract", str(run.workdir), "--index", "0", "--resolution", "32", *flags]) == 0
    assert read_json(run.workdir / "meshes" / "extract.json")["shapes"][0]["components"] == components


def test_a_field_steeper_than_promised_is_said(run, capsys):
  run.predict["sdf"] = lambda x, z: 4 * (jnp.linalg.norm(x, axis=-1) - z[0])
  assert main.main(["extract", str(run.workdir), "--index", "0"]) == 0
  assert "1 of 1 fields are somewhere steeper than --lipschitz 1.2" in capsys.readouterr().out
  assert main.main(["extract", str(run.workdir), "--index", "0", "--lipschitz", "4.1"]) == 0
  assert "somewhere steeper" not in capsys.readouterr().out


@pytest.mark.parametrize("flags, code, text", [
    (["--index", "3"], 2, "--index: there is no training shape 3; give indices from 0 to 2"),
    (["--index", "0,-1"], 2, "--index"),
    (["--resolution", "7"], 2, "at least 8"),
    (["--resolution", "4096"], 2, "at most 2048"),
    (["--lipschitz", "nan"], 2, "--lipschitz"),
    (["--format", "gbl"], 2, "did you mean 'glb'?"),
    (["--method", "spars"], 2, "did you mean 'sparse'?"),
])
def test_wrong_options_are_one_line_and_exit_2(run, capsys, flags, code, text):
  assert main.main(["extract", str(run.workdir), *flags]) == code
  captured = capsys.readouterr()
  assert text in captured.err and captured.err.count("\n") == 1


def test_a_run_without_codes_is_told_what_draws_its_shapes(run, capsys):
  del run.predict["code"]
  run.predict["sample"] = lambda key, num: jnp.full((num, 1), 0.5)
  assert main.main(["extract", str(run.workdir)]) == 2
  assert f"{run.workdir}: the run keeps no codes of its training shapes; draw new shapes: fields3d sample" in capsys.readouterr().err


def test_a_dense_grid_that_cannot_fit_is_refused_with_its_bytes(run, capsys, monkeypatch):
  from fields3d.core import errors
  monkeypatch.setattr(errors, "available_memory", lambda: 2**30)
  assert main.main(["extract", str(run.workdir), "--index", "0", "--method", "dense", "--resolution", "2048"]) == 2
  assert "--resolution: needs 64.0 GiB, 1.0 GiB are free" in capsys.readouterr().err


@pytest.fixture
def scene(run):
  """A run on photographs: a ball of radius 0.5 whose density grows by factors inwards; a speck beside it."""
  def density(x, z):
    speck = jnp.linalg.norm(x - 0.8, axis=-1) - 0.1
    return 10 * jnp.exp(-40 * jnp.minimum(jnp.linalg.norm(x, axis=-1) - 0.5, speck))

  run.predict.clear()
  run.predict.update(density=density, render=None, code=lambda index: jnp.zeros(0),
                     radiance=lambda x, d: 0.5 - 0.5 * d)  # its colour shows its normal
  return run


def test_a_density_becomes_one_mesh_with_the_colours_seen_head_on(scene, tmp_path, capsys):
  assert main.main(["extract", str(scene.workdir), "--resolution", "48", "--largest-component"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].split()[0] == "surface.glb" and lines[1].split()[3:6] == ["1", "yes", "0"]
  record = read_json(scene.workdir / "meshes" / "extract.json")
  assert record["method"] == "dense" and record["shapes"][0]["evaluations"] == 48**3
  loaded = trimesh.load(scene.workdir / "meshes" / "surface.glb", force="mesh", process=False)
  # The logarithm of this density is a distance: errors are of a cell squared, 0.04^2 / (8 radius).
  np.testing.assert_allclose(np.linalg.norm(loaded.vertices, axis=1), 0.5, rtol=0, atol=1e-3)
  assert main.main(["extract", str(scene.workdir), "--resolution", "48", "--format", "ply", "--components", "2"]) == 0
  ply = trimesh.load(scene.workdir / "meshes" / "surface.ply", process=False)
  assert ply.body_count == 2
  ball = np.linalg.norm(ply.vertices, axis=1) < 0.6
  shown = ply.visual.vertex_colors[ball, :3] / 127.5 - 1
  np.testing.assert_allclose(shown, ply.vertices[ball] / 0.5, atol=0.05)  # of a unit vector, on a coarse mesh


NDC = {"width": 40, "height": 30, "fx": 50.0, "fy": 50.0, "near": 1.0}


def test_what_was_learned_in_normalised_device_coordinates_comes_out_in_the_model_frame(scene):
  """A ball in space, seen by its field where NDC has it: its place, its size, its outside, and its colours by direction."""
  centre = np.array([0.3, -0.2, -3.0])
  density = scene.predict["density"]
  ball = lambda u, z: density(jnp.asarray(from_ndc(np.minimum(u, 0.999), NDC) - centre), z)
  scene.predict["density"] = lambda u, z: jnp.where(u[:, 2] < 1, ball(u, z), 1e3)
  scene.dataset.info = {"ndc": NDC, "bounds": ((-1.2,) * 3, (1.2,) * 3), "world": {"rotation": np.eye(3).tolist(), "scale": 2.0}}
  assert main.main(["extract", str(scene.workdir), "--resolution", "96", "--largest-component", "--format", "ply"]) == 0
  mesh = trimesh.load(scene.workdir / "meshes" / "surface.ply", process=False)
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices - centre, axis=1), 0.5, atol=0.01)  # a cell is 0.11 deep there
  assert mesh.is_watertight and abs(mesh.volume / (4 / 3 * np.pi * 0.5**3) - 1) < 0.02
  np.testing.assert_allclose(mesh.visual.vertex_colors[:, :3] / 127.5 - 1, (mesh.vertices - centre) / 0.5, atol=0.2)
  assert read_json(scene.workdir / "meshes" / "extract.json")["shapes"][0]["world"]["scale"] == 2.0


@pytest.mark.parametrize("texture", [[], ["--texture", "64"]])
def test_colours_that_hold_the_light_are_unlit_and_others_are_lit(run, tmp_path, texture, request):
  if texture:
    pytest.importorskip("xatlas")
  flags = ["--resolution", "24", "--index", "0", *texture, "--out", str(tmp_path)]
  for unlit in (False, True):
    if unlit:
      request.getfixturevalue("scene")
    assert main.main(["extract", str(run.workdir), *flags]) == 0
    data = (tmp_path / ("surface.glb" if unlit else "0000_ball.glb")).read_bytes()
    document = json.loads(data[20:20 + int.from_bytes(data[12:16], "little")])
    assert ("KHR_materials_unlit" in document["materials"][0].get("extensions", {})) == unlit
    assert document.get("extensionsUsed") == (["KHR_materials_unlit"] if unlit else None)


def test_the_density_level_moves_the_surface(scene):
  flags = ["--resolution", "48", "--largest-component", "--density-level", str(10 * np.exp(40 * 0.1)), "--format", "ply"]
  assert main.main(["extract", str(scene.workdir), *flags]) == 0
  mesh = trimesh.load(scene.workdir / "meshes" / "surface.ply", process=False)
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.4, rtol=0, atol=1e-3)


def test_a_scene_with_a_distance_is_extracted_from_it(scene):
  scene.predict["sdf"] = lambda x, z: jnp.linalg.norm(x, axis=-1) - 0.7
  assert main.main(["extract", str(scene.workdir), "--resolution", "32", "--format", "ply"]) == 0
  assert read_json(scene.workdir / "meshes" / "extract.json")["method"] == "sparse"
  mesh = trimesh.load(scene.workdir / "meshes" / "surface.ply", process=False)
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.7, rtol=0, atol=2e-3)


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_a_budget_of_faces_and_a_texture(scene, ending):
  pytest.importorskip("fast_simplification")
  pytest.importorskip("xatlas")
  flags = ["--resolution", "48", "--largest-component", "--faces", "600", "--texture", "64", "--format", ending]
  assert main.main(["extract", str(scene.workdir), *flags]) == 0
  row = read_json(scene.workdir / "meshes" / "extract.json")["shapes"][0]
  assert row["faces"] <= 600 and row["watertight"] and row["genus"] == 0
  mesh = trimesh.load(scene.workdir / "meshes" / f"surface.{ending}", force="mesh", process=False)
  assert abs(mesh.volume / (4 / 3 * np.pi * 0.5**3) - 1) < 0.02  # chords of 600 faces
  colors = mesh.visual.to_color().vertex_colors[:, :3] / 127.5 - 1
  np.testing.assert_allclose(colors, mesh.vertices / 0.5, atol=0.25)  # a texel of 64 x 64 is wide


def test_only_an_open_result_of_simplifying_is_said_to_be_open(run, capsys, monkeypatch):
  pytest.importorskip("fast_simplification")
  assert main.main(["extract", str(run.workdir), "--index", "0", "--faces", "50"]) == 0
  assert "some edge has not two faces" not in capsys.readouterr().out
  monkeypatch.setattr(surfaces, "decimate", lambda mesh, faces: Mesh(mesh.vertices, mesh.faces[:-1]))
  assert main.main(["extract", str(run.workdir), "--index", "0", "--faces", "50"]) == 0
  assert "0000_ball.glb: simplified, some edge has not two faces" in capsys.readouterr().out


@pytest.mark.parametrize("flags, text", [
    (["--method", "sparse"], "sparse needs a distance"),
    (["--index", "1"], "the run has one surface"),
    (["--texture", "64", "--format", "ply"], "a ply file holds no texture"),
    (["--components", "2", "--largest-component"], "not allowed with"),
    (["--density-level", "0"], "--density-level"), (["--density-level", "1e300"], "--density-level"),
])
def test_wrong_options_for_a_scene_are_one_line_and_exit_2(scene, capsys, flags, text):
  assert main.main(["extract", str(scene.workdir), *flags]) == 2
  assert text in capsys.readouterr().err


def test_a_density_below_the_level_everywhere_is_exit_65(scene, capsys):
  scene.predict["density"] = lambda x, z: jnp.ones(len(x))
  assert main.main(["extract", str(scene.workdir), "--resolution", "16"]) == 65
  assert "no zero crossing" in capsys.readouterr().out


def test_a_shape_that_is_not_finite_costs_itself_alone(run, capsys):
  sdf = run.predict["sdf"]
  run.predict["sdf"] = lambda x, z: jnp.where(z[0] > 0.4, jnp.nan, sdf(x, z))
  assert main.main(["extract", str(run.workdir)]) == 76
  error = capsys.readouterr().err
  assert "1 of 3 shapes have values that are not finite; use an earlier checkpoint (--step); the others are written" in error
  shapes = read_json(run.workdir / "meshes" / "extract.json")["shapes"]
  assert [row["file"] for row in shapes] == [None, "0001_a_b_c.glb", None] and "not finite" in shapes[0]["problem"]


def test_an_index_given_twice_is_one_shape(run, capsys):
  assert main.main(["extract", str(run.workdir), "--index", "0,0"]) == 0
  assert "1 of 1 shapes" in capsys.readouterr().out
