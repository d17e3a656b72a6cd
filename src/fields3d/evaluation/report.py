"""report.html: one self-contained page of a run, its results, pictures, an interactive view, curves and record.

The page opens from disk and asks the network for nothing; its content security policy forbids it to, and lets only
our two scripts run (by their hashes). Whatever comes from data or configs is escaped.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from fields3d.core.errors import from_os_error
from fields3d.core.strict_json import read, replace
from fields3d.evaluation.curves import read_curves
from fields3d.evaluation.report_tables import cards, metric_table, number, row_table, words
from fields3d.evaluation.report_views import (
    CURVE_FILE,
    curve_series,
    curve_table,
    embedded,
    other_pictures,
    view_pictures,
)
from fields3d.evaluation.results import Evaluation, Row

MODEL_BYTES = 10 << 20  # Of base64 text, for all models of the page.
NUM_PICTURED = 300  # Shapes whose pictures are shown.
VIEWED = {"preview", "truth_preview", "picture", "truth_picture"}  # Kinds of files in the gallery of shapes.
SHOWN_ELSEWHERE = VIEWED | {"comparison", "prediction"}  # The last stands in the comparison.
_SCRIPT_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def evaluation_dir(workdir: pathlib.Path, step: int, section: str) -> pathlib.Path:
  """Where the files of a config's evaluator stand."""
  return workdir / "eval" / str(step) / section


def write_report(workdir: pathlib.Path, step: int, evaluations: Mapping[str, Evaluation], *, command: str,
                 config: Mapping[str, Any], environment: Mapping[str, Any],
                 failed: Mapping[str, str] | None = None) -> pathlib.Path:
  """Writes `workdir`/report.html, whole or not at all.

  Args:
    step: of the checkpoint that was evaluated. evaluations: the config's section -> what its evaluator found; its
      files are read from `evaluation_dir`.
    command: that made the evaluations, a line each. config: the run's. environment: commit, hardware, versions; nested plain data.
    failed: section -> the line that says why it has no results, or only older ones.

  Returns:
    The path written.

  Raises:
    CannotWrite, IOFault, MissingInput: a file cannot be read or written.
  """
  try:
    page = render_page(workdir, step, evaluations, command, config, environment, failed)
    replace(workdir / "report.html", page.encode())
  except OSError as error:
    raise from_os_error(error, workdir / "report.html") from error
  return workdir / "report.html"


def render_page(workdir: pathlib.Path, step: int, evaluations: Mapping[str, Evaluation], command: str,
                config: Mapping[str, Any], environment: Mapping[str, Any],
                failed: Mapping[str, str] | None = None) -> str:
  """The page's text; see `write_report`."""
  viewer, curves_js, style, template = map(_resource, ("viewer.js", "curves.js", "report.css", "report.html"))
  models = _Models()
  gallery = _gallery(workdir, step, evaluations, models)
  curves, curve = read_curves(workdir / "metrics.jsonl"), workdir / CURVE_FILE
  quality = read(curve) if curve.is_file() else None
  series = curve_series(quality) + curves.series
  warned = [f"{section} has no {'newer ' * (section in evaluations)}results: {line}" for section, line in (failed or {}).items()]
  warned += [line for e in evaluations.values() for line in e.warnings] + models.warnings() + curves.warnings
  return string.Template(template).substitute(
      policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
             f"script-src {csp_hash(viewer)} {csp_hash(curves_js)}",
      title=html.escape(workdir.resolve().name), style=style, summary=_summary(step, evaluations, environment),
      command=html.escape(command), warnings=_warnings(warned), cards=cards(evaluations),
      gallery=gallery, curves=curve_table(quality) + _curves([s.name for s in series]),
      tables="".join(_tables(section, e) for section, e in evaluations.items()),
      record=_record(config, environment, evaluations, curves.notes),
      payload=models.elements() + json_element("curves", [s.to_json() for s in series]),
      viewer_script=viewer, curves_script=curves_js)


class _Models:
  """The GLBs that the page holds, as base64, up to a budget."""

  def __init__(self):
    self.texts: list[str] = []
    self.size = self.refused = 0

  def add(self, path: pathlib.Path) -> str:
    """The id of the element that will hold the file; empty if the budget is spent."""
    text = base64.b64encode(path.read_bytes()).decode()
    if self.size + len(text) > MODEL_BYTES:
      self.refused += 1
      return ""
    self.size += len(text)
    self.texts.append(text)
    return f"model-{len(self.texts) - 1}"

  def elements(self) -> str:
    element = '<script type="application/octet-stream" id="model-{}">{}</script>\n'.format
    return "".join(element(i, text) for i, text in enumerate(self.texts))

  def warnings(self) -> list[str]:
    if not self.refused:
      return []
    return [f"{self.refused} models stay out of the interactive view, to keep this page small"]


def _resource(name: str) -> str:
  return importlib.resources.files("fields3d.evaluation").joinpath(name).read_text("utf-8")


def csp_hash(script: str) -> str:
  """The source expression by which a content security policy lets just this script run."""
  return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def json_element(name: str, value: Any) -> str:
  """A value as a JSON element of a page, nothing in which can end the element."""
  text = json.dumps(value, allow_nan=False).translate(_SCRIPT_SAFE)
  return f'<script type="application/json" id="{name}">{text}</script>'


def _summary(step: int, evaluations: Mapping[str, Evaluation], environment: Mapping[str, Any]) -> str:
  facts = [f"Step {step:,}"]
  for unit in dict.fromkeys(e.unit for e in evaluations.values() if e.rows):
    num = sum(len(e.rows) for e in evaluations.values() if e.unit == unit)
    facts.append(f"{num} {unit}{'s' * (num != 1)}")
  git, cpu, devices = (environment.get(key) or {} for key in ("git", "cpu", "devices"))
  if git.get("commit"):
    facts.append(f"commit {git['commit'][:10]}" + " with changes" * bool(git.get("dirty")))
  facts += [f"{cpu['cores']} x {cpu['model']}"] if cpu.get("model") else []
  if devices.get("count"):
    facts.append(f"{devices['count']} {devices['backend']} device{'s' * (devices['count'] != 1)}")
  facts += [environment["time"]] if environment.get("time") else []
  return html.escape(" · ".join(facts))


def _warnings(lines: Sequence[str]) -> str:
  if not lines:
    return ""
  items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
  return f'<aside class="warnings"><strong>To know before reading the figures</strong><ul>{items}</ul></aside>'


def _gallery(workdir: pathlib.Path, step: int, evaluations: Mapping[str, Evaluation], models: _Models) -> str:
  """What can be seen: shapes with a viewer for them all, then the views and the other pictures of each section."""
  shapes = {section: e for section, e in evaluations.items() if any(VIEWED & set(row.files) for row in e.rows)}
  parts = [_shape_gallery(workdir, step, shapes, models)] * bool(shapes)
  for section, e in evaluations.items():
    here = evaluation_dir(workdir, step, section)
    parts += [view_pictures(section, here, e.rows), other_pictures(section, here, e.rows, SHOWN_ELSEWHERE)]
  return "".join(parts)


def _shape_gallery(workdir: pathlib.Path, step: int, evaluations: Mapping[str, Evaluation], models: _Models) -> str:
  groups = []
  for section, evaluation in evaluations.items():
    here = evaluation_dir(workdir, step, section)
    shown = evaluation.rows[:NUM_PICTURED]
    title = f"<h3>{html.escape(section)}</h3>" if len(evaluations) > 1 else ""
    groups.append(f'{title}<div class="grid">{"".join(_shape(here, row, models) for row in shown)}</div>')
  return f"""<section aria-labelledby="shapes"><h2 id="shapes">Shapes</h2>
<p class="lead">Prediction on the left, truth on the right, seen alike. Choose a pair to turn it.</p>
<div class="show">
<div class="viewer" data-viewer>
  <div class="stage">
    <canvas tabindex="0" aria-label="Interactive view. Arrow keys orbit, plus and minus zoom."></canvas>
    <span class="pane" data-pane hidden>Prediction</span><span class="pane truth" data-pane hidden>Truth</span></div>
  <div class="bar"><output data-status aria-live="polite"></output>
    <button type="button" data-act="truth" aria-pressed="true">Truth</button>
    <button type="button" data-act="wire" aria-pressed="false">Wireframe</button>
    <button type="button" data-act="turn" aria-pressed="false">Turn</button>
    <button type="button" data-act="reset">Reset</button></div>
  <p class="keys">Drag to orbit, scroll or pinch to zoom. Keys: arrows, <kbd>+</kbd> <kbd>-</kbd>, <kbd>n</kbd> next,
    <kbd>p</kbd> previous, <kbd>t</kbd> truth, <kbd>w</kbd> wireframe, <kbd>a</kbd> turn, <kbd>r</kbd> reset.</p>
</div>
<div class="shapes" tabindex="-1">{"".join(groups)}</div>
</div></section>"""


def _shape(here: pathlib.Path, row: Row, models: _Models) -> str:
  """A card with the pair of pictures; a button if the viewer has the shape."""
  files = row.files
  name, score = html.escape(row.name), next((m for m in row.metrics if m.name == "volumetric_iou"), None)
  mesh, truth = (models.add(here / files[kind]) if kind in files else "" for kind in ("preview", "truth_preview"))
  pictures = "".join(_picture(here, files.get(kind), text, name, row.status)
                     for kind, text in (("picture", "prediction"), ("truth_picture", "truth")))
  note = "failed" if row.status != "ok" else f"IoU {number(score.value)}" if score else ""
  inner = f'<span class="pair">{pictures}</span><span class="name"><b title="{name}">{name}</b><i>{note}</i></span>'
  if not (mesh or truth):
    return f'<div class="shape">{inner}</div>'
  return (f'<button type="button" class="shape" data-shape="{name}" data-mesh="{mesh}" '
          f'data-truth="{truth}" '
          f'aria-pressed="false">{inner}</button>')


def _picture(here: pathlib.Path, file: str | None, text: str, name: str, status: str) -> str:
  if file is None:
    return f'<span class="none">{html.escape(status)}</span>'
  return f'<span>{embedded(here / file, f"{name}, {text}")}</span>'


def _tables(section: str, evaluation: Evaluation) -> str:
  name = html.escape(section)
  about = ", ".join(f"{key} {words(value)}" for key, value in evaluation.settings.items() if value is not None)
  figures = metric_table(evaluation.metrics, evaluation.unit, evaluation.control) if evaluation.metrics else ""
  rows = f"<h3>By {html.escape(evaluation.unit)}</h3>\n{row_table(evaluation.rows, evaluation.unit)}"
  return f"""<section aria-labelledby="metrics-{name}"><h2 id="metrics-{name}">Metrics: {name}</h2>
<p class="lead">{html.escape(about)}</p>
{figures}
{rows if evaluation.rows else ""}</section>"""


def _curves(names: Sequence[str]) -> str:
  if not names:
    return '<section><h2>Learning curves</h2><p class="lead">No metrics.jsonl stands beside this run.</p></section>'
  figures = "".join(f'<figure data-curve="{i}"><figcaption>{html.escape(name)}<output></output></figcaption></figure>'
                    for i, name in enumerate(names))
  return ('<section aria-labelledby="learning"><h2 id="learning">Learning curves</h2><label class="switch">'
          '<input type="checkbox" id="log-scale" checked> Logarithmic where all values are positive</label>'
          f'<div class="charts">{figures}</div></section>')


def _record(config: Mapping[str, Any], environment: Mapping[str, Any], evaluations: Mapping[str, Evaluation],
            notes: Sequence[str]) -> str:
  """The config and everything needed to repeat the run."""
  seeds = {"training": config.get("seed", 0)}
  seeds |= {f"evaluation {section}": e.settings.get("seed") for section, e in evaluations.items()}
  entries = [(key, value) for key, value in environment.items() if value is not None] + [("seeds", seeds)]
  items = "".join(f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(words(value))}</dd>" for key, value in entries)
  text, said = html.escape(json.dumps(config, indent=2)), html.escape("\n".join(notes))
  return ('<section aria-labelledby="record"><h2 id="record">Record</h2>'
          f"<details open><summary>Hardware, versions, seeds</summary><dl>{items}</dl></details>"
          f"<details><summary>Config</summary><pre>{text}</pre></details>"
          + f"<details><summary>Notes of the training</summary><pre>{said}</pre></details>" * bool(notes)
          + "</section>")
