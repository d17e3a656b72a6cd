"""Configs become objects: tables, typed arguments, nearest-name errors.

A config section is `dict(name=..., **arguments)`. `name` picks a factory from a table, and the factory's own
signature says which arguments exist, their types and their ranges; a parameter annotated `From(TABLE)` is
itself a section, built first. So every setting is checked before anything is made, and nobody parses by hand.
"""

import ast
import collections.abc
import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union

from fields3d.core.errors import UsageFault, nearest

Table = Mapping[str, Callable]


@dataclasses.dataclass(frozen=True)
class Range:
  """Bounds of a number, inclusive (`ge`, `le`) or exclusive (`gt`, `lt`)."""
  gt: float | None = None
  ge: float | None = None
  lt: float | None = None
  le: float | None = None

  def describe(self) -> str:
    signs = (("above", self.gt), ("at least", self.ge), ("below", self.lt), ("at most", self.le))
    number = lambda bound: str(bound) if isinstance(bound, int) else f"{bound:g}"
    return " and ".join(f"{word} {number(bound)}" for word, bound in signs if bound is not None)

  def holds(self, value) -> bool:
    return ((self.gt is None or value > self.gt) and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt) and (self.le is None or value <= self.le))


@dataclasses.dataclass(frozen=True, eq=False)
class From:
  """Marks a parameter whose config is a section of `table`; `each`: a mapping of sections.

  number: the factory that a bare number stands for, as in `learning_rate=1e-3`.
  holds: bounds that every number in the section must keep.
  """
  table: Table
  each: bool = False
  number: str | None = None
  holds: Range | None = None


@dataclasses.dataclass(frozen=True)
class Given:
  """Marks a parameter that the builder hands in (such as the dataset's facts), never the config."""


Positive = Annotated[float, Range(gt=0)]
NonNegative = Annotated[float, Range(ge=0)]
Fraction = Annotated[float, Range(ge=0, le=1)]
Count = Annotated[int, Range(ge=1)]
Index = Annotated[int, Range(ge=0)]
Seed = Annotated[int, Range(ge=0, le=2**32 - 1)]  # jax.random.key takes a larger one for a smaller


def build(table: Table, section: Any, path: str = "config", **given) -> Any:
  """Builds the object that a section describes, its sub-sections first.

  Args:
    table: name -> factory.
    section: a mapping with `name` (which may be left out where the table has one entry) and the factory's arguments.
    path: where the section stands, for messages.
    **given: values for the parameters marked `Given`, here and in sub-sections.

  Raises:
    UsageFault: an unknown name or argument, a missing one, a wrong type, or a number out of range.

  >>> def ball(radius: Positive = 1.0): return ("ball", radius)
  >>> build({"ball": ball}, {"name": "ball", "radius": 2})
  ('ball', 2.0)
  >>> build({"ball": ball}, {"name": "ball", "radios": 2}, "task")
  Traceback (most recent call last):
  ...
  fields3d.core.errors.UsageFault: --config.task.radios: no such setting; did you mean 'radius'?
  """
  factory, arguments = _resolve(table, section, path)
  kept = _convert_all(factory, arguments, path, given, make=True)
  return factory(**kept)


def check(table: Table, section: Any, path: str = "config") -> None:
  """Checks a section and its sub-sections as `build` would, making nothing."""
  factory, arguments = _resolve(table, section, path)
  _convert_all(factory, arguments, path, None, make=False)


def check_arguments(function: Callable, section: Mapping, path: str = "") -> dict:
  """Checks a section without a name against a function's signature; returns its arguments converted."""
  return _convert_all(function, dict(section), path, None, make=False, named=False)


def _resolve(table: Table, section: Any, path: str) -> tuple[Callable, dict]:
  if not isinstance(section, collections.abc.Mapping):
    raise UsageFault(_flag(path), f'expected a section, as {{"name": NAME, ...}}, got {section!r}',
                     "known names: " + ", ".join(sorted(table)))
  arguments = _named(section, path)
  name = arguments.pop("name", next(iter(table)) if len(table) == 1 else None)
  if not isinstance(name, str) or name not in table:
    what = "has no name" if name is None else f"unknown name {name!r}"
    raise UsageFault(_flag(f"{path}.name"), what, nearest(str(name), table))
  return table[name], arguments


def _named(section: Mapping, path: str) -> dict:
  """The entries of a mapping, all of which have names."""
  for name in section:
    if not isinstance(name, str):
      raise UsageFault(_flag(path), f"{name!r} is no name", "give text, in quotes")
  return dict(section)


def _flag(path: str) -> str:
  """How the user writes the path on the command line."""
  return path if path.startswith("config") else f"--config.{path}"


def _convert_all(factory: Callable, arguments: dict, path: str, given: dict | None, make: bool, named: bool = True) -> dict:
  hints = typing.get_type_hints(factory, include_extras=True)
  parameters = inspect.signature(factory).parameters
  kinds = {name: _marker(hints.get(name, Any), Given) for name in parameters}
  settable = [name for name in parameters if kinds[name] is None]
  prefix = f"{path}." if path else ""
  for name in arguments:
    if name not in settable:
      raise UsageFault(_flag(prefix + name), "no such setting", nearest(name, settable + ["name"] * named))
  kept = {}
  for name, parameter in parameters.items():
    if kinds[name] is not None:
      if make:
        kept[name] = given[name]
    elif name in arguments:
      kept[name] = _convert(arguments[name], hints.get(name, Any), prefix + name, given, make)
    elif parameter.default is inspect.Parameter.empty:
      raise UsageFault(_flag(prefix + name), "is not set", "it has no default: give it a value")
    elif make and parameter.default is not None:
      kept[name] = _convert(parameter.default, hints.get(name, Any), prefix + name, given, make)
  return kept


def _marker(hint: Any, kind: type) -> Any:
  if typing.get_origin(hint) is Annotated:
    for extra in hint.__metadata__:
      if isinstance(extra, kind):
        return extra
  for member in typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else ():
    if (found := _marker(member, kind)) is not None:
      return found
  return None


def _convert(value: Any, hint: Any, path: str, given: dict | None, make: bool) -> Any:
  """A config value as its parameter's type, or a fault that names the path."""
  source = _marker(hint, From)
  if source is not None and value is not None:
    return _convert_section(value, source, path, given, make)
  if typing.get_origin(hint) is Annotated:
    value = _convert(value, hint.__origin__, path, given, make)
    for bound in hint.__metadata__:
      for number in value if isinstance(value, tuple) else (value,):
        if isinstance(bound, Range) and number is not None:
          _require(number, bound, path)
    return value
  return _convert_plain(value, hint, path)


def _require(number: float, bound: Range, path: str) -> None:
  if not bound.holds(number):
    raise UsageFault(_flag(path), f"{number!r} is out of range", f"give a number {bound.describe()}")


def _convert_section(value: Any, source: From, path: str, given: dict | None, make: bool) -> Any:
  def one(section, at):
    numbers = section.items() if isinstance(section, collections.abc.Mapping) else [("", section)]
    for name, number in numbers if source.holds else ():
      for entry in number if isinstance(number, (list, tuple)) else (number,):
        if isinstance(entry, int) or (isinstance(entry, float) and math.isfinite(entry)):  # a whole number may be beyond floats
          _require(entry, source.holds, f"{at}.{name}" if name else at)
    if source.number and isinstance(section, (int, float)) and not isinstance(section, bool):
      factory = source.table[source.number]
      section = {"name": source.number, next(iter(inspect.signature(factory).parameters)): section}
    if not make:
      return check(source.table, section, at)
    return section if callable(section) else build(source.table, section, at, **(given or {}))
  if not source.each:
    return one(value, path)
  if not isinstance(value, collections.abc.Mapping):
    raise UsageFault(_flag(path), f"expected a mapping of sections, got {value!r}")
  return {name: one(section, f"{path}.{name}") for name, section in _named(value, path).items()}


def _convert_plain(value: Any, hint: Any, path: str) -> Any:
  origin, members = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return value
  if origin in (Union, types.UnionType):
    if value is None and type(None) in members:
      return None
    for i, member in enumerate(kept := [m for m in members if m is not type(None)]):
      try:
        return _convert(value, member, path, None, False)
      except UsageFault:
        if i == len(kept) - 1:
          raise
  if origin is Literal:
    value = "none" if value is None and "none" in members else value  # what a flag's text "none" is read as
    if value in members:
      return value
    raise UsageFault(_flag(path), f"unknown value {value!r}", nearest(str(value), map(str, members)))
  if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
    try:
      value = float(value)
    except OverflowError:  # a whole number of hundreds of digits
      value = math.inf
    if not math.isfinite(value):
      raise UsageFault(_flag(path), f"{value!r} is not finite", "give a finite number")
    return value
  if hint is int and isinstance(value, int) and not isinstance(value, bool):
    return value
  if origin is tuple and isinstance(value, (list, tuple)):
    if Ellipsis not in members and len(value) != len(members):
      raise UsageFault(_flag(path), f"expected {len(members)} values, got {len(value)}", "correct the value")
    member = members[0]
    return tuple(_convert(v, member, f"{path}[{i}]", None, False) for i, v in enumerate(value))
  if origin in (dict, collections.abc.Mapping) and isinstance(value, collections.abc.Mapping):
    member = members[1] if len(members) == 2 else Any
    return {k: _convert(v, member, f"{path}.{k}", None, False) for k, v in _named(value, path).items()}
  if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
    return value
  word = getattr(hint, "__name__", str(hint)).replace("collections.abc.", "")
  raise UsageFault(_flag(path), f"expected {word}, got {type(value).__name__} {value!r}", "correct the value")


def parse_override(text: str, current: Any) -> Any:
  """The value that a flag's text means, given the value it replaces.

  Strings stay strings, but `None` unsets one; tuples may be written `a,b` or `(a, b)`, quoted or not; all else is a Python literal.

  >>> parse_override("1e-3", 0.1), parse_override("a,b", ("c",)), parse_override("64", 8), parse_override("None", "runs/a")
  (0.001, ('a', 'b'), 64, None)
  """
  if isinstance(current, str):
    return None if text == "None" else text
  words = {"true": True, "false": False, "none": None, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}
  if text.lower() in words:
    return words[text.lower()]
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    value = text
  if isinstance(current, (tuple, list)) and not isinstance(value, (tuple, list)):
    text = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    return tuple(parse_override(part.strip(), "" if current and isinstance(current[0], str) else None)
                 for part in text.split(",") if part.strip())
  return value


def override(config: dict, path: str, text: str) -> None:
  """Sets `a.b.c` of a nested dict from a flag's text; sections on the way are made. What none knows is found by `check`."""
  *parents, leaf = path.split(".")
  here = config
  for i, part in enumerate(parents, 1):
    here, above = here.setdefault(part, {}), ".".join(parents[:i])
    if isinstance(here, (int, float)) or here is None:
      raise UsageFault(f"--config.{path}", f"{above} is a number, not a section", f"set --config.{above} itself")
    if not isinstance(here, dict):
      raise UsageFault(f"--config.{path}", f"{above} is not a section")
  here[leaf] = parse_override(text, here.get(leaf))
