"""Sparse against dense extraction of a DeepSDF-sized network: time, evaluations, equality, memory.

  python benchmarks/extraction.py [--resolution 128] [--memory-resolution 512] [--steps 500]

DeepSDF's 8x512 network with a code of 256 is fitted for `--steps` steps to a table's distance clamped at 0.1. Both
methods then extract it in this one process, after a first call that compiles; they share the jitted function. The
memory figure is the peak resident size of a process of its own, JAX included.

Measured on two cores shared with other work, so that seconds are upper ends and the ratio is what counts:
  128^3, 500 steps (loss 0.003): dense 2,097,152 evaluations, 132.7 s; sparse 97,915, 6.7 and 7.5 s (two runs): 19.9 and
    17.8 times faster, 21.4 times fewer evaluations; 27,232 equal vertices; slope 1.86 of the assumed 1.2.
  128^3, 200 steps (loss 0.012, a rough surface in a flat field): 14.7 times faster, 9.6 times fewer evaluations, equal.
  512^3, 500 steps: peak 0.64 GiB, 444,170 vertices, 1,568,596 evaluations, 120 s; 200 steps: 1.74 GiB, 7,710,602.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fields3d.core.types import Field
from fields3d.extraction.sparse import extract
from fields3d.fields.deepsdf import deepsdf
from fields3d.geometry import primitives

BOX = np.array([[-1.0, -1, -1], [1, 1, 1]])
CLAMP = 0.1
NETWORK = deepsdf(code_dim=256)


def table():
  """A table's distance: a top, four legs, a shelf."""
  legs = [primitives.translate(primitives.box((0.06, 0.4, 0.06)), (x, -0.1, z)) for x in (-0.5, 0.5)
          for z in (-0.35, 0.35)]
  top = primitives.translate(primitives.box((0.65, 0.05, 0.5)), (0, 0.35, 0))
  shelf = primitives.translate(primitives.box((0.5, 0.03, 0.35)), (0, -0.2, 0))
  sdf = primitives.union(top, shelf, *legs)
  return lambda x: primitives.at(sdf, x)


def fit(sdf, steps, seed=0, batch=2048):
  """(parameters, loss) after Adam on the clamped L1 loss, half of the points inside as DeepSDF has them."""
  params = NETWORK.init(jax.random.key(seed))
  optimiser = optax.adam(optax.cosine_decay_schedule(5e-4, steps))

  @jax.jit
  def step(params, state, x, target):
    def loss(p):
      return jnp.mean(jnp.abs(jnp.clip(distance(p, x), -CLAMP, CLAMP) - jnp.clip(target, -CLAMP, CLAMP)))
    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(params, updates), state, value

  rng = np.random.default_rng(seed)
  pool = rng.uniform(-1, 1, (1_000_000, 3)).astype(np.float32)
  truth = np.asarray(sdf(pool), np.float32)
  inside, near = np.flatnonzero(truth < 0), np.flatnonzero((truth >= 0) & (truth < 0.1))
  state = optimiser.init(params)
  for _ in range(steps):
    pick = np.concatenate([rng.choice(inside, batch // 2), rng.choice(near, batch // 4),
                           rng.integers(len(pool), size=batch // 4)])
    params, state, value = step(params, state, pool[pick], truth[pick])
  return params, float(value)


def distance(params, x):
  return NETWORK.apply(params, x[None], jnp.zeros((1, NETWORK.code_dim)))[0, :, 0]


def field_of(params):
  jitted = jax.jit(distance)
  return Field(lambda x: jitted(params, x), BOX)


def peak(path, resolution):
  """Extracts in this process, and prints its peak resident size as JSON."""
  shapes = jax.eval_shape(NETWORK.init, jax.random.key(0))
  with np.load(path, allow_pickle=False) as file:
    leaves = [jnp.asarray(file[name]) for name in file.files]
  mesh, report = extract(field_of(jax.tree.unflatten(jax.tree.structure(shapes), leaves)), resolution)
  rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(json.dumps({"peak_gib": rss / 2**30, "vertices": len(mesh.vertices), "evaluations": report.evaluations,
                    "seconds": report.seconds}))


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--resolution", type=int, default=128)
  parser.add_argument("--memory-resolution", type=int, default=512)
  parser.add_argument("--steps", type=int, default=500)
  parser.add_argument("--peak", metavar="WEIGHTS", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.peak:
    return peak(args.peak, args.memory_resolution)
  start = time.perf_counter()
  params, loss = fit(table(), args.steps)
  print(f"fitted {args.steps} steps in {time.perf_counter() - start:.0f} s, loss {loss:.4f}", flush=True)
  field = field_of(params)
  extract(field, 16)
  dense, full = extract(field, args.resolution, method="dense")
  mesh, part = extract(field, args.resolution)
  same = np.array_equal(dense.vertices, mesh.vertices) and np.array_equal(dense.faces, mesh.faces)
  for report in (full, part):
    print(f"{report.method:6} {args.resolution}^3: {report.evaluations:>9,} evaluations, {report.seconds:.2f} s")
  print(f"sparse is {full.seconds / part.seconds:.1f} times faster, with {full.evaluations / part.evaluations:.1f} "
        f"times fewer evaluations; same vertices and faces: {same} ({len(mesh.vertices):,}, {len(mesh.faces):,}); "
        f"slope {part.slope:.2f} of {part.lipschitz}")
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "weights.npz"
    np.savez(path, *jax.tree.leaves(params))
    command = [sys.executable, __file__, "--peak", str(path), "--memory-resolution", str(args.memory_resolution)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
  print(f"sparse {args.memory_resolution}^3: peak {found['peak_gib']:.2f} GiB, {found['vertices']:,} vertices, "
        f"{found['evaluations']:,} evaluations, {found['seconds']:.1f} s")


if __name__ == "__main__":
  main()
