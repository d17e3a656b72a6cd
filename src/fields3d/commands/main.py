"""The command `fields3d`: finds the sub-command, checks its options, and turns faults into lines and exit codes.

Nothing heavy is imported until a command runs, so that help and errors are immediate.
"""

import argparse
import contextlib
import importlib
import io
import os
import re
import sys
import traceback

from fields3d.commands import COMMANDS, WITH_OVERRIDES
from fields3d.core.errors import OK, Fault, IOFault, Unavailable, UsageFault, from_os_error, nearest
from fields3d.core.stores import SCHEMES
from fields3d.version import __version__

BUG, BROKEN_PIPE, INTERRUPTED = 70, 141, 130

EXIT_CODES = """exit codes:
  0 done    2 wrong usage or config    65 bad data    66 missing input    69 something needed is not available
  70 a bug of fields3d (FIELDS3D_DEBUG=1 shows its traceback)    73 cannot write    74 input or output error
  75 stopped after saving: the same command resumes    76 training diverged    130 interrupted
  141 who reads the output has gone"""

OVERRIDES = """overrides:
  --config.a.b=VALUE    sets entry b of section a of the config: any setting, or any argument of a factory that it
                        names. VALUE is a Python literal; text needs no quotes, and tuples may be written 1,2

"""


class Parser(argparse.ArgumentParser):
  """An argument parser that raises `UsageFault` with one line, and takes no abbreviations."""

  def __init__(self, *positional, **settings):
    settings = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **settings}
    super().__init__(*positional, **settings)

  def error(self, message: str):
    remedy = f"see {self.prog} --help"
    if found := re.fullmatch(r"argument (.+?): invalid choice: (.*) \(choose from (.*)\)", message, re.DOTALL):
      known = [word.strip("'\" ") for word in found[3].split(",")]
      word = found[2].strip("'\"")
      raise UsageFault(found[1].split("/")[-1], f"unknown value {word!r}", nearest(word, known))
    if found := re.fullmatch(r"argument (.+?): (.*)", message, re.DOTALL):
      raise UsageFault(found[1].split("/")[-1], found[2].replace("expected one argument", "needs a value"), remedy)
    if found := re.fullmatch(r"the following arguments are required: (.*)", message):
      raise UsageFault(self.prog, f"needs {found[1]}", remedy)
    if found := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
      raise UsageFault(self.prog, f"unexpected argument {''.join(found[1].split()[:1])!r}", remedy)
    raise UsageFault(self.prog, message, remedy)


def main(argv: list[str] | None = None) -> int:
  """Runs a command line and returns its exit code; never raises, and prints a traceback only if FIELDS3D_DEBUG=1.

  >>> main(["--version"])  # doctest: +ELLIPSIS
  fields3d ...
  0
  """
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")  # a file's name may be no UTF-8
  try:
    code = dispatch(sys.argv[1:] if argv is None else list(argv))
    if sys.stdout is not None:
      sys.stdout.flush()
    return code
  except BrokenPipeError:
    _discard_output()
    return BROKEN_PIPE
  except SystemExit as stop:  # of rich, whose console met the closed pipe
    if isinstance(stop.__context__, BrokenPipeError):
      return BROKEN_PIPE
    raise
  except KeyboardInterrupt:
    return _complain("interrupted", INTERRUPTED)
  except Exception as error:
    if os.environ.get("FIELDS3D_DEBUG") == "1":
      traceback.print_exc()
    if (fault := as_fault(error)) is not None:
      return _complain(str(fault), fault.exit_code)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return _complain(f"a bug of fields3d: {text}; report it with the traceback that FIELDS3D_DEBUG=1 shows", BUG)


def dispatch(argv: list[str]) -> int:
  """Runs the command that `argv` names; faults and other exceptions are the caller's."""
  if not argv or argv[0] in ("-h", "--help"):
    print(overview(), file=sys.stdout if argv else sys.stderr)
    return OK if argv else UsageFault.exit_code
  if argv[0] == "--version":
    print(f"fields3d {__version__}")
    return OK
  name, *words = argv
  if name not in COMMANDS:
    known = ("--help", "--version") if name.startswith("-") else COMMANDS
    raise UsageFault(name, "no such option" if name.startswith("-") else "no such command", nearest(name, known))
  if name in ("train", "launch") or not any(scheme in word for word in words for scheme in SCHEMES):
    return run(name, words)
  from fields3d.training.storage import at_hand
  with at_hand(words) as words:
    return run(name, words)


def run(name: str, words: list[str]) -> int:
  """Runs one command with its words."""
  parser = build_parser(name)
  overrides = None
  if name in WITH_OVERRIDES:
    words, overrides = take_overrides(words)
  check_options(parser, words)
  try:
    args = parser.parse_args(words)
  except SystemExit as stop:
    return int(stop.code or OK)
  if overrides is not None:
    args.overrides = overrides
  _quiet_libraries()
  return module_of(name).run(args)


def module_of(name: str):
  """The module of a command."""
  return importlib.import_module(f"fields3d.commands.{name}")


def build_parser(name: str) -> Parser:
  """The parser of one command, its module's docstring as description."""
  module = module_of(name)
  epilog = (OVERRIDES if name in WITH_OVERRIDES else "") + EXIT_CODES
  parser = Parser(prog=f"fields3d {name}", description=module.__doc__, epilog=epilog)
  module.add_arguments(parser)
  return parser


def overview() -> str:
  """The text of `fields3d --help`."""
  lines = [f"  {name:<12}{module_of(name).HELP}" for name in COMMANDS]
  return "\n".join([
      "usage: fields3d COMMAND [OPTION]...", "", "Implicit neural fields: train, evaluate, sample, extract.", "",
      "commands:", *lines, "", "fields3d COMMAND --help explains a command; fields3d --version prints the version.", "",
      "examples:", "  fields3d train --config experiments/deepsdf/quickstart.py --workdir runs/quickstart",
      "  fields3d evaluate runs/quickstart", "", EXIT_CODES])


def take_overrides(words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
  """Separates `--config.a.b=v` and `--config.a.b v` from the other words.

  >>> take_overrides(["--config.seed=1", "--workdir", "d", "--config.optim.lr", "-1"])
  (['--workdir', 'd'], [('seed', '1'), ('optim.lr', '-1')])
  """
  rest, overrides, source = [], [], iter(words)
  for word in source:
    if not word.startswith("--config."):
      rest.append(word)
      continue
    flag, equals, text = word.partition("=")
    if not equals:
      text = next(source, None)
      if text is None or text.startswith("--"):
        raise UsageFault(flag, "needs a value", f"write {flag}=VALUE")
    if not all(part.isidentifier() for part in flag.removeprefix("--config.").split(".")):
      raise UsageFault(flag, "is not a path of names", "write --config.section.name=VALUE")
    overrides.append((flag.removeprefix("--config."), text))
  return rest, overrides


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
  """Every action of a parser and of its sub-parsers."""
  found = []
  for action in parser._actions:
    found.append(action)
    if isinstance(action, argparse._SubParsersAction):
      for sub in action.choices.values():
        found += actions(sub)
  return found


def check_options(parser: argparse.ArgumentParser, words: list[str]) -> None:
  """Names the first unknown option before anything else can be wrong because of it."""
  known = {option for action in actions(parser) for option in action.option_strings}
  for word in words:
    if word == "--":
      return
    flag = word.partition("=")[0]
    if re.match(r"--?[^\d.\-]", word) and flag not in known:
      raise UsageFault(flag, "no such option", nearest(flag, known))


def as_fault(error: Exception) -> Fault | None:
  """The fault that an exception means, or None: then it is a bug of ours."""
  text = str(error)
  if isinstance(error, Fault):
    return error
  if isinstance(error, OSError):
    return from_os_error(error, "standard output" if error.filename is None else "")
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
    return Unavailable("memory", "there is not enough of it", "lower the batch, the resolution or the network's size")
  if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("fields3d"):
    return Unavailable(error.name, "is not installed", "see fields3d doctor")
  if isinstance(error, RuntimeError) and "Unable to initialize backend" in text:
    return Unavailable("jax", text, "unset JAX_PLATFORMS, or see fields3d doctor")
  return None


def _complain(line: str, code: int) -> int:
  with contextlib.suppress(OSError):
    print(f"fields3d: {line}", file=sys.stderr)
  if code == IOFault.exit_code:
    _discard_output()
  return code


def _discard_output() -> None:
  """Sends what is still buffered for a closed or full standard output nowhere, lest the exit complain of it."""
  with contextlib.suppress(OSError, ValueError, AttributeError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet_libraries() -> None:
  """orbax logs the tracebacks of writes that we report as faults; they are shown with FIELDS3D_DEBUG=1 only."""
  if os.environ.get("FIELDS3D_DEBUG") != "1":
    from absl import logging
    logging.set_verbosity(logging.FATAL)
