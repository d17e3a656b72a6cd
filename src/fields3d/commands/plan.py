"""Plan a run on chips that are not here: memory, FLOPs, collectives and the least time of a training step.

The config's step is compiled ahead of time: for a TPU by libtpu, for cpu:N by XLA on N fake devices, and for h100:N, whose
compiler is not at hand, as for cpu:N with the GPU's rates. No data is read: batches are shapes. Times are a roofline: FLOPs,
bytes and messages over the peaks of `--chips`, so a step takes at least that long. Efficiency is that of weak scaling: the
time of one chip alone over the time of one of N, at equal rows a chip, if messages hide behind work and if they do not.

The command ends with 1 if the plan does not fit into the chips' memory, and with 69 if there is no compiler for them.

examples:
  fields3d plan --config experiments/nerf/zip360.py --topology v5e:16x16
  fields3d plan --config experiments/deepsdf/shapenet_chairs.py --topology v4:4x4x4 --config.data.rows=64
  fields3d plan --config experiments/deepsdf/quickstart.py --topology cpu:8 --json
  fields3d plan --chips
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

from fields3d.commands import options
from fields3d.core.errors import OK, UsageFault

HELP = "plan a run on a TPU pod, GPUs or CPUs: memory, collectives, step time"
DOES_NOT_FIT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--config", metavar="FILE[:ARG]", help="Python file with get_config(arg=None)")
  parser.add_argument("--topology", metavar="CHIP:N", help="v5e:16x16, v6e:16x16, v4:4x4x4, v5p:4x4x4, h100:8 or cpu:8")
  parser.add_argument("--count", type=options.whole(1), metavar="N",
                      help="training shapes or photographs, where only the data would say")
  parser.add_argument("--json", action="store_true", help="print one JSON object")
  parser.add_argument("--chips", action="store_true", help="print the table of chips that plans assume, and stop")


def run(args: argparse.Namespace) -> int:
  from fields3d.commands.chips import read_topology, table
  if args.chips:
    print("\n".join(table()))
    return OK
  for name in ("config", "topology"):
    if getattr(args, name) is None:
      raise UsageFault("fields3d plan", f"needs --{name}", "see fields3d plan --help")
  topology = read_topology(args.topology)
  if topology.chip.platform != "tpu" and not _enough_devices(topology.count):
    return _in_child(args, topology.count)
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  import jax

  from fields3d.commands.experiment import apply_overrides, read_config
  from fields3d.commands.plan_program import plan_step
  config = json.loads(json.dumps(apply_overrides(read_config(args.config), args.overrides)))
  if sys.stderr.isatty():
    print(f"compiling for {topology}: seconds to minutes", file=sys.stderr)
  try:
    found = summary(plan_step(config, topology, args.count), topology)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    said = str(error).partition("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ")  # a compiler that plans memory, and gives up
    print(json.dumps({"topology": str(topology), "chips": topology.count, "fits": False, "compiler": said}, indent=2) if args.json else
          f"{args.config} on {topology}: DOES NOT FIT. The compiler says: {said}\nlower the rows, or set remat where a network has it")
    return DOES_NOT_FIT
  print(json.dumps(found, indent=2) if args.json else "\n".join(report(found, args.config)))
  return OK if found["fits"] else DOES_NOT_FIT


def _enough_devices(count: int) -> bool:
  """Whether this process has so many CPU devices; asked only of a JAX that is running already or was told to have them."""
  if f"device_count={count}" in os.environ.get("XLA_FLAGS", "") or count == 1:
    return True
  if "jax" not in sys.modules:
    return False
  import jax
  return len(jax.devices("cpu")) >= count


def _in_child(args: argparse.Namespace, count: int) -> int:
  """The same command in a process with so many fake CPU devices."""
  flags = " ".join(word for word in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in word)
  env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}".strip()}
  words = ["--config", args.config, "--topology", args.topology, *(["--json"] if args.json else []),
           *(["--count", str(args.count)] if args.count else []), *(f"--config.{path}={text}" for path, text in args.overrides)]
  sys.stdout.flush()
  return subprocess.run([sys.executable, "-m", "fields3d", "plan", *words], env=env, check=False).returncode


def summary(plan, topology) -> dict:
  """Everything that a plan says, JSON-able; bytes, FLOPs and seconds of one chip and one step."""
  from fields3d.commands.chips import collective_seconds
  from fields3d.commands.plan_hlo import merged
  chip, peak_rate = topology.chip, topology.chip.flops.get(plan.dtype, topology.chip.flops["float32"])
  sent = sum(c.times * collective_seconds(c.kind, c.size, c.group, chip) for c in plan.collectives)
  work = {"compute": plan.flops / peak_rate, "memory": plan.moved / chip.memory_bandwidth}
  alone = max(plan.alone_flops / peak_rate, plan.alone_moved / chip.memory_bandwidth)
  busy = max(work.values())
  rows = [{"kind": c.kind, "axis": c.axis, "group": c.group, "number": number, "bytes": c.size, "from": c.name,
           "seconds": sum(o.times * collective_seconds(o.kind, o.size, o.group, chip) for o in plan.collectives
                          if (o.kind, o.axis, o.group) == (c.kind, c.axis, c.group))} for c, number in merged(plan.collectives)]
  scaling = []
  # What each of fewer chips holds of parameters that are cut over data is not compiled, so nothing is said of fewer.
  for chips in [topology.count] if plan.gathered else _counts(topology.count, plan.mesh["model"]):
    time = _sent_by(plan, topology, chips)
    scaling.append({"chips": chips, "communication": time, "overlapped": alone / max(busy, time), "exposed": alone / (busy + time)})
  facts = {name: value for name, value in dataclasses.asdict(plan).items() if name != "collectives"}
  return {"topology": str(topology), "chips": topology.count, **facts, "memory": chip.memory, "fits": plan.peak <= chip.memory,
          "collectives": rows, "roofline": {**work, "communication": sent, "overlapped": max(busy, sent), "exposed": busy + sent},
          "alone": alone, "weak_scaling": scaling, "chip": dataclasses.asdict(chip)}


def _counts(chips: int, model: int) -> list[int]:
  """Numbers of chips to predict: powers of two times the model axis, and all."""
  out, n = [], model
  while n < chips:
    out.append(n)
    n *= 4
  return [*out, chips]


def _sent_by(plan, topology, chips: int) -> float:
  """Seconds of the same collectives when the data axis is so much shorter that there are `chips` chips."""
  from fields3d.commands.chips import collective_seconds
  total, shorter = 0.0, chips / topology.count
  for c in plan.collectives:
    group = max(1, round(c.group * shorter)) if "data" in c.axis else c.group
    size = c.size * c.group / group if c.kind == "reduce-scatter" else c.size
    total += c.times * collective_seconds(c.kind, size, group, topology.chip)
  return total


def report(found: dict, name: str) -> list[str]:
  """A summary as lines of text."""
  mib, ms = 2**20, 1e3
  line = lambda what, value: f"  {what:<22}{value / mib:>12,.1f} MiB"
  mesh = " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items())
  roof, rows = found["roofline"], found["rows"]
  out = [f"{name} on {found['topology']}: {found['chips']} chips as {mesh}; {rows:,} rows a step, {rows / found['chips']:,.6g} a chip; "
         f"{found['parameters'] / 1e6:,.2f} M parameters",
         f"compiled in {found['seconds']:.0f} s; the compiler is {found['compiler']}"]
  if found["assumed"]:
    out.append(f"assumed: {found['assumed']}")
  out += ["memory a chip:", *(line(what, found["state"][key]) for what, key in
                              (("parameters", "params"), ("averages", "ema"), ("optimiser", "opt"), ("other state", "extra"))),
          line("batch", max(0, found["arguments"] - sum(found["state"].values()))), line("temporaries", found["temporaries"]),
          f"{line('peak', found['peak'])} of {found['memory'] / mib:,.0f}: {'fits' if found['fits'] else 'DOES NOT FIT'}"]
  compiled = "" if found["compiled_bytes"] is None else (
      f" (the compiler counts {found['compiled_flops'] / 1e9:,.2f} GFLOP and {found['compiled_bytes'] / mib:,.0f} MiB: loops once, "
      "of a gather the whole operand)")
  out.append(f"a chip and step: {found['flops'] / 1e9:,.2f} GFLOP, {found['moved'] / mib:,.1f} MiB moved{compiled}")
  out.append("collectives a step:" if found["collectives"] else "collectives a step: none")
  for c in found["collectives"]:
    out.append(f"  {c['kind']:<19} over {c['axis']:<10} ({c['group']} chips) {c['number']:>5} x, {c['bytes'] / mib:>10,.2f} MiB, "
               f"{c['seconds'] * ms:>8.3f} ms; largest: {c['from'][-70:]}")
  out.append(f"least step time: compute {roof['compute'] * ms:.3f} ms, memory {roof['memory'] * ms:.3f} ms, communication "
             f"{roof['communication'] * ms:.3f} ms: {roof['overlapped'] * ms:.3f} ms if they overlap, {roof['exposed'] * ms:.3f} ms if "
             "no message hides behind work")
  out.append("weak scaling, rows a chip held: " + "; ".join(
      f"{s['chips']} chips {s['overlapped']:.1%} overlapped, {s['exposed']:.1%} exposed" for s in found["weak_scaling"]))
  return out
