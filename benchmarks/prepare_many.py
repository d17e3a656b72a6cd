"""Preparing many meshes in parts: rates, a killed part, the merge's time and memory, beside a plain loop of libigl.

Makes boxes of random sizes in a temporary folder, prepares them as four parts of which the first is killed (SIGKILL) when
a third of it is done and run again, merges, and holds a subset to an undivided run's bytes. The peer reads the same files,
normalises, draws as many points and asks libigl for signed distances; it writes nothing.

  python benchmarks/prepare_many.py [--shapes 20000] [--samples 50] [--subset 500] [--sign pseudonormal]
  python benchmarks/prepare_many.py --pack ../shared/data/shapes/furniture --subset 20 --samples 20000

The second makes every n-th model of a pack twice, inside by crossings and by libigl's fast winding number alone: CPU time,
and how many faces and samples they see differently.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import igl
import numpy as np
import trimesh

from fields3d.core.errors import BadData
from fields3d.data import prepare
from fields3d.data.sdf_samples import Protocol
from fields3d.data.sources import find_sources
from fields3d.geometry import crossings

PARTS = 4


def boxes(folder: pathlib.Path, num: int) -> None:
  rng = np.random.default_rng(0)
  for i in range(num):
    home = folder / f"class{i % 50}"
    home.mkdir(parents=True, exist_ok=True)
    (home / f"{i}.ply").write_bytes(trimesh.exchange.ply.export_ply(trimesh.creation.box(rng.uniform(0.2, 1, 3))))


def run(*words: object) -> tuple[float, float, float]:
  """One command: seconds of wall and of CPU, and the peak of its resident memory in MiB (of its first process)."""
  begin = time.perf_counter()
  process = subprocess.Popen([sys.executable, "-m", "fields3d", "prepare", *map(str, words)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    raise SystemExit(f"prepare {words} ended with {os.waitstatus_to_exitcode(status)}")
  return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def killed(path: pathlib.Path, lines: int, *words: object) -> int:
  """Kills a command when its part's file has so many lines; how many it had."""
  process = subprocess.Popen([sys.executable, "-m", "fields3d", "prepare", *map(str, words)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
  while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") > lines):
    time.sleep(0.2)
  process.kill()
  process.wait()
  return path.read_bytes().count(b"\n") - 1


def peer(folder: pathlib.Path, samples: int, num: int) -> float:
  """CPU seconds a shape of the plain loop."""
  files = sorted(folder.rglob("*.ply"))[:num]
  rng = np.random.default_rng(0)
  begin = time.process_time()
  for path in files:
    vertices, faces = igl.read_triangle_mesh(str(path))
    vertices = vertices - (vertices.min(0) + vertices.max(0)) / 2
    vertices /= 1.03 * np.linalg.norm(vertices, axis=1).max()
    igl.signed_distance(rng.uniform(-1, 1, (samples, 3)), vertices, faces.astype(np.int64))
  return (time.process_time() - begin) / len(files)


def same(whole: pathlib.Path, merged: pathlib.Path) -> tuple[int, int]:
  """How many shapes of the undivided run are in the merged folder with the same row and bytes, and how many there are."""
  rows = {row["name"]: row for row in json.loads((merged / "index.json").read_text())}
  wanted = json.loads((whole / "index.json").read_text())
  equal = 0
  for row in wanted:
    files = sorted(path.name for path in (whole / row["key"]).iterdir())
    equal += rows.get(row["name"]) == row and files == sorted(path.name for path in (merged / row["key"]).iterdir()) and all(
        (whole / row["key"] / name).read_bytes() == (merged / row["key"] / name).read_bytes() for name in files)
  return equal, len(wanted)


def paired(pack: str, num: int, samples: int) -> None:
  """CPU seconds of models with and without crossings, one after the other, and what differs."""
  models = find_sources(pack)
  models = models[::max(len(models) // num, 1)][:num]
  by_crossings, seconds, faces, differ = crossings.inside, [0.0, 0.0], 0, [0, 0]
  for model in models:
    made = []
    for i, rule in enumerate((lambda *_: None, by_crossings)):
      crossings.inside = rule
      begin = time.process_time()
      try:
        made.append(prepare.make(model, prepare.Recipe(Protocol(samples), "winding"), "0" * 32))
      except BadData as fault:
        made.append(str(fault))
      seconds[i] += time.process_time() - begin
    if isinstance(made[0], str) or isinstance(made[1], str):
      print(f"{model.name}: {made}" if made[0] != made[1] else f"{model.name}: rejected by both")
      continue
    faces += len(made[0].exposed)
    differ[0] += int((made[0].exposed != made[1].exposed).sum())
    if (made[0].exposed == made[1].exposed).all():  # else the draws differ too
      signs = [{x.tobytes(): s < 0 for x, s in zip(one.samples.x, one.samples.sdf, strict=True)} for one in made]
      differ[1] += sum(signs[0][x] != signs[1][x] for x in signs[0])
  print(f"{len(models)} models, {faces} faces, {samples} samples each: {seconds[0] / len(models):.2f} s of CPU a model by the fast "
        f"winding number, {seconds[1] / len(models):.2f} by crossings: {seconds[0] / seconds[1]:.2f} times faster\n"
        f"{differ[0]} faces and {differ[1]} samples differ")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--shapes", type=int, default=20_000)
  parser.add_argument("--samples", type=int, default=50)
  parser.add_argument("--subset", type=int, default=500, help="shapes of the undivided run and of the peer")
  parser.add_argument("--sign", default="pseudonormal")
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--pack")
  args = parser.parse_args()
  if args.pack:
    paired(args.pack, args.subset, args.samples)
    return
  with tempfile.TemporaryDirectory() as base:
    base = pathlib.Path(base)
    meshes, out = base / "meshes", base / "out"
    boxes(meshes, args.shapes)
    words = ["--samples", args.samples, "--sign", args.sign, "--workers", args.workers]
    part = lambda i: [meshes, "--out", out, "--shard", f"{i}/{PARTS}", *words]
    done = killed(out / "parts" / f"0-of-{PARTS}.jsonl", args.shapes // PARTS // 3, *part(0))
    print(f"part 0 killed after {done} shapes", flush=True)
    for i in range(PARTS):
      wall, cpu, peak = run(*part(i))
      num = sum(1 for _ in open(out / "parts" / f"{i}-of-{PARTS}.jsonl")) - 1
      left = num - (done if i == 0 else 0)
      print(f"part {i}: {left} shapes in {wall:.1f} s, {left / wall:.1f} shapes/s, peak {peak:.0f} MiB", flush=True)
    wall, _, peak = run(*part(0))
    print(f"part 0 again, nothing to do: {wall:.1f} s, peak {peak:.0f} MiB", flush=True)
    wall, cpu, peak = run("--merge", out)
    print(f"merge: {wall:.1f} s ({cpu:.1f} s of CPU), peak {peak:.0f} MiB", flush=True)
    few = base / "few"
    for path in sorted(meshes.rglob("*.ply"))[:args.subset]:
      (few / path.parent.name).mkdir(parents=True, exist_ok=True)
      os.link(path, few / path.parent.name / path.name)
    wall, cpu, _ = run(few, "--out", base / "whole", *words[:-1], 1)
    equal, num = same(base / "whole", out)
    alone = peer(meshes, args.samples, args.subset)
    print(f"undivided, one process: {num / wall:.1f} shapes/s; {equal} of {num} byte-identical to the merged ones\n"
          f"CPU a shape: {1000 * cpu / num:.2f} ms, plain libigl loop {1000 * alone:.2f} ms: {cpu / num / alone:.1f} times")
    if equal != num:
      raise SystemExit(1)


if __name__ == "__main__":
  main()
