"""How far the protocols of published tables disagree on one and the same set of shapes.

Solids (torus and box; --solids sphere,torus,box,capsule for all four) stand against six predictions of each, every one
wrong in a known way. Each protocol measures all of them; a row is the mean of its figure over the solids, and in
brackets the place that it gives to the prediction (1 is best). The last table compares the protocols' chamfer distances, pair by pair: by
what factor their figures of one prediction differ, and how many of the 15 pairs of predictions they put in another order.

  python benchmarks/protocols_disagree.py [--seed 0] [--solids torus,box]
"""

import argparse
import itertools
import sys

import numpy as np
import trimesh
from solids import box, capsule, sphere, torus

from fields3d.core.types import Field, Mesh
from fields3d.evaluation.cloud_protocols import PROTOCOLS as CLOUD_PROTOCOLS
from fields3d.evaluation.protocols import MESH_PROTOCOLS, MeshProtocol, measure_meshes, protocol_frame
from fields3d.extraction.sparse import extract
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics.clouds import chamfer
from fields3d.metrics.transport import emd

DIAGONAL = MeshProtocol("diagonal", 1.0, 2048, {}, "", ())  # the unit of the protocols of point clouds


def solids() -> dict:
  """name -> (mesh, signed distance)."""
  shapes = {"sphere": (trimesh.creation.icosphere(subdivisions=5, radius=0.6), sphere),
            "torus": (trimesh.creation.torus(0.5, 0.2, major_sections=128, minor_sections=64), torus),
            "box": (trimesh.creation.box([1.2, 0.8, 0.6]), box),
            "capsule": (trimesh.creation.capsule(0.8, 0.25, count=[64, 64]), capsule)}
  for _ in range(5):
    shapes["box"] = (shapes["box"][0].subdivide(), box)
  return {name: (mesh_of(shape), sdf) for name, (shape, sdf) in shapes.items()}


def mesh_of(shape) -> Mesh:
  vertices = np.asarray(shape.vertices, np.float64)
  return Mesh(vertices - (vertices.min(0) + vertices.max(0)) / 2, np.asarray(shape.faces, np.int64))


def predictions(truth: Mesh, sdf, rng: np.random.Generator) -> dict[str, Mesh]:
  """name -> a mesh that is wrong in one way."""
  shape = trimesh.Trimesh(truth.vertices, truth.faces, process=False)
  centre = truth.vertices[truth.faces].mean(1)
  order = np.argsort(centre @ np.array([0.6, 0.64, 0.48]))
  area = np.cumsum(shape.area_faces[order])
  top = truth.vertices[np.argmax(truth.vertices[:, 1])]
  speck = trimesh.creation.icosphere(subdivisions=2, radius=0.03)
  return {
      "grid of 24": extract(Field(lambda x: sdf(np.asarray(x, np.float64)).astype(np.float32),
                                  np.array([[-0.8] * 3, [0.8] * 3])), 24)[0],
      "grown by 0.01": Mesh(truth.vertices + 0.01 * np.asarray(shape.vertex_normals), truth.faces),
      "noise of 0.005": Mesh(truth.vertices + rng.normal(scale=0.005, size=truth.vertices.shape), truth.faces),
      "3% longer": Mesh(truth.vertices * np.where(np.ptp(truth.vertices, 0) == np.ptp(truth.vertices, 0).max(), 1.03, 1),
                        truth.faces),
      "5% missing": Mesh(truth.vertices, truth.faces[order[area < 0.95 * area[-1]]]),
      "a speck 0.4 away": Mesh(np.concatenate([truth.vertices, np.asarray(speck.vertices) + top + [0, 0.4, 0]]),
                               np.concatenate([truth.faces, np.asarray(speck.faces) + len(truth.vertices)])),
  }


def clouds_of(prediction: Mesh, truth: Mesh, seed: int) -> dict[str, float]:
  """The distances inside the point-cloud protocols, in their printed units."""
  frame = protocol_frame(truth, DIAGONAL)
  rngs = np.random.default_rng(seed).spawn(2)
  a, b = ((sample_surface(mesh, DIAGONAL.points, rng).points - frame.offset) / frame.scale
          for mesh, rng in zip((prediction, truth), rngs, strict=True))
  out = {}
  for name, protocol in CLOUD_PROTOCOLS.items():
    out[f"CD x {protocol.mmd_factors['cd']:g} [{name}]"] = protocol.mmd_factors["cd"] * chamfer(a, b, protocol.chamfer)
    out[f"EMD x {protocol.mmd_factors['emd']:g} [{name}]"] = protocol.mmd_factors["emd"] * emd(a, b, protocol.emd)
  return out


def table(seed: int, chosen: list[str]) -> tuple[list[str], dict[str, np.ndarray], dict[str, str]]:
  """Names of the predictions, figure -> its mean over the solids (predictions,), figure -> which way is better."""
  sums, better, names = {}, {}, []
  shapes = {name: shape for name, shape in solids().items() if name in chosen}
  for index, (truth, sdf) in enumerate(shapes.values()):
    made = predictions(truth, sdf, np.random.default_rng((seed, index)))
    names = list(made)
    for k, prediction in enumerate(made.values()):
      print(f"shape {index + 1} of {len(shapes)}, prediction {k + 1} of {len(made)}", file=sys.stderr, flush=True)
      found = {}
      for protocol in MESH_PROTOCOLS:
        for metric in measure_meshes(prediction, truth, protocol, seed=seed, index=index):
          found[metric.name], better[metric.name] = metric.value, metric.better
      found |= clouds_of(prediction, truth, seed)
      for name, value in found.items():
        sums.setdefault(name, np.zeros(len(made)))[k] += value / len(shapes)
  return names, sums, better


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--solids", default="torus,box")
  args = parser.parse_args()
  names, figures, better = table(args.seed, args.solids.split(","))
  print("| figure | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
  places = {}
  for figure, values in figures.items():
    best_first = np.argsort(values if better.get(figure) != "higher" else -values, kind="stable")
    places[figure] = np.argsort(best_first) + 1
    print(f"| {figure} | " + " | ".join(f"{v:.4g} ({p})" for v, p in zip(values, places[figure], strict=True)) + " |")
  chamfers = [figure for figure in figures if figure.startswith(("chamfer", "CD"))]
  print("\n| two chamfer distances | figures differ by a factor of | pairs of predictions in another order |\n|---|---|---|")
  for a, b in itertools.combinations(chamfers, 2):
    ratio = figures[a] / figures[b]
    swapped = sum((places[a][i] - places[a][j]) * (places[b][i] - places[b][j]) < 0
                  for i, j in itertools.combinations(range(len(names)), 2))
    print(f"| {a}, {b} | {ratio.min():.3g} to {ratio.max():.3g} | {swapped} of {len(names) * (len(names) - 1) // 2} |")


if __name__ == "__main__":
  main()
