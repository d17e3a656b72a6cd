"""The collectives of a compiled program, read from its text: kind, bytes, how often, and along which axes of the mesh.

XLA's cost analysis counts the body of a loop once; here a collective counts as often as its loop is known to run,
and a loop of unknown length once.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

WIDTHS = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "s32": 4, "u32": 4, "s16": 2, "u16": 2, "s8": 1, "u8": 1,
          "pred": 1, "f8e4m3fn": 1, "f8e5m2": 1}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_OP = re.compile(r"^\s*(?:ROOT )?%?(\S+) = (.*?) (" + "|".join(KINDS) + r")(-start)?\((.*)$")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLS = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
# A TPU spreads one message over several kernels, and each of them names it.
_CHAIN = re.compile(r'channel_id=(\d+).*frontend_attributes=\{[^}]*chain_id="(\d+)"')
_TRIPS = re.compile(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Collective:
  """kind: one of KINDS. size: bytes of its result on one chip. group: chips that take part together.

  axis: of the mesh, "data+model" where it spans both, "all" where the text does not say. times: a step. name: JAX's
  operation that it comes from, as the compiler noted it.
  """
  kind: str
  size: int
  group: int
  axis: str
  times: int
  name: str


def read_collectives(text: str, mesh: dict[str, int]) -> list[Collective]:
  """Every collective of a compiled module's text, dearest first.

  Args:
    mesh: {axis: size}, in the order of the mesh; device i of the program stands at row-major position i of it.
  """
  bodies = _computations(text)
  found, chains = [], set()
  for name, times in _multiplicities(bodies).items():
    for line in bodies[name]:
      if times and (match := _OP.match(line)) is not None:
        if chain := _CHAIN.search(line):
          link = (match[3], *chain.groups())
          if link in chains:
            continue
          chains.add(link)
        groups = _groups(line, math.prod(mesh.values()))
        kind, size = match[3], _bytes(match[2])
        if name.startswith("all-reduce-scatter"):  # a TPU's fused reduce-scatter: an all-reduce of which a slice is kept
          kind, size = "reduce-scatter", size // len(groups[0])
        if match[4] and kind != "all-reduce":  # a start's result holds its operand too
          size = size * len(groups[0]) // (len(groups[0]) + 1) if kind == "all-gather" else size // 2
        note = re.search(r'op_name="([^"]*)"', line)
        found.append(Collective(kind, size, len(groups[0]), _axis(groups[0], mesh), times, note[1] if note else match[1]))
  return sorted(found, key=lambda c: -c.size * c.times)


def merged(found: Sequence[Collective]) -> list[tuple[Collective, int]]:
  """Collectives of one kind, axis and group together: (with the sum of the bytes a step, how many a step)."""
  size, number, first = collections.Counter(), collections.Counter(), {}
  for c in found:
    key = (c.kind, c.axis, c.group)
    size[key] += c.size * c.times
    number[key] += c.times
    first.setdefault(key, c)
  return [(dataclasses.replace(first[key], size=total, times=1), number[key]) for key, total in size.most_common()]


def _computations(text: str) -> dict[str, list[str]]:
  """{name: lines}; the entry is called ''."""
  bodies, lines = {}, []
  for line in text.splitlines():
    if (head := _HEAD.match(line)) is not None:
      lines = bodies.setdefault("" if head[1] else head[2], [])
    else:
      lines.append(line)
  return bodies


def _multiplicities(bodies: dict[str, list[str]]) -> dict[str, int]:
  """How often each computation runs when the entry runs once; a loop of unknown length counts once."""
  times = collections.Counter({"": 1})
  order, seen = [], set()

  def visit(name):  # callers before callees
    if name in seen or name not in bodies:
      return
    seen.add(name)
    for called, _ in calls[name]:
      visit(called)
    order.append(name)

  calls = {name: [call for line in lines for call in _called(line, bodies)] for name, lines in bodies.items()}
  visit("")
  for name in reversed(order):
    for called, often in calls[name]:
      times[called] += times[name] * often
  return {name: times[name] for name in bodies}


def _called(line: str, bodies: dict[str, list[str]]) -> list[tuple[str, int]]:
  names = _CALLS.findall(line)
  for found in _BRANCHES.findall(line):
    names += [name.strip().lstrip("%") for name in found.split(",")]
  return [(name, _trips(line, bodies) if " while(" in line else 1) for name in names]


def _trips(line: str, bodies: dict[str, list[str]]) -> int:
  """How often a loop runs: as the compiler notes it, else the one number that its condition stays below, else once."""
  if noted := _TRIPS.search(line):
    return int(noted[1])
  condition = re.search(r"condition=%?([\w.\-]+)", line)
  inside = bodies.get(condition[1], []) if condition else []
  numbers = [int(n) for text in inside for n in re.findall(r" = [su]32\[\]\S* constant\((\d+)\)", text)]
  below = any(" compare(" in text and "direction=LT" in text for text in inside)
  return numbers[0] if below and len(numbers) == 1 else 1


def _bytes(shape: str) -> int:
  return sum(WIDTHS.get(width, 4) * math.prod(int(d) for d in dims.split(",") if d)
             for width, dims in re.findall(r"(\w+)\[([\d,]*)\]", shape))


def _groups(line: str, count: int) -> list[list[int]]:
  """The groups of devices that take part together; at least the first of them is right.

  >>> _groups("replica_groups=[2,4]<=[4,2]T(1,0)", 8)[0]
  [0, 2, 4, 6]
  >>> _groups("replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={1}", 8)[:2]
  [[0, 1], [2, 3]]
  """
  if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
    sides = [int(n) for n in found[3].split(",")]
    ids = np.arange(math.prod(sides)).reshape(sides)
    ids = ids.transpose([int(n) for n in found[4].split(",")]) if found[4] else ids
    return ids.reshape(int(found[1]), int(found[2])).tolist()
  if found := re.search(r"replica_groups=\{(\{.*?\})\}", line):
    return [[int(n) for n in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", found[1])]
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
    sides = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", found[1])}
    own = [list(sides).index(name) for name in re.findall(r"'([^']+)'", found[2])]
    ids = np.moveaxis(np.arange(count).reshape(tuple(sides.values())), own, range(-len(own), 0))
    return ids.reshape(-1, math.prod(ids.shape[-len(own):])).tolist()
  if found := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", line):
    return [[int(found[1]), int(found[2])]]
  return [list(range(count))]


def _axis(group: Sequence[int], mesh: dict[str, int]) -> str:
  """The axes along which the group's devices differ.

  >>> _axis([0, 2, 4, 6], {"data": 4, "model": 2})
  'data'
  """
  places = np.unravel_index(np.asarray(group), tuple(mesh.values()))
  return "+".join(name for name, place in zip(mesh, places, strict=True) if len(set(place.tolist())) > 1) or "none"
