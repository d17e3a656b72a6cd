"""Saving and restoring 2 GiB of state against a plain copy of the same bytes, in one run.

Takes turns: a checkpoint saved until it is durable (orbax, a sha256 of every file, the manifest, the rename); its files copied
one by one with shutil and fsync; sha256 of the copies alone; the checkpoint restored (every hash verified, arrays on the
device); the files read plainly. All reads are of files that were just written, so from the page cache. CPU time is that of
all threads of the process, the kernel's for it too; --compressed writes as orbax does by itself, with zstd into one file.

  python benchmarks/save_restore.py [--gib 2] [--rounds 3] [--folder DIR] [--compressed]

Figures are in benchmarks/README.md.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from fields3d.training import checkpoint
from fields3d.training.checkpoint import Checkpoints

ARRAYS = 8


def copied(source: pathlib.Path, target: pathlib.Path) -> list[pathlib.Path]:
  """A durable copy of every file."""
  made = []
  for path in (p for p in sorted(source.rglob("*")) if p.is_file()):
    to = target / path.relative_to(source)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)
    with open(to, "rb") as f:
      os.fsync(f.fileno())
    made.append(to)
  return made


def timed(seconds: dict[str, list[float]], name: str, call, *arguments):
  begin, cpu = time.perf_counter(), time.process_time()
  result = call(*arguments)
  seconds.setdefault(name, []).append(time.perf_counter() - begin)
  seconds.setdefault(f"{name}, CPU", []).append(time.process_time() - cpu)
  return result


def saved(checkpoints: Checkpoints, seconds: dict[str, list[float]], number: int, tree: dict) -> None:
  timed(seconds, "save, until it returns", checkpoints.save, number, tree)
  checkpoints.wait()


def restored(checkpoints: Checkpoints, abstract: dict) -> dict:
  return jax.block_until_ready(checkpoints.restore(abstract)[1])


def digest(paths: list[pathlib.Path]) -> None:
  for path in paths:
    with open(path, "rb") as f:
      hashlib.file_digest(f, "sha256")


def read(paths: list[pathlib.Path]) -> None:
  buffer = bytearray(16 << 20)
  for path in paths:
    with open(path, "rb", buffering=0) as f:
      while f.readinto(buffer):
        pass


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--gib", type=float, default=2)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--folder", type=pathlib.Path, help="on the disk to be measured (default: the system's temporary one)")
  parser.add_argument("--compressed", action="store_true", help="as orbax writes by itself")
  arguments = parser.parse_args()
  if arguments.compressed:
    checkpoint._saving = ocp.Context
  each = int(arguments.gib * 2**30 / 4 / ARRAYS)
  tree = {"state": {f"w{i}": jax.device_put(np.random.default_rng(i).standard_normal(each, np.float32)) for i in range(ARRAYS)}}
  abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
  seconds: dict[str, list[float]] = {}
  for number in range(arguments.rounds):
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, \
        Checkpoints(pathlib.Path(folder) / "checkpoints", keep=1) as checkpoints:
      timed(seconds, "save, until durable", saved, checkpoints, seconds, number, tree)
      there = pathlib.Path(folder) / "checkpoints" / str(number)
      files = timed(seconds, "copy and fsync", copied, there, pathlib.Path(folder) / "copy")
      size = sum(path.stat().st_size for path in files)
      timed(seconds, "sha256 alone", digest, files)
      timed(seconds, "read alone", read, files)
      found = timed(seconds, "restore", restored, checkpoints, abstract)
      assert all(bool((found["state"][k] == tree["state"][k]).all()) for k in tree["state"])
      del found
    print(", ".join(f"{name} {found[-1]:.2f} s" for name, found in seconds.items())
          + f"; {size / 2**30:.2f} GiB on the disk, load {os.getloadavg()[0]:.1f}", flush=True)
  for name, found in seconds.items():
    print(f"{name}: {statistics.median(found):.2f} s, {size / 2**30 / statistics.median(found):.2f} GiB/s")
  for name in ("save, until durable", "restore"):
    ratios = [copy / own for copy, own in zip(seconds["copy and fsync"], seconds[name], strict=True)]
    cpu = [copy / own for copy, own in zip(seconds["copy and fsync, CPU"], seconds[f"{name}, CPU"], strict=True)]
    print(f"rate of {name} over a plain copy: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
          f"by CPU time {statistics.median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f})")
  return 0


if __name__ == "__main__":
  sys.exit(main())
