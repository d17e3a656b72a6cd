"""The command line: help everywhere, one line for every fault, the nearest name, the right exit code, and quickly."""

import argparse
import errno
import importlib
import json
import os
import re
import subprocess
import sys
import time

import pytest

from fields3d.commands import COMMANDS, main, options
from fields3d.commands.main import as_fault, build_parser, take_overrides
from fields3d.core import errors
from fields3d.core.errors import UsageFault

PROBE = """
import sys, time
start = time.perf_counter()
from fields3d.commands.main import main
for command in {commands!r}:
  assert main(command) == {code}
  heavy = {{"jax", "orbax", "trimesh", "matplotlib"}} & set(sys.modules)
  assert not heavy, (command, heavy)
print(time.perf_counter() - start, file=sys.stderr)
"""


def fails(capsys, *argv):
  """(exit code, the one line on standard error)."""
  code = main.main([str(word) for word in argv])
  captured = capsys.readouterr()
  lines = captured.err.splitlines()
  assert len(lines) == 1 and lines[0].startswith("fields3d: ") and "Traceback" not in captured.err, captured.err
  return code, lines[0].removeprefix("fields3d: ")


@pytest.fixture
def probe(monkeypatch):
  """A command `doctor` whose run does what the test says."""
  def install(run):
    module = argparse.Namespace(HELP="help", __doc__="doc", add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(main, "module_of", lambda name: module)
  return install


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_examples_and_exit_codes(command, capsys):
  assert main.main([command, "--help"]) == 0
  text = capsys.readouterr().out
  assert f"usage: fields3d {command}" in text and f"  fields3d {command}" in text.split("exit codes:")[0]
  for action in main.actions(build_parser(command)):
    assert action.help, action
  module = importlib.import_module(f"fields3d.commands.{command}")
  assert module.HELP and "\n" not in module.HELP


def test_the_overview_lists_every_command_and_version_prints(capsys):
  assert main.main(["--help"]) == 0
  text = capsys.readouterr().out
  assert all(re.search(rf"^  {name} +\w", text, re.MULTILINE) for name in COMMANDS)
  assert main.main([]) == 2
  assert main.main(["--version"]) == 0
  assert capsys.readouterr().out.startswith("fields3d ")


@pytest.mark.parametrize(("commands", "code"), [
    ([["--help"]] + [[name, "--help"] for name in COMMANDS], 0),
    ([["sample", "x", "--nmu", "3"], ["trian"], ["sample", ".", "--num", "nan"]], 2)])
def test_help_and_errors_import_nothing_heavy_and_take_under_a_second(commands, code):
  done = subprocess.run([sys.executable, "-c", PROBE.format(commands=commands, code=code)], capture_output=True,
                        text=True, timeout=60, check=False)
  assert done.returncode == 0, done.stderr
  assert float(done.stderr.splitlines()[-1]) < 3  # under 1 on an idle machine


def test_the_module_runs_as_a_command_and_a_bad_option_ends_in_5_seconds():
  start = time.perf_counter()
  done = subprocess.run([sys.executable, "-m", "fields3d", "sample", "--sede", "1", "."], capture_output=True,
                        text=True, timeout=60, check=False)
  assert done.returncode == 2 and time.perf_counter() - start < 5
  assert done.stderr == "fields3d: --sede: no such option; did you mean '--seed'?\n"


@pytest.mark.parametrize(("argv", "line"), [
    (["sampel"], "sampel: no such command; did you mean 'sample'?"),
    (["--hepl"], "--hepl: no such option; did you mean '--help'?"),
    (["sample", "--resolutoin", "128", "."], "--resolutoin: no such option; did you mean '--resolution'?"),
    (["sample", ".", "--res", "128"], "--res: no such option"),
    (["sample", ".", "--zzzz"], "--zzzz: no such option; known: "),
    (["sample", ".", "--format", "gbl"], "--format: unknown value 'gbl'; did you mean 'glb'?"),
    (["sample", ".", "--num", "0"], "--num: '0' is not a whole number of at least 1"),
    (["sample", ".", "--num=-3"], "--num: '-3' is not a whole number"),
    (["sample", ".", "--num", "nan"], "--num: 'nan' is not a whole number"),
    (["sample", ".", "--num", "2.5"], "--num: '2.5' is not a whole number"),
    (["sample", ".", "--num", "9" * 5000], "--num: '9999"),
    (["sample", ".", "--seed", "-1"], "--seed: '-1' is not a whole number of at least 0 and at most 4294967295"),
    (["sample", ".", "--resolution", "1e9"], "--resolution: '1e9' is not a whole number"),
    (["sample", ".", "--num"], "--num: needs a value"),
    (["sample"], "fields3d sample: needs DIR"),
    (["sample", ".", "extra"], "fields3d sample: unexpected argument 'extra'"),
    (["sample", ".", ""], "fields3d sample: unexpected argument ''"),
    (["sample", ".", " "], "fields3d sample: unexpected argument ''"),
    (["completion", "tcsh"], "shell: unknown value 'tcsh'; "),
    (["train", "--config"], "--config: needs a value"),
    (["train", "--workdri", "d"], "--workdri: no such option; did you mean '--workdir'?"),
    (["train", "--workdir", "d"], "fields3d train: needs --config"),
    (["train", "--config", "c", "--workdir", "d", "--config.seed"], "--config.seed: needs a value"),
    (["train", "--config", "c", "--workdir", "d", "--config.a..b=1"], "--config.a..b: is not a path of names"),
    (["sample", ".", "--config.a=1"], "--config.a: no such option"),
])
def test_a_wrong_command_line_is_one_line_that_names_the_key_and_exit_2(argv, line, capsys):
  code, got = fails(capsys, *argv)
  assert code == 2 and got.startswith(line)


def test_a_missing_run_is_exit_66(capsys, tmp_path):
  assert fails(capsys, "sample", tmp_path / "none")[0] == 66


def test_options_may_stand_before_and_after_positionals(tmp_path):
  orders = (["--num", "3", "--seed=2", str(tmp_path)], [str(tmp_path), "--seed", "2", "--num=3"],
            ["--num", "3", str(tmp_path), "--seed", "2"])
  parsed = [vars(build_parser("sample").parse_args(words)) for words in orders]
  assert parsed[0] == parsed[1] == parsed[2]


def test_overrides_keep_their_order_and_any_value():
  words = ["--config.a=1=2", "--x", "--config.b.c", "-1e3", "y", "--config.a=", "--config", "f"]
  rest, overrides = take_overrides(words)
  assert rest == ["--x", "y", "--config", "f"]
  assert overrides == [("a", "1=2"), ("b.c", "-1e3"), ("a", "")]
  with pytest.raises(UsageFault, match="needs a value"):
    take_overrides(["--config.a", "--config.b=1"])


@pytest.mark.parametrize("fault", [errors.UsageFault, errors.BadData, errors.MissingInput, errors.Unavailable,
                                   errors.CannotWrite, errors.IOFault, errors.TryAgain, errors.Diverged])
def test_every_fault_is_its_line_and_its_exit_code(fault, probe, capsys):
  def run(args):
    raise fault("a.obj", "is\nbad", "mend it")
  probe(run)
  assert fails(capsys, "doctor") == (fault.exit_code, "a.obj: is bad; mend it")


@pytest.mark.parametrize(("error", "code"), [
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 66),
    (OSError(errno.ENOSPC, "No space", "x"), 74), (PermissionError(errno.EACCES, "Permission denied", "/x"), 73),
    (MemoryError(), 69), (KeyboardInterrupt(), 130),
    (ModuleNotFoundError("No module named 'viser'", name="viser"), 69),
    (RuntimeError("Unable to initialize backend 'cuda'"), 69), (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 69),
    (ZeroDivisionError("division\nby zero"), 70), (ModuleNotFoundError("x", name="fields3d.nothing"), 70),
])
def test_other_exceptions_become_one_line_and_a_documented_code(error, code, probe, capsys):
  def run(args):
    raise error
  probe(run)
  got, line = fails(capsys, "doctor")
  assert got == code
  assert ("a bug of fields3d" in line and "FIELDS3D_DEBUG=1" in line) == (code == 70)


def test_a_bug_shows_its_traceback_on_request_only(probe, capsys, monkeypatch):
  monkeypatch.setenv("FIELDS3D_DEBUG", "1")
  probe(lambda args: 1 // 0)
  assert main.main(["doctor"]) == 70
  assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_the_command_quietly():
  line = f"{sys.executable} -m fields3d completion bash | true; echo ${{PIPESTATUS[0]}}"
  done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
  assert done.stderr == "" and done.stdout.strip() in ("141", "0")


def test_a_name_that_no_file_can_have_is_a_missing_input(tmp_path):
  (tmp_path / "loop").symlink_to("loop")
  for name in ("x" * 300, str(tmp_path / "loop"), "a\0b"):
    for kind in (options.existing_dir, options.existing_file, options.existing_path):
      with pytest.raises(errors.MissingInput):
        kind(name)


def test_a_table_whose_reader_leaves_is_exit_141(probe, monkeypatch):
  def run(args):
    try:
      raise BrokenPipeError
    except BrokenPipeError:
      sys.exit(1)  # as rich's console does
  probe(run)
  assert main.main(["doctor"]) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_on_standard_output_is_exit_74():
  with open("/dev/full", "w") as full:
    done = subprocess.run([sys.executable, "-m", "fields3d", "completion", "fish"], stdout=full, stderr=subprocess.PIPE,
                          text=True, timeout=60, check=False)
  assert done.returncode == 74 and len(done.stderr.splitlines()) == 1 and "no space left" in done.stderr


def test_as_fault_leaves_bugs_alone():
  assert as_fault(KeyError("x")) is None and as_fault(json.JSONDecodeError("m", "d", 0)) is None


@pytest.mark.parametrize(("kind", "text"), [
    (options.positive_float, "0"), (options.positive_float, "inf"), (options.finite_float, "nan"),
    (options.finite_float, "1e999"), (options.fraction, "1.01"), (options.fraction, "-0.1"),
    (options.finite_float, "x"),
    (options.indices, "1,,2"), (options.indices, "-1"), (options.indices, "a"), (options.indices, ""),
    (options.non_negative_int, "-1"), (options.positive_int, "0x10")])
def test_option_types_refuse_with_one_short_line(kind, text):
  with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
    kind(text)


def test_option_types_of_paths_name_what_is_missing(tmp_path):
  (tmp_path / "f").write_text("")
  assert options.existing_dir(str(tmp_path)) == tmp_path and options.existing_file(str(tmp_path / "f")).name == "f"
  for kind, name in ((options.existing_dir, "f"), (options.existing_file, "none"), (options.existing_dir, "none")):
    with pytest.raises(errors.MissingInput):
      kind(str(tmp_path / name))
