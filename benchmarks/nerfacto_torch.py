"""A training step of nerfacto's shape: rays a second of ours against nerfstudio's PyTorch nerfacto, in one paired run.

Both do one whole update (forward, backward, Adam) on the same rays: 256, 96 and 48 sections a ray, two proposal grids
of 5 levels x 2 x 2^17 (to 128 and 256 cells), a field of 16 levels x 2 x 2^19 (16 to 2,048 cells), density network 1
x 64, colour network 2 x 64 with spherical harmonics and appearance codes of 32, contraction to the cube, colour,
interlevel and distortion loss. Ours is the task and the step that `fields3d train` runs. The peer is
`nerfstudio.models.nerfacto` with `implementation="torch"`, its own code throughout, in its own process, which does
one update each time it is told to, with as many threads; camera refinement off. Both update their proposals in each
step, as nerfacto does in its first ten (and ever less often later). Rounds alternate, so that whatever else the machine
does meets both; the ratio is taken round by round, by wall time and by CPU time, which a busy machine distorts less.

  python benchmarks/nerfacto_torch.py --peer /path/to/python [--rays 4096] [--rounds 5] [--json FILE]

The peer's python wants torch and: pip install --no-deps nerfstudio nerfacc jaxtyping wadler-lindig rich torchmetrics
lightning-utilities packaging tyro docstring-parser shtab typeguard. What else nerfstudio imports and a step does not
use (viewer, loggers, image readers, the perceptual metric) is replaced by empty modules where it is missing.

Figures are in benchmarks/README.md. Measure on a quiet machine: PyTorch's threads lose more to company than XLA's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

VIEWS, NEAR, FAR, SAMPLES = 100, 0.05, 1000.0, (256, 96, 48)
UNUSED = ("cv2", "matplotlib", "torch.utils.tensorboard", "tqdm", "viser")


def draw(num: int) -> dict:
  """Rays from inside the unit ball in all directions, and random colours."""
  import numpy as np
  rng = np.random.default_rng(0)
  d = rng.normal(size=(num, 3))
  return {"origins": rng.uniform(-0.5, 0.5, (num, 3)).astype(np.float32),
          "directions": (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32),
          "view": rng.integers(0, VIEWS, num).astype(np.int32), "rgb": rng.uniform(0, 1, (num, 3)).astype(np.float32)}


def grid(levels: int, log2_rows: int, finest: int) -> dict:
  return {"name": "hashgrid", "levels": levels, "features": 2, "log2_rows": log2_rows, "coarsest": 16,
          "finest": finest, "unroll": levels}


def ours(num: int):
  """A function that does one update and returns its loss; the number of parameters."""
  import jax
  import numpy as np

  from fields3d.core.config import build
  from fields3d.tasks import TASKS
  from fields3d.training.optim import OPTIMISERS
  from fields3d.training.step import init_state, make_step

  section = {
      "name": "fit_radiance", "background": "white", "contraction": "cube",
      "field": {"name": "ngp", "encoding": grid(16, 19, 2048), "appearance_dim": 32,
                "directions": {"name": "spherical_harmonics", "degree": 4}},
      "proposals": {"first": {"name": "proposal", "encoding": grid(5, 17, 128)},
                    "second": {"name": "proposal", "encoding": grid(5, 17, 256)}},
      "renderer": {"name": "proposal", "samples": SAMPLES, "spacing": "piecewise"},
      "curriculum": {"color": 1.0, "interlevel": 1.0, "distortion": 0.002}}
  info = {"num_views": VIEWS, "near": NEAR, "far": FAR, "unbounded": True, "ndc": None, "background": "none",
          "opaque": True, "bounds": ((-1.0,) * 3, (1.0,) * 3)}
  task = build(TASKS, section, "task", info=info)
  optimisers = {"field": build(OPTIMISERS, {"name": "adam", "learning_rate": 1e-2, "eps": 1e-15})}
  step = jax.jit(make_step(task, optimisers), donate_argnums=0)
  state = jax.jit(lambda key: init_state(task, optimisers, key))(jax.random.key(0))
  drawn = draw(num)
  row = lambda value: np.full((num, 1), value, np.float32)
  batch = jax.device_put({
      "origins": drawn["origins"][:, None], "directions": drawn["directions"][:, None],
      "viewdirs": drawn["directions"][:, None], "radii": row(1e-3), "near": row(NEAR), "far": row(FAR),
      "view": drawn["view"][:, None], "rgb": drawn["rgb"], "alpha": np.ones(num, np.float32)})
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))

  def update():
    nonlocal state
    state, metrics = step(state, batch)
    return float(metrics["loss"])

  return update, count


def stand_in() -> None:
  """Lets nerfstudio be imported without what a training step does not use."""
  import importlib.abc
  import importlib.machinery
  import importlib.util
  import types
  missing = {name for name in UNUSED if importlib.util.find_spec(name.split(".")[0]) is None
             or name == "torch.utils.tensorboard"}

  class Empty(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
      if name.startswith("__"):
        raise AttributeError(name)
      return type(name, (), {})

  class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
      held = any(name == module or name.startswith(module + ".") for module in missing)
      return importlib.machinery.ModuleSpec(name, self, is_package=True) if held else None

    def create_module(self, spec):
      return Empty(spec.name)

    def exec_module(self, module):
      pass

  sys.meta_path.insert(0, Finder())


def theirs(num: int):
  """The same of nerfstudio."""
  import warnings
  warnings.simplefilter("ignore")
  import torch
  import torchmetrics.image.lpip
  stand_in()
  from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
  from nerfstudio.cameras.rays import RayBundle
  from nerfstudio.data.scene_box import SceneBox
  from nerfstudio.models.nerfacto import NerfactoModelConfig

  torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = lambda normalize: None
  torch.manual_seed(0)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  config = NerfactoModelConfig(implementation="torch", background_color="white",
                               camera_optimizer=CameraOptimizerConfig(mode="off"))
  model = config.setup(scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=VIEWS,
                       metadata={}, device="cpu", grad_scaler=None).train()
  adams = [torch.optim.Adam(group, lr=1e-2, eps=1e-15) for group in model.get_param_groups().values() if group]
  anneal, _ = model.get_training_callbacks(None)  # The other would let proposals rest after ten steps.
  drawn = draw(num)
  rays = {"origins": torch.from_numpy(drawn["origins"]), "directions": torch.from_numpy(drawn["directions"]),
          "pixel_area": torch.full((num, 1), 1e-6), "camera_indices": torch.from_numpy(drawn["view"]).long()[:, None],
          "metadata": {"directions_norm": torch.ones(num, 1)}}
  batch = {"image": torch.from_numpy(drawn["rgb"])}
  step = 0

  def update():
    nonlocal step
    anneal.func(step)
    outputs = model(RayBundle(**rays))
    metrics = model.get_metrics_dict(outputs, batch)
    loss = sum(model.get_loss_dict(outputs, batch, metrics).values())
    for adam in adams:
      adam.zero_grad()
    loss.backward()
    for adam in adams:
      adam.step()
    step += 1
    return loss.item()

  return update, sum(p.numel() for p in model.parameters())


def timed(fn) -> tuple[float, float, float]:
  """Wall and CPU seconds of one call, and what it returns."""
  wall, cpu = time.perf_counter(), time.process_time()
  loss = fn()
  return time.perf_counter() - wall, time.process_time() - cpu, loss


def serve(num: int) -> int:
  """The peer: one update for each line read."""
  update, count = theirs(num)
  print(count, flush=True)
  for _ in sys.stdin:
    print(*timed(update), flush=True)
  return 0


def spread(values) -> str:
  return f"{min(values):.3g} / {statistics.median(values):.3g} / {max(values):.3g}"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--peer", default=sys.executable, help="the python that has torch and nerfstudio")
  parser.add_argument("--rays", type=int, default=4096, help="rays a step")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
  parser.add_argument("--json", help="write the figures to this file")
  args = parser.parse_args()
  if args.serve:
    return serve(args.rays)
  update, count = ours(args.rays)
  command = [args.peer, __file__, "--serve", "--rays", str(args.rays)]
  with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as peer:
    their_count = peer.stdout.readline().strip()
    if not their_count:
      print(f"benchmarks/nerfacto_torch.py: {args.peer} cannot run nerfacto; see --help", file=sys.stderr)
      return 69

    def ask():
      peer.stdin.write("step\n")
      return tuple(map(float, peer.stdout.readline().split()))

    rounds = {"fields3d": [], "nerfstudio": []}
    for i in range(args.rounds + 1):
      pair = timed(update), ask()
      if i:  # The first compiles, allocates.
        rounds["fields3d"].append(pair[0])
        rounds["nerfstudio"].append(pair[1])
    peer.stdin.close()
  print(f"parameters: fields3d {count}, nerfstudio {their_count}")
  return report(rounds, args)


def report(rounds: dict, args: argparse.Namespace) -> int:
  """Prints the table; each figure as min / median / max over rounds."""
  print(f"{args.rays} rays, sections {SAMPLES}, {len(os.sched_getaffinity(0))} threads, {args.rounds} rounds; "
        "min / median / max")
  for name, values in rounds.items():
    print(f"{name:10} {spread([args.rays / wall for wall, _, _ in values]):>22} rays/s"
          f"   {spread([cpu * 1e6 / args.rays for _, cpu, _ in values]):>22} CPU us/ray   loss {values[-1][2]:.4f}")
  ratios = [[t[k] / o[k] for o, t in zip(*rounds.values(), strict=True)] for k in (0, 1)]
  print(f"ratio      {spread(ratios[0]):>22} by wall time, {spread(ratios[1])} by CPU time")
  if args.json:
    with open(args.json, "w") as f:
      json.dump({"settings": vars(args), "seconds": rounds, "ratio": ratios[0], "cpu_ratio": ratios[1]}, f, indent=2)
  return 0


if __name__ == "__main__":
  sys.exit(main())
