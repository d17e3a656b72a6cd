"""The matrix of chamfer distances behind 1-NNA-CD, against scipy's k-d tree pair by pair, in one paired run.

Both sets are `--clouds` clouds of 2,048 points drawn by area from real furniture ($FIELDS3D_DATA, default ../shared/data),
each in the unit ball; without that data, from ellipsoids. The peer builds one `cKDTree` a cloud (not timed) and asks
both ways for each pair, in float64: with workers=1, with workers=2, and, as more than anybody writes, with workers=1 in as
many threads as there are CPUs. Rounds alternate, so that whatever else the machine does meets all of them; ratios are taken
round by round, by wall time and by CPU time, which a busy machine distorts less. The headline is against the faster
of workers=1 and workers=2.

A round times `--rows` rows of the matrix (all their pairs, really computed by all); `--rows 0` the whole matrix.
Agreement is checked on every pair of the first round.

  python benchmarks/nna_chamfer.py [--clouds 400] [--rows 4] [--rounds 5] [--json FILE]

Figures are in benchmarks/README.md.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np
import scipy.spatial

from fields3d.core.types import Mesh
from fields3d.geometry.meshes import sample_surface
from fields3d.metrics.pairs import pairwise

POINTS = 2048


def real_clouds(folder: pathlib.Path, n: int) -> np.ndarray:
  """n clouds (n, 2048, 3) of furniture, around again with other points where there are fewer models."""
  with np.load(folder / "shapes" / "furniture" / "furniture.npz") as file:
    pack = {name: file[name] for name in ("q", "v_off", "scale", "lo", "faces_lo", "faces_hi", "f_off")}
  models = len(pack["lo"])
  rng = np.random.default_rng(0)
  out = np.empty((n, POINTS, 3), np.float32)
  for k, i in enumerate(np.concatenate([rng.permutation(models) for _ in range(-(-n // models))])[:n]):
    v, f = slice(*pack["v_off"][i:i + 2]), slice(*pack["f_off"][i:i + 2])
    faces = pack["faces_lo"][f].astype(np.int64) + (pack["faces_hi"][f].astype(np.int64) << 16)
    points = sample_surface(Mesh(pack["lo"][i] + pack["q"][v] * pack["scale"][i] / 65535, faces), POINTS, rng).points
    points = points - (points.min(0) + points.max(0)) / 2
    out[k] = points / np.linalg.norm(points, axis=1).max()
  return out


def ellipsoids(n: int) -> np.ndarray:
  rng = np.random.default_rng(0)
  x = rng.normal(size=(n, POINTS, 3))
  return np.float32(x / np.linalg.norm(x, axis=-1, keepdims=True) * rng.uniform(0.2, 1, (n, 1, 3)))


def by_trees(a: np.ndarray, b: np.ndarray, trees: tuple, workers: int, threads: int = 1) -> np.ndarray:
  """The same matrix by queries both ways."""
  def one(pair):
    i, j = pair
    return sum(np.mean(tree.query(cloud, workers=workers)[0]**2) for tree, cloud in ((trees[1][j], a[i]),
                                                                                    (trees[0][i], b[j])))

  pairs = [(i, j) for i in range(len(a)) for j in range(len(b))]
  if threads == 1:
    return np.reshape([one(pair) for pair in pairs], (len(a), len(b)))
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    return np.reshape(list(pool.map(one, pairs)), (len(a), len(b)))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--clouds", type=int, default=400)
  parser.add_argument("--rows", type=int, default=4, help="rows of the matrix that a round times; 0 for all")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--json", type=pathlib.Path)
  arguments = parser.parse_args()
  folder = pathlib.Path(os.environ.get("FIELDS3D_DATA", pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"))
  real = (folder / "shapes" / "furniture" / "furniture.npz").is_file()
  every = real_clouds(folder, 2 * arguments.clouds) if real else ellipsoids(2 * arguments.clouds)
  a, b = every[:arguments.clouds], every[arguments.clouds:]
  rows = arguments.rows or arguments.clouds
  cpus = len(os.sched_getaffinity(0))
  b_trees = [scipy.spatial.cKDTree(x) for x in b.astype(np.float64)]
  print(f"{rows} x {len(b)} pairs of {POINTS:,}-point clouds of {'furniture' if real else 'ellipsoids'}, {cpus} CPUs")
  pairwise(a[:1], b[:1])  # compiles
  seconds: dict[str, list] = {}
  for turn in range(arguments.rounds):
    some = a[np.arange(turn * rows, (turn + 1) * rows) % len(a)]
    print(f"round {turn + 1}: ms a pair, wall (CPU): {one_round(some, b, b_trees, cpus, seconds)}", flush=True)
  report(seconds, arguments.json)
  return 0


def one_round(a: np.ndarray, b: np.ndarray, b_trees: list, cpus: int, seconds: dict) -> str:
  """Times everybody once, into `seconds`; the round in words."""
  trees = ([scipy.spatial.cKDTree(x) for x in a.astype(np.float64)], b_trees)
  wide, tall = a.astype(np.float64), b.astype(np.float64)
  runs = {"ours": lambda: pairwise(a, b),
          "workers=1": lambda: by_trees(wide, tall, trees, 1),
          "workers=2": lambda: by_trees(wide, tall, trees, 2),
          f"workers=1, {cpus} threads": lambda: by_trees(wide, tall, trees, 1, cpus)}
  found, words = {}, []
  for name, run in runs.items():
    wall, cpu = time.perf_counter(), time.process_time()
    found[name] = run()
    took = (time.perf_counter() - wall, time.process_time() - cpu)
    seconds.setdefault(name, []).append(took)
    words.append(f"{name} {1e3 * took[0] / len(a) / len(b):.3f} ({1e3 * took[1] / len(a) / len(b):.3f})")
  worst = np.max(np.abs(found["ours"] / found["workers=1"] - 1))
  return f"{', '.join(words)}; largest relative difference {worst:.1e}"


def report(seconds: dict, path: pathlib.Path | None) -> None:
  """Ratios round by round: least, median, most."""
  ours = np.array(seconds["ours"])
  peers = {name: np.array(s) / ours for name, s in seconds.items() if name != "ours"}
  peers["the faster of workers=1 and 2"] = np.minimum(peers["workers=1"], peers["workers=2"])
  out = {}
  for name, ratios in peers.items():
    out[name] = {kind: (min(r), statistics.median(r), max(r)) for kind, r in zip(("wall", "cpu"), ratios.T, strict=True)}
    print(f"times faster than {name}: " + "; ".join(
        f"by {kind} {median:.2f} ({low:.2f} to {high:.2f})" for kind, (low, median, high) in out[name].items()))
  if path:
    path.write_text(json.dumps({"seconds": seconds, "times faster": out}, indent=1))


if __name__ == "__main__":
  sys.exit(main())
