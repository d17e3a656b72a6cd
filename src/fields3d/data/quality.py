"""The quality table of a preparation: one row a shape, accepted, warned of or rejected, and why."""

import collections
import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def table(rows: Iterable[Row]) -> Iterator[str]:
  """The rows as csv, line by line, its head first.

  >>> print(list(table([Row("a", "chair", "rejected", ("12 boundary edges",), "")]))[1], end="")
  a,chair,rejected,12 boundary edges,,,,,,,,,,,
  """
  yield _csv(("name", "label", "status", "reasons", *_FACTS, "licence", "creator", "key"))
  for row in rows:
    facts = [row.facts.get(name, "") for name in _FACTS]
    yield _csv((row.name, row.label, row.status, " | ".join(row.reasons), *facts, row.licence, row.creator, row.key))


def _csv(cells: Iterable[Any]) -> str:
  out = io.StringIO()
  csv.writer(out, lineterminator="\n").writerow(cells)
  return out.getvalue()


def _index(rows: Iterable[Row]) -> Iterator[str]:
  """The accepted rows as a JSON list, as `strict_json.write` would write it, in pieces."""
  start = "[\n  "
  for row in rows:
    if row.status != "rejected":
      yield start + json.dumps(dataclasses.asdict(row), indent=2, allow_nan=False).replace("\n", "\n  ")
      start = ",\n  "
  yield "[]\n" if start[0] == "[" else "\n]\n"


def summary(rows: Iterable[Row]) -> dict[str, Any]:
  """Counts by status and by label, and how often each reason stands, numbers in it left out.

  >>> summary([Row("a", "chair", "accepted", (), "k")])["status"]
  {'accepted': 1, 'warned': 0, 'rejected': 0}
  """
  status, reasons, labels = collections.Counter(), collections.Counter(), collections.Counter()
  for row in rows:
    status[row.status] += 1
    reasons.update(map(_kind, row.reasons))
    if row.status != "rejected":
      labels[row.label] += 1
  return {"shapes": status.total(), "status": {name: status[name] for name in ("accepted", "warned", "rejected")},
          "labels": dict(sorted(labels.items())), "reasons": dict(reasons.most_common())}


def write_report(rows: Sequence[Row], root: pathlib.Path) -> None:
  """Writes quality.csv, summary.json and index.json (the accepted shapes) into a folder, row by row; all three of one run.

  Raises:
    CannotWrite, IOFault: the folder refuses or the disk is full.
  """
  try:
    with strict_json.one_at_a_time(root):
      strict_json.replace(root / TABLE, (line.encode() for line in table(rows)))
      strict_json.write(root / SUMMARY, summary(rows))
      strict_json.replace(root / INDEX, (piece.encode() for piece in _index(rows)))
  except OSError as error:
    raise from_os_error(error, root) from None


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
