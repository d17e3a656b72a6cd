"""One exact earth mover's distance of 2,048 points: ours, scipy's assignment as it stands, and POT's network simplex, in one run.

Pairs are different pieces of furniture ($FIELDS3D_DATA, default ../shared/data), or ellipsoids without that data. Everybody
is given the two clouds and makes the costs too. All three are exact; the largest relative difference is printed. Beside them
Sinkhorn's bounds at some regularisations: their gap, whether they hold the exact value, and their time.

  python benchmarks/emd_exact.py [--pairs 6] [--points 2048] [--json FILE]          (wants pip install pot==0.9.7.post1)

Figures are in benchmarks/README.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np
import scipy.optimize
import scipy.spatial
from nna_chamfer import ellipsoids, real_clouds

from fields3d.metrics.transport import emd, sinkhorn

REGULARISATIONS = (0.03, 0.01, 0.003)


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
  costs = scipy.spatial.distance.cdist(a, b)
  return float(costs[scipy.optimize.linear_sum_assignment(costs)].mean())


def by_pot(a: np.ndarray, b: np.ndarray) -> float:
  import ot
  weights = np.full(len(a), 1 / len(a))
  return float(ot.emd2(weights, weights, scipy.spatial.distance.cdist(a, b), numItermax=100_000_000))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--pairs", type=int, default=6)
  parser.add_argument("--points", type=int, default=2048)
  parser.add_argument("--json", type=pathlib.Path)
  arguments = parser.parse_args()
  folder = pathlib.Path(os.environ.get("FIELDS3D_DATA", pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"))
  real = (folder / "shapes" / "furniture" / "furniture.npz").is_file()
  every = (real_clouds(folder, 2 * arguments.pairs) if real else ellipsoids(2 * arguments.pairs))[:, :arguments.points]
  every = every.astype(np.float64)
  runs = {"ours": emd, "scipy": by_scipy, "POT": by_pot}
  emd(every[0], every[1])  # compiles
  for regularisation in REGULARISATIONS:
    sinkhorn(every[0], every[1], regularisation, most_iterations=1)
  seconds, worst, bounds = {name: [] for name in runs}, 0.0, {r: [] for r in REGULARISATIONS}
  for a, b in zip(every[::2], every[1::2], strict=True):
    values = {}
    for name, run in runs.items():
      wall, cpu = time.perf_counter(), time.process_time()
      values[name] = run(a, b)
      seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    worst = max(worst, *(abs(value / values["scipy"] - 1) for value in values.values()))
    for regularisation, found in bounds.items():
      cpu = time.process_time()
      bound = sinkhorn(a, b, regularisation)
      found.append((bound.gap, bool(bound.lower <= values["scipy"] <= bound.upper), bound.converged,
                    time.process_time() - cpu))
    print(f"emd {values['ours']:.6f}; seconds, wall (CPU): " + ", ".join(
        f"{name} {s[-1][0]:.2f} ({s[-1][1]:.2f})" for name, s in seconds.items()), flush=True)
  print(f"largest relative difference {worst:.1e}")
  for peer in ("scipy", "POT"):
    ratios = np.array(seconds[peer]) / np.array(seconds["ours"])
    print(f"times faster than {peer}: " + "; ".join(
        f"by {kind} {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})"
        for kind, r in zip(("wall", "CPU"), ratios.T, strict=True)))
  for regularisation, found in bounds.items():
    gaps, held, converged, took = zip(*found, strict=True)
    print(f"sinkhorn {regularisation:g}: gap {statistics.median(gaps):.1%} (to {max(gaps):.1%}), holds the exact value in "
          f"{sum(held)} of {len(held)}, converged {sum(converged)}, {statistics.median(took):.1f} s of CPU")
  if arguments.json:
    arguments.json.write_text(json.dumps({"seconds": seconds, "bounds": bounds, "difference": worst}, indent=1))
  return 0


if __name__ == "__main__":
  sys.exit(main())
