"""Compiles zip360's training step for a TPU pod that is not there, and lists what each chip holds, computes and sends.

  pip install libtpu          (the version that belongs to the installed jax: 0.0.42 for jax 0.10.2)
  python benchmarks/plan_zip360.py --topology v5e:16x16
  python benchmarks/plan_zip360.py --topology v4:4x4x4 --model 4

Everything but the shapes is left out: no scene is read and nothing is run. Memory and FLOPs are the compiler's.
"""

import argparse
import collections
import dataclasses
import importlib.util
import os
import pathlib
import re
import time

for name, value in {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}.items():
  os.environ.setdefault(name, value)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AxisType, Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from fields3d.commands.experiment import build_optimisers, build_task  # noqa: E402
from fields3d.core.types import Dataset, Rays, no_views  # noqa: E402
from fields3d.training import sharding  # noqa: E402
from fields3d.training.step import init_state, make_step  # noqa: E402

INFO = {"num_views": 161, "near": 0.2, "far": 1e3, "ndc": None, "unbounded": True, "bounds": ((-8.0,) * 3, (8.0,) * 3),
        "opaque": True, "background": "none", "protocol": {}, "num_shapes": 1}
MEMORY = {"v5e": 16, "v4": 32}  # GiB a chip: cloud.google.com/tpu/docs
WIDTHS = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "s8": 1, "u8": 1}
COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\(")


def read_config():
  file = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "nerf" / "zip360.py"
  spec = importlib.util.spec_from_file_location("zip360", file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config().to_dict()


def abstract_batch(pixels: int, mesh: Mesh) -> dict:
  cut = NamedSharding(mesh, P("data"))
  shapes = {f.name: (pixels, 1, 3) if f.name in ("origins", "directions", "viewdirs") else (pixels, 1)
            for f in dataclasses.fields(Rays)} | {"rgb": (pixels, 3), "alpha": (pixels,)}
  kind = lambda name: jnp.int32 if name == "view" else jnp.float32
  return {name: jax.ShapeDtypeStruct(shape, kind(name), sharding=cut) for name, shape in shapes.items()}


def collectives(text: str) -> list[tuple[str, int, int]]:
  """(kind, how many, bytes a chip of their results) of the compiled program, largest first."""
  counts, sizes = collections.Counter(), collections.Counter()
  for shapes, kind, _ in COLLECTIVE.findall(text):
    counts[kind] += 1
    for width, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
      sizes[kind] += WIDTHS.get(width, 4) * int(np.prod([int(d) for d in dims.split(",") if d], dtype=np.int64))
  return sorted(((kind, counts[kind], sizes[kind]) for kind in counts), key=lambda row: -row[2])


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--topology", default="v5e:16x16")
  parser.add_argument("--model", type=int, default=1, help="chips that share each hash table")
  args = parser.parse_args()
  config = read_config()
  devices = np.array(topologies.get_topology_desc(platform="tpu", topology_name=args.topology).devices)
  mesh = Mesh(devices.reshape(-1, args.model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
  task = build_task(config, Dataset(INFO, None, None, no_views))
  optimisers = build_optimisers(config)
  shapes = jax.eval_shape(lambda key: init_state(task, optimisers, key), jax.random.key(0))
  placed = sharding.state_shardings(shapes, mesh)
  state = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, placed)
  step = jax.jit(make_step(task, optimisers), donate_argnums=0, out_shardings=(placed, None))
  pixels = config["data"]["draws"]["pixels"]
  begin = time.perf_counter()
  compiled = step.lower(state, abstract_batch(pixels, mesh)).compile()
  seconds = time.perf_counter() - begin
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes.params))
  peak = (memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
          - memory.alias_size_in_bytes) / 2**30
  have = MEMORY[args.topology.split(":")[0]]
  print(f"zip360 on {args.topology}: {devices.size} chips, {mesh.shape['data']} x {args.model} (data x model), "
        f"{pixels} rays a step, {parameters / 1e6:.1f} M parameters; compiled in {seconds:.0f} s, jax {jax.__version__}")
  print(f"per chip: state {memory.argument_size_in_bytes / 2**30:.2f} GiB, temporary {memory.temp_size_in_bytes / 2**30:.2f} GiB, "
        f"peak {peak:.2f} of {have} GiB: {'fits' if peak < have else 'DOES NOT FIT'}")
  print(f"per chip and step: {cost.get('flops', 0) / 1e9:.1f} GFLOP, {cost.get('bytes accessed', 0) / 2**30:.2f} GiB accessed")
  for kind, number, size in collectives(compiled.as_text()):
    print(f"  {kind}: {number}, {size / 2**20:.1f} MiB")
  raise SystemExit(0 if peak < have else 1)


if __name__ == "__main__":
  main()
