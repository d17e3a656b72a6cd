"""The record of what a command wrote into a folder: extract.json, samples.json, render.json."""

import pathlib
from collections.abc import Mapping
from typing import Any

from fields3d.core import strict_json
from fields3d.core.errors import BadData, MissingInput

_ENDINGS = (".glb", ".ply", ".obj", ".mtl", ".png")


def write_record(path: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Writes a folder's record, and deletes the files beside it that the one before it lists and that are stale.

  Shapes of the same run, step and settings stay and are listed on, as other indices or formats; but for one that has no surface
  now. Only what lies in the folder itself is deleted; a record that cannot be read, of another form or run, deletes nothing.

  Args:
    record: `run`, `step` and rows: `shapes`, each with its `index`, its `file` (None without a surface) and what goes `beside` it,
      or `frames`, each with its pictures.

  Raises:
    CannotWrite, IOFault: the folder refuses or the disk is full.
  """
  strict_json.make_place(path)
  try:
    earlier = strict_json.read(path)
  except (BadData, MissingInput):
    earlier = None
  before = listed(earlier) if isinstance(earlier, dict) and earlier.get("run") == record["run"] else set()
  if before and "shapes" in record and _facts(earlier) == _facts(record):
    valid, lost = [*before - listed(record)], {row["index"] for row in record["shapes"] if row["file"] is None}
    stay = [row for row in earlier["shapes"] if row["file"] in valid and isinstance(row.get("index"), int) and row["index"] not in lost]
    record = {**record, "shapes": sorted([*stay, *record["shapes"]], key=lambda row: row["index"])}
  gone = before - listed(record)
  for other in path.parent.iterdir() if gone else ():
    if other.name in gone and other.is_file():
      other.unlink()
  strict_json.write(path, record)


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in record.items() if name != "shapes"}


def listed(record: object) -> set[str]:
  """The names of files that a record lists; none where it is no such record.

  >>> sorted(listed({"run": "a", "step": 1, "shapes": [{"file": "0.obj", "beside": ["0.mtl"]}, {"file": None}]}))
  ['0.mtl', '0.obj']
  >>> listed({"shapes": [{"file": "0.obj"}]})
  set()
  """
  try:
    if not record.keys() >= {"run", "step"}:
      return set()
    names = [name for row in record.get("shapes", ()) for name in (row["file"], *row.get("beside", ()))]
    names += [name for row in record.get("frames", ()) for name in row.values()]
  except (AttributeError, KeyError, TypeError):
    return set()
  return {name for name in names if isinstance(name, str) and name.endswith(_ENDINGS)}
