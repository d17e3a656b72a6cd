"""One page of a run that opens from disk: the field from a grid of places to drag between, and its meshes.

The page asks the network for nothing; its content security policy forbids it to, and lets only our two scripts run (by
their hashes). Whatever comes from data is escaped.
"""

import base64
import html
import importlib.resources
import io
import math
import pathlib
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from fields3d.core.errors import from_os_error
from fields3d.core.progress import progress
from fields3d.core.strict_json import make_place, replace
from fields3d.core.types import Camera
from fields3d.evaluation.report import csp_hash, json_element
from fields3d.rendering import paths
from fields3d.rendering.film import PICTURES
from fields3d.rendering.images import render_camera

PAGE_BYTES = 15 << 20
MESH_BYTES = 8 << 20  # of base64 text, for all meshes of the page
COLUMNS, ELEVATIONS = 36, (50.0, 30.0, 10.0)  # of an orbit: degrees, the upper row first
WINDOW = (9, 5)  # columns and rows of places before a forward-facing scene


def places(cameras: Sequence[Camera], facts: dict[str, Any], height: int) -> tuple[list[list[Camera]], bool]:
  """Rows of cameras, the upper first, each from left to right; and whether a row closes to a circle.

  Around the object, or, for forward-facing scenes, beside the photographs' middle.
  """
  width = round(height * cameras[0].size[0] / cameras[0].size[1])
  size = lambda row: [paths.reframed(camera, (width, height)) for camera in row]
  if ndc := facts.get("ndc"):
    columns, rows = (np.linspace(-1, 1, n) for n in WINDOW)
    return [size(paths.shifted(cameras, ndc["near"], math.inf, np.array([[x, -y, 0] for x in columns])))
            for y in rows], False
  return [size(paths.orbit(cameras, facts["bounds"], COLUMNS, math.radians(e))) for e in ELEVATIONS], True


def write_page(opened, meshes: Sequence[pathlib.Path], out: pathlib.Path, height: int) -> None:
  """Writes the page, whole or not at all.

  Args:
    opened: a run. meshes: its GLBs. height: rows of pixels of the field's pictures.

  Raises:
    CannotWrite, IOFault: the page cannot be written.
  """
  make_place(out)
  try:
    replace(out, _page(opened, meshes, height).encode())
  except OSError as error:
    raise from_os_error(error, out) from error


def _page(opened, meshes: Sequence[pathlib.Path], height: int) -> str:
  frames, shape = _frames(opened, height)
  models, notes = _models(meshes)
  viewer, turntable = _resource("evaluation", "viewer.js"), _resource("commands", "turntable.js")
  name = html.escape(opened.workdir.resolve().name)
  return string.Template(_resource("commands", "static_view.html")).substitute(
      policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
             f"script-src {csp_hash(viewer)} {csp_hash(turntable)}",
      title=name, style=_resource("evaluation", "report.css"), summary=html.escape(f"Step {opened.step:,}"),
      notes="".join(f'<p class="lead">{html.escape(note)}</p>' for note in notes),
      field="" if not frames else _FIELD, meshes=_meshes(models),
      payload="".join(f'<script type="application/octet-stream" id="model-{i}">{text}</script>\n'
                      for i, (_, text) in enumerate(models))
              + json_element("turntable", {"frames": frames, **shape}),
      viewer_script=viewer, turntable_script=turntable)


def _frames(opened, height: int) -> tuple[list[str], dict[str, Any]]:
  """The pictures as data addresses, row by row, and their layout; none for a run that renders nothing."""
  cameras = [view.camera for view in opened.dataset.views("train")]
  if "render" not in opened.predict or not cameras:
    return [], {"rows": 0, "columns": 0, "closed": False}
  rows, closed = places(cameras, opened.dataset.info, height)
  flat, frames = [camera for row in rows for camera in row], []
  budget = (PAGE_BYTES - MESH_BYTES - (1 << 20)) * 3 // 4 // len(flat)
  with progress() as show:
    for i, camera in enumerate(flat):
      image = render_camera(opened.predict["render"], camera, opened.dataset.info)
      packed = _webp(PICTURES["rgb"](image, (0.0, 1.0)), budget)
      frames.append("data:image/webp;base64," + base64.b64encode(packed).decode())
      show("pictures", i + 1, len(flat))
  return frames, {"rows": len(rows), "columns": len(rows[0]), "closed": closed}


def _webp(pixels: np.ndarray, most: int) -> bytes:
  """The picture in the best of a few qualities that keeps it within `most` bytes, else in the least."""
  for quality in (90, 80, 60, 40, 20, 5):
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "WEBP", quality=quality)
    if packed.tell() <= most:
      break
  return packed.getvalue()


def _models(files: Sequence[pathlib.Path]) -> tuple[list[tuple[str, str]], list[str]]:
  """(name, base64) of the meshes that fit, and what to say of the others."""
  models, left, flat = [], 0, 0
  for path in files:
    content = path.read_bytes()
    text = base64.b64encode(content).decode()
    if sum(len(other) for _, other in models) + len(text) > MESH_BYTES:
      left += 1
      continue
    flat += b'"baseColorTexture"' in content
    models.append((path.stem, text))
  notes = [f"{left} meshes stay out, to keep this page small: extract them with fewer --faces"] * bool(left)
  return models, notes + [f"{flat} meshes are shown without their textures"] * bool(flat)


_FIELD = """<section aria-labelledby="field"><h2 id="field">Field</h2>
<p class="lead">Rendered from a grid of places. Drag, or use the arrow keys, to go between them.</p>
<div class="viewer" data-turntable><div class="stage">
<img alt="The field; arrow keys move the camera" tabindex="0" draggable="false"></div>
<div class="bar"><output data-status aria-live="polite"></output>
<button type="button" data-act="turn" aria-pressed="false">Turn</button></div></div></section>"""


def _meshes(models: Sequence[tuple[str, str]]) -> str:
  if not models:
    return ""
  buttons = "".join(f'<button type="button" class="shape" data-shape="{html.escape(name)}" data-mesh="model-{i}" '
                    f'data-truth="" aria-pressed="false"><span class="name"><b>{html.escape(name)}</b></span></button>'
                    for i, (name, _) in enumerate(models))
  return f"""<section aria-labelledby="meshes"><h2 id="meshes">Meshes</h2><div class="viewer" data-viewer>
<div class="stage"><canvas tabindex="0" aria-label="Interactive view. Arrow keys orbit, plus and minus zoom."></canvas></div>
<div class="bar"><output data-status aria-live="polite"></output>
<button type="button" data-act="wire" aria-pressed="false">Wireframe</button>
<button type="button" data-act="turn" aria-pressed="false">Turn</button>
<button type="button" data-act="reset">Reset</button></div></div>
<div class="shapes" tabindex="-1"><div class="grid">{buttons}</div></div></section>"""


def _resource(room: str, name: str) -> str:
  return importlib.resources.files(f"fields3d.{room}").joinpath(name).read_text("utf-8")
