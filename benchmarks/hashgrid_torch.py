"""The hash-grid encode, 16 levels x 2 features x 2^19 rows: ours against nerfstudio's PyTorch one, in one paired run.

Both encode the same 65,536 points and carry a random cotangent back: to the table alone, as a radiance field needs, and
to table and points, as a signed distance or a camera refinement does. The peer is
`nerfstudio.field_components.encodings.HashEncoding(implementation="torch")` in its own process, which does one pass
each time it is told to, with as many threads. Rounds alternate, so that whatever else the machine does meets both; the
ratio is taken round by round, by wall time and by CPU time, which a busy machine distorts less.

The floor is what no layout avoids: as many table entries read at random rows (forward), and as many added at random
rows (backward), one entry at a time, and as pairs. The fraction of the floor is its time over ours in the same round.

  python benchmarks/hashgrid_torch.py [--peer /path/to/python] [--rounds 7] [--unroll 16] [--json FILE]

The peer's python wants torch and: pip install --no-deps nerfstudio jaxtyping wadler-lindig rich (its import of viser,
which the encoding does not use, is replaced by an empty module where viser is missing).

Figures are in benchmarks/README.md. Measure on a quiet machine: PyTorch's threads lose more to company than XLA's.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time

LEVELS, FEATURES, LOG2_ROWS, COARSEST, FINEST, POINTS = 16, 2, 19, 16, 1024, 65_536
PEER = '''
import importlib.util, os, sys, time, types
for name in ("viser", "viser.transforms") if importlib.util.find_spec("viser") is None else ():
  sys.modules[name] = types.ModuleType(name)
import numpy as np, torch
from nerfstudio.field_components.encodings import HashEncoding
torch.set_num_threads(len(os.sched_getaffinity(0)))
levels, features, log2_rows, coarsest, finest, points = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
x = torch.from_numpy(rng.uniform(0, 1, (points, 3)).astype("float32"))
ct = torch.from_numpy(rng.normal(size=(points, levels * features)).astype("float32"))
encoding = HashEncoding(num_levels=levels, min_res=coarsest, max_res=finest, log2_hashmap_size=log2_rows,
                        features_per_level=features, implementation="torch")
for line in sys.stdin:
  wall, cpu = time.perf_counter(), time.process_time()
  if line.strip() == "forward":
    with torch.no_grad():
      encoding(x)
  else:
    encoding.hash_table.grad = x.grad = None
    x.requires_grad_(line.strip() == "table and points")
    (encoding(x) * ct).sum().backward()
  print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
'''
KINDS = ("forward", "table", "table and points")


def ours(unroll: int) -> dict:
  """One function for each kind of pass, and for each floor."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from fields3d.encodings import hashgrid

  grid = hashgrid(levels=LEVELS, features=FEATURES, log2_rows=LOG2_ROWS, coarsest=COARSEST, finest=FINEST,
                  unroll=unroll)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.uniform(-1, 1, (POINTS, 3)), jnp.float32)
  ct = jnp.asarray(rng.normal(size=(POINTS, grid.dim)), jnp.float32)
  table = grid.init(jax.random.key(0))["table"]
  rows = jnp.asarray(rng.integers(0, 2**LOG2_ROWS, (LEVELS, 8 * POINTS)), jnp.uint32)

  def loss(table, x, ct):
    return jnp.sum(grid.apply({"table": table}, x) * ct)

  def read(table, rows, join):
    return [column.at[r].get(mode="promise_in_bounds").sum() for t, r in zip(table, rows, strict=True)
            for column in join(t)]

  def add(table, rows, join):
    return [jnp.zeros_like(column).at[r].add(column[0], mode="promise_in_bounds")
            for t, r in zip(table, rows, strict=True) for column in join(t)]

  def single(t):
    return list(t)

  def pair(t):
    return [jax.lax.complex(t[0], t[1])]

  run = {"forward": (lambda t, x, ct: grid.apply({"table": t}, x), (table, x, ct)),
         "table": (jax.value_and_grad(loss), (table, x, ct)),
         "table and points": (jax.value_and_grad(loss, (0, 1)), (table, x, ct))}
  for name, join in (("", single), (" of pairs", pair)):
    run[f"gather{name}"] = (functools.partial(read, join=join), (table, rows))
    run[f"scatter{name}"] = (functools.partial(add, join=join), (table, rows))

  def ready(fn, arguments):
    jitted = jax.jit(fn)
    return lambda: jax.block_until_ready(jitted(*arguments))

  return {name: ready(*entry) for name, entry in run.items()}


def timed(fn) -> tuple[float, float]:
  """Wall and CPU seconds of one call."""
  wall, cpu = time.perf_counter(), time.process_time()
  fn()
  return time.perf_counter() - wall, time.process_time() - cpu


def spread(values) -> str:
  return " / ".join(f"{v:.3g}" if v < 100 else f"{v:.0f}" for v in (min(values), statistics.median(values), max(values)))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--peer", default=os.environ.get("FIELDS3D_TORCH_PYTHON", sys.executable),
                      help="a python that has torch and nerfstudio")
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--unroll", type=int, default=LEVELS, help="levels in one turn of the loop, of ours")
  parser.add_argument("--json", help="write the figures to this file")
  args = parser.parse_args()
  shape = [str(n) for n in (LEVELS, FEATURES, LOG2_ROWS, COARSEST, FINEST, POINTS)]
  with subprocess.Popen([args.peer, "-c", PEER, *shape], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                        text=True) as peer:
    def theirs(kind: str) -> tuple[float, float]:
      try:
        peer.stdin.write(kind + "\n")
        peer.stdin.flush()
      except BrokenPipeError:
        pass
      answer = peer.stdout.readline().split()
      if not answer:
        raise SystemExit("benchmarks/hashgrid_torch.py: the peer stopped: give --peer a python with torch and nerfstudio")
      return float(answer[0]), float(answer[1])

    functions = ours(args.unroll)
    for name, fn in functions.items():
      fn()  # Compiles, allocates.
      if name in KINDS:
        theirs(name)
    rounds = {side: {} for side in ("fields3d", "nerfstudio")}
    for _ in range(args.rounds):
      for name, fn in functions.items():
        rounds["fields3d"].setdefault(name, []).append(timed(fn))
        if name in KINDS:
          rounds["nerfstudio"].setdefault(name, []).append(theirs(name))
    peer.stdin.close()
  return report(rounds, args)


def report(rounds: dict, args: argparse.Namespace) -> int:
  """Prints the table; each figure as min / median / max over rounds."""
  own, peer = rounds["fields3d"], rounds["nerfstudio"]
  print(f"{LEVELS} levels x {FEATURES} x 2^{LOG2_ROWS}, {POINTS:,} points, {len(os.sched_getaffinity(0))} threads, "
        f"{args.rounds} rounds; min / median / max")
  print(f"{'':18}{'fields3d, ms':>24}{'nerfstudio, ms':>28}{'ratio':>22}{'ratio of CPU time':>22}")
  for kind in KINDS:
    ratio = [[t[i] / o[i] for o, t in zip(own[kind], peer[kind], strict=True)] for i in (0, 1)]
    print(f"{kind:18}{spread([o[0] * 1e3 for o in own[kind]]):>24}{spread([t[0] * 1e3 for t in peer[kind]]):>28}"
          f"{spread(ratio[0]):>22}{spread(ratio[1]):>22}")
  for name in (name for name in own if name not in KINDS):
    print(f"{name:18}{spread([o[0] * 1e3 for o in own[name]]):>24}")
  for what in ("", " of pairs"):
    floor = [(g[1] + s[1]) / o[1] for g, s, o in zip(own[f"gather{what}"], own[f"scatter{what}"], own["table"],
                                                     strict=True)]
    print(f"the floor{what}, gather and scatter, is {spread(floor)} of the CPU time of forward and backward by table")
  if args.json:
    with open(args.json, "w") as f:
      json.dump({"settings": vars(args), "seconds": rounds}, f, indent=2)
  return 0


if __name__ == "__main__":
  sys.exit(main())
