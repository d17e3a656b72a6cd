"""Arrays out of pickles, by an interpreter of our own that can call nothing.

A pickle is a program: to unpickle a stranger's file is to run it. Here its instructions are read one by one
(`pickletools` has their arguments' formats); containers, numbers and text are built as such, and a named global stays a
name: nothing is ever imported or called. The few names that arrays need are given a meaning below; any other is a
fault that says which. Instructions, arrays and depth are counted against caps.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from fields3d.core.errors import BadData

MAX_INSTRUCTIONS = 2_000_000
MAX_ENTRIES = 100_000
MAX_DEPTH = 8
_PIECE = 1 << 20  # bytes
REMEDY = "give the published file, or save plain arrays with numpy.savez"
STORAGES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
            "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
            "BFloat16Storage": jnp.bfloat16}
_PLAIN = ("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
          "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING")
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclasses.dataclass(frozen=True)
class Global:
  """The name of something importable; never imported."""
  name: str


@dataclasses.dataclass(frozen=True)
class Storage:
  """A torch storage that the file holds elsewhere: element type, key, and how many elements."""
  dtype: np.dtype
  key: str
  numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A strided window on a storage; offset and strides in elements."""
  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass
class _Type:
  """A numpy dtype while it is built: its code, then with its byte order."""
  code: str


@dataclasses.dataclass
class _Array:
  """A numpy array while it is built."""
  value: np.ndarray | None = None


class _Refused(Exception):
  """Why a pickle is not one of arrays."""


def read_pickle(f: BinaryIO, where: object) -> Any:
  """The value of the pickle at a file's position, which is left behind its end.

  Returns:
    dicts, lists, tuples, numbers, text, bytes, None, with `Tensor` and arrays among them: see `flatten`.

  Raises:
    BadData: any other global, by name; an instruction that arrays do not need; a broken or endless program.
  """
  machine = _Machine()
  try:
    for name, argument in _instructions(_Source(f)):
      machine.step(name, argument)
    return machine.result()
  except _Refused as error:
    raise BadData(where, str(error), REMEDY) from None
  except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, RecursionError) as error:
    raise BadData(where, f"its pickle is broken ({type(error).__name__})", REMEDY) from None


def flatten(value: Any, where: object) -> Iterator[tuple[str, Any]]:
  """(names joined by dots, array or `Tensor`) of nested dicts, in order.

  Raises:
    BadData: something else than an array, a name that is not text or stands twice, too many or too deep.
  """
  seen: set[str] = set()
  todo = [("", value, 0)]
  while todo:
    name, item, depth = todo.pop()
    if isinstance(item, dict) and depth <= MAX_DEPTH:
      if len(todo) + len(item) + len(seen) > MAX_ENTRIES:
        raise BadData(where, f"holds more than {MAX_ENTRIES:,} arrays", REMEDY)
      todo += [(f"{name}.{key}" if depth else str(key), inner, depth + 1) for key, inner in reversed(item.items())]
    elif not isinstance(item := _finished(item), (Tensor, np.ndarray)):
      raise BadData(where, f"{name or 'its top'} is a {type(item).__name__.lower()}, not an array", REMEDY)
    elif name in seen:
      raise BadData(where, f"holds {name!r} twice", REMEDY)
    else:
      seen.add(name)
      yield name, item


def _instructions(f: "_Source") -> Iterator[tuple[str, Any]]:
  """(name, argument) of each instruction up to the end, the argument of an unknown one left unread."""
  for _ in range(MAX_INSTRUCTIONS):
    code = f.read(1).decode("latin-1")
    opcode = _OPCODES.get(code)
    if opcode is None:
      raise _Refused("its pickle ends early" if not code else f"its pickle has the instruction {code!r}")
    if opcode.name not in _KNOWN:
      raise _Refused(f"its pickle has the instruction {opcode.name}, which arrays do not need")
    if opcode.name == "GLOBAL":
      yield "GLOBAL", ".".join(f.readline().decode().removesuffix("\n") for _ in range(2))
    else:
      yield opcode.name, opcode.arg.reader(f) if opcode.arg else None
    if opcode.name == "STOP":
      return
  raise _Refused(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")


class _Source:
  """A file whose reads allocate what is there, not what is asked for."""

  def __init__(self, f: BinaryIO):
    self._f = f

  def readline(self) -> bytes:
    return self._f.readline(_PIECE)

  def read(self, num: int) -> bytes:
    pieces = []
    while num > 0 and (piece := self._f.read(min(num, _PIECE))):
      pieces.append(piece)
      num -= len(piece)
    return b"".join(pieces)


class _Machine:
  """A stack, the stacks under its marks, and a memo."""

  def __init__(self):
    self._stack: list = []
    self._under: list[list] = []
    self._memo: dict[int, Any] = {}
    self._done = False

  def result(self) -> Any:
    if not self._done or len(self._stack) != 1 or self._under:
      raise _Refused("its pickle ends early")
    return self._stack[0]

  def step(self, name: str, argument: Any) -> None:
    """One instruction."""
    if name in _PLAIN:
      self._stack.append(_VALUES.get(name, argument))
    elif name in _STEPS:
      _STEPS[name](self, argument)

  def _stop(self, _) -> None:
    self._done = True

  def _mark(self, _) -> None:
    self._under.append(self._stack)
    self._stack = []

  def _since_mark(self) -> list:
    items, self._stack = self._stack, self._under.pop()
    return items

  def _put(self, index: int) -> None:
    self._memo[index] = self._stack[-1]

  def _memoize(self, _) -> None:
    self._memo[len(self._memo)] = self._stack[-1]

  def _get(self, index: int) -> None:
    self._stack.append(self._memo[index])

  def _tuple(self, _) -> None:
    items = self._since_mark()
    self._stack.append(tuple(items))

  def _tuple_of(self, num: int) -> None:
    items = tuple(self._stack[-num:])
    if len(items) != num:
      raise _Refused("its pickle takes more from its stack than there is")
    self._stack[-num:] = [items]

  def _append(self, _) -> None:
    item = self._stack.pop()
    _expect(self._stack[-1], list).append(item)

  def _appends(self, _) -> None:
    items = self._since_mark()
    _expect(self._stack[-1], list).extend(items)

  def _set_item(self, _) -> None:
    value, key = self._stack.pop(), self._stack.pop()
    _expect(self._stack[-1], dict)[_expect(key, str, int)] = value

  def _set_items(self, _) -> None:
    items = self._since_mark()
    target = _expect(self._stack[-1], dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
      target[_expect(key, str, int)] = value

  def _stack_global(self, _) -> None:
    name, module = self._stack.pop(), self._stack.pop()
    self._global(f"{_expect(module, str)}.{_expect(name, str)}")

  def _global(self, name: str) -> None:
    if name not in CALLS and name not in NAMES and name not in TYPES:
      raise _Refused(f"its pickle asks for {name[:80]!r}, which is no part of an array: it was not run")
    self._stack.append(Global(name))

  def _reduce(self, _) -> None:
    arguments, function = self._stack.pop(), self._stack.pop()
    name = _expect(function, Global).name
    if name not in CALLS:
      raise _Refused(f"its pickle calls {name!r}, which no array needs: it was not run")
    self._stack.append(CALLS[name](*_expect(arguments, tuple)))

  def _build(self, _) -> None:
    state = self._stack.pop()
    target = _expect(self._stack[-1], dict, _Type, _Array)
    if isinstance(target, _Type):
      self._stack[-1] = target = _typed(target, state)
    elif isinstance(target, _Array):
      target.value = _array(state)
    else:
      _expect(state, dict)  # A state dict's `_metadata`: versions of layers.

  def _persistent(self, _) -> None:
    kind, storage, key, _, numel, *view = _expect(self._stack.pop(), tuple)
    name = _expect(storage, Global).name
    if kind != "storage" or name not in TYPES or len(view) > 1:
      raise _Refused("its pickle refers to something that is no storage")
    if view and view[0] is not None:
      raise _Refused("it holds views of storages, as the first versions of torch wrote them")
    if not 0 <= _expect(numel, int) < 2**40:
      raise _Refused(f"a storage of {numel} elements")
    self._stack.append(Storage(TYPES[name], str(_expect(key, str, int)), numel))


def _expect(value: Any, *kinds: type) -> Any:
  if not isinstance(value, kinds) or isinstance(value, bool):
    raise _Refused(f"its pickle has a {type(value).__name__.lower()} where arrays have a {kinds[0].__name__.lower()}")
  return value


def _ordered_dict(*items) -> dict:
  if items:
    raise _Refused("its pickle fills an OrderedDict in a way that torch does not")
  return {}


def _tensor(storage, offset, shape, strides, *rest) -> Tensor:
  """`torch._utils._rebuild_tensor_v2`: within its storage, without repeated elements."""
  _expect(storage, Storage)
  numbers = (offset, *_expect(shape, tuple), *_expect(strides, tuple))
  if len(shape) != len(strides) or len(shape) > 8 or len(rest) > 3 or not all(
      0 <= _expect(n, int) < 2**40 for n in numbers):
    raise _Refused("a tensor's window is not one")
  if any(n > 1 and step == 0 for n, step in zip(shape, strides)):
    raise _Refused("a tensor repeats its elements")
  last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
  if 0 not in shape and last >= storage.numel:
    raise _Refused(f"a tensor reaches element {last} of a storage of {storage.numel}")
  return Tensor(storage, offset, shape, strides)


def _parameter(tensor, *_) -> Tensor:
  return _expect(tensor, Tensor)


def _type(code, *_) -> _Type:
  if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
    raise _Refused("an array is not of numbers")
  return _Type(code)


def _typed(kind: _Type, state: Any) -> _Type:
  order = _expect(state, tuple)[1]
  if order not in ("<", ">", "|") or state[2] is not None or state[3] is not None:
    raise _Refused("an array is not of numbers")
  kind.code = order + kind.code.lstrip("<>|")
  return kind


def _array(state: Any) -> np.ndarray:
  _, shape, kind, fortran, data = _expect(state, tuple)
  dtype = np.dtype(_expect(kind, _Type).code)
  if not all(0 <= _expect(n, int) < 2**40 for n in _expect(shape, tuple)) or len(shape) > 8:
    raise _Refused("an array's shape is not one")
  flat = np.frombuffer(_expect(data, bytes), dtype)
  return flat.reshape(shape, order="F" if fortran else "C")


def _finished(value: Any) -> Any:
  return value.value if isinstance(value, _Array) and value.value is not None else value


TYPES = {f"torch.{name}": np.dtype(code) for name, code in STORAGES.items()}
NAMES = {"numpy.ndarray"}
CALLS: dict[str, Callable] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "numpy.dtype": _type,
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy._core.multiarray._reconstruct": lambda *_: _Array(),
}
_STEPS: dict[str, Callable] = {
    "STOP": _Machine._stop, "MARK": _Machine._mark, "BINPUT": _Machine._put, "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize, "BINGET": _Machine._get, "LONG_BINGET": _Machine._get,
    "EMPTY_DICT": lambda m, _: m._stack.append({}), "EMPTY_LIST": lambda m, _: m._stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m._stack.append(()), "TUPLE": _Machine._tuple,
    "TUPLE1": lambda m, _: m._tuple_of(1), "TUPLE2": lambda m, _: m._tuple_of(2), "TUPLE3": lambda m, _: m._tuple_of(3),
    "APPEND": _Machine._append, "APPENDS": _Machine._appends, "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items, "GLOBAL": _Machine._global, "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce, "BUILD": _Machine._build, "BINPERSID": _Machine._persistent,
}
_KNOWN = {*_PLAIN, *_STEPS, "PROTO", "FRAME"}
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
