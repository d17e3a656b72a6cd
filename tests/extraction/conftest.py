"""What the extraction tests share: a mesh's soundness counted from its edges, and random closed fields."""

import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.csgraph

ROOT = pathlib.Path(__file__).resolve().parents[2]

def _defects(mesh) -> list[str]:
  """Everything that keeps a mesh from being a closed, oriented 2-manifold without degenerate faces."""
  faces, num = mesh.faces, len(mesh.vertices)
  out = []
  if not len(faces) or faces.min() < 0 or faces.max() >= num or len(np.unique(faces)) != num:
    out.append("indices out of range, or vertices without a face")
  directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
  keys, back = directed[:, 0] * num + directed[:, 1], directed[:, 1] * num + directed[:, 0]
  if len(np.unique(keys)) != len(keys):
    out.append("an edge is used twice in one direction")
  if not np.array_equal(np.sort(keys), np.sort(back)):
    out.append("an edge lacks its opposite: open or inconsistently oriented")
  corner = np.tile(np.arange(len(faces)), 3) + np.repeat([0, 1, 2], len(faces)) * len(faces)
  following = np.roll(corner.reshape(3, -1), -1, axis=0).reshape(-1)
  order, other = np.argsort(keys), np.argsort(back)
  links = scipy.sparse.coo_array((np.ones(len(keys)), (corner[order], following[other])), shape=(len(keys),) * 2)
  if scipy.sparse.csgraph.connected_components(links, directed=False)[0] != num:
    out.append("the faces around a vertex are not one fan")
  for vertices in (mesh.vertices, mesh.vertices.astype(np.float32)):
    if len(np.unique(vertices, axis=0)) != num:
      out.append(f"vertices coincide as {vertices.dtype}")
    a, b, c = (vertices.astype(np.float64)[faces[:, i]] for i in range(3))
    if not np.all(np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0):
      out.append(f"a face has no area as {vertices.dtype}")
  if _volume(mesh) <= 0:
    out.append("faces inward")
  return out


def _volume(mesh) -> float:
  a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
  return float(np.sum(np.cross(a, b) * c) / 6)


def _random_values(rng: np.random.Generator) -> np.ndarray:
  """White noise, noise with exact zeros and near zeros, or a smooth Fourier series: all kinds of ambiguous cells."""
  shape = tuple(rng.integers(3, 11, size=3))
  kind = rng.integers(4)
  if kind == 0:
    values = rng.normal(size=shape)
  elif kind == 1:
    values = rng.integers(-1, 2, size=shape).astype(np.float64)
  elif kind == 2:
    values = rng.choice([-1.0, 1.0], size=shape) * 10.0 ** rng.uniform(-30, 30, size=shape)
  else:
    x = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), axis=-1)
    waves = rng.normal(size=(8, 3)) * 3
    values = np.sum(rng.normal(size=8) * np.sin(x @ waves.T + rng.uniform(0, 6, size=8)), axis=-1)
  values.flat[0], values.flat[-1] = -1.0, 1.0
  return values


@pytest.fixture
def defects():
  return _defects


@pytest.fixture
def volume():
  return _volume


@pytest.fixture
def random_values():
  return _random_values


@pytest.fixture(scope="module")
def validate():
  """folder of GLBs -> the Khronos validator's report."""
  home = pathlib.Path(os.environ.get("FIELDS3D_GLTF_VALIDATOR", ROOT / ".cache" / "gltf-validator"))
  if shutil.which("node") is None:
    pytest.skip("node is not installed: GLBs are not validated")
  if not (home / "node_modules" / "gltf-validator").is_dir():
    pytest.skip(f"no gltf-validator in {home}: run make validator, or set FIELDS3D_GLTF_VALIDATOR")
  script = pathlib.Path(__file__).with_name("validate_glb.mjs")

  def run(folder):
    done = subprocess.run(["node", script, home, folder], check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

  return run
