"""The chamfer loss, forward and gradient, 32 pairs of clouds of 2,048 points: ours against torch.cdist, in one paired run.

Both take mean squared distances both ways, and carry the gradient to the made clouds alone, as an autoencoder needs it, or to
both. The peer is torch.cdist (in its default mode, which multiplies matrices, or, `--exact`, without), its minima along both
axes, squared, and backward(), in its own process with as many threads. Rounds alternate, so that whatever else the machine
does meets both; ratios are taken round by round, by wall time and by CPU time, which a busy machine distorts less. Values and
gradients of the first round are compared.

  python benchmarks/chamfer_loss.py [--peer /path/to/python] [--rounds 5] [--exact] [--json FILE]

The peer's python wants: pip install torch==2.13.0 numpy. Figures are in benchmarks/README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROWS, POINTS = 32, 2048
PEER = '''
import os, sys, time
import numpy as np, torch
torch.set_num_threads(len(os.sched_getaffinity(0)))
rows, points, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
made, real = (torch.from_numpy(rng.normal(size=(rows, points, 3)).astype("float32")) for _ in range(2))
for line in sys.stdin:
  made.grad = real.grad = None
  made.requires_grad_(True)
  real.requires_grad_(line.strip() == "both")
  wall, cpu = time.perf_counter(), time.process_time()
  distances = torch.cdist(made, real, compute_mode=mode)
  loss = (distances.min(2).values ** 2).mean() + (distances.min(1).values ** 2).mean()
  loss.backward()
  print(time.perf_counter() - wall, time.process_time() - cpu, loss.item(), made.grad.abs().sum().item(), flush=True)
'''
KINDS = {"made": (0,), "both": (0, 1)}


def ours() -> dict:
  """For each kind a function that gives loss and gradients."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from fields3d.losses.clouds import chamfer

  rng = np.random.default_rng(0)
  clouds = [jnp.asarray(rng.normal(size=(ROWS, POINTS, 3)), jnp.float32) for _ in range(2)]

  def ready(of):
    jitted = jax.jit(jax.value_and_grad(lambda a, b: jnp.mean(chamfer(a, b)), of))
    return lambda: jax.block_until_ready(jitted(*clouds))

  return {kind: ready(of) for kind, of in KINDS.items()}


def timed(fn) -> tuple[float, ...]:
  """Wall and CPU seconds of one call, its loss, and the sum of its first gradient's sizes."""
  wall, cpu = time.perf_counter(), time.process_time()
  loss, gradients = fn()
  took = (time.perf_counter() - wall, time.process_time() - cpu)
  return (*took, float(loss), float(abs(gradients[0]).sum()))


def spread(values) -> str:
  return " / ".join(f"{v:.3g}" if v < 100 else f"{v:.0f}" for v in (min(values), statistics.median(values), max(values)))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--peer", default=os.environ.get("FIELDS3D_TORCH_PYTHON", sys.executable), help="a python with torch")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--exact", action="store_true", help="the peer takes differences and multiplies no matrices")
  parser.add_argument("--json", help="write the figures to this file")
  args = parser.parse_args()
  mode = "donot_use_mm_for_euclid_dist" if args.exact else "use_mm_for_euclid_dist_if_necessary"
  rounds = {side: {kind: [] for kind in KINDS} for side in ("fields3d", "torch")}
  with subprocess.Popen([args.peer, "-c", PEER, str(ROWS), str(POINTS), mode], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, text=True) as peer:
    def theirs(kind: str) -> tuple[float, ...]:
      try:
        peer.stdin.write(kind + "\n")
        peer.stdin.flush()
      except BrokenPipeError:
        pass
      answer = peer.stdout.readline().split()
      if not answer:
        raise SystemExit("benchmarks/chamfer_loss.py: the peer stopped: give --peer a python with torch and numpy")
      return tuple(map(float, answer))

    functions = ours()
    for kind, fn in functions.items():
      timed(fn), theirs(kind)  # compiles, allocates
    for _ in range(args.rounds):
      for kind, fn in functions.items():
        rounds["fields3d"][kind].append(timed(fn))
        rounds["torch"][kind].append(theirs(kind))
    peer.stdin.close()
  return report(rounds, args, mode)


def report(rounds: dict, args: argparse.Namespace, mode: str) -> int:
  """Prints the table; each figure as min / median / max over rounds."""
  print(f"{ROWS} x {POINTS:,} points, {len(os.sched_getaffinity(0))} threads, {args.rounds} rounds, {mode}; min / median / max")
  print(f"{'gradient to':14}{'fields3d, ms':>24}{'torch, ms':>24}{'ratio':>22}{'ratio of CPU time':>22}")
  for kind in KINDS:
    own, peer = rounds["fields3d"][kind], rounds["torch"][kind]
    ratio = [[t[i] / o[i] for o, t in zip(own, peer, strict=True)] for i in (0, 1)]
    print(f"{kind:14}{spread([o[0] * 1e3 for o in own]):>24}{spread([t[0] * 1e3 for t in peer]):>24}"
          f"{spread(ratio[0]):>22}{spread(ratio[1]):>22}")
    apart = [abs(t / o - 1) for o, t in zip(own[0][2:], peer[0][2:], strict=True)]
    print(f"{'':14}relative difference of the loss {apart[0]:.1e}, of the gradient's sum of sizes {apart[1]:.1e}")
  if args.json:
    with open(args.json, "w") as f:
      json.dump({"settings": vars(args), "seconds": rounds}, f, indent=2)
  return 0


if __name__ == "__main__":
  sys.exit(main())
