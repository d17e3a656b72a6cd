"""The table of the classic families in experiments/README.md: trains each for the same budget, judges it, and prints the table.

A family has as many steps as one core of an AMD EPYC does in 600 s, and schedules as long; l-GAN divides them between its codes
and its adversaries, the diffusion of codes starts from DPM's whole budget. What is there already is not done again, so that the command
goes on where it was stopped, and several may share a directory, each with families of its own: one waits for another that trains
what both need. A family that fails costs itself alone; the command then ends with 1.

  python benchmarks/classic_families.py [--out runs/classic] [--families dit,rgan] [--seeds 0,1,2] [--on furniture] [--meshes] [--table]

--meshes adds exact EMD, surfaces, pictures and costs (cloud families get surfaces by point_surfaces.py, trained first); --table only
prints. A figure is the mean over seeds, in brackets the lowest and the highest bound of the seeds' 95 % intervals, in round brackets
the seeds' own. The sets that need no model are judged once, beside the family that comes first.
"""

import argparse
import dataclasses
import fcntl
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np

from fields3d.core import strict_json

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "classic"


@dataclasses.dataclass(frozen=True)
class Family:
  """config: its file and variant. steps: its budget. schedule: the optimiser whose learning rate falls over the steps, if one does.

  first: the family that its codes come from. on_furniture: the variant there, and settings that the variant lacks.
  """
  title: str
  config: str
  steps: int
  pred: str = "points"
  schedule: str | None = None
  first: str | None = None
  on_furniture: tuple[str, ...] = ("furniture",)

  def named(self, data: str) -> str:
    """Config and variant on some data."""
    return f"{self.config.partition(':')[0]}:{self.on_furniture[0]}" if data == "furniture" else self.config

  def arguments(self, data: str) -> list[str]:
    """What `fields3d train` is told, but for directory and seed."""
    more, warmup = list(self.on_furniture[1:]) if data == "furniture" else [], self.steps // 20
    if self.schedule:
      rate = f"--config.optim.{self.schedule}.learning_rate"
      more += [f"{rate}.steps={self.steps - warmup}", f"{rate}.warmup={warmup}"]
    return ["--config", str(CONFIGS / self.named(data)), f"--config.num_steps={self.steps}",
            f"--config.train.keep_every={self.steps}", *more]


CODES = {"codes": Family("", "cloud_codes.py", 750, schedule="model"),
         "surfaces": Family("", "point_surfaces.py", 1100, schedule="model")}
FAMILIES = {
    "dit": Family("DiT-3D, EDM", "point_diffusion.py:dit", 4950, schedule="prior"),
    "pvd_edm": Family("PVD's network, EDM", "point_diffusion.py:edm", 1600, schedule="prior", on_furniture=("edm_furniture",)),
    "pvd": Family("PVD, eps", "point_diffusion.py", 1800, schedule="prior", on_furniture=()),
    "transformer": Family("a transformer of points (Point-E's), EDM",
                          "point_diffusion.py:transformer", 2000, schedule="prior", on_furniture=()),
    "dpm": Family("DPM", "dpm.py", 2550, schedule="model"),
    "latent_diffusion": Family("DPM, then diffusion of its codes", "latent_point_diffusion.py", 1500, schedule="prior", first="dpm"),
    "lgan": Family("l-GAN", "latent_point_gan.py", 2750, first="codes"),
    "rgan": Family("r-GAN", "point_gan.py", 9450),
    "r1": Family("3D-GAN's networks and loss under R1", "voxel_gan.py:r1", 1000, pred="sdf"),
    "voxelgan": Family("VoxelGAN", "voxel_gan.py:voxelgan", 1150, pred="sdf", on_furniture=(
        "furniture", "--config.task.game=wgan", "--config.task.penalty=wgan_gp", "--config.task.penalty_weight=10.0",
        "--config.task.critic_steps=2", "--config.task.critic.norm=layer")),
    "voxel_diffusion": Family("voxel diffusion", "voxel_diffusion.py", 1700, pred="sdf", schedule="prior"),
}
COLUMNS = {  # head -> (section, name of the metric, factor)
    "1-NNA-CD, %": ("draws", "1nna_cd_percent", 1),
    "MMD-CD x 1000": ("draws", "mmd_cd_x1000", 1),
    "COV-CD, %": ("draws", "cov_cd_percent", 1),
    "JSD on 28^3": ("draws", "jsd_28", 1),
    "Frechet (sliced) x 1000": ("draws", "frechet_sliced_13x8_x1000", 1),
    "Z_U": ("draws", "z_u_cd", 1),
    "1-NNA-EMD, %": ("transport", "1nna_emd_percent", 1),
    "MMD-EMD x 100": ("transport", "mmd_emd_x100", 1),
    "weights, M": ("efficiency", "step/parameters", 1e-6),
    "s a step": ("efficiency", "step/seconds", 1),
    "s a draw": ("efficiency", "sample/seconds", 1),
    "watertight, %": ("quality", "watertight/share", 100),
    "one component, %": ("quality", "one_component/share", 100),
    "stands, %": ("quality", "stands/share", 100),
    "FD-EffNetLite0": ("rendered", "FD-EffNetLite0", 1),
    "of halves": ("rendered", "FD-EffNetLite0@matched", 1),
    "KID x 1000": ("rendered", "KID-EffNetLite0", 1000),
}
TRIVIAL = {"one_shape": "one shape, again and again", "independent_points": "points of random shapes", "gaussian_cloud": "a Gaussian cloud"}


class Failed(Exception):
  """A command did not end with 0."""


def run(log: pathlib.Path, *words) -> None:
  """One command of fields3d, its output in a log.

  Raises:
    Failed: it did not end with 0.
  """
  print(f"{time.strftime('%H:%M:%S')} fields3d {' '.join(map(str, words))}", flush=True)
  with log.open("a") as out:
    code = subprocess.run([sys.executable, "-m", "fields3d", *map(str, words)], stdout=out, stderr=subprocess.STDOUT).returncode
  if code:
    raise Failed(f"fields3d {words[0]} {words[1]} ended with {code}, see {log}")


def train(workdir: pathlib.Path, family: Family, data: str, seed: int, *more: str) -> None:
  """Trains a family, or resumes it, or waits until another process has; nothing where its last checkpoint is there."""
  workdir.parent.mkdir(parents=True, exist_ok=True)
  with workdir.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if (workdir / "checkpoints" / str(family.steps) / "manifest.json").is_file():
      return
    run(workdir.with_suffix(".log"), "train", *family.arguments(data), "--workdir", workdir, f"--config.seed={seed}", *more)


def evaluate(workdir: pathlib.Path, family: Family, sections: str, *more: str) -> None:
  """Measures what is not measured yet of sections, separated by commas."""
  record = workdir / "eval" / f"{family.steps}.json"
  known = strict_json.read(record)["evaluations"] if record.is_file() else {}
  if not set(sections.split(",")) <= set(known):
    run(workdir.with_suffix(".log"), "evaluate", workdir, "--only", sections, *more)


def make(out: pathlib.Path, name: str, data: str, seed: int, meshes: bool) -> None:
  """Trains and judges one family from one seed, what it starts from first."""
  family, more = FAMILIES[name], ()
  if family.first:
    start = out / data / family.first / str(seed)
    train(start, {**FAMILIES, **CODES}[family.first], data, seed)
    more = (f"--config.init_from={start}",)
  workdir = out / data / name / str(seed)
  train(workdir, family, data, seed, *more)
  every = [record for other in FAMILIES for record in records(out, data, other).values()]
  known = cells(every, f"/{next(iter(TRIVIAL))}")[0]
  evaluate(workdir, family, "draws", f"--config.evals.draws.trivial={not known}")
  if not meshes:
    return
  evaluate(workdir, family, "transport")
  evaluate(workdir, family, "efficiency", f"--config.evals.efficiency.pred={family.pred}")
  if family.pred == "points":
    train(out / data / "surfaces", CODES["surfaces"], data, 0)
  settings = {"quality": dict(num=100, references=64, resolution=64, crossings=False),
              "rendered": dict(num=100, views=4, size=128, resolution=64)}
  evaluate(workdir, family, "quality,rendered", *(("--surfaces", out / data / "surfaces") if family.pred == "points" else ()),
           *(f"--config.evals.{section}.{key}={value}" for section, settled in settings.items() for key, value in settled.items()))


def table(out: pathlib.Path, data: str) -> list[str]:
  """The rows of what is there, as Markdown."""
  lines = [f"| family | seeds | steps | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 3) + "|"]
  every = []
  for name, family in FAMILIES.items():
    if judged := records(out, data, name):
      lines.append(f"| {family.title} (`{family.named(data)}`) | {', '.join(judged)} | {family.steps:,} | "
                   f"{' | '.join(cells(judged.values(), own=len(judged) > 1))} |")
      every += judged.values()
  for name, title in TRIVIAL.items():
    lines.append(f"| {title} | | | {' | '.join(cells(every, suffix=f'/{name}'))} |")
  return [*lines, f"| training shapes (real control) | | | {' | '.join(cells(every, value='floor'))} |"]


def records(out: pathlib.Path, data: str, name: str) -> dict[str, dict]:
  """What has been measured of a family, by seed."""
  paths = sorted((out / data / name).glob(f"*/eval/{FAMILIES[name].steps}.json"))
  return {path.parents[1].name: strict_json.read(path)["evaluations"] for path in paths}


def cells(judged: Iterable[dict], suffix: str = "", value: str = "value", own: bool = False) -> list[str]:
  """Each column over the records that have it; own: each record's figure too."""
  out = []
  for section, name, factor in COLUMNS.values():
    found = [metric for record in judged for metric in record.get(section, {}).get("metrics", ())
             if metric["name"].partition(" ")[0] == name + suffix]
    of = lambda key, found=found, factor=factor: [factor * metric[key] for metric in found if metric[key] is not None]
    bounds = f" [{min(of('low')):.3g}, {max(of('high')):.3g}]" if value == "value" and of("low") else ""
    each = f" ({', '.join(f'{figure:.3g}' for figure in of(value))})" if own else ""
    out.append(f"{np.mean(of(value)):.3g}{bounds}{each}" if of(value) else "")
  return out


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/classic"), help="where runs are (default %(default)s)")
  parser.add_argument("--families", type=lambda text: text.split(","), default=list(FAMILIES),
                      help=f"of {','.join(FAMILIES)} (default: all)")
  parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2],
                      help="of training (default 0,1,2)")
  parser.add_argument("--on", choices=("chairs", "furniture"), default="chairs", help="the data (default %(default)s)")
  parser.add_argument("--meshes", action="store_true", help="exact EMD, surfaces, pictures and costs too")
  parser.add_argument("--table", action="store_true", help="only print what is there")
  args = parser.parse_args()
  if unknown := set(args.families) - set(FAMILIES):
    parser.error(f"--families: there is no {', '.join(sorted(unknown))}; known: {', '.join(FAMILIES)}")
  failed = []
  for seed, name in [] if args.table else [(seed, name) for seed in args.seeds for name in args.families]:
    if args.on == "furniture" and not FAMILIES[name].on_furniture:
      continue
    try:
      make(args.out, name, args.on, seed, args.meshes)
    except Failed as error:
      failed.append(f"{name}, seed {seed}: {error}")
  print(*table(args.out, args.on), *failed, sep="\n")
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
