"""The evaluator of quality on a model whose draws are known, and the command on files that a test writes."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from fields3d.commands.main import main
from fields3d.core.config import build
from fields3d.core.errors import UsageFault
from fields3d.core.types import Dataset, Mesh, Shape
from fields3d.data.gltf_parts import read_parts
from fields3d.evaluation import EVALUATORS
from fields3d.evaluation.quality import Measures, judge, set_metrics
from fields3d.evaluation.results import EvaluationInput
from fields3d.extraction.export import export
from fields3d.extraction.texture import Texture

CORNERS = np.array([[x, y, z] for x in (0., 1) for y in (0., 1) for z in (0., 1)])
FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                  [0, 6, 4], [1, 5, 7], [1, 7, 3]])
CUBE = Mesh(CORNERS - 0.5, FACES)
OPEN = Mesh(CUBE.vertices, FACES[1:])


def ball(x, z):
  """A ball whose radius is the code; no surface where it is negative."""
  return jnp.linalg.norm(x, axis=-1) - z[0]


def dataset(meshes):
  shapes = [Shape(f"s{i}", "", None, lambda mesh=mesh: mesh, None) for i, mesh in enumerate(meshes)]
  return Dataset({}, lambda *_: {}, lambda split: shapes if split == "train" else ())


def inputs_of(tmp_path, predict, meshes=(CUBE, CUBE, OPEN, CUBE)):
  (tmp_path / "out").mkdir()
  return EvaluationInput(predict, dataset(meshes), tmp_path / "out", 3)


def drawn(radii):
  """A sampler whose i-th draw has the i-th radius."""
  return {"sdf": ball, "sample": lambda key, num: jnp.resize(jnp.asarray(radii), num)[:, None]}


def evaluate(inputs, **settings):
  found = build(EVALUATORS, {"name": "quality", "resolution": 16, "num": 8, "points": 50, **settings}, "evals.q")(inputs)
  assert json.dumps(found.to_json(), allow_nan=False)
  return found, {metric.name: metric for metric in found.metrics}


def test_shares_are_those_of_the_draws_and_the_control_those_of_the_real_shapes(tmp_path):
  found, metrics = evaluate(inputs_of(tmp_path, drawn([0.5, 0.6, -1.0, 0.7])))
  assert metrics["watertight/share"].value == 0.75 and metrics["watertight/share"].floor == 0.75
  assert metrics["watertight/share"].low < 0.75 < metrics["watertight/share"].high
  assert metrics["one_component/share"].value == 0.75 and metrics["one_component/share"].floor == 1
  assert metrics["self_intersecting/share"].value == 0.25 and metrics["self_intersecting/share"].better == "lower"
  assert metrics["wall/median"].n == 6 and metrics["wall/median"].floor == pytest.approx(1, rel=1e-4)
  assert metrics["faces/median"].floor == 12 and metrics["margin/median"].floor == pytest.approx(0.5)
  assert [row.status == "ok" for row in found.rows] == [True, True, False, True] * 2
  assert "2 of 8 shapes have no surface" in found.warnings and found.control == "real shapes"


def test_walls_of_balls_are_their_diameters(tmp_path):
  _, metrics = evaluate(inputs_of(tmp_path, drawn([0.5])), num=2, resolution=48)
  assert metrics["wall/median"].value == pytest.approx(1, rel=0.02)  # 48 nodes of a box of 2
  assert metrics["smallest_feature/median"].value < metrics["wall/median"].value + 1e-9


def test_a_task_that_cannot_be_sampled_is_judged_by_its_training_shapes(tmp_path):
  predict = {"sdf": ball, "code": lambda index: jnp.array([0.5, -1.0, 0.5, 0.5])[index, None]}
  found, metrics = evaluate(inputs_of(tmp_path, predict))
  assert found.unit == "shape" and metrics["watertight/share"].value == 0.75 and metrics["watertight/share"].n == 4
  assert "reconstructed training shapes" in metrics["watertight/share"].protocol
  assert found.rows[1].status != "ok"


def test_a_task_without_shapes_is_refused_in_one_line(tmp_path):
  with pytest.raises(UsageFault, match="sample"):
    evaluate(inputs_of(tmp_path, {"sdf": ball}))


def test_unasked_checks_give_no_share_and_empty_sets_no_figure():
  how = Measures(crossings=False, points=20)
  names = {metric.name for metric in set_metrics([judge(CUBE, how), None], (), how, "")}
  assert "self_intersecting/share" not in names and "watertight/share" in names
  nothing = {metric.name: metric for metric in set_metrics([None, None], (), how, "")}
  assert nothing["watertight/share"].value == 0 and nothing["faces/median"].value is None


def textured(folder):
  """A square of 2 x 2 with a texture of 64 x 32 on all of it."""
  square = Mesh(np.array([[0., 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
  uv = np.array([[0., 1], [1, 1], [1, 0], [0, 0]])  # v downward
  image = np.zeros((64, 64, 3), np.uint8)
  return export(square, folder / "square.glb", texture=Texture(uv, image, image.size // 3))


def test_parts_of_a_glb_are_what_was_written(tmp_path):
  (part,), warnings = read_parts(textured(tmp_path))
  assert part.texture == (64, 64) and part.material == 0 and not warnings
  np.testing.assert_allclose(part.uv[0], [[0, 1], [1, 1], [1, 0]], atol=1e-6)


def test_the_command_prints_a_row_a_mesh_and_the_shares(tmp_path, capsys):
  export(CUBE, tmp_path / "a.ply", "ply")
  export(OPEN, tmp_path / "b.ply", "ply")
  (tmp_path / "c.obj").write_text("v nan 0 0\n")
  textured(tmp_path)
  assert main(["metrics", "quality", str(tmp_path), "--json", "--points", "50"]) == 0
  shown = json.loads(capsys.readouterr().out)
  rows = {row["name"].rsplit("/")[-1]: row for row in shown["meshes"]}
  assert rows["a.ply"]["watertight"] and not rows["b.ply"]["watertight"] and len(rows) == 3
  glb = rows["square.glb"]
  assert glb["draw_calls"] == 1 and glb["texel_density"] == pytest.approx(32) and glb["uv_flipped"] == 0
  assert glb["uv_stretch"] == pytest.approx(1) and glb["uv_overlap"] == 0
  assert any("c.obj" in line for line in shown["warnings"])
  assert {m["name"]: m["value"] for m in shown["metrics"]}["watertight/share"] == pytest.approx(1 / 3)
  assert main(["metrics", "quality", str(tmp_path / "a.ply"), "--points", "50", "--no-crossings"]) == 0
  assert "a.ply" in capsys.readouterr().out


def test_the_command_says_in_one_line_that_nothing_can_be_read(tmp_path, capsys):
  (tmp_path / "c.obj").write_text("v nan 0 0\n")
  assert main(["metrics", "quality", str(tmp_path)]) == 65
  assert capsys.readouterr().err.count("\n") <= 2
