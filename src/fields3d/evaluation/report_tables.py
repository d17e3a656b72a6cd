"""The report's figures as HTML: headline cards, the metric table with its ranges, the table by shape or view."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fields3d.evaluation.results import Evaluation, Metric, Row, bare

HEADLINES = {"volumetric_iou": "Volumetric IoU", "chamfer_mean_unsquared": "Chamfer, mean unsquared",
             "chamfer_deepsdf": "Chamfer, DeepSDF convention", "normal_consistency": "Normal consistency",
             "psnr": "PSNR, dB", "ssim_gauss11_range1": "SSIM",
             "lpips_alex_v0.1": "LPIPS, AlexNet v0.1"}
_FACTS = ("vertices", "faces", "watertight", "components", "seconds", "nearest_training_shape", "render_ms")  # First.
_NUM_FACTS = 24  # Columns of facts, at most.
_NUM_CARDS = 4  # Of an evaluation whose figures are not among the headlines.
_LABELS = {"shape": "Label", "view": "Size"}
BASELINE = "nearest_training_shape"


def number(value: float | None) -> str:
  """Four significant digits; a dash for what is undefined.

  >>> number(0.98765), number(0.00001234), number(None), number(1)
  ('0.9877', '1.234e-05', '–', '1')
  """
  return "–" if value is None else f"{value:.4g}"


def words(value: Any) -> str:
  """Plain data as people read it.

  >>> words({"jax": "0.10.2", "dirty": False}), words([1, 20000]), words(None)
  ('jax 0.10.2 · dirty no', '1, 20,000', '–')
  """
  if isinstance(value, Mapping):
    return " · ".join(f"{key} {words(part)}" for key, part in value.items())
  if isinstance(value, (list, tuple)):
    return ", ".join(map(words, value))
  if isinstance(value, bool):
    return "yes" if value else "no"
  return "–" if value is None else f"{value:,}" if isinstance(value, (int, float)) else str(value)


def interval(metric: Metric) -> str:
  """[low, high], or nothing where there is none."""
  return "" if metric.low is None else f"[{number(metric.low)}, {number(metric.high)}]"


def headlines(evaluation: Evaluation) -> list[tuple[str, Metric]]:
  """(title, metric) of the headline figures of the prediction that an evaluation has; of one in several protocols, with theirs."""
  out = []
  for key, title in HEADLINES.items():
    found = [m for m in evaluation.metrics if m.subject == "prediction" and bare(m.name) in (key, f"{key}/mean")]
    out += [(title + "".join(re.findall(r" \[.*\]", m.name)) * (len(found) > 1), m) for m in found]
  return out


def cards(evaluations: Mapping[str, Evaluation]) -> str:
  """The headline figures of each section, or its first few where none is known; the former sections first."""
  out = []
  for section, e in sorted(evaluations.items(), key=lambda item: not headlines(item[1])):
    first = [(bare(m.name), m) for m in e.metrics if m.subject == "prediction" and not m.name.endswith("/median")]
    shown = "".join(_card(title, m, e) for title, m in headlines(e) or first[:_NUM_CARDS])
    title = f"<h3>{html.escape(section)}</h3>" if len(evaluations) > 1 else ""
    out += [f'{title}<div class="cards"{" style=margin-top:0" * bool(title)}>{shown}</div>'] * bool(shown)
  return "".join(out)


def _card(title: str, metric: Metric, evaluation: Evaluation) -> str:
  rest = evaluation.control
  if rest == "floor" and metric.better == "higher":
    rest = "ceiling"
  unit = {"shape": "points", "view": "view"}.get(evaluation.unit, evaluation.unit)
  unit = f"{evaluation.unit}{'s' * (metric.n != 1)}" if "/" in metric.name else unit
  counted = f"{metric.n:,} {html.escape(unit)}" if evaluation.control == "floor" else f"n = {metric.n:,}"
  beside = "" if metric.floor is None else f"{html.escape(rest)} {number(metric.floor)} · "
  return (f'<div class="card"><h3>{html.escape(title)}</h3><div class="value">{number(metric.value)}</div>'
          f"<p>95% {interval(metric) or 'interval: none'}</p>"
          f"<p>{beside}{counted}</p></div>")


def metric_table(metrics: Sequence[Metric], unit: str = "shape", control: str = "floor") -> str:
  """By metric, with its protocol: value [interval], control, range; other subjects (a baseline) where there are any."""
  rows: dict[str, dict[str, Metric]] = {}
  for metric in metrics:
    rows.setdefault(metric.name, {})[metric.subject] = metric
  others = list(dict.fromkeys(m.subject for m in metrics if m.subject != "prediction"))
  heads = ["Metric", "Value [95% interval]", control.capitalize(), "Range",
           *(other.replace("_", " ").capitalize() for other in others), "n", "Seed"]
  body, group = [], None
  for name, row in rows.items():
    statistic = next((word for word in ("mean", "median") if name.endswith(f"/{word}")), "")
    kind = name.removesuffix(f"/{statistic}")
    metric = row.get("prediction") or next(iter(row.values()))
    if kind != group:
      group = kind
      body.append(_group(kind, metric, len(heads)))
    whole = f"this {unit}" if control == "floor" else "the set"
    body.append(_metric_row(statistic or whole, metric, row, others))
  head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
  return (f'<div class="scroll"><table class="metrics"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody>'
          f'</table></div><p class="legend">{_legend(control, BASELINE in others)}</p>')


def _group(kind: str, metric: Metric, columns: int) -> str:
  arrow = "lower is better" if metric.better == "lower" else "higher is better"
  return (f'<tr class="group"><th colspan="{columns}" scope="rowgroup"><b>{html.escape(kind)}</b> <i>{arrow}</i>'
          f"<p>{html.escape(metric.protocol)}</p></th></tr>")


def _metric_row(label: str, metric: Metric, row: Mapping[str, Metric], others: Sequence[str]) -> str:
  cells = [f"<td>{html.escape(label)}</td>", _figure(row.get("prediction")), f"<td>{number(metric.floor)}</td>",
           f"<td>{_range(row)}</td>", *(_figure(row.get(other)) for other in others)]
  return f"<tr>{''.join(cells)}<td>{metric.n:,}</td><td>{metric.seed}</td></tr>"


def _legend(control: str, compared: bool) -> str:
  dot = '<line class="span" x1="1" x2="21" y1="6" y2="6"/><circle class="own" cx="11" cy="6" r="4"/>'
  said = "floor: the truth against itself, sampled anew" if control == "floor" else control
  keys = [(dot, "value and interval"),
          ('<line class="floor" x1="11" x2="11" y1="0" y2="12"/>', html.escape(said)),
          *[('<circle class="other" cx="11" cy="6" r="4"/>', "nearest training shape")] * compared]
  return "".join(f'<span><svg class="key" viewBox="0 0 22 12" aria-hidden="true">{drawing}</svg>{words}</span>'
                 for drawing, words in keys)


def _figure(metric: Metric | None) -> str:
  if metric is None:
    return "<td>–</td>"
  return f"<td title='n = {metric.n:,}'><b>{number(metric.value)}</b> <small>{interval(metric)}</small></td>"


def _range(row: Mapping[str, Metric]) -> str:
  """A drawing of value, interval, floor and baseline on one scale."""
  ours, other = row.get("prediction"), row.get(BASELINE)
  if ours is None or ours.value is None:
    return ""
  known = [v for m in (ours, other) if m is not None for v in (m.value, m.low, m.high, m.floor) if v is not None]
  low, high = min(known), max(known)
  if math.isclose(low, high, rel_tol=1e-12, abs_tol=1e-300):
    low, high = low - 1, high + 1
  x = {v: round(8 + 134 * (v - low) / (high - low), 1) for v in known}
  parts = ['<line class="rail" x1="2" x2="148" y1="11" y2="11"/>']
  if ours.floor is not None:
    parts.append(f'<line class="floor" x1="{x[ours.floor]}" x2="{x[ours.floor]}" y1="3" y2="19"/>')
  if other is not None and other.value is not None:
    parts.append(f'<circle class="other" cx="{x[other.value]}" cy="11" r="4"/>')
  if ours.low is not None:
    parts.append(f'<line class="span" x1="{x[ours.low]}" x2="{x[ours.high]}" y1="11" y2="11"/>')
  parts.append(f'<circle class="own" cx="{x[ours.value]}" cy="11" r="4"/>')
  return f'<svg class="range" viewBox="0 0 150 22" aria-hidden="true">{"".join(parts)}</svg>'


def row_table(rows: Sequence[Row], unit: str = "shape") -> str:
  """One row a shape or view; a click on a heading sorts. Intervals and floors show on hovering."""
  names = next(([m.name for m in row.metrics] for row in rows if row.metrics), [])
  facts = fact_names(rows)
  heads = [unit.capitalize(), _LABELS.get(unit, "Label"), "Status", *names, *(fact.replace("_", " ") for fact in facts)]
  head = "".join(f'<th scope="col"{" class=text" * (i < 3)}><button type="button">{html.escape(h)}</button></th>'
                 for i, h in enumerate(heads))
  body = "".join(_row(row, names, facts) for row in rows)
  return ('<div class="scroll tall"><table data-sortable>'
          f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def fact_names(rows: Sequence[Row]) -> list[str]:
  """The facts of the rows that fit a cell (a number, a word, yes or no), the well-known first.

  >>> fact_names([Row("a", "", 0, "ok", facts={"genus": 1, "faces": 3, "per_part": {"a": 1}})])
  ['faces', 'genus']
  """
  plain = {key for row in rows for key, value in row.facts.items() if not isinstance(value, (dict, list, tuple))}
  found = dict.fromkeys(key for row in rows for key in row.facts if key in plain)
  return sorted(found, key=lambda key: _FACTS.index(key) if key in _FACTS else len(_FACTS))[:_NUM_FACTS]


def _row(row: Row, names: Sequence[str], facts: Sequence[str]) -> str:
  by_name = {metric.name: metric for metric in row.metrics}
  cells = [f"<td>{html.escape(row.name)}</td>",
           *(f"<td class=text>{html.escape(text)}</td>" for text in (row.label, row.status))]
  for name in names:
    metric = by_name.get(name)
    cells.append("<td>–</td>" if metric is None or metric.value is None else
                 f'<td data-value="{metric.value!r}" title="95% {interval(metric) or "no interval"}, floor '
                 f'{number(metric.floor)}">{number(metric.value)}</td>')
  for fact in facts:
    value = row.facts.get(fact)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    attribute = f' data-value="{value!r}"' if is_number else ""
    cells.append(f"<td{attribute}>{html.escape(words(value))}</td>")
  return f'<tr{" class=failed" * (row.status != "ok")}>{"".join(cells)}</tr>'
