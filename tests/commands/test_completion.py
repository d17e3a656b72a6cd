"""The completion scripts: bash's is sourced and asked, the others' syntax is checked where their shell is installed."""

import shutil
import subprocess

import pytest

from fields3d.commands import COMMANDS, main


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
  """{shell: path of its script}."""
  from fields3d.commands.completion import SCRIPTS, completions
  table = {name: completions(name) for name in COMMANDS}
  folder = tmp_path_factory.mktemp("completion")
  for shell, make in SCRIPTS.items():
    (folder / shell).write_text(make(table))
  return {shell: folder / shell for shell in SCRIPTS}


def complete(script, *words, cwd=None):
  """What bash would offer for the last of the words."""
  source = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fields3d 2>/dev/null; '
            'printf "%s\\n" "${COMPREPLY[@]}"')
  done = subprocess.run(["bash", "-c", source, "bash", script, "fields3d", *words], capture_output=True, text=True,
                        check=True, cwd=cwd, timeout=20)
  assert not done.stderr
  return sorted(done.stdout.split("\n")[:-1])


def test_bash_offers_commands_options_and_values(scripts, tmp_path):
  (tmp_path / "run one").mkdir()
  (tmp_path / "run.txt").write_text("")
  bash = scripts["bash"]
  assert complete(bash, "sa") == ["sample"]
  assert set(COMMANDS) <= set(complete(bash, ""))
  assert complete(bash, "sample", "--fo") == ["--format"]
  assert complete(bash, "sample", "--format", "") == ["glb", "obj", "ply"]
  assert complete(bash, "completion", "z", cwd=tmp_path) == ["zsh"]
  assert complete(bash, "sample", "--out", "ru", cwd=tmp_path) == ["run one"]
  assert complete(bash, "sample", "ru", cwd=tmp_path) == ["run one", "run.txt"]
  assert complete(bash, "sample", "--num", "r", cwd=tmp_path) == [""]
  assert complete(bash, "train", "--work") == ["--workdir"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_of_sound_syntax_and_knows_every_option(scripts, shell):
  text = scripts[shell].read_text()
  for name in COMMANDS:
    for action in main.actions(main.build_parser(name)):
      for flag in action.option_strings:
        fish = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
        assert (fish if shell == "fish" else flag) in text
  if shutil.which(shell):
    check = ["fish", "--no-execute"] if shell == "fish" else [shell, "-n"]
    done = subprocess.run([*check, scripts[shell]], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_zsh_runs_the_script(scripts):
  if not shutil.which("zsh"):
    pytest.skip("zsh is not installed")
  line = f"autoload -U compinit; compinit -D; source {scripts['zsh']}; whence -w _fields3d"
  done = subprocess.run(["zsh", "-fc", line], capture_output=True, text=True, check=False, timeout=20)
  assert done.stdout.strip() == "_fields3d: function", done.stderr


def test_fish_offers_the_values_of_an_option(scripts):
  if not shutil.which("fish"):
    pytest.skip("fish is not installed")
  done = subprocess.run(["fish", "-c", f"source {scripts['fish']}; complete -C 'fields3d sample --format '"],
                        capture_output=True, text=True, check=True, timeout=20)
  assert sorted(line.split("\t")[0] for line in done.stdout.splitlines()) == ["glb", "obj", "ply"]


def test_the_command_prints_the_script(capsys, scripts):
  assert main.main(["completion", "bash"]) == 0
  assert capsys.readouterr().out == scripts["bash"].read_text()
