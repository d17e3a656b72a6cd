"""DeepSDF's training step, 8 x 512 with latent 256: samples a second of ours against PyTorch, in one paired run.

Both do one whole update (forward, backward, Adam with two learning rates) of the same network on the same batch with
the same number of threads: weight norm, dropout 0.2, clamped L1, code regulariser, code bound. Ours is the task and
the step that `fields3d train` runs. The PyTorch side is the authors' formulation: codes repeated for each sample and
concatenated with the points, twice; dropout masks from its own generator. Rounds alternate, so that whatever else the
machine does meets both; the ratio is taken round by round. The last column is CPU time, which a busy machine
distorts less than it does wall time. Before the race both networks are given the same weights and must agree.

  python benchmarks/deepsdf_torch.py [--rows 8] [--points 4096] [--rounds 7] [--block 256] [--json FILE]

Wants torch beside the base install: pip install torch==2.13.0

Measured at 307d296 with --rounds 5, jax 0.10.2 and torch 2.13.0, on two cores of an AMD EPYC (Zen 4) that were busy
with other work as well (min / median / max): ratio 1.62 / 2.2 / 2.41 by wall time, 2.11 / 2.51 / 2.61 by CPU time;
30.5 GFLOP/s where a 2048^3 matmul got 32.5 in the same run. What it is made of: a seventh fewer multiplications,
dropout masks that cost a hundredth of PyTorch's (a quarter of its step), one flat matmul dimension (a fifth of ours),
and blocks whose activations stay in cache (an eighth).
"""

import argparse
import json
import os
import statistics
import sys
import time

LATENT, WIDTH, NUM_SHAPES = 256, 512, 1000
# Multiply-adds of a sample's forward pass, and times two for flops, times three for forward and both backward products.
CONCATENATED = 6 * ((LATENT + 3) * 512 + 2 * 512**2 + 512 * 253 + 4 * 512**2 + 512)
SHARED = 6 * (3 * 512 + 2 * 512**2 + 512 * 253 + (253 + 3) * 512 + 3 * 512**2 + 512)


def ours(block: int, batch: dict):
  """A function that does one update and returns its loss, and its parameters at the start."""
  import jax

  from fields3d.core.config import build
  from fields3d.tasks import TASKS
  from fields3d.training.optim import OPTIMISERS
  from fields3d.training.step import init_state, make_step

  task = build(TASKS, {"name": "fit_sdf", "field": {"name": "deepsdf"}, "block": block, "clamp": 0.1,
                       "curriculum": {"distance": 1.0, "code": 1e-4}}, "task", info={"num_shapes": NUM_SHAPES})
  optimisers = {"field": build(OPTIMISERS, {"name": "adam", "learning_rate": 5e-4, "learning_rates": {"codes": 1e-3}})}
  step = jax.jit(make_step(task, optimisers), donate_argnums=0)
  state = jax.jit(lambda key: init_state(task, optimisers, key))(jax.random.key(0))
  on_device = jax.device_put(batch)
  start = jax.device_get(state.params["field"])  # The state itself is donated to the first step.

  def update():
    nonlocal state
    state, metrics = step(state, on_device)
    return float(metrics["loss"])

  return update, start


def theirs(points: int, batch: dict):
  """The same in PyTorch, as the authors' code formulates it: the update and the decoder."""
  import torch
  from torch import nn
  from torch.nn import functional

  class Decoder(nn.Module):
    def __init__(self):
      super().__init__()
      widths = [LATENT + 3] + [WIDTH] * 8 + [1]
      layers = []
      for i in range(9):
        out = widths[i + 1] - (widths[0] if i == 3 else 0)
        layer = nn.Linear(widths[i], out)
        layers.append(nn.utils.parametrizations.weight_norm(layer) if i < 8 else layer)
      self.layers = nn.ModuleList(layers)

    def forward(self, inputs):
      h = inputs
      for i, layer in enumerate(self.layers):
        h = layer(torch.cat([h, inputs], -1) if i == 4 else h)
        if i < 8:
          h = functional.dropout(functional.relu(h), 0.2, self.training)
      return torch.tanh(h)

  torch.manual_seed(0)
  decoder = Decoder()
  codes = nn.Embedding(NUM_SHAPES, LATENT, max_norm=1.0)
  nn.init.normal_(codes.weight.data, 0.0, LATENT ** -0.5)
  adam = torch.optim.Adam([{"params": decoder.parameters(), "lr": 5e-4}, {"params": codes.parameters(), "lr": 1e-3}])
  x = torch.from_numpy(batch["x"].reshape(-1, 3))
  sdf = torch.from_numpy(batch["sdf"].reshape(-1, 1)).clamp(-0.1, 0.1)
  shape = torch.from_numpy(batch["shape"]).long().repeat_interleave(points)

  def update():
    adam.zero_grad()
    z = codes(shape)
    predicted = decoder(torch.cat([z, x], 1)).clamp(-0.1, 0.1)
    loss = functional.l1_loss(predicted, sdf) + 1e-4 * z.norm(dim=1).mean()
    loss.backward()
    adam.step()
    return loss.item()

  return update, decoder


def difference(decoder, params: dict, batch: dict) -> float:
  """The largest difference of both networks' distances under the same weights, without dropout."""
  import numpy as np
  import torch

  from fields3d.fields.deepsdf import deepsdf

  with torch.no_grad():
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    for i, layer in enumerate(decoder.layers):
      own = params["decoder"]["network"][f"layer_{i}"]
      from_ours = {name: torch.from_numpy(np.array(value)) for name, value in own.items()}
      layer.bias.copy_(from_ours["b"])
      if i < 8:
        layer.parametrizations.weight.original0.copy_(from_ours["g"][:, None])
        layer.parametrizations.weight.original1.copy_(from_ours["v"].T)
      else:
        layer.weight.copy_(from_ours["w"].T)
    x, z = batch["x"][:, :100], params["codes"][batch["shape"]]
    inputs = np.concatenate([np.broadcast_to(z[:, None], (*x.shape[:2], z.shape[1])), x], axis=-1)
    expected = decoder.eval()(torch.from_numpy(inputs))[..., 0].numpy()
    decoder.load_state_dict(before)
    decoder.train()
  return float(np.max(np.abs(deepsdf().apply(params["decoder"], x, z)[..., 0] - expected)))


def large_matmul(size: int = 2048):
  """A function that multiplies two square matrices with our backend; 2 size^3 flops."""
  import jax
  a = jax.random.normal(jax.random.key(0), (size, size))
  multiply = jax.jit(lambda a: a @ a)
  return lambda: multiply(a).block_until_ready()


def timed(fn) -> tuple[float, float]:
  """Wall and CPU seconds of one call."""
  wall, cpu = time.perf_counter(), time.process_time()
  fn()
  return time.perf_counter() - wall, time.process_time() - cpu


def spread(values) -> str:
  return f"{min(values):.3g} / {statistics.median(values):.3g} / {max(values):.3g}"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--rows", type=int, default=8, help="shapes a batch")
  parser.add_argument("--points", type=int, default=4096, help="samples a shape")
  parser.add_argument("--block", type=int, default=256, help="samples of each shape differentiated at once, of ours")
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--json", help="write the figures to this file")
  args = parser.parse_args()
  try:
    import torch
  except ImportError:
    print("benchmarks/deepsdf_torch.py: PyTorch is not installed; pip install torch==2.13.0", file=sys.stderr)
    return 69
  import numpy as np
  threads = len(os.sched_getaffinity(0))  # What XLA takes, and no more than that is there.
  torch.set_num_threads(threads)
  rng = np.random.default_rng(0)
  batch = {"shape": np.arange(args.rows, dtype=np.int32),
           "x": rng.uniform(-1, 1, (args.rows, args.points, 3)).astype(np.float32),
           "sdf": rng.normal(0, 0.1, (args.rows, args.points)).astype(np.float32)}
  our_update, params = ours(args.block, batch)
  their_update, decoder = theirs(args.points, batch)
  print(f"the networks differ by at most {difference(decoder, params, batch):.1e} under the same weights")
  sides = {"fields3d": our_update, "torch": their_update, "matmul": large_matmul()}
  for fn in sides.values():
    fn()  # Compiles, allocates.
  rounds = {name: [] for name in sides}
  for _ in range(args.rounds):
    for name, fn in sides.items():
      rounds[name].append(timed(fn))
  return report(rounds, args, threads)


def report(rounds: dict, args: argparse.Namespace, threads: int) -> int:
  """Prints the table; each figure as min / median / max over rounds."""
  num = args.rows * args.points
  rate = {name: [num / wall for wall, _ in rounds[name]] for name in ("fields3d", "torch")}
  wall = [t[0] / o[0] for o, t in zip(rounds["fields3d"], rounds["torch"], strict=True)]
  cpu = [t[1] / o[1] for o, t in zip(rounds["fields3d"], rounds["torch"], strict=True)]
  matmul = [2 * 2048**3 / w / 1e9 for w, _ in rounds["matmul"]]
  flops = {"fields3d": SHARED, "torch": CONCATENATED}
  print(f"{args.rows} x {args.points} samples, {threads} threads, {args.rounds} rounds; min / median / max")
  for name, values in rate.items():
    print(f"{name:9} {spread(values):>24} samples/s {spread([v * flops[name] / 1e9 for v in values]):>20} GFLOP/s"
          f"   {statistics.median(cpu for _, cpu in rounds[name]) * 1e6 / num:.0f} CPU us/sample")
  print(f"matmul    {spread(matmul):>24} GFLOP/s at 2048^3")
  print(f"ratio     {spread(wall):>24} by wall time, {spread(cpu)} by CPU time")
  if args.json:
    with open(args.json, "w") as f:
      figures = {"settings": vars(args), "threads": threads, "seconds": rounds, "ratio": wall, "cpu_ratio": cpu}
      json.dump(figures, f, indent=2)
  return 0


if __name__ == "__main__":
  sys.exit(main())
