"""The quality table of a preparation: one row a shape, accepted, warned of or rejected, and why."""

import collections
import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fields3d.core import strict_json
from fields3d.core.errors import BadData, from_os_error

Status = Literal["accepted", "warned", "rejected"]
TABLE, SUMMARY, INDEX = "quality.csv", "summary.json", "index.json"


@dataclasses.dataclass(frozen=True)
class Row:
  """One shape of the table.

  reasons: the warnings, or the fault that it was rejected for. key: of its entry in the cache, "" if rejected.
  facts: what `prepare.make` found; empty if rejected.
  """
  name: str
  label: str
  status: Status
  reasons: tuple[str, ...]
  key: str
  licence: str = ""
  creator: str = ""
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_FACTS = ("sign", "faces", "components", "boundary_edges", "inner_faces", "sheet_share", "num_samples", "num_outside")


def table(rows: Sequence[Row]) -> str:
  """The rows as csv.

  >>> print(table([Row("a", "chair", "rejected", ("12 boundary edges",), "")]).splitlines()[1])
  a,chair,rejected,12 boundary edges,,,,,,,,,,,
  """
  out = io.StringIO()
  writer = csv.writer(out, lineterminator="\n")
  writer.writerow(("name", "label", "status", "reasons", *_FACTS, "licence", "creator", "key"))
  for row in rows:
    facts = [row.facts.get(name, "") for name in _FACTS]
    writer.writerow((row.name, row.label, row.status, " | ".join(row.reasons), *facts, row.licence, row.creator, row.key))
  return out.getvalue()


def summary(rows: Sequence[Row]) -> dict[str, Any]:
  """Counts by status and by label, and how often each reason stands, numbers in it left out.

  >>> summary([Row("a", "chair", "accepted", (), "k")])["status"]
  {'accepted': 1, 'warned': 0, 'rejected': 0}
  """
  status = collections.Counter(row.status for row in rows)
  reasons = collections.Counter(_kind(reason) for row in rows for reason in row.reasons)
  labels = collections.Counter(row.label for row in rows if row.status != "rejected")
  return {"shapes": len(rows), "status": {name: status[name] for name in ("accepted", "warned", "rejected")},
          "labels": dict(sorted(labels.items())), "reasons": dict(reasons.most_common())}


def write_report(rows: Sequence[Row], root: pathlib.Path) -> None:
  """Writes quality.csv, summary.json and index.json (the accepted shapes) into a folder.

  Raises:
    CannotWrite, IOFault: the folder refuses or the disk is full.
  """
  kept = [dataclasses.asdict(row) for row in rows if row.status != "rejected"]
  try:
    strict_json.replace(root / TABLE, table(rows).encode())
  except OSError as error:
    raise from_os_error(error, root) from None
  strict_json.write(root / SUMMARY, summary(rows))
  strict_json.write(root / INDEX, kept)


def read_index(root: pathlib.Path) -> list[Row]:
  """The accepted shapes of a prepared folder.

  Raises:
    MissingInput: no index there. BadData: it is not one.
  """
  content = strict_json.read(root / INDEX)
  try:
    rows = [Row(**{**item, "reasons": tuple(item["reasons"])}) for item in content]
  except (TypeError, KeyError):
    raise BadData(root / INDEX, "is not the index of prepared data", "run fields3d prepare again") from None
  if not rows:
    raise BadData(root / INDEX, "names no shape", "run fields3d prepare again on shapes that it accepts")
  return rows


def _kind(reason: str) -> str:
  """A reason without its remedy, its numbers and its file, so that equal ones count together."""
  words = (word.strip(",:()") for word in reason.split(";")[0].split())
  return " ".join(word for word in words if not any(c.isdigit() for c in word) and "/" not in word)
