"""The report is one file that needs no network, shows every figure, and lets no data become markup or script."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import trimesh
from PIL import Image

from fields3d.core.errors import Fault
from fields3d.core.types import Mesh
from fields3d.evaluation import report
from fields3d.evaluation.geometry import compare
from fields3d.evaluation.image_set import summarise_images
from fields3d.evaluation.preview import write_previews
from fields3d.evaluation.report import evaluation_dir, render_page, write_report
from fields3d.evaluation.results import Evaluation, Metric, Row

EVIL = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>\u2028'
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def sphere(radius):
  found = trimesh.creation.icosphere(subdivisions=2, radius=radius)
  vertices = np.asarray(found.vertices, np.float64)
  return Mesh(vertices, np.asarray(found.faces, np.int64), (127 + 100 * vertices).astype(np.uint8))


@pytest.fixture
def run(tmp_path):
  """A run directory with a metrics file, and an evaluation of a good and a failed shape, named by an enemy."""
  out = evaluation_dir(tmp_path, 12, "main")
  out.mkdir(parents=True)
  metrics = compare(sphere(0.8), sphere(0.9), points=200, iou_points=200)
  files = write_previews(sphere(0.8), sphere(0.9), out, "0000_a", 16, 100)
  failed = write_previews(None, sphere(0.9), out, "0001_b", 16, 100)
  nothing = compare(None, sphere(0.9), points=200, iou_points=200)
  rows = [Row(EVIL, EVIL, 0, "ok", metrics, (), {"vertices": 162, "watertight": True}, files),
          Row("b", "ball", 1, "no zero crossing", nothing, (), {}, failed)]
  lines = [json.dumps({"step": i, "loss": 1 / (i + 1), EVIL: 1.0}) + "\n" for i in range(9)]
  (tmp_path / "metrics.jsonl").write_text("".join(lines))
  settings = {"seed": 3, "note": EVIL}
  return tmp_path, {"main": Evaluation("geometry", metrics, rows, (f"1 of 2 failed: {EVIL}",), settings)}


def page_of(run, **changes):
  workdir, evaluations = run
  given = {"command": f"fields3d evaluate {EVIL}", "config": {"seed": 1, "task": EVIL},
           "environment": {"git": {"commit": "0123456789abcdef", "dirty": True}, "cpu": {"model": EVIL, "cores": 2}}}
  return render_page(workdir, 12, evaluations, **(given | changes))


class Elements(html.parser.HTMLParser):
  """Every element with its attributes, and the text of scripts."""

  def __init__(self, text):
    super().__init__()
    self.found, self.scripts, self.open = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.found.append((tag, dict(attrs)))
    if tag == "script":
      self.scripts.append([dict(attrs), ""])
    if tag not in ("meta", "link", "img", "input"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    if self.open and self.open[-1] == tag:
      self.open.pop()

  def handle_data(self, data):
    if self.open and self.open[-1] == "script":
      self.scripts[-1][1] += data


def test_no_data_becomes_an_element_or_an_attribute(run):
  elements = Elements(page_of(run))
  assert elements.open == []  # Every element is closed.
  assert not [a for _, attributes in elements.found for a in attributes if a.startswith("on")]
  images = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
  assert len(images) == 3 and all(src.startswith("data:image/webp;base64,") for src in images)
  assert "alert(1)" not in "".join(text for attributes, text in elements.scripts if "type" not in attributes)


def test_only_our_two_scripts_may_run(run):
  elements = Elements(page_of(run))
  policy = next(a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
  executable = [text for attributes, text in elements.scripts if "type" not in attributes]
  assert len(executable) == 2 and "default-src 'none'" in policy and "unsafe-inline'; base" in policy
  allowed = re.search(r"script-src (.*)$", policy)[1].split()
  hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in executable]
  assert allowed == hashes


def test_the_page_asks_the_network_for_nothing(run):
  text = page_of(run)
  elements = Elements(text)
  linked = [a[k] for _, a in elements.found for k in ("src", "href", "action", "poster", "srcset") if k in a]
  assert all(link.startswith("data:") for link in linked)
  style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
  assert "url(" not in style and "@import" not in style
  assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|import\(", text)


def test_every_figure_stands_with_interval_floor_n_seed_and_protocol(run):
  text = page_of(run)
  for metric in run[1]["main"].metrics:
    shown = [f"{metric.value:.4g}", f"{metric.floor:.4g}", f"{metric.n:,}"]
    shown += [] if metric.low is None else [f"[{metric.low:.4g}, {metric.high:.4g}]"]
    assert all(part in text for part in shown), metric.name
    assert metric.protocol.replace("'", "&#x27;") in text
  assert "0123456789" in text and "no zero crossing" in text and "1 of 2 failed" in text


def test_models_in_the_page_are_the_previews_byte_for_byte(run):
  workdir, evaluations = run
  elements = Elements(page_of(run))
  models = [(a, text) for a, text in elements.scripts if a.get("type") == "application/octet-stream"]
  held = {a["id"]: base64.b64decode(text) for a, text in models}
  button = next(a for tag, a in elements.found if tag == "button" and "data-shape" in a)
  files = evaluations["main"].rows[0].files
  here = evaluation_dir(workdir, 12, "main")
  assert held[button["data-mesh"]] == (here / files["preview"]).read_bytes()
  assert held[button["data-truth"]] == (here / files["truth_preview"]).read_bytes()
  assert button["data-shape"] == EVIL


def test_curves_are_in_the_page_as_data(run):
  elements = Elements(page_of(run))
  text = next(text for attributes, text in elements.scripts if attributes.get("id") == "curves")
  curves = json.loads(text)
  assert curves[0]["name"] == "loss" and curves[0]["value"][1] == 0.5
  assert curves[1]["name"] == EVIL and "<" not in text


def test_models_beyond_the_budget_are_left_out_and_said_so(run, monkeypatch):
  monkeypatch.setattr(report, "MODEL_BYTES", 8000)
  text = page_of(run)
  assert "2 models stay out of the interactive view" in text or "1 models stay out" in text
  assert len(text) < 200_000


def test_the_report_is_written_whole_and_a_bad_place_is_one_line(run):
  workdir, evaluations = run
  path = write_report(workdir, 12, evaluations, command="x", config={}, environment={})
  assert path == workdir / "report.html" and path.read_text().startswith("<!doctype html>")
  path.unlink()
  path.mkdir()
  with pytest.raises(Fault, match="report.html.* is a directory"):
    write_report(workdir, 12, evaluations, command="x", config={}, environment={})


@pytest.fixture
def viewed(tmp_path):
  """A run directory with an evaluation of forty large views and a curve, all named by an enemy."""
  out = evaluation_dir(tmp_path, 12, "main")
  out.mkdir(parents=True)
  noise = np.random.default_rng(0).integers(0, 256, (800, 2400, 3), np.uint8)
  Image.fromarray(noise).save(out / "comparison.png", compress_level=1)
  rows = []
  for i in range(40):
    found = (Metric("psnr", 20.0 + (7 * i) % 40, None, None, 1, 0, None, "higher", "dB"),)
    files = {"comparison": "comparison.png"} if i < 14 or i in (17, 20) else {}
    rows.append(Row(f"{EVIL}{i}", "800x800", i, "ok", found, (), {"render_ms": 12.5}, files))
  metrics = summarise_images(rows, f"{EVIL} test 800x800, white, sRGB", 3)
  points = [{"step": s, "seconds": s / 10, "value": 30.0 + s / 1000} for s in (100, 200)]
  (tmp_path / "eval" / "curve.json").write_text(json.dumps({"name": EVIL, "points": points}))
  return tmp_path, {"main": Evaluation("views", metrics, rows, (), {"seed": 3}, "view")}


def test_views_show_the_worst_median_and_best_beside_their_photographs(viewed):
  text = page_of(viewed)
  elements = Elements(text)
  images = [attributes for tag, attributes in elements.found if tag == "img"]
  assert elements.open == [] and "data-viewer" not in text.partition("<script>")[0]
  assert [a["alt"].removeprefix(EVIL).partition(":")[0] for a in images[:3]] == ["0", "20", "17"]
  assert all(f"<b>{word}</b>" in text for word in ("worst", "median", "best"))
  assert all((a["width"], a["height"]) == ("1200", "400") for a in images)
  assert len(text) < 15 << 20


def test_figures_of_views_stand_in_cards_tables_and_the_curve(viewed):
  text = page_of(viewed)
  mean = viewed[1]["main"].metrics[0]
  assert f'PSNR, dB</h3><div class="value">{mean.value:.4g}</div>' in text and "40 views" in text
  assert text.count('<td data-value="12.5">12.5</td>') == 40 and "By view" in text and ">Size<" in text
  curves = json.loads(next(t for a, t in Elements(text).scripts if a.get("id") == "curves"))
  assert curves[0] == {"name": EVIL, "unit": "second", "step": [10, 20], "value": [30.1, 30.2]}
  assert "<tr><td>200</td><td>20</td><td><b>30.2</b></td></tr>" in text


def test_a_headline_in_two_protocols_says_on_each_card_which(tmp_path):
  metrics = [Metric(f"volumetric_iou{protocol}/mean", value, None, None, 3, 0, 1.0, "higher", "volume in both over volume in either")
             for protocol, value in (("", 0.75), (" [occnet]", 0.5))]
  shown = lambda *chosen: page_of((tmp_path, {"main": Evaluation("geometry", chosen, [])}))
  assert '<h3>Volumetric IoU</h3><div class="value">0.75</div>' in shown(metrics[0])
  assert '<h3>Volumetric IoU [occnet]</h3><div class="value">0.5</div>' in shown(*metrics)


def test_an_evaluator_that_the_report_does_not_know_is_shown_whole(tmp_path):
  out = evaluation_dir(tmp_path, 12, "sets")
  out.mkdir(parents=True)
  Image.new("RGB", (30, 20)).save(out / "sheet.png")
  metrics = (Metric("1-NNA-CD", 0.61, 0.58, 0.64, 400, 0, 0.5012, "lower", "PointFlow"),
             Metric("COV-CD", 0.4, None, None, 400, 0, None, "higher", "PointFlow"))
  rows = [Row(f"nearest {EVIL}", "", 0, "ok", facts={"genus": 3, "closed": True, "parts": {"a": 1}},
              files={"sheet": "sheet.png", "table": "x.csv"})]
  text = page_of((tmp_path, {"sets": Evaluation("distribution", metrics, rows, (), {}, "sample", "real control")}))
  elements = Elements(text)
  assert elements.open == [] and "alert(1)" not in "".join(t for a, t in elements.scripts if "type" not in a)
  assert [a["alt"] for tag, a in elements.found if tag == "img"] == [f"nearest {EVIL}: sheet"]
  for part in ("<th scope=\"col\">Real control</th>", "real control 0.5012 · n = 400", "<td>the set</td>", "<h3>1-NNA-CD</h3>",
               "By sample", "genus", "Pictures: sets", "0.4"):
    assert part in text, part
  assert "truth against itself" not in text and "data-viewer" not in text.partition("<script>")[0]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_meshes_and_draws_the_curves(run):
  path = write_report(*[run[0], 12, run[1]], command="x", config={}, environment={})
  flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
           "--enable-unsafe-swiftshader", "--disable-background-networking", "--virtual-time-budget=5000",
           f"--user-data-dir={run[0] / 'browser'}", "--dump-dom", path.as_uri()]
  shown = subprocess.run([CHROMIUM, *flags], capture_output=True, text=True, timeout=120, check=True).stdout
  assert re.search(r"<output[^>]*data-status[^>]*>[^<]*· \d+ triangles shown</output>", shown)
  assert shown.count('class="curve"') == 2
