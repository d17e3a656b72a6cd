"""Results as tables that stand alone: one form, written as Markdown and as LaTeX (booktabs).

Each table says what its figures are: protocol, seeds, interval, command and commit stand in its notes.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fields3d.evaluation.records import Record
from fields3d.evaluation.report_tables import interval, number
from fields3d.evaluation.results import Evaluation, Metric, bare

ARROWS = {"lower": "↓", "higher": "↑"}
PAGE_ROWS = 40  # Of one LaTeX table; more are continued in another.


@dataclasses.dataclass(frozen=True)
class Line:
  """One line of a table: its head, the numbers of the notes that belong to it (from 1), its cells."""
  head: str
  marks: tuple[int, ...]
  cells: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of plain text. columns: heads, the first that of the lines' heads. notes: numbered; caption: what it is."""
  caption: str
  columns: tuple[str, ...]
  lines: tuple[Line, ...]
  notes: tuple[str, ...] = ()
  footer: tuple[str, ...] = ()


def by_name(metrics: Sequence[Metric]) -> dict[str, dict[str, Metric]]:
  """name -> subject -> metric, in the order of first appearance."""
  found: dict[str, dict[str, Metric]] = {}
  for metric in metrics:
    found.setdefault(metric.name, {})[metric.subject] = metric
  return found


def other_subjects(rows: Mapping[str, Mapping[str, Metric]]) -> list[str]:
  """The subjects besides the prediction, in the order of first appearance.

  >>> other_subjects({"a": {"prediction": None}, "b": {"prediction": None, "improvement": None}})
  ['improvement']
  """
  return list(dict.fromkeys(subject for row in rows.values() for subject in row if subject != "prediction"))


def short_names(names: Sequence[str]) -> dict[str, str]:
  """name -> the name without the protocol in brackets, where that leaves every name different from the others.

  >>> short_names(["psnr [a, white]/mean", "ssim [a, white]/mean"])
  {'psnr [a, white]/mean': 'psnr/mean', 'ssim [a, white]/mean': 'ssim/mean'}
  """
  plain = [bare(name) for name in names]
  return {name: short if plain.count(short) == 1 else name for name, short in zip(names, plain)}


def evaluation_table(section: str, evaluation: Evaluation, step: int, made: Mapping[str, Any], run: str = "") -> Table:
  """The table of one evaluation: value, interval, control, n; a column for each baseline.

  Args:
    section: of the config. made: `Record.provenance` of the section. run: the run's name.
  """
  rows = by_name(evaluation.metrics)
  others, short = other_subjects(rows), short_names(list(rows))
  notes: dict[str, int] = {}
  lines = []
  for name, row in rows.items():
    own = row.get("prediction") or next(iter(row.values()))
    text = own.protocol if short[name] == name else " ".join([own.protocol, *re.findall(r"\[.*\]", name)])
    mark = notes.setdefault(text, len(notes) + 1)
    shown = row.get("prediction")
    cells = (_value(shown), interval(shown) if shown else "", number(own.floor), f"{own.n:,}",
             *(f"{_value(row.get(other))} {interval(row[other]) if other in row else ''}".strip() for other in others))
    lines.append(Line(f"{short[name]} {ARROWS[own.better]}", (mark,), cells))
  seeds = sorted({metric.seed for metric in evaluation.metrics})
  said = [f"{evaluation.name}, step {step:,}", f"seed {', '.join(map(str, seeds))}" if seeds else ""]
  footer = ["; ".join(filter(None, said)), *(f"Warning: {line}" for line in evaluation.warnings)]
  footer += [f"Made by: {made['command']}" + (f" at commit {made['commit']}" if made.get("commit") else "")
             + (f", {made['time']}" if made.get("time") else "")] if made.get("command") else []
  columns = ("Metric", "Value", "95% interval", evaluation.control.capitalize(), "n",
             *(other.replace("_", " ").capitalize() for other in others))
  return Table(f"{run}: {section}" if run else section, columns, tuple(lines), tuple(notes), tuple(footer))


def record_tables(record: Record, run: str) -> list[Table]:
  """A table for each section of a record."""
  return [evaluation_table(section, evaluation, record.step, record.provenance.get(section, {}), run)
          for section, evaluation in record.evaluations.items()]


def _value(metric: Metric | None) -> str:
  return "" if metric is None else number(metric.value)


def markdown(tables: Sequence[Table]) -> str:
  """The tables as Markdown (GitHub's), each with its notes below."""
  return "\n".join(map(_markdown_table, tables))


def _markdown_table(table: Table) -> str:
  lines = [f"### {escape_markdown(table.caption)}", ""]
  row = lambda cells: f"| {' | '.join(cells)} |"
  lines += [row(map(escape_markdown, table.columns)), row([":--", *["--:"] * (len(table.columns) - 1)])]
  for line in table.lines:
    marks = f"<sup>{','.join(map(str, line.marks))}</sup>" if line.marks else ""
    lines.append(row([escape_markdown(line.head) + marks, *map(escape_markdown, line.cells)]))
  lines.append("")
  for k, note in enumerate(table.notes, 1):
    lines += [f"<sup>{k}</sup> {escape_markdown(note)}", ""]
  for note in table.footer:
    lines += [escape_markdown(note), ""]
  return "\n".join(lines)


def escape_markdown(text: str) -> str:
  r"""Text that Markdown shows as it stands, on one line.

  >>> print(escape_markdown("a_b*[c]|<d>\ne"))
  a\_b\*\[c\]\|&lt;d&gt; e
  """
  text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", " ".join(text.split()))
  return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(tables: Sequence[Table]) -> str:
  """The tables as LaTeX to \\input: each a table float that needs the package booktabs, and no other."""
  head = "% \\usepackage{booktabs} in the preamble; then \\input this file.\n"
  return head + "\n".join(_latex_table(part) for table in tables for part in _pages(table))


def _pages(table: Table) -> list[Table]:
  """The table in parts of at most `PAGE_ROWS` lines, the notes under the last."""
  cuts = range(0, max(len(table.lines), 1), PAGE_ROWS)
  return [table if len(cuts) == 1 else dataclasses.replace(
      table, caption=table.caption + " (continued)" * (k > 0), lines=table.lines[k:k + PAGE_ROWS],
      notes=table.notes if k == cuts[-1] else (), footer=table.footer if k == cuts[-1] else ()) for k in cuts]


def _latex_table(table: Table) -> str:
  row = lambda cells: " & ".join(cells) + r" \\"
  lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(table.caption)}}}", r"\small",
           rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule",
           row(map(escape_latex, table.columns)), r"\midrule"]
  for line in table.lines:
    marks = rf"\textsuperscript{{{','.join(map(str, line.marks))}}}" if line.marks else ""
    lines.append(row([escape_latex(line.head) + marks, *map(escape_latex, line.cells)]))
  lines += [r"\bottomrule", r"\end{tabular}", ""]
  notes = [rf"\textsuperscript{{{k}}}~{escape_latex(note)}" for k, note in enumerate(table.notes, 1)]
  notes += [escape_latex(note) for note in table.footer]
  if notes:
    lines += [r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", "\n\n".join(notes), r"\end{minipage}"]
  return "\n".join([*lines, r"\end{table}", ""])


_LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&",
          "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}", "–": "--", "—": "---",
          "−": "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$",
          "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}", "°": r"$^{\circ}$", "µ": r"$\mu$",
          "…": r"\dots{}", "≤": r"$\leq$", "≥": r"$\geq$", "[": "{[}", "]": "{]}", "-": "-{}"}
_ACCENTED = frozenset("ÀÁÂÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖØÙÚÛÜàáâäåæçèéêëìíîïñòóôöøùúûüß")
_NUMBER = re.compile(r"((?<![\w.-])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?![\w.-]))")


def escape_latex(text: str) -> str:
  r"""Text that LaTeX shows as it stands; what its usual fonts lack is shown as its code point.

  >>> print(escape_latex("a_b 50% 1.2e-05 -3 \u4e2d"))
  a\_b 50\% $1.2\times10^{-5}$ $-3$ {[}U+4E2D{]}
  """
  out = []
  for part in _NUMBER.split(" ".join(text.split())):
    digits, e, exponent = part.partition("e")
    if _NUMBER.fullmatch(part) and (e or part.startswith("-")):
      out.append(rf"${digits}\times10^{{{int(exponent)}}}$" if e else f"${part}$")
    else:
      out += [_LATEX.get(c, c if c.isascii() and c.isprintable() or c in _ACCENTED else f"{{[}}U+{ord(c):04X}{{]}}") for c in part]
  return "".join(out)
