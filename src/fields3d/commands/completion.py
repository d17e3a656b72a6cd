"""Print a script that completes commands, options and their values in a shell.

The script is made from the commands' own parsers, so that it is right for the installed version.

examples:
  source <(fields3d completion bash)                                  in ~/.bashrc
  source <(fields3d completion zsh)                                   in ~/.zshrc, after compinit
  fields3d completion fish > ~/.config/fish/completions/fields3d.fish
"""

import argparse
import dataclasses
import shlex

from fields3d.commands import COMMANDS

HELP = "print a script that completes commands and options in bash, zsh or fish"


@dataclasses.dataclass(frozen=True)
class Completion:
  """What one option or positional takes: `words` if they are known, else `kind` "file", "dir", "other" or "none"."""
  flags: tuple[str, ...]
  help: str
  words: tuple[str, ...] = ()
  kind: str = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("shell", choices=sorted(SCRIPTS), help="the shell that the script is for")


def run(args: argparse.Namespace) -> int:
  print(SCRIPTS[args.shell]({name: completions(name) for name in COMMANDS}), end="")
  return 0


def completions(command: str) -> list[Completion]:
  """The options and positionals of a command, sub-commands' ones among them."""
  from fields3d.commands.main import actions, build_parser
  found = []
  for action in actions(build_parser(command)):
    text = (action.help or "") % {**vars(action), "prog": f"fields3d {command}"}
    meaning = str(action.metavar or action.dest or "").upper()
    words, kind = tuple(map(str, action.choices or ())), "other"
    if action.nargs == 0:
      kind = "none"
    elif meaning.startswith("DIR"):
      kind = "dir"
    elif meaning.startswith(("FILE", "PATH")) or not (action.option_strings or words):
      kind = "file"
    found.append(Completion(tuple(action.option_strings), " ".join(text.split()), words, kind))
  return found


def bash(table: dict[str, list[Completion]]) -> str:
  """The script for bash, of version 3.2 too."""
  after, options, plain = [], [], []
  for command, found in table.items():
    flags = [flag for c in found for flag in c.flags]
    options.append(f'    {command}) words="{" ".join(flags)}" ;;')
    words = [word for c in found if not c.flags for word in c.words]
    plain.append(f'    {command}) words="{" ".join(words)}" ;;')
    for c in (c for c in found if c.flags and (c.words or c.kind != "none")):
      pattern = "|".join(f'"{command} {flag}"' for flag in c.flags)
      action = {"dir": "_fields3d_paths -d", "file": "_fields3d_paths -f"}.get(c.kind, ":")
      if c.words:
        action = f'COMPREPLY=( $(compgen -W "{" ".join(c.words)}" -- "$cur") )'
      after.append(f"    {pattern}) {action}; return ;;")
  return "\n".join([
      "_fields3d_paths() {", "  local IFS=$'\\n'", "  compopt -o filenames 2>/dev/null",
      '  COMPREPLY+=( $(compgen "$1" -- "$cur") )', "}", "",
      "_fields3d() {", '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" words=""',
      '  local command="${COMP_WORDS[1]}"', "  COMPREPLY=()", "  if [ \"$COMP_CWORD\" -eq 1 ]; then",
      f'    COMPREPLY=( $(compgen -W "{" ".join(table)} --help --version" -- "$cur") )', "    return", "  fi",
      '  case "$command $prev" in', *after, "  esac",
      '  if [ "${cur#-}" != "$cur" ]; then', '    case "$command" in', *("  " + line for line in options), "    esac",
      '    COMPREPLY=( $(compgen -W "$words" -- "$cur") )', "    return", "  fi",
      '  case "$command" in', *plain, "  esac",
      '  COMPREPLY=( $(compgen -W "$words" -- "$cur") )', "  _fields3d_paths -f", "}",
      "complete -F _fields3d fields3d", ""])


def zsh(table: dict[str, list[Completion]]) -> str:
  """The script for zsh."""
  def escaped(text):
    return "".join("\\" + letter if letter in "[]:\\" else letter for letter in text)

  def value(c):
    if c.words:
      return f":value:({' '.join(c.words)})"
    return {"dir": ":directory:_files -/", "file": ":file:_files", "other": ":value:", "none": ""}[c.kind]

  def specs(found):
    for c in found:
      for flag in c.flags:
        yield shlex.quote(f"{flag}[{escaped(c.help)}]{value(c)}")
      if not c.flags:
        yield shlex.quote(f"*{value(c)}")

  lines = ["#compdef fields3d", "_fields3d() {", "  local -a commands=("]
  lines += [f"    {shlex.quote(f'{name}:{_help(name)}')}" for name in table]
  lines += ["  )", "  if (( CURRENT == 2 )); then", "    _describe command commands", "    return", "  fi",
            "  local command=$words[2]", "  shift words", "  (( CURRENT-- ))", "  case $command in"]
  for name, found in table.items():
    lines += [f"    {name}) _arguments \\", *(f"      {spec} \\" for spec in dict.fromkeys(specs(found))), "      ;;"]
  return "\n".join([*lines, "  esac", "}", "compdef _fields3d fields3d", ""])


def fish(table: dict[str, list[Completion]]) -> str:
  """The script for fish."""
  def value(c):
    if c.words:
      return f" -x -a {shlex.quote(' '.join(c.words))}"
    return {"dir": " -x -a '(__fish_complete_directories)'", "file": " -r -F", "other": " -x", "none": ""}[c.kind]

  lines = []
  for name, found in table.items():
    lines.append(f"complete -c fields3d -n __fish_use_subcommand -f -a {name} -d {_fish_quote(_help(name))}")
    within = f"complete -c fields3d -n '__fish_seen_subcommand_from {name}'"
    for c in found:
      flags = "".join(f" -l {f[2:]}" if f.startswith("--") else f" -s {f[1:]}" for f in c.flags)
      if flags:
        lines.append(f"{within}{flags}{value(c)} -d {_fish_quote(c.help)}")
      elif c.words:
        lines.append(f"{within} -a {shlex.quote(' '.join(c.words))}")
  return "\n".join([*lines, ""])


def _help(command: str) -> str:
  from fields3d.commands.main import module_of
  return module_of(command).HELP


def _fish_quote(text: str) -> str:
  return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": bash, "fish": fish, "zsh": zsh}
