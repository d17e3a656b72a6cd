"""Keep the latents that a trained run gives its training shapes, for a prior to learn without encoding them at every step.

Batches of the run's own data are encoded (its predict function `latents`: of new points, and drawn anew where the code is
a distribution) until each training shape has --draws of them. A config with `data = dict(name="encoded",
path="DIR/latents.npz", source=...)` then trains on them; the draws of a shape take turns at random.

examples:
  fields3d encode runs/tri_plane
  fields3d encode runs/tri_plane --draws 8 --out latents.npz --step 3000
"""

import argparse
import pathlib

from fields3d.commands.options import existing_dir, non_negative_int, seed, whole

HELP = "keep the latents of a run's training shapes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("workdir", type=existing_dir, metavar="DIR", help="the run directory")
  parser.add_argument("--draws", type=whole(1, 1000), default=4, metavar="K", help="latents of each shape (default %(default)s)")
  parser.add_argument("--seed", type=seed, default=0, metavar="S", help="seed of the draws (default %(default)s)")
  parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="where to write (default DIR/latents.npz)")
  parser.add_argument("--step", type=non_negative_int, metavar="K", help="a checkpoint's step (default: the newest sound one)")


def run(args: argparse.Namespace) -> int:
  import jax
  import numpy as np

  from fields3d.commands.rundir import open_run
  from fields3d.core.errors import MissingInput, UsageFault, require_memory
  from fields3d.core.progress import progress
  from fields3d.core.strict_json import make_place
  from fields3d.core.task import lookup
  from fields3d.data.encoded import write_latents
  from fields3d.training.manifest import digest_of

  opened = open_run(args.workdir, step=args.step)
  latents_of = lookup(opened.predict, "latents", f"{args.workdir}: the task's shapes have no latents")
  out = args.out or args.workdir / "latents.npz"
  make_place(out)
  checkpoint = digest_of(args.workdir / "checkpoints" / str(opened.step))  # now: a run that trains on may drop the step
  if checkpoint is None:
    raise MissingInput(args.workdir / "checkpoints" / str(opened.step), "has gone meanwhile", "run the command again")
  shapes = opened.dataset.shapes("train")
  kept, have, position = None, np.zeros(len(shapes), int), 0
  with progress() as show:
    while have.min() < args.draws:
      batch = opened.dataset.batch(position, 0, 1)
      if "shape" not in batch:
        raise UsageFault(str(args.workdir), "the data's batches do not say which shape is which", "encode a run over shapes")
      found = np.asarray(latents_of(batch, jax.random.fold_in(jax.random.key(args.seed), position)))
      if kept is None:
        require_memory(args.draws * len(shapes) * found[0].nbytes, "--draws", "lower it")
        kept = np.zeros((args.draws, len(shapes), *found.shape[1:]), np.float32)
      for shape, z in zip(batch["shape"], found, strict=True):
        if have[shape] < args.draws:
          kept[have[shape], shape] = z
          have[shape] += 1
      position += 1
      show("latents", have.sum(), args.draws * len(shapes))
  write_latents(out, kept, shapes, opened.step, checkpoint)
  print(f"{out}: latents {found.shape[1:]} of {len(shapes):,} shapes, {args.draws} of each, of step {opened.step}")
  return 0
