"""The viewer's script under node: meshes keep their shape wherever they lie, and every page bears every key."""

import importlib.resources
import json
import shutil
import subprocess

import numpy as np
import pytest

from fields3d.core.types import Frame, Mesh
from fields3d.extraction.export import export
from fields3d.extraction.marching_cubes import marching_cubes

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the viewer's script is not run")

# The page's surroundings, as far as the script asks for them; `uniforms` are what a pane hands to the GPU.
SCRIPT = """
const fs = require("fs"), [viewer, ...files] = process.argv.slice(1);
globalThis.document = {querySelectorAll: () => []};
const {readMesh, Viewer} = new Function(fs.readFileSync(viewer, "utf8") + "; return {readMesh, Viewer};")();
const meshes = files.map((file) => readMesh(new Uint8Array(fs.readFileSync(file)).buffer));
const noted = (uniforms) => ({get: (_, name) => (at, ...values) => {
  if (String(name).startsWith("uniform")) uniforms[at] = Array.from(values.at(-1));
}});
const view = (uniforms) => Object.assign(Object.create(Viewer.prototype), {
  gl: new Proxy({}, noted(uniforms)),
  at: {view: "view", projection: "projection", eye: "eye", key: "key"}, camera: {azimuth: 35, elevation: 18, distance: 1},
  flags: {truth: true, wire: false, turn: false}, root: {querySelector: () => null}, draw() {}});
"""


def under_node(script, *files):
  """What the script's last expression is, as JSON."""
  viewer = importlib.resources.files("fields3d.evaluation").joinpath("viewer.js")
  done = subprocess.run(["node", "-e", f"{SCRIPT}process.stdout.write(JSON.stringify({script}))", str(viewer), *map(str, files)],
                        check=False, capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ball():
  nodes = np.stack(np.meshgrid(*[np.linspace(-1, 1, 17)] * 3, indexing="ij"), axis=-1)
  return marching_cubes(np.linalg.norm(nodes, axis=-1) - 0.5, np.array([[-1.0] * 3, [1.0] * 3]))


def test_a_mesh_in_map_coordinates_keeps_its_shape(ball, tmp_path):
  frame = Frame((500000.0, 120.0, 4500000.0), 2.0)
  mesh, = under_node("meshes.map((m) => ({...m, positions: Array.from(m.positions)}))", export(ball, tmp_path / "far", frame=frame))
  want = ball.vertices * 2 + frame.offset
  np.testing.assert_allclose(np.reshape(mesh["positions"], (-1, 3)) + mesh["center"], want, rtol=0, atol=2e-7)  # float32 of at most 1
  np.testing.assert_allclose([mesh["low"], mesh["high"]], [want.min(0), want.max(0)], rtol=0, atol=2e-7)


def test_panes_show_a_mesh_alike_wherever_it_lies_and_another_in_its_box(ball, tmp_path):
  beside = Mesh(ball.vertices + [0.3, 0, 0], ball.faces)
  near, far = ([export(mesh, tmp_path / f"{i}_{k}", frame=Frame(offset, 2.0)) for k, mesh in enumerate((ball, beside))]
               for i, offset in enumerate([(0.0, 0.0, 0.0), (500000.0, 120.0, 4500000.0)]))
  show = "meshes.map((mesh) => { const seen = {}; view(seen).pane(mesh, meshes[0], 0, 80, 60); return {...seen, center: mesh.center}; })"
  here, there = under_node(show, *near), under_node(show, *far)
  for a, b in zip(here, there, strict=True):
    for name in ("view", "projection", "eye", "key"):
      np.testing.assert_allclose(b[name], a[name], rtol=0, atol=1e-6, err_msg=name)  # of values of at most 10
  eyes = [np.add(pane["eye"], pane["center"]) for pane in here]
  np.testing.assert_allclose(eyes[1], eyes[0], rtol=0, atol=1e-6)


def test_a_key_whose_button_a_page_lacks_changes_nothing_else():
  assert under_node("(() => { const v = view({}); v.act('truth'); return v.flags; })()") == {"truth": False, "wire": False, "turn": False}
