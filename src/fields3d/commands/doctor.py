"""Check the installation: Python, libraries, devices, a compiled computation, mesh extraction, memory and disk.

Each check is a line: ok, missing (an optional extra) or FAILED with the remedy. The exit code is 0 if nothing failed,
else 69.

examples:
  fields3d doctor
  fields3d doctor --json
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator

HELP = "check the installation: libraries, devices, extraction, memory and disk"

MIN_FREE = 2 * 2**30  # bytes of memory and of disk that the quickstart wants


@dataclasses.dataclass(frozen=True)
class Check:
  """One finding. state: "ok", "missing" (optional) or "failed"."""
  name: str
  state: str
  detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
  checks = [check for probe in PROBES for check in _attempt(probe)]
  failed = [check for check in checks if check.state == "failed"]
  if args.json:
    print(json.dumps({"ok": not failed, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
  else:
    _print(checks)
  return 69 if failed else 0


def _print(checks: list[Check]) -> None:
  from rich.console import Console
  from rich.markup import escape
  from rich.table import Table
  style = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "failed": "[red]FAILED[/]"}
  table = Table("check", "state", "detail")
  for check in checks:
    table.add_row(escape(check.name), style[check.state], escape(check.detail))
  Console().print(table)


def _attempt(probe: Callable[[], Iterator[Check]]) -> Iterator[Check]:
  """The probe's findings; whatever it raises is a finding too, for that is what a doctor is for."""
  try:
    yield from probe()
  except Exception as e:
    text = " ".join(f"{type(e).__name__}: {e}".split())
    yield Check(probe.__name__.replace("_", " "), "failed", text[:300])


def python() -> Iterator[Check]:
  """Python's version."""
  sound = (3, 11) <= sys.version_info[:2] < (3, 14)
  yield Check("Python", "ok" if sound else "failed",
              sys.version.split()[0] + ("" if sound else ": fields3d needs 3.11 to 3.13"))


def libraries() -> Iterator[Check]:
  """Every requirement of the installed package, extras' ones optional."""
  known = [parse_requirement(text) for text in importlib.metadata.requires("fields3d")]
  base = {requirement.name for requirement in known if requirement.extra is None}
  for requirement in known:
    extra = requirement.extra
    if not requirement.applies or (extra and requirement.name in base):
      continue
    name = requirement.name + (f" [{extra}]" if extra else "")
    remedy = f"pip install 'fields3d[{extra}]'" if extra else f"pip install '{requirement.text}'"
    try:
      version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
      version = None
    if version is not None and requirement.holds(version):
      yield Check(name, "ok", version)
    else:
      yield Check(name, "missing" if extra else "failed", f"{version or 'not installed'}: {remedy}")


@dataclasses.dataclass(frozen=True)
class Requirement:
  """A line of requirements: `extra` that asks for it (None: the base), and whether it `applies` to this Python."""
  name: str
  text: str
  bounds: tuple[tuple[str, str], ...]
  extra: str | None
  applies: bool

  def holds(self, version: str) -> bool:
    """Whether a version is within the bounds; pre-releases count as their release."""
    compare = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
               "==": lambda a, b: a == b, "!=": lambda a, b: a != b}
    return all(compare[sign](_numbers(version), _numbers(bound)) for sign, bound in self.bounds)


def parse_requirement(text: str) -> Requirement:
  """Reads a requirement of the forms that ours have.

  >>> r = parse_requirement('jax[cuda13]<0.13,>=0.10.2; extra == "gpu"')
  >>> r.name, r.extra, r.text, r.holds("0.12.1"), r.holds("0.13.0")
  ('jax', 'gpu', 'jax[cuda13]<0.13,>=0.10.2', True, False)
  """
  spec, _, marker = text.partition(";")
  name = re.match(r"[\w.-]+", spec).group()
  bounds = tuple(re.findall(r"(>=|<=|==|!=|<|>)\s*([\w.]+)", spec))
  extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
  python_bounds = tuple(re.findall(r"python_version\s*(>=|<=|==|!=|<|>)\s*['\"]([\d.]+)['\"]", marker))
  here = Requirement("python", "", python_bounds, None, True).holds(".".join(map(str, sys.version_info[:2])))
  return Requirement(name, spec.strip(), bounds, extra.group(1) if extra else None, here)


def _numbers(version: str) -> tuple[int, ...]:
  parts = [int(part) for part in re.match(r"[\d.]*", version).group().split(".") if part]
  return tuple(parts + [0] * (4 - len(parts)))


def devices() -> Iterator[Check]:
  """What jax computes on, and one compiled computation."""
  import jax
  import jax.numpy as jnp
  kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
  yield Check("devices", "ok", f"{jax.device_count()} x {kinds} ({jax.default_backend()})")
  start = time.perf_counter()
  got = float(jax.jit(lambda x: (x @ x).sum())(jnp.full((64, 64), 0.5)))
  sound = abs(got - 64**3 / 4) < 1e-3 * 64**3
  yield Check("compiled computation", "ok" if sound else "failed", f"{time.perf_counter() - start:.2f} s"
              if sound else f"0.5-matrix product summed to {got}, not {64**3 / 4}")


def marching_cubes() -> Iterator[Check]:
  """A sphere's mesh has its volume, with the right sign: so the library is the one meant, and faces look outward."""
  import numpy as np

  from fields3d.extraction.marching_cubes import marching_cubes as extract
  axis = np.linspace(-1, 1, 33)
  x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
  mesh = extract(np.sqrt(x**2 + y**2 + z**2) - 0.6, np.array([[-1.0] * 3, [1.0] * 3]))
  corners = mesh.vertices[mesh.faces]
  volume = float(np.einsum("ni,ni->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)
  true = 4 / 3 * np.pi * 0.6**3
  sound = abs(volume - true) < 0.02 * true
  detail = f"a sphere of volume {true:.4f} is extracted as {volume:.4f}"
  yield Check("marching cubes", "ok" if sound else "failed",
              detail if sound else f"{detail}: pip uninstall mcubes, then pip install PyMCubes")


def room() -> Iterator[Check]:
  """Memory, disk here, and the folder of compiled programs."""
  from fields3d.core.errors import available_memory
  for name, free in (("memory", available_memory()), ("disk", shutil.disk_usage(".").free)):
    yield Check(name, "ok" if free >= MIN_FREE else "failed", f"{free / 2**30:.1f} GiB free"
                + ("" if free >= MIN_FREE else f", {MIN_FREE / 2**30:.0f} wanted"))
  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or pathlib.Path(
      os.environ.get("XDG_CACHE_HOME", "~/.cache"), "fields3d", "jax").expanduser()
  there = pathlib.Path(cache)
  while not there.exists():
    there = there.parent
  sound = there.is_dir() and os.access(there, os.W_OK)
  yield Check("compilation cache", "ok" if sound else "failed",
              f"{cache}" + ("" if sound else " cannot be written: set JAX_COMPILATION_CACHE_DIR"))


PROBES = (python, libraries, devices, marching_cubes, room)
