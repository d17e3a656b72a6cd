"""The house's own rules: who imports whom, and how large a file or a function may be."""

import ast
import pathlib
import sys

import pytest

import fields3d
from fields3d.fields import FIELDS
from fields3d.tasks import TASKS

ROOT = pathlib.Path(fields3d.__file__).parent
MAY_IMPORT = {
    "core": set(), "geometry": set(), "encodings": set(), "networks": set(), "training": set(),
    "generative": set(),
    "losses": {"geometry"}, "rendering": {"geometry"}, "extraction": {"geometry"},
    "data": {"geometry"}, "fields": {"encodings", "networks"},
    "tasks": {"fields", "networks", "generative", "losses", "rendering", "geometry"},
    "metrics": {"geometry", "rendering", "networks"},
    "evaluation": {"geometry", "extraction", "rendering", "metrics", "networks"},
}


def sources():
  return sorted(ROOT.rglob("*.py"))


def imported_rooms(tree: ast.AST) -> set[str]:
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module:
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
  return {name.split(".")[1] for name in names if name.startswith("fields3d.")}


def test_every_room_imports_only_the_rooms_below_it():
  rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
  for path in sources():
    room = path.relative_to(ROOT).parts[0]
    if room in MAY_IMPORT:
      wrong = (imported_rooms(ast.parse(path.read_text())) & rooms) - MAY_IMPORT[room] - {room, "core"}
      assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("table", [TASKS, FIELDS], ids=["tasks", "fields"])
def test_no_entry_of_a_table_imports_another(table):
  homes = {factory.__module__ for factory in table.values()}
  for home in homes:
    for node in ast.walk(ast.parse(pathlib.Path(sys.modules[home].__file__).read_text())):
      if isinstance(node, ast.ImportFrom):
        assert node.module not in homes, f"{home} imports {node.module}"


def test_files_and_functions_stay_small():
  for path in sources():
    text = path.read_text()
    assert len(text.splitlines()) <= 500, f"{path.relative_to(ROOT)} is longer than 500 lines"
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.FunctionDef):
        docs = ast.get_docstring(node, clean=False)
        length = node.end_lineno - node.lineno + 1 - (docs.count("\n") + 1 if docs else 0)
        assert length <= 60, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines of code"


def test_every_file_says_what_it_is_and_no_name_is_a_drawer():
  for path in sources():
    assert path.stem not in {"utils", "helpers", "common", "misc"}, path
    if text := path.read_text().strip():
      assert ast.get_docstring(ast.parse(text)) or path.name == "version.py", f"{path.relative_to(ROOT)} has no docstring"


def test_no_two_test_files_have_one_name():
  names = [path.name for path in pathlib.Path(__file__).parent.rglob("test_*.py")]
  assert sorted(names) == sorted(set(names))  # pytest imports them by name alone
