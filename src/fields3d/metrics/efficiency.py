"""How long something takes, how much memory, how much energy: measured warm, with the method named.

Nothing here is exact: times depend on the machine and its load, which are said.
"""

import dataclasses
import os
import pathlib
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

RAPL = pathlib.Path("/sys/class/powercap")
# Watts that a maker says the device is made for, by its name's pattern: (watts, source).
TDP: Mapping[str, tuple[float, str]] = {
    r"H200": (700.0, "NVIDIA H200 datasheet (SXM)"),
    r"H100.*PCIe": (350.0, "NVIDIA H100 datasheet (PCIe)"),
    r"H100": (700.0, "NVIDIA H100 datasheet (SXM)"),
    r"A100.*PCI": (300.0, "NVIDIA A100 80GB datasheet (PCIe)"),
    r"A100": (400.0, "NVIDIA A100 datasheet (SXM)"),
    r"V100": (300.0, "NVIDIA V100 datasheet (SXM2)"),
    r"\bL4\b": (72.0, "NVIDIA L4 datasheet"),
    r"\bT4\b": (70.0, "NVIDIA T4 datasheet"),
    r"RTX 4090": (450.0, "NVIDIA GeForce RTX 4090 specification"),
    r"RTX 3090": (350.0, "NVIDIA GeForce RTX 3090 specification"),
    r"EPYC 7763": (280.0, "AMD EPYC 7763 specification"),
    r"Platinum 8480": (350.0, "Intel Xeon Platinum 8480+ specification"),
}


@dataclasses.dataclass(frozen=True)
class Energy:
  """joules: of one call, None where no method applies; method: which, with its assumptions, or why there is none."""
  joules: float | None
  method: str


@dataclasses.dataclass(frozen=True)
class Usage:
  """What repeated, warm calls of one thing took.

  seconds (n,): of each. first_seconds: of the call before them, with any compiling. busy_cores: processor cores that
  this process kept busy, on average. peak_bytes: the most memory that this process held meanwhile, by `memory_method`.
  device_peak_bytes: the most that the device has held since this process began; None where it does not tell.
  load: processes that wanted to run on this machine in the last minute, before the calls.
  """
  seconds: np.ndarray
  first_seconds: float
  busy_cores: float
  peak_bytes: int
  memory_method: str
  device_peak_bytes: int | None
  energy: Energy
  load: float

  @property
  def median(self) -> float:
    """Seconds."""
    return float(np.median(self.seconds))

  @property
  def spread(self) -> tuple[float, float]:
    """The first and the third quartile of the seconds."""
    low, high = np.quantile(self.seconds, [0.25, 0.75])
    return float(low), float(high)


def measure_usage(call: Callable[[], Any], repeats: int = 5, tdp_watts: float | None = None) -> Usage:
  """Calls once to compile and warm up, and then `repeats` times; each call waits for its arrays to be ready.

  Args:
    tdp_watts: the device's design power, where the table does not know it or is to be overruled.
  """
  begin = time.perf_counter()
  jax.block_until_ready(call())
  first, load, method = time.perf_counter() - begin, os.getloadavg()[0], reset_peak_memory()
  counters, seconds = read_rapl(), []
  wall, busy = time.perf_counter(), time.process_time()
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - begin)
  wall, busy = time.perf_counter() - wall, time.process_time() - busy
  device = jax.local_devices()[0]
  memory = device.memory_stats() or {}
  energy = estimate_energy(device, wall / repeats, busy / max(wall, 1e-9), rapl_joules(counters, read_rapl()), repeats,
                           tdp_watts)
  return Usage(np.array(seconds), first, busy / max(wall, 1e-9), peak_memory(), method, memory.get("peak_bytes_in_use"),
               energy, load)


def estimate_energy(device: Any, seconds: float, busy_cores: float, joules: float | None, calls: int,
                    tdp_watts: float | None = None) -> Energy:
  """The energy of one call of that many seconds.

  On a CPU the processor's own counters (RAPL, whole packages, other processes included) where `joules` has their sum
  over all `calls`; else design power x seconds x share of its logical cores kept busy. On an accelerator design power x
  seconds, as if always fully used: an upper bound, without the host.
  """
  on_cpu = device.platform == "cpu"
  if on_cpu and joules is not None:
    return Energy(joules / calls, "RAPL: the packages' energy counters, other processes included")
  name = cpu_name() if on_cpu else device.device_kind
  watts, source = (tdp_watts, "given") if tdp_watts else design_power(name)
  if watts is None:
    why = "RAPL is not readable and " if on_cpu else ""
    return Energy(None, f"none: {why}the design power of {name!r} is not in the table; give tdp_watts")
  if on_cpu:
    cores = os.cpu_count() or 1
    share = min(busy_cores / cores, 1.0)
    return Energy(watts * seconds * share, f"TDP {watts:g} W ({source}) x seconds x {share:.2f} of {cores} logical cores")
  return Energy(watts * seconds, f"TDP {watts:g} W ({source}) x seconds x utilisation taken as 1: an upper bound")


def design_power(name: str) -> tuple[float | None, str]:
  """The design power of a device, in watts, and its source; None where the table has none.

  >>> design_power("NVIDIA H200"), design_power("abacus")
  ((700.0, 'NVIDIA H200 datasheet (SXM)'), (None, ''))
  """
  return next((entry for pattern, entry in TDP.items() if re.search(pattern, name)), (None, ""))


def cpu_name() -> str:
  """The processor's model, as the system tells it."""
  try:
    found = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
  except OSError:
    found = None
  return found.group(1) if found else "unknown processor"


def read_rapl(root: pathlib.Path = RAPL) -> dict[str, tuple[int, int]]:
  """package -> (microjoules so far, where the counter wraps); empty where there is none or it is not readable."""
  found = {}
  for folder in sorted(root.glob("intel-rapl:[0-9]*")):
    if folder.name.count(":") == 1:  # packages; their parts are within
      try:
        found[folder.name] = (int((folder / "energy_uj").read_text()), int((folder / "max_energy_range_uj").read_text()))
      except (OSError, ValueError):
        continue
  return found


def rapl_joules(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float | None:
  """Joules between two readings, each counter wrapped at most once; None without counters.

  >>> rapl_joules({"intel-rapl:0": (900_000, 1_000_000)}, {"intel-rapl:0": (100_000, 1_000_000)}), rapl_joules({}, {})
  (0.2, None)
  """
  if not before or before.keys() != after.keys():
    return None
  return sum((after[name][0] - start) % wrap for name, (start, wrap) in before.items()) / 1e6


def reset_peak_memory() -> str:
  """Starts the measurement of `peak_memory` anew where the system lets it; says what it measures now."""
  try:
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return "resident memory of the process, its peak during the calls (VmHWM)"
  except OSError:
    return "resident memory of the process, its peak since it began (ru_maxrss)"


def peak_memory() -> int:
  """Bytes: the most resident memory of this process since `reset_peak_memory`, or since it began."""
  try:
    found = re.search(r"^VmHWM:\s*(\d+) kB", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
  except OSError:
    found = None
  if found:
    return int(found.group(1)) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
