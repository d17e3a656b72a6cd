"""How often each way of signing a mesh's distances is wrong, against solids whose sign is known in closed form.

Prints the table of `fields3d/geometry/distance.py`: share of wrong signs in %, over sphere, torus, box and capsule, each
damaged in a way that real meshes are. Points between a solid and its triangles are left out, so that the error
is the sign's and not the tessellation's.

  python benchmarks/sdf_sign.py [--points 20000]
"""

import argparse
import time

import numpy as np
import scipy.spatial
import trimesh
from solids import box, capsule, sphere, torus

from fields3d.core.types import Mesh
from fields3d.geometry import distance
from fields3d.geometry.repair import repair


def solids() -> dict:
  """name -> (mesh, signed distance): each about the origin, of size near 1."""
  boxes = trimesh.creation.box([1.2, 0.8, 0.6])
  for _ in range(4):
    boxes = boxes.subdivide()
  capsules = trimesh.creation.capsule(0.8, 0.25, count=[48, 48])
  capsules.apply_translation(-capsules.bounds.mean(axis=0))
  return {"sphere": (trimesh.creation.icosphere(5, 0.6), sphere),
          "torus": (trimesh.creation.torus(0.5, 0.2, 96, 48), torus),
          "box": (boxes, box), "capsule": (capsules, capsule)}


def hole(mesh: Mesh, share: float, rng: np.random.Generator) -> Mesh:
  """A round hole: the faces nearest to a random one, up to a share of the area."""
  corners = mesh.vertices[mesh.faces]
  centre = corners.mean(1)
  area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
  order = np.argsort(np.linalg.norm(centre - centre[rng.integers(len(centre))], axis=-1))
  gone = order[:np.searchsorted(np.cumsum(area[order]), share * area.sum())]
  return Mesh(mesh.vertices, np.delete(mesh.faces, gone, axis=0))


def join(*meshes: Mesh) -> Mesh:
  starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
  return Mesh(np.concatenate([m.vertices for m in meshes]),
              np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=False)]))


def square(size: float, shift: float) -> Mesh:
  """A sheet of two faces in the plane x = shift."""
  corners = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1.0]])
  return Mesh(corners * size + np.array([shift, 0, 0]), np.array([[0, 1, 2], [0, 2, 3]]))


def turned(mesh: Mesh) -> Mesh:
  return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def moved(mesh: Mesh, scale: float, shift: float) -> Mesh:
  return Mesh(mesh.vertices * scale + np.array([shift, 0.03, 0.02]), mesh.faces)


def cases(mesh: Mesh, sdf, rng: np.random.Generator):
  """(damage, damaged mesh, its signed distance)."""
  def shifted(scale, shift):
    return lambda p: scale * sdf((p - np.array([shift, 0.03, 0.02])) / scale)

  picked = rng.random(len(mesh.faces)) < 0.01
  flipped = mesh.faces.copy()
  flipped[picked] = flipped[picked, ::-1]
  inner, overlap, far = moved(mesh, 0.5, 0.0), moved(mesh, 0.9, 0.35), moved(mesh, 0.9, 1.5)
  union = lambda other: lambda p: np.minimum(sdf(p), other(p))
  cavity = lambda p: np.maximum(sdf(p), -shifted(0.5, 0.0)(p))
  yield "closed", mesh, sdf
  yield "inward-facing", turned(mesh), sdf
  yield "a hole of 2 % of the area", hole(mesh, 0.02, rng), sdf
  yield "a hole of 10 % of the area", hole(mesh, 0.10, rng), sdf
  yield "1 % of the faces missing, scattered", Mesh(mesh.vertices, mesh.faces[rng.random(len(mesh.faces)) > 0.01]), sdf
  yield "1 % of the faces turned", Mesh(mesh.vertices, flipped), sdf
  if sdf(inner.vertices).max() < 0:  # not so in the torus
    yield "inner shell, same orientation", join(mesh, inner), sdf
    yield "inner shell, turned: a cavity", join(mesh, turned(inner)), cavity
  yield "a sheet beside it", join(mesh, square(0.6, 1.0)), sdf
  yield "two solids that overlap", join(mesh, overlap), union(shifted(0.9, 0.35))
  yield "disjoint, one of them inward", join(mesh, turned(far)), union(shifted(0.9, 1.5))
  yield "overlapping, one of them inward", join(mesh, turned(overlap)), union(shifted(0.9, 0.35))


def nearest_normals(mesh: Mesh, points: np.ndarray, rng: np.random.Generator, votes: int = 11) -> np.ndarray:
  """DeepSDF's sign: the majority of the 11 nearest of 100,000 oriented surface points."""
  surface, face = trimesh.sample.sample_surface(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), 100_000,
                                                seed=int(rng.integers(2**31)))
  corners = mesh.vertices[mesh.faces[face]]
  normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  index = scipy.spatial.cKDTree(surface).query(points, votes)[1]
  ahead = ((points[:, None] - surface[index]) * normal[index]).sum(-1) > 0
  return ahead.mean(-1) < 0.5


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--points", type=int, default=20_000)
  arguments = parser.parse_args()
  rng = np.random.default_rng(0)
  wrong: dict = {}
  seconds: dict = {}
  worst = 0.0
  for source, sdf in solids().values():
    clean = Mesh(np.asarray(source.vertices, np.float64), np.asarray(source.faces, np.int64))
    sagitta = max(np.abs(sdf(clean.vertices[clean.faces].mean(1))).max(), 1e-6)
    for name, mesh, truth in cases(clean, sdf, rng):
      seed = int(rng.integers(2**31))
      whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
      near = trimesh.sample.sample_surface(whole, arguments.points // 2, seed=seed)[0]
      near = near + rng.normal(scale=0.02, size=near.shape)
      low, high = whole.bounds
      points = np.concatenate([near, rng.uniform(low - 0.1, high + 0.1, size=(arguments.points // 2, 3))])
      points = points[np.abs(truth(points)) > 1.5 * sagitta]
      exact = []
      ways = {
          "winding": lambda m, p: distance.inside(m, p),
          "repaired, winding": lambda m, p: distance.inside(repair(m)[0], p),
          "fast winding": lambda m, p: np.abs(distance.winding_number(m, p)) > 0.5,
          "exact winding": lambda m, p, keep=exact: (
              keep.append(distance.winding_number(m, p, exact=True)) or np.abs(keep[0]) > 0.5),
          "pseudonormal": lambda m, p: distance.inside(m, p, "pseudonormal"),
          "11 nearest normals": lambda m, p: nearest_normals(m, p, rng),
      }
      for way, fn in ways.items():
        start = time.perf_counter()
        found = fn(mesh, points)
        seconds[way] = seconds.get(way, 0) + time.perf_counter() - start
        wrong.setdefault(name, {}).setdefault(way, []).append(100 * np.mean(found != (truth(points) < 0)))
      worst = max(worst, np.abs(distance.winding_number(mesh, points) - exact[0]).max())
  print(f"{'wrong signs, %':38s}" + "".join(f"{way:>20s}" for way in seconds))
  for name, row in wrong.items():
    print(f"{name:38s}" + "".join(f"{np.mean(values):20.2f}" for values in row.values()))
  print(f"{'seconds':38s}" + "".join(f"{value:20.2f}" for value in seconds.values()))
  print(f"largest difference of the fast and the exact winding number: {worst:.4f}")


if __name__ == "__main__":
  main()
