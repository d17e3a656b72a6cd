"""The hardware that plans assume: one table of chips, each number with its source.

Rates are peaks of data sheets, so a time made of them is the least that a step can take, not what it will take.
"""

import dataclasses
import math
import re

from fields3d.core.errors import UsageFault, nearest

GIGA, GIB = 1e9, 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator.

  memory: bytes. flops: {`Policy.compute`: operations a second of matrix products}; on a TPU tensorfloat32 takes three passes of
  bfloat16 and float32 six, on a GPU float32 has no tensor cores. memory_bandwidth: bytes a second.
  link_bandwidth: bytes a second that one chip sends over all its links, one way. torus: dimensions of the network; 0 is a
  switch. hop: seconds that a message takes from chip to chip. granule: bytes that one random access moves at least.
  platform, options: of JAX's compiler, and how its topology is asked for. source: of all numbers but those in `memory_only`.
  from_memory: which numbers stand here from memory, without a page.
  """
  memory: float
  flops: dict[str, float]
  memory_bandwidth: float
  link_bandwidth: float
  torus: int
  platform: str
  source: str
  from_memory: str
  hop: float = 1e-6
  granule: int = 32
  options: dict[str, str] = dataclasses.field(default_factory=dict)


def _tpu(gib: float, teraflops: float, memory: float, links: float, torus: int, source: str, core: str = "default",
         more: str = "") -> Chip:
  flops = {"bfloat16": teraflops * 1e12, "tensorfloat32": teraflops * 1e12 / 3, "float32": teraflops * 1e12 / 6}
  return Chip(gib * GIB, flops, memory * GIGA, links * GIGA, torus, "tpu", source, "hop, granule" + more,
              options={} if core == "default" else {"chip_config_name": core})


CHIPS = {
    "v5e": _tpu(16, 197, 819, 200, 2, "docs.cloud.google.com/tpu/docs/v5e: 197 TFLOPs bf16, 16 GB, 819 GBps, ICI 400 GBps both "
                "ways, 51.2 TBps all-reduce a pod of 256"),
    "v6e": _tpu(32, 918, 1638, 400, 2, "docs.cloud.google.com/tpu/docs/v6e: 918 TFLOPs bf16, 32 GB, 1638 GBps, ICI 800 GBps both ways"),
    "v4": _tpu(32, 275, 1200, 268, 3, "docs.cloud.google.com/tpu/docs/v4: 275 TFLOPs bf16, 32 GiB, 1200 GBps; links: 1.1 PBps "
               "all-reduce a pod of 4096", "megacore"),
    "v5p": _tpu(95, 459, 2765, 600, 3, "docs.cloud.google.com/tpu/docs/v5p: 459 TFLOPs bf16, 95 GB, 2765 GBps, ICI 1200 GBps both "
                "ways", "megacore"),
    "h100": Chip(80e9, {"bfloat16": 989.4e12, "tensorfloat32": 494.7e12, "float32": 66.9e12}, 3350 * GIGA, 450 * GIGA, 0, "cuda",
                 "glennklockwood.com/garden/processors/h100 (SXM5, from NVIDIA's architecture paper): 989.4 bf16, 494.7 TF32 and "
                 "66.9 fp32 TFLOPS dense, 80 GB, 3.35 TBps, NVLink 900 GBps both ways", "hop, granule", hop=3e-6),
    "cpu": Chip(4 * GIB, dict.fromkeys(("bfloat16", "tensorfloat32", "float32"), 50e9), 10 * GIGA, 5 * GIGA, 0, "cpu",
                "no data sheet: a server's core and its share of memory, to try things out", "all", granule=64),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """`name` of a chip, sides of the grid of chips, `count` of them."""
  name: str
  sides: tuple[int, ...]

  @property
  def chip(self) -> Chip:
    return CHIPS[self.name]

  @property
  def count(self) -> int:
    return math.prod(self.sides)

  def __str__(self) -> str:
    return f"{self.name}:{'x'.join(map(str, self.sides))}"


def read_topology(text: str) -> Topology:
  """The topology that a text such as v5e:16x16, v4:4x4x4, h100:8 or cpu:8 names.

  Raises:
    UsageFault: an unknown chip, or sides that it cannot have.

  >>> read_topology("v5e:16x16").count
  256
  """
  name, _, sides = text.partition(":")
  if name not in CHIPS:
    raise UsageFault("--topology", f"unknown chip {name!r}", nearest(name, CHIPS))
  torus = CHIPS[name].torus
  form = "x".join(["N"] * max(torus, 1))
  if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})*", sides) or sides.count("x") + 1 != max(torus, 1):
    raise UsageFault("--topology", f"{text!r} is not {name}:{form}",
                     f"give {name}:" + {0: "8", 2: "16x16", 3: "4x4x4"}[torus])
  return Topology(name, tuple(int(side) for side in sides.split("x")))


def collective_seconds(kind: str, size: float, group: int, chip: Chip) -> float:
  """The least time of one collective within groups of `group` chips.

  Every chip must send its share over its links: 2 (n - 1) / n of an all-reduce's bytes, (n - 1) / n of an all-gather's
  result, (n - 1) results of a reduce-scatter; the torus is assumed to be used in all its directions at once, and each
  side adds half its chips' hops, twice for an all-reduce.

  Args:
    size: bytes of the result on one chip.

  Source: the ring algorithm's bound (Patarasu and Yuan 2009, "Bandwidth optimal all-reduce algorithms").

  >>> round(collective_seconds("all-reduce", 1e9, 256, CHIPS["v5e"]), 4)
  0.01
  """
  if group < 2:
    return 0.0
  share = (group - 1) / group
  sent = {"all-reduce": 2 * share, "all-gather": share, "reduce-scatter": group - 1, "all-to-all": share,
          "collective-permute": 1.0}[kind] * size
  hops = chip.torus * group ** (1 / chip.torus) / 2 if chip.torus else 1
  return sent / chip.link_bandwidth + chip.hop * max(1.0, hops) * (2 if kind == "all-reduce" else 1)


def table() -> list[str]:
  """The table as lines of text: what every plan assumes."""
  lines = ["chip   memory GiB  TFLOP/s bf16, f32   memory GB/s  links GB/s one way  hop us  granule B  from memory   source"]
  for name, c in CHIPS.items():
    peaks = f"{c.flops['bfloat16'] / 1e12:.4g}, {c.flops['float32'] / 1e12:.4g}"
    lines.append(f"{name:<6} {c.memory / GIB:<11.4g} {peaks:<19} {c.memory_bandwidth / GIGA:<12.4g} "
                 f"{c.link_bandwidth / GIGA:<19.4g} {c.hop * 1e6:<7.3g} {c.granule:<10} {c.from_memory:<13} {c.source}")
  return lines
